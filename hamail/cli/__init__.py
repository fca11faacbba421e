"""hamailctl."""
