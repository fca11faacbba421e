"""The part of a preflight that looks at the group and at who owns it now."""

from hamail.core import followers, hands_off
from hamail.core.coordinator import fence_attempts
from hamail.core.facts import Facts
from hamail.core.proof import DOUBTFUL, RUNNING, no_expiry
from hamail.model.ids import GroupName, NodeName
from hamail.model.preflight import Check, Verdict
from hamail.model.state import ClusterState, Phase
from hamail.model.timings import Timings


def maintenance(state: ClusterState, group: GroupName, name: str = "maintenance") -> Check:
    why = hands_off.from_group(state, group)
    if not why:
        return Check(name=name, verdict=Verdict.GOOD, reason="no maintenance is on")
    step = "hamailctl maintenance off" if state.maintenance.on else ""
    return Check(name=name, verdict=Verdict.BAD, reason=why, next_step=step)


def at_rest(state: ClusterState, group: GroupName) -> Check:
    """Is another move under way?"""
    g = state.group(group)
    name, look = "other move", f"hamailctl cancel {g.move}" if g.move else f"hamailctl why {group}"
    if g.phase in (Phase.ACTIVE, Phase.IDLE) and not (g.move and g.phase is Phase.ACTIVE):
        return Check(name=name, verdict=Verdict.GOOD, reason="no other move is under way")
    if g.phase is Phase.STARTING:
        reason = f"{group} is still being started on {g.owner}"
        return Check(name=name, verdict=Verdict.WARNING, reason=reason, next_step="wait until it runs, or --force")
    step = f"hamailctl failover {group}" if g.phase in DOUBTFUL else f"wait, or {look}"
    return Check(name=name, verdict=Verdict.BAD, reason=f"{group} is {g.phase} just now: {g.sentence}", next_step=step)


def ill(state: ClusterState, facts: Facts, t: Timings, node: NodeName) -> str:
    """Why the owner cannot be relied upon to stop in order; empty when it can."""
    heard = facts.node(node)
    if heard.suspected or not heard.alive:
        return f"{node} has not been heard for {heard.silent_ms / 1000:.1f} s"
    if followers.stuck(facts, node, t):
        return f"{node} does not follow the log"
    if not heard.ready and not heard.restarting:
        return f"{node} is not ready: {heard.detail or 'no reason given'}"
    return ""


def owner_can_stop(state: ClusterState, facts: Facts, t: Timings, group: GroupName) -> Check:
    owner = state.group(group).owner
    if owner is None:
        return Check(name="source", verdict=Verdict.NOTE, reason=f"nobody runs {group}: it is only started")
    why = ill(state, facts, t, owner)
    if why:
        step = f"hamailctl failover {group}"
        return Check(
            name="source", verdict=Verdict.BAD, reason=f"{why}, so it cannot stop {group} in order", next_step=step
        )
    return Check(name="source", verdict=Verdict.GOOD, reason=f"{owner} is heard and can stop {group} in order")


def owner_is_ill(state: ClusterState, facts: Facts, t: Timings, group: GroupName) -> list[Check]:
    g, name = state.group(group), "source"
    if g.owner is None:
        return [
            Check(
                name=name,
                verdict=Verdict.BAD,
                reason=f"nobody holds {group}, so nobody must be taken out",
                next_step=f"hamailctl switchover {group}, or hamailctl why {group}",
            )
        ]
    why = ill(state, facts, t, g.owner)
    if g.phase in DOUBTFUL:
        return [Check(name=name, verdict=Verdict.GOOD, reason=f"{g.owner} is being taken out already: {g.sentence}")]
    if why:
        return [Check(name=name, verdict=Verdict.GOOD, reason=why)]
    if g.phase in RUNNING:
        reason = f"{g.owner} is healthy and can stop {group} in order"
        step = f"hamailctl switchover {group}, which loses nothing"
        return [Check(name=name, verdict=Verdict.BAD, reason=reason, next_step=step)]
    reason = f"{g.owner} is stopping {group}; if that fails it is taken out by itself"
    step = f"wait; if it hangs for good: hamailctl fence {g.owner}"
    return [Check(name=name, verdict=Verdict.BAD, reason=reason, next_step=step)]


def provable(state: ClusterState, facts: Facts, group: GroupName, owner: NodeName) -> Check:
    """Can anything prove that the owner is out?"""
    name, confirm = "proof", f"hamailctl fence confirm {owner}"
    why_no_wait = no_expiry(state.spec.groups[group].requires, state.group(group), state.node(owner), state.maintenance)
    devices = state.spec.devices_for(owner)
    if not devices and why_no_wait:
        reason = f"nothing can prove that {owner} is out: no fence device is configured for it"
        return Check(name=name, verdict=Verdict.BAD, reason=reason, next_step=f"switch {owner} off, then: {confirm}")
    if not devices:
        return Check(name=name, verdict=Verdict.GOOD, reason=f"every promise to {owner} runs out by itself")
    ways = fence_attempts(state, facts, owner)
    ready = sorted({device.name for device, by in ways if not facts.node(by).fence_ready.get(device.name, "")})
    if ready:
        return Check(name=name, verdict=Verdict.GOOD, reason=f"{owner} can be fenced with {', '.join(ready)}")
    if not why_no_wait:
        reason = f"no fence device for {owner} is ready, but every promise to it runs out by itself"
        return Check(name=name, verdict=Verdict.NOTE, reason=reason)
    if not ways:
        reason = f"nothing can prove that {owner} is out: no node that is heard could fence it"
        return Check(name=name, verdict=Verdict.BAD, reason=reason, next_step=f"switch {owner} off, then: {confirm}")
    broken = "; ".join(f"{d.name}: {facts.node(by).fence_ready[d.name]}" for d, by in ways)
    reason = f"no fence device for {owner} passed its last check ({broken}), and only a fence proves it"
    return Check(
        name=name, verdict=Verdict.WARNING, reason=reason, next_step=f"if you switch {owner} off yourself: {confirm}"
    )
