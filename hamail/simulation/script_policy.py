"""Lines of a scenario about the failure policy, bans, quarantine and maintenance with an end."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hamail.core import leaving
from hamail.model import commands as c
from hamail.model.spec import Budget

if TYPE_CHECKING:
    from hamail.simulation.script import Script

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


def budgets(words: str) -> tuple[Budget, ...]:
    """ "1/15m,3/24h"."""
    return tuple(_budget(part) for part in words.split(","))


def quarantine(words: str) -> Budget | None:
    return None if words == "off" else _budget(words)


def _budget(words: str) -> Budget:
    limit, _, window = words.partition("/")
    number = window.rstrip("mhs")
    return Budget(limit=int(limit), window_ms=int(number) * UNITS_MS[window[len(number) :]])


class PolicyLines:
    def __init__(self, script: "Script") -> None:
        self._s = script
        self.commands: tuple[tuple[str, Callable[..., None]], ...] = (
            (r'ban (\S+) (\S+) for (\S+)(?: "(.*)")?', self._ban),
            (r"unban (\S+) (\S+)", lambda g, n: self._order(c.LiftBan(group=g, node=n, **self._who()))),
            (r"quarantine clear (\S+)", lambda n: self._order(c.LiftQuarantine(node=n, **self._who()))),
            (r"standby (\S+) for (\S+)", self._standby),
            (r"maintenance on for (\S+)", self._maintenance),
            (r"maintenance (on|off) (group|node) (\S+)(?: for (\S+))?", self._hands_off),
            (r"leaving maintenance(?: (group|node) (\S+))?", self._leaving),
        )

    def _who(self, reason: str = "") -> dict[str, Any]:
        return {"at_ms": self._s.world.wall_ms, "actor": "anna", "reason": reason}

    def _order(self, command: c.AnyCommand) -> None:
        self._s.order(command)

    def _until(self, duration: str | None) -> int:
        number = (duration or "0s").rstrip("mhs")
        lasts_ms = int(number) * UNITS_MS[(duration or "0s")[len(number) :]]
        return self._s.world.wall_ms + lasts_ms if duration else 0

    def _ban(self, group: str, node: str, duration: str, reason: str | None) -> None:
        who = self._who(reason or "")
        self._order(c.SetBan(group=group, node=node, until_ms=self._until(duration), **who))

    def _standby(self, node: str, duration: str) -> None:
        self._order(c.SetStandby(node=node, standby=True, until_ms=self._until(duration), **self._who()))

    def _maintenance(self, duration: str) -> None:
        self._order(c.SetMaintenance(on=True, until_ms=self._until(duration), **self._who()))

    def _hands_off(self, on: str, scope: str, name: str, duration: str | None) -> None:
        until_ms = self._until(duration)
        self._order(c.HandsOff(on=on == "on", until_ms=until_ms, **{scope: name}, **self._who()))  # type: ignore[arg-type]

    def _leaving(self, scope: str | None, name: str | None) -> None:
        """What would follow if this maintenance ended now."""
        world = self._s.world
        daemon = world.machines[world.log.leader or "n1"].daemon
        assert daemon is not None, "nobody leads the log"
        for line in leaving.preview_on(daemon.engine, **({scope: name} if scope and name else {})).sentences:
            self._s.show(line)
