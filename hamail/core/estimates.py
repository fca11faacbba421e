"""How long the steps of a move take when it is run forward in thought: as usual here, or assumed and marked so."""

from msgspec import Struct

from hamail.core import usual
from hamail.core.usual import Usual
from hamail.model.ids import GroupName
from hamail.model.state import ClusterState

START_MS = 2000  # assumed while no move has shown it
STOP_MS = 1000
FENCE_MS = 2000
RESTART_MS = 1500  # one restart of a service in place, and what it takes until it has failed again
START, STOP, FENCE, RESTART = "start", "stop", "fence", "restart"


class Estimates(Struct, frozen=True, kw_only=True):
    start_ms: int
    stop_ms: int
    fence_ms: int
    restart_ms: int = RESTART_MS
    assumed: frozenset[str] = frozenset({RESTART})  # what no record has shown
    seen: int = 0  # moves that they rest upon; 0: all of it is assumed


def of(state: ClusterState, group: GroupName) -> Estimates:
    found = {
        START: usual.start(state, group),
        STOP: usual.stop(state, group),
        FENCE: usual.fence(state, group),
    }
    return Estimates(
        start_ms=_ms(found[START], START_MS),
        stop_ms=_ms(found[STOP], STOP_MS),
        fence_ms=_ms(found[FENCE], FENCE_MS),
        assumed=frozenset({RESTART, *(name for name, u in found.items() if u.ms is None)}),
        seen=found[START].seen,
    )


def _ms(u: Usual, assumed_ms: int) -> int:
    return assumed_ms if u.ms is None else u.ms
