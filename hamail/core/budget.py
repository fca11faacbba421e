"""How long the phases of an order may take: what they took of late, and when they are given up."""

from collections.abc import Callable
from statistics import median_low

from hamail.core.proof import no_expiry
from hamail.model.ids import GroupName, NodeName
from hamail.model.preflight import PhaseBudget
from hamail.model.spec import ClusterSpec, GroupSpec, Requirement, ResourceSpec
from hamail.model.state import ClusterState, Move, Stamp
from hamail.model.timings import Timings

MOVES_LOOKED_AT = 5  # the newest that have the phase


def stop(state: ClusterState, group: GroupName) -> PhaseBudget:
    limit_ms = longest_ms(state.spec.groups[group], lambda r: r.stop_timeout_ms)
    return PhaseBudget(phase="stop", usual_ms=_usual_ms(state, group, Stamp.DECIDED, Stamp.STOPPED), limit_ms=limit_ms)


def start(state: ClusterState, group: GroupName) -> PhaseBudget:
    limit_ms = longest_ms(state.spec.groups[group], lambda r: r.start_timeout_ms)
    return PhaseBudget(phase="start", usual_ms=_usual_ms(state, group, Stamp.GRANTED, Stamp.DONE), limit_ms=limit_ms)


def out(state: ClusterState, group: GroupName, owner: NodeName, t: Timings) -> tuple[PhaseBudget, ...]:
    """Until it is proven that the owner is out: a fence, or the time after which its promises have run out."""
    found = []
    if state.spec.devices_for(owner):
        usual_ms = _usual_ms(state, group, Stamp.DECIDED, Stamp.FENCED)
        found.append(PhaseBudget(phase="fence", usual_ms=usual_ms, limit_ms=fence_limit_ms(state.spec, owner)))
    requires = state.spec.groups[group].requires
    if not no_expiry(requires, state.group(group), state.node(owner), state.maintenance):
        wait_ms = t.watchdog_wait_ms if requires is Requirement.WATCHDOG else t.wait_ms
        found.append(PhaseBudget(phase="wait", usual_ms=wait_ms, limit_ms=wait_ms))
    return tuple(found)


def fence_limit_ms(spec: ClusterSpec, target: NodeName) -> int:
    """One round of attempts: every device, by every node that may run it."""
    return sum(d.timeout_ms * len(spec.fence_executors(d, target)) for d in spec.devices_for(target))


def longest_ms(group: GroupSpec, timeout_ms: Callable[[ResourceSpec], int | None]) -> int | None:
    """Along the longest chain of dependencies; None where a resource leaves it to its agent."""
    known = [timeout_ms(r) for r in group.resources]
    if None in known:
        return None
    ends: dict[str, int] = {}
    for _round in group.resources:  # a chain is never longer than there are resources
        for r in group.resources:
            ends[r.name] = (timeout_ms(r) or 0) + max((ends.get(below, 0) for below in r.after), default=0)
    return max(ends.values(), default=0)


def _usual_ms(state: ClusterState, group: GroupName, first: Stamp, last: Stamp) -> int | None:
    took = [ms for m in reversed(state.moves) if m.group == group and (ms := _took_ms(m, first, last)) is not None]
    return median_low(took[:MOVES_LOOKED_AT]) if took else None


def _took_ms(move: Move, first: Stamp, last: Stamp) -> int | None:
    if move.result != "done" or first not in move.stamps or last not in move.stamps:
        return None
    return max(0, move.stamps[last] - move.stamps[first])
