"""What the coordinator proposes next, from the replicated state and what it hears.

The coordinator is today's leader of the log. It is no authority: every proposal is checked again by apply against the
epoch it was made for, so two nodes that both believe to be coordinator can do no harm.
"""

from hamail.core import placement
from hamail.core.facts import Facts, NodeFacts
from hamail.model import commands as c
from hamail.model.ids import GroupName, NodeName
from hamail.model.spec import FenceDeviceSpec, Requirement
from hamail.model.state import ClusterState, Evidence, GroupState, Phase, Trigger
from hamail.model.timings import Timings

MS = 1_000_000
HELD = frozenset({Phase.STARTING, Phase.ACTIVE, Phase.STOPPING})


def decide(state: ClusterState, facts: Facts, t: Timings) -> tuple[c.AnyCommand, ...]:
    """Commands to propose now. Those that belong together follow each other without waiting for a commit."""
    if state.maintenance.on:
        return ()
    result: list[c.AnyCommand] = []
    for name in sorted(state.spec.groups):
        result += _for_group(state, facts, name, t)
    for target in sorted(state.spec.nodes):
        result += _unfinished_fence(state, facts, target)
    return tuple(result)


def _for_group(state: ClusterState, facts: Facts, name: GroupName, t: Timings) -> list[c.AnyCommand]:
    g = state.group(name)
    if g.phase is Phase.IDLE:
        return _grant(state, facts, name, g)
    if g.owner is None:
        return []
    owner = facts.node(g.owner)
    if g.phase in HELD and owner.suspected:
        lost = c.OwnerLost(
            at_ms=facts.at_ms,
            group=name,
            node=g.owner,
            epoch=g.epoch,
            silent_ms=owner.silent_ms,
            voters=owner.accusers,
        )
        return [lost, *_fence(state, facts, g.owner, f"{g.owner} is not heard")]
    if g.phase is Phase.FENCING:
        if _back(owner) and state.node(g.owner).fence is None and state.node(g.owner).fence_failure:
            return [c.OwnerBack(at_ms=facts.at_ms, group=name, node=g.owner, epoch=g.epoch)]
        return _fence(state, facts, g.owner, g.sentence)
    if g.phase is Phase.WAITING:
        return _wait_over(state, facts, name, t)
    return []


def _back(owner: NodeFacts) -> bool:
    """Is the owner heard and well again?"""
    return owner.alive and owner.ready and not owner.suspected


def _grant(state: ClusterState, facts: Facts, name: GroupName, g: GroupState) -> list[c.AnyCommand]:
    node = placement.choose(state, facts, name)
    if node is None:
        return []
    preferred = state.spec.groups[name].nodes[0]
    cold = g.evidence in (Evidence.NEVER_OWNED, Evidence.REJOINED) and g.trigger is not Trigger.CLEARED
    if cold and node != preferred and not facts.settled and preferred not in g.failed_on:
        return []  # everybody has just started: give the preferred node the time to come up
    return [_granting(state, facts, name, node, g.evidence, ())]


def _granting(
    state: ClusterState,
    facts: Facts,
    name: GroupName,
    node: NodeName,
    evidence: Evidence,
    voters: tuple[NodeName, ...],
) -> c.Grant:
    others = [f"{x.node}: {x.reason}" for x in placement.candidates(state, facts, name) if x.node != node]
    chosen = next(x.reason for x in placement.candidates(state, facts, name) if x.node == node)
    rejected = f"; not chosen: {'; '.join(others)}" if others else ""
    return c.Grant(
        at_ms=facts.at_ms,
        group=name,
        node=node,
        expected_epoch=state.group(name).epoch,
        evidence=evidence,
        voters=voters,
        sentence=f"{node} was chosen because {chosen}{rejected}.",
    )


def _wait_over(state: ClusterState, facts: Facts, name: GroupName, t: Timings) -> list[c.AnyCommand]:
    """Promises (and, where required, the owner's watchdog) have run out: grant. Or the owner came back in time."""
    g = state.group(name)
    assert g.owner is not None
    spec = state.spec.groups[name]
    voters = facts.released_by.get((name, g.epoch), ())
    if _back(facts.node(g.owner)) and not voters:
        return [c.OwnerBack(at_ms=facts.at_ms, group=name, node=g.owner, epoch=g.epoch)]
    if len(voters) < state.spec.majority():
        return []
    if spec.requires is Requirement.WATCHDOG:
        # When a majority says that its promises have run out, no lease lives; the watchdog was fed until then at most.
        dog_ns = (t.watchdog_wait_ms - t.wait_ms) * MS
        if not facts.node(g.owner).watchdog_armed or facts.now_ns - facts.majority_at_ns[name, g.epoch] < dog_ns:
            return []
    node = placement.choose(state, facts, name)
    return [] if node is None else [_granting(state, facts, name, node, Evidence.EXPIRED, voters)]


def _fence(state: ClusterState, facts: Facts, target: NodeName, reason: str) -> list[c.AnyCommand]:
    """Order the next attempt: devices by level, each with the nodes that can run it; then from the start again."""
    node = state.node(target)
    if node.fence is not None or facts.now_ns < facts.fence_retry_at_ns.get(target, 0):
        return []
    attempts = fence_attempts(state, facts, target)
    if not attempts:
        return []
    device, by = attempts[node.fence_attempts % len(attempts)]
    return [
        c.OrderFence(at_ms=facts.at_ms, target=target, device=device.name, by=by, reason=reason),
    ]


def fence_attempts(state: ClusterState, facts: Facts, target: NodeName) -> tuple[tuple[FenceDeviceSpec, NodeName], ...]:
    """Every (device, executing node) that could fence `target` now, in the order in which they are tried.

    Within a level, nodes whose last readiness check of the device succeeded come first.
    """
    found = []
    for device in state.spec.devices_for(target):
        for by in state.spec.fence_executors(device, target):
            heard = facts.node(by)
            if heard.alive and heard.ready and not heard.suspected:
                unready = bool(heard.fence_ready.get(device.name, ""))
                found.append((device.level, unready, device, by))
    found.sort(key=lambda x: (x[0], x[1]))
    return tuple((device, by) for _, _, device, by in found)


def _unfinished_fence(state: ClusterState, facts: Facts, target: NodeName) -> list[c.AnyCommand]:
    """An order whose executing node died with it will never be answered: close it, so that the next one can go out."""
    order = state.node(target).fence
    if order is None or not facts.node(order.by).suspected:
        return []
    detail = f"{order.by}, which should run it, is not heard any more"
    return [c.FenceDone(at_ms=facts.at_ms, target=target, order=order.id, ok=False, detail=detail)]
