"""Plain frozen data that every other package speaks. No behaviour, no I/O."""
