"""What a checker has found."""


class Violation(AssertionError):
    """The world is in a state in which it must never be."""
