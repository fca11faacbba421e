"""Is anything done about a group or a node now? Maintenance has three scopes, and this is where they are read.

Only that of the whole cluster suspends dead-man's switches. Under the two smaller ones every lease, deadline and boot
hold stays in force: they withhold grants, moves, repairs and fences, so they can never make a second node active.
"""

from collections.abc import Callable

from hamail.model.ids import GroupName, NodeName
from hamail.model.state import ClusterState, GroupState, Maintenance, NodeState


def why(maintenance: Maintenance, name: GroupName, g: GroupState, node: Callable[[NodeName], NodeState]) -> str:
    """Why nothing is done about this group, whatever happens to it; empty when it is looked after."""
    if maintenance.on:
        return "the cluster is in maintenance"
    if g.maintenance is not None:
        return f"{name} is in maintenance; hamailctl maintenance off --group {name} ends it"
    if g.owner is not None and node(g.owner).maintenance is not None:
        return f"{g.owner}, which owns {name}, is in maintenance; hamailctl maintenance off --node {g.owner} ends it"
    return ""


def from_group(state: ClusterState, name: GroupName) -> str:
    return why(state.maintenance, name, state.group(name), state.node)
