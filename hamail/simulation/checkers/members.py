"""S11, as far as the world shows it: only members act, and a witness never holds anything."""

from typing import TYPE_CHECKING

from hamail.model import commands as c
from hamail.model.ids import GroupName
from hamail.model.state import ClusterState

if TYPE_CHECKING:
    from hamail.simulation.checkers.checker import Checker
    from hamail.simulation.machine import Machine

_NODES = ("node", "target", "by")


class Members:
    def __init__(self, checker: "Checker") -> None:
        self._c = checker

    def committed(self, command: c.AnyCommand, state: ClusterState) -> None:
        """An accepted command speaks of members only."""
        for field in _NODES:
            name = getattr(command, field, None)
            if name and state.spec.nodes and name not in state.spec.nodes:
                self._c.found("S11", "", f"{type(command).__name__} of {name}, which is no member, was accepted")

    def placed(self, machine: "Machine", group: GroupName) -> None:
        if machine.witness:
            self._c.found("S11", group, f"the witness {machine.name} is active for {group}")
