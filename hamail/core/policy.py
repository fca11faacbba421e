"""A group's failure policy: how often failures may move it, how much of that is used up, and which node is no better.

Times are wall-clock milliseconds as commands have carried them. `at_ms` is the clock of whoever asks: nodes may differ
by their clock's error, which is small beside any window. What lies more than a window ahead is a clock that was wrong.
"""

from msgspec import Struct

from hamail.core.words import about, clock, span
from hamail.model.ids import GroupName, NodeName, ResourceName
from hamail.model.spec import Budget, GroupSpec
from hamail.model.state import ClusterState, Failure, GroupState, Trigger

BY_FAILURE = frozenset(
    {
        Trigger.NODE_LOST,
        Trigger.NODE_STUCK,
        Trigger.NODE_RESTARTED,
        Trigger.SERVICE_FAILED,
        Trigger.START_FAILED,
        Trigger.STOP_FAILED,
        Trigger.LEASE_LOST,
    }
)  # moves that nobody ordered


class Use(Struct, frozen=True, kw_only=True):
    """How much of a budget is used up."""

    limit: int
    window_ms: int
    used: int
    free_at_ms: int = 0  # when one more is allowed again; 0: it is now, or never will be

    @property
    def up(self) -> bool:
        return self.used >= self.limit


def recent(times: tuple[int, ...], at_ms: int, window_ms: int) -> tuple[int, ...]:
    return tuple(sorted(t for t in times if abs(at_ms - t) < window_ms))


def use(budget: Budget, times: tuple[int, ...], at_ms: int) -> Use:
    counted = recent(times, at_ms, budget.window_ms)
    over = len(counted) - budget.limit
    free_at_ms = counted[over] + budget.window_ms if over >= 0 and budget.limit > 0 else 0
    return Use(limit=budget.limit, window_ms=budget.window_ms, used=len(counted), free_at_ms=free_at_ms)


def uses(spec: GroupSpec, g: GroupState, at_ms: int) -> tuple[Use, ...]:
    return tuple(use(b, g.failovers, at_ms) for b in spec.failovers)


def used_up(spec: GroupSpec, g: GroupState, at_ms: int) -> Use | None:
    """The budget that stands in the way for longest; None when one more failover is allowed."""
    full = [u for u in uses(spec, g, at_ms) if u.up]
    return max(full, key=lambda u: (u.limit == 0, u.free_at_ms), default=None)


def words(group: GroupName, full: Use) -> str:
    """In one clause."""
    until = f", until {clock(full.free_at_ms)}" if full.free_at_ms else ""
    return f"{group} has used up its failovers ({full.limit} in {span(full.window_ms)}{until})"


def memory_ms(spec: GroupSpec) -> int:
    """For how long a node that the group failed on is no better than another one; 0 where failovers have no limit."""
    return min((b.window_ms for b in spec.failovers), default=0)


def failed_there(
    spec: GroupSpec, g: GroupState, node: NodeName, at_ms: int, resource: ResourceName | None = None
) -> Failure | None:
    """The last failure of the group on that node that still counts; with `resource`, of that one only."""
    for f in reversed(g.failures):
        if f.node == node and abs(at_ms - f.at_ms) < memory_ms(spec) and resource in (None, f.resource):
            return f
    return None


def no_better(spec: GroupSpec, g: GroupState, node: NodeName, resource: ResourceName, at_ms: int) -> str:
    """Why a failure of `resource` is no reason to go to `node`, without its name; empty when it is."""
    if failure := failed_there(spec, g, node, at_ms, resource):
        return f"{resource} failed there, too, {about(at_ms - failure.at_ms)} ago"
    return ""


def stays(
    group: GroupName,
    spec: GroupSpec,
    g: GroupState,
    node: NodeName,
    resource: ResourceName,
    at_ms: int,
    *,
    fatal: bool,
) -> str:
    """Why a failed resource does not move the group to `node`; empty when it may.

    `fatal`: no restart can help, so the owner is as good as lost for this group: then used-up failovers alone keep it
    from no node that has not failed it.
    """
    if why := no_better(spec, g, node, resource, at_ms):
        return f"{node} is no better: {why}"
    full = used_up(spec, g, at_ms)
    if full is not None and not (fatal and failed_there(spec, g, node, at_ms) is None):
        return words(group, full)
    return ""


def held_back(state: ClusterState, group: GroupName, node: NodeName, at_ms: int) -> str:
    """Why a group that a failure has brought down waits before it goes to `node`; empty when it does not.

    Only where it bounces: its failovers are used up, and what has brought it down now has done so on this node, too,
    not long ago. Another cause does not travel with the group: to wait would be an outage that helps nobody.
    """
    spec, g = state.spec.groups[group], state.group(group)
    if g.owner is not None or g.pardoned or g.trigger not in BY_FAILURE - {Trigger.SERVICE_FAILED}:
        return ""  # before a failed service moves it, its owner has waited as long as the policy wants (`stays`)
    failure, full = failed_there(spec, g, node, at_ms, _cause(g)), used_up(spec, g, at_ms)
    if failure is None or full is None:
        return ""
    what = f"{failure.resource} failed there" if failure.resource else "it was itself lost"
    return f"{what} {about(at_ms - failure.at_ms)} ago, and {words(group, full)}; hamailctl clear {group} forgets that"


def _cause(g: GroupState) -> ResourceName:
    """What has brought it down last: the resource, or "" for the node itself."""
    return g.failures[-1].resource if g.failures and g.trigger is not Trigger.LEASE_LOST else ""


def excess(spec: GroupSpec, g: GroupState, at_ms: int) -> int:
    """By how many failovers too many the pause before the next try grows."""
    full = used_up(spec, g, at_ms)
    return full.used - full.limit if full else 0


def restarts(spec: GroupSpec, g: GroupState, node: NodeName, at_ms: int) -> dict[ResourceName, int]:
    """How often each resource was restarted in place on `node` within the window; those with none are left out."""
    counts: dict[ResourceName, int] = {}
    for f in g.restarts:
        if f.node == node and abs(at_ms - f.at_ms) < spec.restarts_window_ms:
            counts[f.resource] = counts.get(f.resource, 0) + 1
    return counts
