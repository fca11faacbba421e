"""The names by which others know the checkers."""

from hamail.simulation.checkers.checker import Checker
from hamail.simulation.checkers.violation import Violation

__all__ = ["Checker", "Violation"]
