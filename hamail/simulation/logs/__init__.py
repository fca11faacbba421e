"""The replicated log of a simulated cluster: a perfect one, the real one, and one that lies."""
