"""A node's hardware watchdog: resets the machine when it has not been fed for its timeout."""

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from hamail.simulation.checkers.claims import Hazard

if TYPE_CHECKING:
    from hamail.simulation.machine import Machine

LATE_MS = 10_000


class Dog(StrEnum):
    WORKS = "works"
    LATE = "fires late"
    DEAD = "does not fire"


class Watchdog:
    """`armed` false: there is none. Feeding ends for reasons; it begins again when all of them have ended."""

    def __init__(self, machine: "Machine", reset: Callable[[], None], *, armed: bool) -> None:
        self._m = machine
        self._reset = reset
        self.armed = armed
        self.mood = Dog.WORKS
        self.starving_for: set[str] = set()
        self._hunger = 0  # grows with every time that the feeding ended

    def boot(self) -> None:
        self.starving_for.clear()
        self._hunger += 1

    def starve(self, why: str) -> None:
        hungry = bool(self.starving_for)
        self.starving_for.add(why)
        if hungry or not self.armed:
            return
        self._hunger += 1
        self._await(self._hunger, self._m.local_ns + self._m.world.spec.watchdog_timeout_s * 1_000_000_000)

    def feed(self, why: str) -> None:
        """That reason not to feed it has ended."""
        self.starving_for.discard(why)

    def _await(self, hunger: int, due_ns: int) -> None:
        """Its own hardware counts, also while the machine stands still; a guest's stands still with its clocks."""

        def due() -> None:
            if hunger != self._hunger or not self.starving_for or not self._m.powered:
                return
            if self._m.clock.stopped:
                self._m.when_it_goes_on.append(lambda: self._await(hunger, due_ns))
            elif self._m.local_ns < due_ns:
                self._await(hunger, due_ns)
            elif self.mood is Dog.WORKS:
                self._reset()
            else:
                self._m.world.checker.hazard(Hazard.WATCHDOG_BROKEN)
                if self.mood is Dog.LATE:
                    self._m.world.agenda.after_ms(LATE_MS, self._fire_late(hunger))

        self._m.world.agenda.at(max(self._m.clock.real_ns(due_ns), self._m.world.now_ns + 1), due)

    def _fire_late(self, hunger: int) -> Callable[[], None]:
        def fire() -> None:
            if hunger == self._hunger and self.starving_for and self._m.powered:
                self._reset()

        return fire
