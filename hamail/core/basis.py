"""What the coordinator goes by when it proposes something, in words, for the history."""

from msgspec.structs import replace

from hamail.core import placement, proof, record
from hamail.core.facts import Facts, NodeFacts
from hamail.model import commands as c
from hamail.model.ids import GroupName, NodeName
from hamail.model.state import ClusterState


def with_basis(state: ClusterState, facts: Facts, command: c.AnyCommand) -> c.AnyCommand:
    """The same command with who heard whom, which fence devices are ready, and what was not done instead."""
    told = {name: heard(state, facts.node(name), name) for name in sorted(state.spec.nodes)}
    rejected: dict[str, str] = {}
    match command:
        case c.Grant(group=group, node=node):
            rejected = _others(state, facts, group, node)
        case c.Retry(group=group):
            rejected = {"give up": "it may have been the storage, or something that has passed"}
            rejected |= _others(state, facts, group, None)
        case c.OwnerLost(group=group, node=node) | c.OwnerStuck(group=group, node=node):
            told |= fences(state, facts, node)
            rejected = {
                "start it elsewhere at once": f"{node} may still hold it, and two nodes would write to the same mail",
                "leave it there": "nobody would know whether it is served",
            } | _no_waiting(state, group)
        case c.OrderFence(target=target, device=device, by=by):
            told |= fences(state, facts, target)
            chosen = f"{device} by {by}"
            tries = {way: words for way, words in fences(state, facts, target).items() if way != chosen}
            rejected = {way: _not_now(words) for way, words in tries.items()}
            for group in sorted(state.spec.groups):
                if state.group(group).owner == target:
                    rejected |= _no_waiting(state, group)
        case c.OwnerBack(node=node):
            rejected = {f"take it from {node}": "nothing irreversible was done yet, and it is heard and well again"}
        case _:
            pass
    # Bounded here as well: no long word of a peer may make the command too large for the log.
    return replace(command, basis=c.Basis(by=facts.me, facts=record.bounded(told), rejected=record.bounded(rejected)))


def heard(state: ClusterState, of: NodeFacts, name: NodeName) -> str:
    """What the coordinator knows of a node, in one phrase."""
    spec, known = state.spec.nodes[name], state.node(name)
    words = ["witness"] if spec.witness else []
    if not of.alive:
        words.append(f"not heard for {of.silent_ms / 1000:.1f} s")
    elif of.restarting:
        words.append("its hamaild restarts")
    elif of.ready:
        words.append("heard" if spec.witness else "heard, ready")
    else:
        words.append(f"heard, not ready: {of.detail or 'no reason given'}")
    if of.accusers:
        words.append(f"missed by {', '.join(of.accusers)}")
    if not spec.witness and known.incarnation is None:
        words.append("not joined")
    if known.standby:
        words.append("in standby")
    if known.fence is not None:
        words.append("being fenced")
    return ", ".join(words)


def fences(state: ClusterState, facts: Facts, target: NodeName) -> dict[str, str]:
    """Every way to fence the node -> "ready", or why it would fail."""
    found = {}
    for device in state.spec.devices_for(target):
        for by in state.spec.fence_executors(device, target):
            of = facts.node(by)
            if not of.alive or of.suspected:
                words = f"{by} is not heard"
            elif not of.ready:
                words = f"{by} is not ready"
            elif state.node(by).fence is not None:
                words = f"{by} is being fenced itself"
            else:
                problem = of.fence_ready.get(device.name)
                words = "not checked yet" if problem is None else problem or "ready"
            found[f"{device.name} by {by}"] = words
    return found


def _not_now(words: str) -> str:
    return "the other one comes first; this is the next try" if words in ("ready", "not checked yet") else words


def _others(state: ClusterState, facts: Facts, group: GroupName, node: NodeName | None) -> dict[str, str]:
    """Why no other node got the group."""
    listed = state.spec.groups[group].nodes
    return {
        x.node: f"{x.reason}, but {node} comes first" if x.eligible else x.reason
        for x in placement.candidates(state, facts, group)
        if x.node != node and x.node in listed
    }


def _no_waiting(state: ClusterState, group: GroupName) -> dict[str, str]:
    g = state.group(group)
    if g.owner is None:
        return {}
    why_not = proof.no_expiry(state.spec.groups[group].requires, g, state.node(g.owner), state.maintenance)
    fenceable = bool(state.spec.devices_for(g.owner))
    if why_not:
        return {"only wait until its promises run out": why_not}
    return (
        {"only wait until its promises run out": "a fence is faster; whichever comes first counts"} if fenceable else {}
    )
