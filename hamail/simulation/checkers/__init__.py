"""Judges of a simulated run. They look at the true state of the world and believe no node."""
