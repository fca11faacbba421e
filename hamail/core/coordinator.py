"""What the coordinator proposes next, from the replicated state and what it hears.

The coordinator is today's leader of the log. It is no authority: every proposal is checked again by apply against the
epoch it was made for, so two nodes that both believe to be coordinator can do no harm.
"""

from hamail.core import basis, budget, expiry, hands_off, placement, proof
from hamail.core.facts import Facts
from hamail.core.followers import stuck
from hamail.core.proof import HELD, expires, trusted
from hamail.core.timing import watchdog_extra_ms
from hamail.model import commands as c
from hamail.model.ids import GroupName, NodeName
from hamail.model.spec import FenceDeviceSpec, Requirement
from hamail.model.state import ClusterState, Evidence, GroupState, Phase, Trigger
from hamail.model.timings import Timings

MS = 1_000_000


def decide(state: ClusterState, facts: Facts, t: Timings) -> tuple[c.AnyCommand, ...]:
    """Commands to propose now. Those that belong together follow each other without waiting for a commit."""
    result: list[c.AnyCommand] = [*expiry.due(state, facts.at_ms)]
    if state.maintenance.on:
        return tuple(result)
    for name in sorted(state.spec.groups):
        result += _for_group(state, facts, name, t)
    for target in sorted(state.spec.nodes):
        result += _unfinished_fence(state, facts, target)
    return tuple(basis.with_basis(state, facts, command) for command in result)


def _for_group(state: ClusterState, facts: Facts, name: GroupName, t: Timings) -> list[c.AnyCommand]:
    g = state.group(name)
    if hands_off.from_group(state, name):
        return []
    if g.owner is None:  # idle, and only then
        return _grant(state, facts, name, g)
    if g.phase in HELD and facts.node(g.owner).suspected:
        return _lost(state, facts, name, g.owner)
    if g.phase in HELD:
        return _hung(state, facts, name, g.owner) if stuck(facts, g.owner, t) else []
    if (
        _back(facts, g.owner, t)
        and trusted(g)
        and state.node(g.owner).fence is None
        and not _some_released(facts, name, g)
    ):
        return [c.OwnerBack(at_ms=facts.at_ms, group=name, node=g.owner, epoch=g.epoch)]
    over = _wait_over(state, facts, name, t)
    if over or g.phase is not Phase.FENCING:
        return over
    return _fence(state, facts, g.owner, g.sentence)


def _lost(state: ClusterState, facts: Facts, name: GroupName, node: NodeName) -> list[c.AnyCommand]:
    owner = facts.node(node)
    lost = c.OwnerLost(
        at_ms=facts.at_ms,
        group=name,
        node=node,
        epoch=state.group(name).epoch,
        silent_ms=owner.silent_ms,
        voters=owner.accusers,
    )
    return [lost, *_fence(state, facts, node, f"{node} is not heard")]


def _hung(state: ClusterState, facts: Facts, name: GroupName, node: NodeName) -> list[c.AnyCommand]:
    """It is heard and keeps its lease, but it learns of nothing, so it can neither stop nor say that something failed.

    It may still serve: it is taken out only where that is possible and another node could take over.
    """
    g = state.group(name)
    sure = fence_attempts(state, facts, node) or not proof.no_expiry(
        state.spec.groups[name].requires, g, state.node(node), state.maintenance
    )
    others = any(x.eligible and x.node != node for x in placement.candidates(state, facts, name))
    if not sure or not (others or placement.last_resorts(state, facts, name)):
        return []
    hung = c.OwnerStuck(
        at_ms=facts.at_ms,
        group=name,
        node=node,
        epoch=g.epoch,
        behind_ms=facts.behind_ms[node],
        detail=facts.node(node).detail,
    )
    return [hung, *_fence(state, facts, node, f"{node} does not follow the log")]


def _back(facts: Facts, node: NodeName, t: Timings) -> bool:
    """Is the owner heard and well again?"""
    owner = facts.node(node)
    return owner.alive and owner.ready and not owner.suspected and not stuck(facts, node, t)


def _some_released(facts: Facts, name: GroupName, g: GroupState) -> bool:
    """Voters that have said yes never promise this epoch again, so its owner may not get a lease on it any more."""
    return bool(facts.released_by.get((name, g.epoch)))


