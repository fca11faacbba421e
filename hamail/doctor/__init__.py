"""`hamailctl doctor`: gathers facts, and judges them by small pure functions. `checks.py` is the list of all checks."""
