"""A device that can cut a node's power, with the faults that such devices have."""

from enum import StrEnum

from hamail.model.ids import NodeName


class Mood(StrEnum):
    WORKS = "works"
    FAILS = "fails"
    SLOW = "slow"  # cuts the power only after the agent's time is over
    SILENT = "silent"  # the agent never comes back


class FenceDevice:
    def __init__(self, name: str) -> None:
        self.name = name
        self.mood = Mood.WORKS
        self.takes_ms = 200
        self.unreachable_from: set[NodeName] = set()

    def problem(self, node: NodeName) -> str:
        """Why a check from `node` fails; empty when it does not."""
        if node in self.unreachable_from:
            return "no route to the device"
        return "" if self.mood in (Mood.WORKS, Mood.SLOW) else "the device does not answer"
