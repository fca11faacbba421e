"""How long the steps of a move take: as in the last moves, or assumed."""

from statistics import median

from msgspec import Struct

from hamail.model.ids import GroupName
from hamail.model.state import ClusterState, Evidence, Move, Stamp

START_MS = 2000  # assumed while no move has shown it
STOP_MS = 1000
FENCE_MS = 2000
RESTART_MS = 1500  # one restart of a service in place, and what it takes until it has failed again
MOVES_LOOKED_AT = 10


class Estimates(Struct, frozen=True, kw_only=True):
    start_ms: int
    stop_ms: int
    fence_ms: int
    restart_ms: int = RESTART_MS
    seen: int = 0  # moves that they rest upon; 0: all of it is assumed


def of(state: ClusterState, group: GroupName) -> Estimates:
    moves = [m for m in state.moves if m.group == group and m.result == "done"][-MOVES_LOOKED_AT:]
    fenced = [m for m in state.moves if m.evidence is Evidence.FENCED][-MOVES_LOOKED_AT:]
    starts = _spans(moves, Stamp.GRANTED, Stamp.DONE)
    return Estimates(
        start_ms=_usual(starts, START_MS),
        stop_ms=_usual(_spans(moves, Stamp.DECIDED, Stamp.STOPPED), STOP_MS),
        fence_ms=_usual(_spans(fenced, Stamp.DECIDED, Stamp.FENCED), FENCE_MS),
        seen=len(starts),
    )


def _spans(moves: list[Move], begin: Stamp, end: Stamp) -> list[int]:
    spans = [m.stamps[end] - m.stamps[begin] for m in moves if begin in m.stamps and end in m.stamps]
    return [ms for ms in spans if ms >= 0]


def _usual(spans: list[int], assumed_ms: int) -> int:
    return int(median(spans)) if spans else assumed_ms
