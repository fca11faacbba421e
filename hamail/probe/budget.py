"""How available was it, and what is left of the budget? Counted from the records of probes alone. Pure.

Only time that a probe looked at counts: what nobody looked at is unknown, neither up nor down. A service is down while
any probe that looked saw it down; it is observed while any probe looked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from hamail.probe.records import AnyLine, Down, Outage, Start, Tally

Span = tuple[float, float]
DAY_MS = 86_400_000
PERIODS_MS = {"month": 30 * DAY_MS, "year": 365 * DAY_MS}


@dataclass(frozen=True)
class Interruption:
    """One outage of the service; `cause`: the planned move that it belongs to, "" for none."""

    from_ms: float
    to_ms: float
    services: tuple[str, ...]
    cause: str = ""

    @property
    def ms(self) -> float:
        return self.to_ms - self.from_ms


@dataclass(frozen=True)
class Planned:
    """When the service was moved on purpose."""

    from_ms: float
    to_ms: float
    words: str


@dataclass(frozen=True)
class Account:
    observed_ms: float
    from_ms: float
    to_ms: float
    interruptions: tuple[Interruption, ...]

    def down_ms(self, *, planned: bool | None = None) -> float:
        chosen = (i for i in self.interruptions if planned is None or bool(i.cause) is planned)
        return sum(i.ms for i in chosen)

    def availability(self, *, planned: bool | None = None) -> float | None:
        """A share; None where nothing was observed."""
        return 1 - self.down_ms(planned=planned) / self.observed_ms if self.observed_ms else None


def count(lines: Iterable[AnyLine], planned: Sequence[Planned] = ()) -> Account:
    """Over the records of one or more probes."""
    looked: list[Span] = []
    down: list[tuple[float, float, str]] = []
    opened: dict[str, float] = {}
    for line in lines:
        match line:
            case Start():
                opened.clear()  # another run: what was open before ended nobody knows when
            case Tally(service=service, from_ms=from_ms, at_ms=to_ms):
                looked.append((from_ms, to_ms))
                if service in opened and opened[service] < to_ms:
                    down.append((opened[service], to_ms, service))
            case Down(service=service, since_ms=since):
                opened[service] = since
            case Outage(service=service, from_ms=from_ms, to_ms=to_ms):
                opened.pop(service, None)
                down.append((from_ms, to_ms, service))
            case _:
                pass
    observed = union(looked)
    found = [
        Interruption(a, b, services, _cause(a, b, planned))
        for a, b, services in _merged(down)
        for a, b in common((a, b), observed)
    ]
    first, last = (observed[0][0], observed[-1][1]) if observed else (0.0, 0.0)
    return Account(sum(b - a for a, b in observed), first, last, tuple(found))


def _cause(from_ms: float, to_ms: float, planned: Sequence[Planned]) -> str:
    return next((p.words for p in planned if from_ms <= p.to_ms and p.from_ms <= to_ms), "")


def union(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for a, b in sorted(spans):
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
        else:
            merged.append((a, b))
    return merged


def _merged(down: Iterable[tuple[float, float, str]]) -> list[tuple[float, float, tuple[str, ...]]]:
    """Services that are out together are one interruption."""
    merged: list[tuple[float, float, set[str]]] = []
    for a, b, service in sorted(down):
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]), merged[-1][2] | {service})
        else:
            merged.append((a, b, {service}))
    return [(a, b, tuple(sorted(services))) for a, b, services in merged]


def common(span: Span, others: Sequence[Span]) -> list[Span]:
    cut = ((max(span[0], a), min(span[1], b)) for a, b in others)
    return [(a, b) for a, b in cut if a < b]


def allowed_ms(percent: str, period_ms: int) -> float:
    """How long a service of that availability may be out in the period."""
    return float((100 - Decimal(percent)) / 100 * period_ms)
