"""Judges of the simulated world, by what they judge."""
