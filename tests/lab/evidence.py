"""What the kernel says about who held what: reads the recorder's history and computes overlaps.

The history is one JSON object per line (see `recorder`). Nothing in it comes from hamail itself. A node whose init has
gone holds nothing; a frozen node still holds what it had.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.intervals import NS_PER_MS, Hold, Span, clip, overlap, total_ns, union

BLIND_LIMIT_NS = 250 * NS_PER_MS  # a longer time without a sample makes a window inconclusive


@dataclass(frozen=True)
class Announcement:
    """A frame on the switch that claims a floating address: the layer-2 witness."""

    t: int
    port: str
    mac: str
    address: str
    kind: str  # arp | na


@dataclass
class Evidence:
    """All holds of one record, the open ones as far as they were seen."""

    holds: list[Hold] = field(default_factory=list)
    power: list[tuple[int, str, bool]] = field(default_factory=list)  # (t, node, on)
    blind: list[Span] = field(default_factory=list)  # times in which the recorder did not look, or lost events
    announcements: list[Announcement] = field(default_factory=list)
    until: int = 0  # the record reaches up to here
    cpu_s: float = 0.0  # what recording cost
    lasted_s: float = 0.0

    @classmethod
    def load(cls, path: Path) -> "Evidence":
        with open(path) as lines:
            return cls.from_records(parse(lines))

    @classmethod
    def from_records(cls, records: Iterable[dict]) -> "Evidence":
        self = cls()
        still_open: dict[tuple[str, str], Hold] = {}
        first = None
        for record in records:
            t, kind, data = record["t"], record["kind"], record.get("data", {})
            first = t if first is None else first
            self.until = max(self.until, t)
            key = (record.get("node", ""), data.get("component", ""))
            match kind:
                case "held":
                    still_open[key] = Hold(*key, data["possible_start"], data["certain_start"], t, t)
                case "released":
                    still_open.pop(key, None)
                    times = ("possible_start", "certain_start", "certain_end", "possible_end")
                    self.holds.append(Hold(*key, *(data[name] for name in times)))
                case "power":
                    self.power.append((t, key[0], data["on"]))
                case "blind":
                    self.blind.append((data["from"], t))
                case "announce":
                    self.announcements.append(Announcement(t, data["port"], data["mac"], data["address"], data["how"]))
                case "beat":
                    self.cpu_s = data["cpu_s"]
                    still_open = {k: _seen_until(h, t) for k, h in still_open.items()}
        self.holds += still_open.values()
        self.lasted_s = (self.until - (first or 0)) / 1e9
        return self

    def nodes(self) -> tuple[str, ...]:
        return tuple(sorted({h.node for h in self.holds} | {node for _, node, _ in self.power}))

    def components(self) -> tuple[str, ...]:
        return tuple(sorted({h.component for h in self.holds}))

    def spans(self, node: str, component: str | None = None, possible: bool = False) -> list[Span]:
        """When `node` held `component` (None: anything at all, which is to be active)."""
        wanted = [h for h in self.holds if h.node == node and component in (None, h.component)]
        return union(h.possible if possible else h.certain for h in wanted)

    def overlaps(
        self, component: str | None = None, start: int | None = None, end: int | None = None, possible: bool = False
    ) -> list[Span]:
        return clip(overlap({n: self.spans(n, component, possible) for n in self.nodes()}), start, end)

    def overlap_ms(self, component: str, start: int | None = None, end: int | None = None) -> float:
        """How long two nodes certainly held the same component at once."""
        return total_ns(self.overlaps(component, start, end)) / NS_PER_MS

    def double_active_ms(self, start: int | None = None, end: int | None = None) -> float:
        """How long two nodes certainly held anything of the group at once: n1's mount with n2's address counts."""
        return total_ns(self.overlaps(None, start, end)) / NS_PER_MS

    def possible_double_active_ms(self, start: int | None = None, end: int | None = None) -> float:
        """The same with every doubt counted against: more than `double_active_ms` means that the evidence is coarse."""
        return total_ns(self.overlaps(None, start, end, possible=True)) / NS_PER_MS

    def conclusive(self, start: int | None = None, end: int | None = None) -> bool:
        """Whether the window was watched without a gap in which a whole hold could have been missed."""
        lo, hi = (0 if start is None else start), (self.until if end is None else end)
        return hi <= self.until and not any(max(s, lo) < min(e, hi) for s, e in self.blind if e - s > BLIND_LIMIT_NS)

    def active_nodes(self, at: int) -> tuple[str, ...]:
        return tuple(n for n in self.nodes() if any(s <= at <= e for s, e in self.spans(n)))

    def moves(self, component: str, start: int, end: int) -> int:
        """How often `component` came up inside the window (restarts on the same node count as well)."""
        return sum(1 for h in self.holds if h.component == component and start < h.certain_start <= end)


def _seen_until(hold: Hold, t: int) -> Hold:
    return Hold(hold.node, hold.component, hold.possible_start, hold.certain_start, t, t)


def parse(lines: Iterable[str]) -> Iterable[dict]:
    """Records of a history; a last line cut short by a killed writer is left out, any other bad line is an error."""
    pending: str | None = None
    for number, line in enumerate(lines, 1):
        if pending is not None:
            raise ValueError(f"history line {number - 1} is not JSON: {pending[:80]!r}")
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            pending = line


def by_component(evidence: Evidence, start: int | None = None, end: int | None = None) -> dict[str, float]:
    """Certain overlap per component in milliseconds, for a report that says which one it was."""
    return {c: evidence.overlap_ms(c, start, end) for c in evidence.components()}
