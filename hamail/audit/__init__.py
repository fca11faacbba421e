"""The audit trail of a node: who did what, why, with what result. Append-only, and each line is chained to the last."""
