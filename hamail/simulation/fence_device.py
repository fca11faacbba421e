"""A device that can cut a node's power, with the faults that such devices have."""

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from hamail.model.actions import RunFence
from hamail.model.ids import NodeName
from hamail.simulation.checkers.claims import Hazard

if TYPE_CHECKING:
    from hamail.simulation.world import World

LATE_MS = 2000  # after the agent's time is over
NO_ROUTE_MS = 1000


class Mood(StrEnum):
    WORKS = "works"
    FAILS = "fails"
    SLOW = "slow"  # cuts the power only after the agent's time is over
    SILENT = "silent"  # the agent never comes back
    LIES = "lies"  # says that it is off, and has done nothing
    WRONG = "hits the wrong node"  # its sockets are mixed up: another node loses its power


Result = Callable[[bool, str, float], None]  # ok, detail, took_ms


class FenceDevice:
    def __init__(self, name: str) -> None:
        self.name = name
        self.mood = Mood.WORKS
        self.takes_ms = 200.0
        self.unreachable_from: set[NodeName] = set()
        self.mixed_up_with: NodeName | None = None  # who is hit instead while it hits the wrong node

    def problem(self, node: NodeName) -> str:
        """Why a check from `node` fails; empty when it does not. A liar and mixed-up sockets answer every check."""
        if node in self.unreachable_from:
            return "no route to the device"
        return "the device does not answer" if self.mood in (Mood.FAILS, Mood.SILENT) else ""

    def run(
        self,
        world: "World",
        by: NodeName,
        r: RunFence,
        after: Callable[[float, Callable[[], None]], None],
        result: Result,
    ) -> None:
        """What is on its way to the device happens also when its sender has died; `after` lives as long as that."""
        takes_ms, limit_ms = self.takes_ms, r.timeout_ms

        def cut() -> None:
            hit = r.target
            if self.mood is Mood.WRONG:
                hit = self.mixed_up_with or next(n for n, m in world.machines.items() if n != r.target and m.powered)
            world.checker.fences.cut(r, by, hit)
            world.power_off(hit)

        if by in self.unreachable_from:
            after(NO_ROUTE_MS, lambda: result(False, "no route to the device", NO_ROUTE_MS))
        elif self.mood is Mood.FAILS:
            after(takes_ms, lambda: result(False, "the device refused", takes_ms))
        elif self.mood is Mood.SLOW:
            world.checker.hazard(Hazard.FENCE_LATE)
            after(limit_ms, lambda: result(False, f"no answer within {limit_ms / 1000:g} s", limit_ms))
            world.agenda.after_ms(limit_ms + LATE_MS, cut)
        elif self.mood is not Mood.SILENT:
            if self.mood is Mood.LIES:
                world.checker.hazard(Hazard.FENCE_LIES)
            else:
                world.agenda.after_ms(takes_ms, cut)
            after(takes_ms, lambda: result(True, "the device reports it off", takes_ms))
