"""What proves that an owner which cannot be asked is out: the one place where `requires` is read."""

from collections.abc import Callable

from hamail.core.transitions import What
from hamail.model.ids import GroupName, NodeName
from hamail.model.spec import GroupSpec, Requirement
from hamail.model.state import ClusterState, GroupState, Maintenance, NodeState, Phase, Trigger

OWNED = frozenset({Phase.STARTING, Phase.ACTIVE, Phase.STOPPING, Phase.FENCING, Phase.WAITING, Phase.BLOCKED})
RUNNING = frozenset({Phase.STARTING, Phase.ACTIVE})
HELD = frozenset({Phase.STARTING, Phase.ACTIVE, Phase.STOPPING})
DOUBTFUL = frozenset({Phase.FENCING, Phase.WAITING, Phase.BLOCKED})


def no_expiry(requires: Requirement, g: GroupState, owner: NodeState, maintenance: Maintenance) -> str:
    """Why it proves nothing that every promise to the owner has run out; empty when that is proof enough."""
    if requires is Requirement.FENCING:
        return "only a fence would prove it"
    if g.owner in maintenance.suspended:
        return f"the dead-man's switch of {g.owner} may still be suspended from the maintenance"
    if requires is Requirement.WATCHDOG and not owner.watchdog_armed:
        return f"{g.owner} has no armed watchdog"
    if requires is Requirement.LEASE and g.stuck:
        return "it could not be stopped there, and nothing else would stop it"
    return ""


def expires(state: ClusterState, group: GroupName) -> bool:
    """May the group start elsewhere once every promise to its owner has run out?"""
    g = state.group(group)
    if group not in state.spec.groups or g.owner is None or g.phase not in (Phase.FENCING, Phase.WAITING):
        return False
    return not no_expiry(state.spec.groups[group].requires, g, state.node(g.owner), state.maintenance)


def remedy(fenceable: bool, why_no_expiry: str) -> What:
    """How to make certain that an owner which cannot be trusted is out."""
    if fenceable:
        return What.MUST_FENCE
    return What.MUST_ASK if why_no_expiry else What.MUST_WAIT


def unclean(
    spec: GroupSpec, group: GroupName, g: GroupState, node: Callable[[NodeName], NodeState]
) -> tuple[NodeName, ...]:
    """Nodes where something of the group may run by hand: they have not cleaned up since it was named."""
    return tuple(
        name
        for name in spec.nodes
        if node(name).incarnation is not None and name != g.owner and node(name).cleaned.get(group, 0) < g.changed_at
    )


def trusted(g: GroupState) -> bool:
    """May the owner simply keep the group if it is heard again?"""
    return g.trigger not in (Trigger.FENCE_REQUESTED, Trigger.FAILOVER) and g.owner not in g.failed_on
