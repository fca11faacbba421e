"""The external prober: what clients of the mail service see, measured from any machine. Knows nothing of hamaild."""
