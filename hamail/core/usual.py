"""What the phases of a move usually take in this cluster: medians of the moves that the replicated history keeps."""

from collections.abc import Callable, Iterator
from itertools import islice
from statistics import median_low

from msgspec import Struct

from hamail.model.ids import GroupName
from hamail.model.state import ClusterState, Evidence, Move, Stamp, Trigger

MOVES_LOOKED_AT = 10  # the newest that have the phase
LOST = (Trigger.NODE_LOST, Trigger.NODE_STUCK, Trigger.FENCE_REQUESTED, Trigger.FAILOVER)
PARTS = (Stamp.STORAGE, Stamp.SERVICES, Stamp.ADDRESS, Stamp.ANSWERED)  # of a start

Took = Callable[[Move], int | None]


class Usual(Struct, frozen=True, kw_only=True):
    ms: int | None = None  # None: no record yet
    seen: int = 0  # moves that it is the median of


def detect(state: ClusterState, group: GroupName) -> Usual:
    """From the last word of an owner until it was taken for lost."""
    return _usual(state, group, lambda m: m.silent_ms if m.trigger is Trigger.NODE_LOST and m.silent_ms else None)


def fence(state: ClusterState, group: GroupName) -> Usual:
    return _usual(state, group, lambda m: _out(m, Evidence.FENCED, Stamp.FENCED))


def wait(state: ClusterState, group: GroupName) -> Usual:
    """Until all promises to the owner, and its watchdog where that counts, had run out."""
    return _usual(state, group, lambda m: _out(m, Evidence.EXPIRED, Stamp.GRANTED))


def stop(state: ClusterState, group: GroupName) -> Usual:
    return _usual(state, group, lambda m: _span(m.stamps.get(Stamp.DECIDED), m.stamps.get(Stamp.STOPPED)))


def grant(state: ClusterState, group: GroupName) -> Usual:
    """From the proof that the owner is out until the next one had the group."""

    def took(m: Move) -> int | None:
        if m.earlier:  # between them lies an attempt
            return None
        proven = [m.stamps[s] for s in (Stamp.STOPPED, Stamp.FENCED) if s in m.stamps]
        return _span(max(proven, default=None), m.stamps.get(Stamp.GRANTED))

    return _usual(state, group, took)


def start(state: ClusterState, group: GroupName) -> Usual:
    """Until the first answer to a client, or until all was up where nobody asked."""
    return _usual(state, group, _start)


def start_parts(state: ClusterState, group: GroupName) -> dict[str, int]:
    """What the median start went into: from each point to the next, as `hamailctl history` shows it; milliseconds."""
    usual_ms = start(state, group).ms
    typical = next((m for m in _done(state, group) if usual_ms is not None and _start(m) == usual_ms), None)
    found = {} if typical is None else {p.value: _part(typical, p) for p in PARTS}
    return {part: ms for part, ms in found.items() if ms is not None}


def _done(state: ClusterState, group: GroupName) -> Iterator[Move]:
    """Newest first."""
    return (m for m in reversed(state.moves) if m.group == group and m.result == "done")


def _usual(state: ClusterState, group: GroupName, took: Took) -> Usual:
    spans = list(islice((ms for m in _done(state, group) if (ms := took(m)) is not None), MOVES_LOOKED_AT))
    return Usual(ms=median_low(spans), seen=len(spans)) if spans else Usual()


def _start(m: Move) -> int | None:
    return _span(m.stamps.get(Stamp.GRANTED), m.stamps.get(Stamp.ANSWERED) or m.stamps.get(Stamp.DONE))


def _out(m: Move, evidence: Evidence, end: Stamp) -> int | None:
    if m.evidence is not evidence or m.trigger not in LOST or m.earlier:
        return None
    return _span(m.stamps.get(Stamp.DETECTED, m.stamps.get(Stamp.DECIDED)), m.stamps.get(end))


def _part(m: Move, part: Stamp) -> int | None:
    begin, end = m.stamps.get(Stamp.GRANTED), m.stamps.get(part)
    if begin is None or end is None:
        return None
    before = [ms for s in PARTS if (ms := m.stamps.get(s)) is not None and s is not part and begin <= ms <= end]
    return _span(max(before, default=begin), end)


def _span(begin: int | None, end: int | None) -> int | None:
    """None also where the clocks of two nodes make it end before it began."""
    return None if begin is None or end is None or end < begin else end - begin
