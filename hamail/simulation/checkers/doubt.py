"""S7: nobody says "stopped" or "clean" of what still runs; every such word is compared with what is there."""

from typing import TYPE_CHECKING

from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.ids import Epoch, GroupName

if TYPE_CHECKING:
    from hamail.simulation.checkers.checker import Checker
    from hamail.simulation.machine import Machine


class Doubt:
    def __init__(self, checker: "Checker") -> None:
        self._c = checker

    def told(self, machine: "Machine", notice: a.AnyNotice) -> None:
        """By the executor."""
        match notice:
            case a.GroupDown(group=group, epoch=epoch):
                self._gone(machine, group, epoch, "its executor says that it is stopped")
            case a.GroupStartFailed(group=group, epoch=epoch, clean=True):
                self._gone(machine, group, epoch, "its executor says that nothing is left of the start")
            case a.Cleaned(groups=groups):
                held = machine.executor.groups if machine.executor is not None else {}
                for group in groups:
                    if group not in held:
                        self._gone(machine, group, machine.world.log_index, "its executor says that nothing is left")
            case _:
                pass

    def proposed(self, machine: "Machine", command: c.AnyCommand) -> None:
        """By hamaild."""
        match command:
            case c.Released(group=group, epoch=epoch, node=machine.name):
                self._gone(machine, group, epoch, "hamaild reports it released")
            case c.StartFailed(group=group, epoch=epoch, clean=True):
                self._gone(machine, group, epoch, "hamaild reports that nothing is left of the start")
            case c.Join():
                for group in machine.world.state.spec.groups:
                    self._gone(machine, group, machine.world.log_index, "it joins as holding nothing")
            case _:
                pass

    def _gone(self, machine: "Machine", group: GroupName, epoch: Epoch, said: str) -> None:
        left = [n for n, thing in machine.premises.of(group).items() if thing.epoch <= epoch]
        if left:
            self._c.found("S7", group, f"{', '.join(left)} of {group} is on {machine.name}, but {said}")
