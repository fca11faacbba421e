"""What commands about nodes do to the replicated state: joining, and fencing."""

from hamail.core.changes_groups import free
from hamail.core.draft import Draft, Rejected
from hamail.core.policy_notes import failure, off, returned
from hamail.core.proof import DOUBTFUL, HELD, OWNED, no_expiry
from hamail.core.transitions import What
from hamail.model import commands as c
from hamail.model.ids import NodeName
from hamail.model.state import Evidence, FenceOrder, NodeState, Phase, Severity, Stamp, Trigger


def known(d: Draft, node: NodeName) -> NodeState:
    if node not in d.spec.nodes:
        raise Rejected(f"there is no node {node}")
    return d.node(node)


def join(d: Draft, command: c.Join) -> None:
    """A new life of a node: it holds nothing, so what an earlier life was granted is free."""
    node = known(d, command.node)
    if d.spec.nodes[command.node].witness:
        raise Rejected(f"{command.node} is a witness: it has nothing to join with")
    if command.after != node.life:
        raise Rejected(f"{command.node} has joined or was fenced meanwhile: this join is too old")
    if node.incarnation == command.incarnation:
        raise Rejected(f"{command.node} has joined already")
    d.set_node(
        command.node,
        incarnation=command.incarnation,
        joined_at=d.index,
        watchdog_armed=command.watchdog_armed,
        cleaned=command.cleaned,
        fence_attempts=0,
        fence_failure="",
    )
    if not d.maintenance.on:
        d.resumed(command.node)
    d.event("node", f"{command.node} has joined with nothing left over from before.", node=command.node)
    if node.life:
        returned(d, command.node)
    for name, g in d.groups():
        if g.owner == command.node and g.phase in OWNED:
            if g.phase in HELD:
                failure(d, name, command.node)
            if not g.move:
                d.open_move(name, Trigger.NODE_RESTARTED, command, stamps={Stamp.DETECTED: command.at_ms})
            d.step(name, What.REJOINED, node=command.node)
            free(d, name, Evidence.REJOINED)


def cleaned_up(d: Draft, command: c.CleanedUp) -> None:
    node = known(d, command.node)
    if node.incarnation is None or node.incarnation != command.incarnation:
        raise Rejected(f"this is not about the present life of {command.node}")
    news = {name: at for name, at in command.cleaned.items() if name in d.spec.groups}
    d.set_node(command.node, cleaned={**node.cleaned, **news})
    d.event("node", f"{command.node} holds nothing of {', '.join(sorted(news))} as configured now.", node=command.node)


def order_fence(d: Draft, command: c.OrderFence) -> None:
    node = known(d, command.target)
    device = d.spec.fencing.get(command.device)
    if device is None or command.target not in device.targets:
        raise Rejected(f"{command.device} cannot fence {command.target}")
    if command.by not in d.spec.fence_executors(device, command.target):
        raise Rejected(f"{command.by} may not run {command.device} against {command.target}")
    if node.fence is not None:
        raise Rejected(f"a fence of {command.target} is already under way")
    if d.node(command.by).fence is not None:
        raise Rejected(f"{command.by} is being fenced itself")
    wanted = [name for name, g in d.groups() if g.owner == command.target and g.phase is Phase.FENCING]
    if not wanted:
        raise Rejected(f"{command.target} holds nothing that must be taken from it")
    if all(off(d, name) for name in wanted):
        raise Rejected(off(d, wanted[0]))
    if d.maintenance.on:
        raise Rejected("the cluster is in maintenance")
    order = FenceOrder(
        id=d.index,
        target=command.target,
        device=command.device,
        by=command.by,
        attempt=node.fence_attempts + 1,
        reason=command.reason,
        ordered_at_ms=command.at_ms,
    )
    d.set_node(command.target, fence=order, fence_attempts=order.attempt)
    words = f"{command.by} is to fence {command.target} with {command.device} (attempt {order.attempt})."
    d.event("fence", words, node=command.target, reason=command.reason)
    for name, g in d.groups():
        if g.owner == command.target:
            d.stamp(name, {Stamp.DECIDED: command.at_ms}, keep_first=True)


