"""Driving fence agents by the standard protocol."""
