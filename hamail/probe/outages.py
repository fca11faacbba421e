"""From single attempts to outages. Pure; times are milliseconds.

An outage lasts from the last answer that a client got before it to the first one after it, so it is never shorter than
what a client saw, and longer by one pace at most. A gap counts when an attempt failed in it, or when it is so long that
attempts must have hung.
"""

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass

from hamail.probe.records import AnyLine, Check, Outage

STALL_MS = 1000  # beyond the pace: an answer that took so long is an outage although no attempt failed


@dataclass
class Tracker:
    """One service. Attempts are told in the order of their ends."""

    service: str
    every_ms: float
    last_ok_ms: float | None = None
    first_ms: float | None = None  # of the first attempt
    failed: int = 0  # since the last answer
    why: str = ""
    down_since_ms: float | None = None

    def told(self, started_ms: float, ended_ms: float, ok: bool, why: str = "") -> Outage | None:
        """The outage that this answer ends, if it ends one."""
        if self.first_ms is None:
            self.first_ms = started_ms
        if not ok:
            self._failed(started_ms, why)
            return None
        since = self.first_ms if self.last_ok_ms is None else self.last_ok_ms
        failed, reason = self.failed, self.why
        self.last_ok_ms = max(ended_ms, self.last_ok_ms or 0.0)
        self.down_since_ms, self.failed, self.why = None, 0, ""
        if failed == 0 and ended_ms - since <= self.every_ms + STALL_MS:
            return None
        why = reason or "answers hung"
        return Outage(at_ms=ended_ms, service=self.service, from_ms=since, to_ms=ended_ms, failed=failed, why=why)

    def _failed(self, started_ms: float, why: str) -> None:
        if self.last_ok_ms is not None and started_ms < self.last_ok_ms:
            return  # it hung while others got through: that outage is over
        if self.down_since_ms is None:
            self.down_since_ms = started_ms if self.last_ok_ms is None else self.last_ok_ms
        self.failed += 1
        self.why = self.why or why


def answers(lines: Iterable[AnyLine]) -> dict[str, list[float]]:
    """When each service answered: ends of successful checks, sorted. Needs records with every check."""
    found: dict[str, list[float]] = {}
    for line in lines:
        if isinstance(line, Check):
            times = found.setdefault(line.service, [])
            if line.ok:
                times.append(line.at_ms)
    return {service: sorted(times) for service, times in found.items()}


def gap_at(times: list[float], fault_ms: float, until_ms: float = math.inf) -> tuple[float, float] | None:
    """The longest time without an answer that reaches past `fault_ms`: (from, to); `to` is infinite when none followed.

    None when nothing had answered before: there was no service that could be lost.
    """
    ends = [t for t in times if t <= until_ms]
    after = bisect.bisect_right(ends, fault_ms)
    if after == 0:
        return None
    gaps = [(ends[i - 1], ends[i]) for i in range(after, len(ends))]
    return max(gaps, key=lambda gap: gap[1] - gap[0]) if gaps else (ends[-1], math.inf)
