"""From single attempts to outages. Pure; times are milliseconds.

An outage lasts from the last answer that a client got before it to the first one after it, so it is never shorter than
what a client saw, and longer by one pace at most. A gap counts when an attempt failed in it, or when it is so long that
attempts must have hung.
"""

import bisect
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from hamail.probe.records import AnyLine, Check, Outage

STALL_MS = 1000  # beyond the pace: an answer that took so long is an outage although no attempt failed
GAPS_MAX = 10_000  # looked at until the last attempt that began in them has ended


@dataclass
class Gap:
    """Between two answers that followed each other."""

    from_ms: float
    to_ms: float
    failed: int = 0
    why: str = ""


@dataclass
class Tracker:
    """One service. Attempts are told in the order of their ends; none lasts longer than `patience_ms`.

    An attempt may hang in an outage and fail when that is long over: a gap is judged when no such attempt is left.
    """

    service: str
    every_ms: float
    patience_ms: float = 1000.0
    last_ok_ms: float | None = None
    first_ms: float | None = None  # of the first attempt
    failed: int = 0  # since the last answer
    why: str = ""
    down_since_ms: float | None = None
    gaps: deque[Gap] = field(default_factory=lambda: deque(maxlen=GAPS_MAX))

    def told(self, started_ms: float, ended_ms: float, ok: bool, why: str = "") -> list[Outage]:
        """Outages of which all is known now."""
        if self.first_ms is None:
            self.first_ms = started_ms
        if ok:
            since = self.first_ms if self.last_ok_ms is None else self.last_ok_ms
            if self.last_ok_ms is not None or self.failed:
                self.gaps.append(Gap(since, ended_ms, self.failed, self.why))
            self.last_ok_ms = ended_ms
            self.down_since_ms, self.failed, self.why = None, 0, ""
        else:
            self._failed(started_ms, why)
        return self.over(ended_ms)

    def _failed(self, started_ms: float, why: str) -> None:
        if self.last_ok_ms is not None and started_ms < self.last_ok_ms:
            gap = next((g for g in reversed(self.gaps) if g.from_ms <= started_ms), None)
            if gap is not None:
                gap.failed += 1
                gap.why = gap.why or why
            return
        if self.down_since_ms is None:
            self.down_since_ms = started_ms if self.last_ok_ms is None else self.last_ok_ms
        self.failed += 1
        self.why = self.why or why

    def over(self, now_ms: float = math.inf) -> list[Outage]:
        """At the end, without a time: all that are left."""
        found = []
        while self.gaps and self.gaps[0].to_ms + self.patience_ms < now_ms:
            gap = self.gaps.popleft()
            if gap.failed or gap.to_ms - gap.from_ms > self.every_ms + STALL_MS:
                why = gap.why or "answers hung"
                found.append(
                    Outage(
                        at_ms=gap.to_ms,
                        service=self.service,
                        from_ms=gap.from_ms,
                        to_ms=gap.to_ms,
                        failed=gap.failed,
                        why=why,
                    )
                )
        return found


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