def _grant(state: ClusterState, facts: Facts, name: GroupName, g: GroupState) -> list[c.AnyCommand]:
    """Nobody holds it: give it to the best node, or let those that failed try again when it is time."""
    node = placement.choose(state, facts, name)
    if node is None:
        due = facts.retry_in_ms.get(name) == 0
        return [c.Retry(at_ms=facts.at_ms, group=name, expected_epoch=g.epoch)] if due else []
    preferred = state.spec.groups[name].nodes[0]
    cold = g.evidence in (Evidence.NEVER_OWNED, Evidence.REJOINED) and g.trigger is not Trigger.CLEARED
    could_come = preferred not in g.failed_on and not state.node(preferred).standby
    if cold and node != preferred and could_come and not facts.settled:
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
    ranked = [x for x in placement.candidates(state, facts, name) if x.node in state.spec.groups[name].nodes]
    chosen = next(x.reason for x in ranked if x.node == node)
    unclean = proof.unclean(state.spec.groups[name], name, state.group(name), state.node)
    others = "; ".join(f"not {x.node}: {x.reason}" for x in ranked if x.node != node and not x.eligible)
    return c.Grant(
        at_ms=facts.at_ms,
        group=name,
        node=node,
        expected_epoch=state.group(name).epoch,
        evidence=evidence,
        voters=voters,
        unheard=tuple(n for n in unclean if not placement.heard_of(facts, n)),
        sentence=f"Why {node}: {chosen}" + (f"; {others}." if others else "."),
    )


def _wait_over(state: ClusterState, facts: Facts, name: GroupName, t: Timings) -> list[c.AnyCommand]:
    """Promises (and, where required, the owner's watchdog) have run out: grant."""
    g = state.group(name)
    voters = facts.released_by.get((name, g.epoch), ())
    if not expires(state, name) or len(voters) < state.spec.majority():
        return []
    if state.spec.groups[name].requires is Requirement.WATCHDOG:
        # When a majority says that its promises have run out, no lease lives; the watchdog was fed until then at most.
        dog_ms = watchdog_extra_ms(max(state.watchdog_timeout_s_max, t.watchdog_ms // 1000))
        if facts.now_ns - facts.majority_at_ns[name, g.epoch] < dog_ms * MS:
            return []
    node = placement.choose(state, facts, name)
    return [] if node is None else [_granting(state, facts, name, node, Evidence.EXPIRED, voters)]


def _fence(state: ClusterState, facts: Facts, target: NodeName, reason: str) -> list[c.AnyCommand]:
    """Order the next attempt: devices by level, each with the nodes that can run it; then from the start again."""
    node = state.node(target)
    # The pause is between rounds of attempts; without an attempt yet this is a new case, and somebody waits for it.
    paused = node.fence_attempts and facts.now_ns < facts.fence_retry_at_ns.get(target, 0)
    if node.fence is not None or paused:
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

    Within a level, nodes whose last readiness check of the device succeeded come first. A node that is itself being
    fenced fences nobody: the two would switch each other off.
    """
    found = []
    for device in state.spec.devices_for(target):
        for by in state.spec.fence_executors(device, target):
            heard = facts.node(by)
            if heard.alive and heard.ready and not heard.suspected and state.node(by).fence is None:
                unready = bool(heard.fence_ready.get(device.name, ""))
                found.append((device.level, unready, device, by))
    found.sort(key=lambda x: (x[0], x[1]))
    return tuple((device, by) for _, _, device, by in found)


def _unfinished_fence(state: ClusterState, facts: Facts, target: NodeName) -> list[c.AnyCommand]:
    """An order that will never be answered: close it, so that the next one can go out."""
    order = state.node(target).fence
    if order is None:
        return []
    device = state.spec.fencing.get(order.device)
    limit_ms = budget.order_limit_ms(device)
    if facts.node(order.by).suspected:
        detail = f"{order.by}, which was to do it, is not heard any more"
    elif facts.fence_open_ms.get(target, 0) > limit_ms:
        detail = f"{order.by} has not answered within {limit_ms / 1000:g} s"
    else:
        return []
    return [c.FenceDone(at_ms=facts.at_ms, target=target, order=order.id, ok=False, detail=detail)]
