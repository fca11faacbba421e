"""What would follow at once if a maintenance ended now: shown to the operator before it is ended.

The very decisions that the coordinator would make, on the state without the maintenance. They are not proposed.
"""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from hamail.core import coordinator, hands_off, placement, retries
from hamail.core.facts import Facts
from hamail.model import commands as c
from hamail.model.ids import GroupName, NodeName, ResourceName
from hamail.model.leaving import Leaving
from hamail.model.state import ClusterState, Phase
from hamail.model.timings import Timings

if TYPE_CHECKING:
    from hamail.core.engine import Engine

Resources = dict[GroupName, dict[ResourceName, str]]


def preview_on(engine: "Engine", group: GroupName = "", node: NodeName = "") -> Leaving:
    """As this node sees it."""
    return preview(engine.state, engine.facts(), engine.timings, known_resources(engine), group=group, node=node)


def known_resources(engine: "Engine") -> Resources:
    """Of each group, what its owner last said about its resources."""
    known: Resources = {}
    for name in engine.state.spec.groups:
        owner = engine.state.group(name).owner
        if owner == engine.me:
            known[name] = engine.local.resources().get(name, {})
        elif owner is not None and (peer := engine.members.peers.get(owner)) and peer.heartbeat is not None:
            known[name] = peer.heartbeat.resources.get(name, {})
    return known


def preview(
    state: ClusterState, facts: Facts, t: Timings, resources: Resources, *, group: GroupName = "", node: NodeName = ""
) -> Leaving:
    """`group`, `node`: the scope that is left; neither: that of the whole cluster."""
    after = lifted(state, group, node)
    decided = coordinator.decide(after, facts, t)
    lines: list[str] = []
    acts = False
    for name in sorted(state.spec.groups):
        concerned = not (group or node) or name == group or node in state.spec.groups[name].nodes
        if not concerned:
            continue
        if why := hands_off.from_group(after, name):
            lines.append(f"{name}: still nothing is done about it: {why}.")
        else:
            found, busy = _group(after, facts, name, decided, resources.get(name, {}))
            lines += found
            acts = acts or busy
    return Leaving(sentences=tuple(lines), acts=acts)


def lifted(state: ClusterState, group: GroupName = "", node: NodeName = "") -> ClusterState:
    """The same state without this maintenance."""
    if group:
        return replace(state, groups={**state.groups, group: replace(state.group(group), maintenance=None)})
    if node:
        return replace(state, nodes={**state.nodes, node: replace(state.node(node), maintenance=None)})
    return replace(state, maintenance=replace(state.maintenance, on=False))


def _group(
    state: ClusterState,
    facts: Facts,
    name: GroupName,
    decided: tuple[c.AnyCommand, ...],
    resources: dict[ResourceName, str],
) -> tuple[list[str], bool]:
    """Sentences, and whether anything is done."""
    g = state.group(name)
    lines = []
    for command in decided:
        if isinstance(command, c.OrderFence):
            if command.target == g.owner:
                lines.append(f"{name}: {command.by} fences {command.target} with {command.device}.")
        elif getattr(command, "group", "") == name:
            lines.append(_words(name, command))
    if lines:
        return lines, True
    if g.phase is Phase.IDLE:
        nobody = [f"{x.node}: {x.reason}" for x in placement.candidates(state, facts, name)]
        wait = retries.words(state, facts, name)
        down = f"{name} stays down, for no node may have it ({'; '.join(nobody)})."
        return [down, *([f"{wait}."] if wait else [])], False
    if g.owner is not None and facts.node(g.owner).alive:
        spec = state.spec.groups[name]
        ill = [(r.name, resources.get(r.name, "unknown")) for r in spec.resources if resources.get(r.name) != "up"]
        if not resources:
            words = f"{name}: nothing of it is known to run on {g.owner}; if so, it is started anew where it can be."
            return [words], True
        lines = [f"{name}: {r} is {how} on {g.owner}; it is restarted there if it has failed." for r, how in ill]
    return lines or [f"{name} stays {g.phase} on {g.owner}: nothing has to be done."], bool(lines)


def _words(name: GroupName, command: c.AnyCommand) -> str:
    match command:
        case c.Grant(node=node):
            return f"{name} is started on {node}."
        case c.OwnerLost(node=node, silent_ms=silent_ms):
            return f"{name}: {node} has not been heard for {silent_ms / 1000:.1f} s and is taken for lost."
        case c.OwnerStuck(node=node):
            return f"{name}: {node} does not follow the log, and {name} is taken from it."
        case c.OwnerBack(node=node):
            return f"{name}: {node} is heard again and keeps it."
        case c.Retry():
            return f"{name} is tried again on every node."
        case _:
            return f"{name}: {type(command).__name__} is decided."