def fence_done(d: Draft, command: c.FenceDone) -> None:
    target, order = command.target, known(d, command.target).fence
    if order is None or order.id != command.order:
        raise Rejected(f"fence order {command.order} of {target} is not open")
    if command.ok and d.node(target).joined_at > order.id:
        # Was the life before hit, or the present one? If that one is off, it will be missed soon.
        d.set_node(target, fence=None, fence_attempts=0, fence_failure="")
        d.event("fence", f"{order.device} cut {target} off, which had restarted by itself meanwhile.", node=target)
    elif command.ok:
        why = f"{order.by} fenced it with {order.device}: {command.detail}".rstrip(": ")
        out(d, target, What.FENCED, Evidence.FENCED, command, why)
    else:
        words = f"Fencing {target} with {order.device} failed: {command.detail}."
        d.set_node(target, fence=None, fence_failure=words)
        d.event("fence", words, node=target, severity=Severity.WARNING)
        _all_failed(d, target)


def _all_failed(d: Draft, target: NodeName) -> None:
    """Every device was tried for the first time: say what only a person can do now."""
    if d.node(target).fence_attempts != d.spec.fence_ways(target):
        return
    down = [name for name, g in d.groups() if g.owner == target and g.phase is Phase.FENCING]
    stuck = [n for n in down if no_expiry(d.spec.groups[n].requires, d.group(n), d.node(target), d.maintenance)]
    if stuck:
        words = (
            f"{target} could not be fenced by any means, so {', '.join(stuck)} cannot start elsewhere; hamail keeps "
            f"trying. If you are certain that {target} is off: hamailctl fence confirm {target}"
        )
        d.event("fence", words, node=target, severity=Severity.CRITICAL)


def fence_confirmed(d: Draft, command: c.FenceConfirmed) -> None:
    target = command.target
    node = known(d, target)
    if 0 <= command.life < node.life:
        raise Rejected(f"{target} has joined again, or was fenced, since somebody vouched for it: look at it again")
    held = [(name, g) for name, g in d.groups() if g.owner == target]
    if not held and node.fence is None:
        raise Rejected(f"{target} holds nothing and no fence of it is under way")
    for name, g in held:
        if g.phase not in DOUBTFUL:
            raise Rejected(f"{name} is {g.phase} on {target}: the cluster does not take {target} for lost")
    why = f"Reason given: {command.reason}." if command.reason else ""
    out(d, target, What.CONFIRMED, Evidence.CONFIRMED, command, why)


def out(d: Draft, node: NodeName, event: What, evidence: Evidence, command: c.Command, why: str) -> None:
    """The node is surely off: what it held is free, and it owns nothing until it joins again."""
    d.set_node(node, fence=None, fence_attempts=0, fence_failure="", incarnation=None, fenced_at=d.index)
    words = f"{command.actor} vouches for it. {why}".rstrip() if event is What.CONFIRMED else why
    d.event("fence", f"{node} is off: {words}", node=node, actor=command.actor)
    for name, g in d.groups():
        if g.owner == node and g.phase in OWNED:
            if not g.move:
                d.open_move(name, Trigger.FENCE_REQUESTED, command)
            d.step(name, event, node=node)
            d.stamp(name, {Stamp.FENCED: command.at_ms})
            free(d, name, evidence)


def request_fence(d: Draft, command: c.RequestFence) -> None:
    known(d, command.target)
    if not d.spec.devices_for(command.target):
        raise Rejected(f"no fence device is configured for {command.target}")
    if d.maintenance.on:
        raise Rejected("the cluster is in maintenance")
    held = [(name, g) for name, g in d.groups() if g.owner == command.target and g.phase in OWNED]
    if not held:
        raise Rejected(f"{command.target} holds no group, so there is nothing to take from it")
    why = f"{command.actor} asked for it" + (f": {command.reason}." if command.reason else ".")
    for name, _ in held:
        if why_not := off(d, name):
            raise Rejected(why_not)
    for name, g in held:
        if not g.move:
            d.open_move(name, Trigger.FENCE_REQUESTED, command, stamps={Stamp.DETECTED: command.at_ms})
        d.set_group(name, trigger=Trigger.FENCE_REQUESTED)
        d.step(name, What.MUST_FENCE, node=command.target, why=why)
