"""How long the phases of a move take: what they usually took here, and when they are given up."""

from collections.abc import Callable

from hamail.core import agent_limits, usual
from hamail.core.proof import no_expiry
from hamail.core.usual import Usual
from hamail.model.ids import GroupName, NodeName
from hamail.model.preflight import PhaseBudget
from hamail.model.spec import ClusterSpec, FenceDeviceSpec, GroupSpec, Requirement, ResourceSpec
from hamail.model.state import ClusterState
from hamail.model.timings import Timings

FENCE_GRACE_MS = 5000  # beyond twice the time-out of the device: an order unanswered for longer is given up
TICKS_TO_TELL = 3  # the accuser's, the accusation's, the coordinator's


def stop(state: ClusterState, group: GroupName) -> PhaseBudget:
    return _phase("stop", usual.stop(state, group), stop_limit_ms(state, group))


def start(state: ClusterState, group: GroupName) -> PhaseBudget:
    return _phase("start", usual.start(state, group), start_limit_ms(state, group))


def out(state: ClusterState, group: GroupName, owner: NodeName, t: Timings) -> tuple[PhaseBudget, ...]:
    """Until it is proven that the owner is out: a fence, or the time after which its promises have run out."""
    found = []
    if state.spec.devices_for(owner):
        found.append(_phase("fence", usual.fence(state, group), fence_limit_ms(state.spec, owner)))
    requires = state.spec.groups[group].requires
    if not no_expiry(requires, state.group(group), state.node(owner), state.maintenance):
        wait_ms = wait_limit_ms(state, group, t)
        found.append(PhaseBudget(phase="wait", usual_ms=wait_ms, limit_ms=wait_ms))
    return tuple(found)


def _phase(name: str, took: Usual, limit_ms: int | None) -> PhaseBudget:
    return PhaseBudget(phase=name, usual_ms=took.ms, seen=took.seen, limit_ms=limit_ms)


# ---- limits ----------------------------------------------------------------------------------------------------------


def detect_limit_ms(t: Timings) -> int:
    """A dead owner's last heartbeat is missed by everybody, who tell the coordinator, while their processes run."""
    return t.detection_ms + t.heartbeat_ms + TICKS_TO_TELL * t.tick_ms


def order_limit_ms(device: FenceDeviceSpec | None) -> int:
    """One fence order: the agent cuts, then it must report the node off. Unanswered for longer, it is given up."""
    return (2 * device.timeout_ms if device else 0) + FENCE_GRACE_MS


def fence_limit_ms(spec: ClusterSpec, target: NodeName) -> int:
    """One round of attempts: every device, by every node that may run it."""
    return sum(order_limit_ms(d) * len(spec.fence_executors(d, target)) for d in spec.devices_for(target))


def wait_limit_ms(state: ClusterState, group: GroupName, t: Timings) -> int:
    return t.watchdog_wait_ms if state.spec.groups[group].requires is Requirement.WATCHDOG else t.wait_ms


def stop_limit_ms(state: ClusterState, group: GroupName) -> int | None:
    return longest_ms(state.spec.groups[group], agent_limits.stop_ms)


def start_limit_ms(state: ClusterState, group: GroupName) -> int | None:
    return longest_ms(state.spec.groups[group], agent_limits.start_ms)


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
