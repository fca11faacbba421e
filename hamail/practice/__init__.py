"""Drills: a fault on purpose, watched from outside, with a report of what it cost. Runs in hamailctl."""
