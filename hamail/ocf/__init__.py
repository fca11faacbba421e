"""A small SDK for resource agents written in Python."""
