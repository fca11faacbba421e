"""The replicated state machine: (state, index, command) -> (state, outcome). Pure and total; it never raises.

A rejected command changes nothing but `applied`. The epoch of a grant is the index of its entry.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from hamail.core.draft import Draft, Rejected
from hamail.core.transitions import What
from hamail.model import commands as c
from hamail.model.ids import Epoch, GroupName, LogIndex, NodeName
from hamail.model.spec import ClusterSpec, Requirement
from hamail.model.state import (
    REQUESTS_KEPT,
    ClusterState,
    ConfigRevision,
    Evidence,
    FenceOrder,
    Maintenance,
    NodeState,
    Phase,
    Stamp,
    Trigger,
)

OWNED = frozenset({Phase.STARTING, Phase.ACTIVE, Phase.STOPPING, Phase.FENCING, Phase.WAITING, Phase.BLOCKED})
RUNNING = frozenset({Phase.STARTING, Phase.ACTIVE})
HELD = frozenset({Phase.STARTING, Phase.ACTIVE, Phase.STOPPING})


def empty_state() -> ClusterState:
    """Before the first configuration is in the log."""
    return ClusterState(
        spec=ClusterSpec(name="", nodes={}, groups={}),
        config=ConfigRevision(revision=0, index=0, applied_at_ms=0, actor="", reason="", source=""),
    )


def apply(state: ClusterState, index: LogIndex, command: c.AnyCommand) -> tuple[ClusterState, c.Outcome]:
    """Apply one committed entry."""
    if command.request:
        for request, at, refusal in state.requests:
            if request == command.request:
                outcome = c.Outcome(index=at, accepted=not refusal, reasons=(refusal,) if refusal else ())
                return replace(state, applied=index), outcome
    draft = Draft(state, index, command.at_ms)
    try:
        HANDLERS[type(command)](draft, command)
        result, reasons = draft.finish(), tuple[str, ...]()
    except Rejected as e:
        result, reasons = replace(state, applied=index), (str(e),)
    if command.request:
        answered = (command.request, index, "; ".join(reasons))
        result = replace(result, requests=(*result.requests[1 - REQUESTS_KEPT :], answered))
    return result, c.Outcome(index=index, accepted=not reasons, reasons=reasons)


def _owned_at(d: Draft, group: GroupName, node: NodeName, epoch: Epoch) -> None:
    """Compare-and-set: the command is about the grant that is in force."""
    if group not in d.spec.groups:
        raise Rejected(f"there is no group {group}")
    g = d.group(group)
    if g.epoch != epoch or g.owner != node:
        raise Rejected(f"{group} is at epoch {g.epoch} with {g.owner or 'nobody'}, not at epoch {epoch} with {node}")


def _known(d: Draft, node: NodeName) -> NodeState:
    if node not in d.spec.nodes:
        raise Rejected(f"there is no node {node}")
    return d.node(node)


def _remedy(d: Draft, group: GroupName, node: NodeName) -> What:
    """How to make certain that an owner which cannot be trusted is out."""
    spec = d.spec.groups[group]
    if d.spec.devices_for(node):
        return What.MUST_FENCE
    if spec.requires is Requirement.FENCING:
        return What.MUST_ASK
    return What.MUST_WAIT


def _free(d: Draft, group: GroupName, evidence: Evidence) -> None:
    g = d.group(group)
    d.set_group(group, owner=None, evidence=evidence, released_epoch=g.epoch)


def _barrier(d: Draft, command: c.Barrier) -> None:
    """Nothing: that it was applied is the point."""


def _join(d: Draft, command: c.Join) -> None:
    node = _known(d, command.node)
    if node.fence is not None and node.incarnation == command.incarnation:
        raise Rejected(f"{command.node} is being fenced")
    d.set_node(command.node, incarnation=command.incarnation, joined_at=d.index)
    d.event("node", f"{command.node} has joined with nothing left over.", node=command.node)
    if node.incarnation == command.incarnation:
        return
    for name, g in d.groups():
        if g.owner == command.node and g.phase in OWNED:
            if not g.move:
                d.open_move(name, Trigger.NODE_RESTARTED, command, stamps={Stamp.DETECTED: command.at_ms})
            d.step(name, What.REJOINED, node=command.node)
            _free(d, name, Evidence.REJOINED)


def _grant(d: Draft, command: c.Grant) -> None:
    name, node = command.group, command.node
    if name not in d.spec.groups:
        raise Rejected(f"there is no group {name}")
    g = d.group(name)
    if g.epoch != command.expected_epoch:
        raise Rejected(f"{name} is at epoch {g.epoch}, not {command.expected_epoch}")
    target = _known(d, node)
    if d.maintenance.on:
        raise Rejected("the cluster is in maintenance")
    if d.spec.nodes[node].witness or node not in d.spec.groups[name].nodes:
        raise Rejected(f"{node} may not own {name}")
    if target.incarnation is None or target.fence is not None:
        raise Rejected(f"{node} has not joined, or is being fenced")
    if g.phase is Phase.IDLE:
        evidence = g.evidence
    elif g.phase is Phase.WAITING and command.evidence is Evidence.EXPIRED:
        said_yes = set(command.voters) & set(d.spec.voters())
        if len(said_yes) < d.spec.majority():
            raise Rejected(f"only {len(said_yes)} voters say that their promise to {g.owner} has run out")
        evidence = Evidence.EXPIRED
        d.set_group(name, released_epoch=g.epoch)
    else:
        raise Rejected(f"{name} is {g.phase}: {g.owner} may still hold it")
    if not g.move:
        d.open_move(name, g.trigger if g.trigger is Trigger.CLEARED else Trigger.FIRST_START, command)
    d.step(
        name, What.GRANTED, node=node, epoch=d.index, evidence=_evidence_words(evidence, g.owner), why=command.sentence
    )
    d.set_group(name, owner=node, epoch=d.index, evidence=evidence)
    d.stamp(name, {Stamp.GRANTED: command.at_ms}, target=node)


def _evidence_words(evidence: Evidence, former: NodeName | None) -> str:
    return {
        Evidence.NEVER_OWNED: "nobody has held it before",
        Evidence.RELEASED: "the former owner has verified its stop",
        Evidence.FENCED: "the former owner was fenced",
        Evidence.CONFIRMED: "an operator vouched that the former owner is off",
        Evidence.EXPIRED: f"a majority says that every promise to {former} has run out",
        Evidence.REJOINED: "the former owner has restarted clean",
    }[evidence]


def _started(d: Draft, command: c.Started) -> None:
    _owned_at(d, command.group, command.node, command.epoch)
    g = d.group(command.group)
    if g.phase is Phase.ACTIVE:
        d.stamp(command.group, command.stamps)
        return
    d.step(command.group, What.STARTED, node=command.node)
    d.stamp(command.group, {**command.stamps, Stamp.DONE: command.at_ms})
    d.close_move(command.group, command.node)


def _start_failed(d: Draft, command: c.StartFailed) -> None:
    _owned_at(d, command.group, command.node, command.epoch)
    g = d.group(command.group)
    why = f"{command.resource}: {command.detail}"
    d.set_group(command.group, failed_on=tuple(dict.fromkeys((*g.failed_on, command.node))))
    if command.clean:
        d.step(command.group, What.START_FAILED, node=command.node, why=why)
        _free(d, command.group, Evidence.RELEASED)
    else:
        d.step(command.group, _remedy(d, command.group, command.node), node=command.node, why=why)


def _failed(d: Draft, command: c.Failed) -> None:
    _owned_at(d, command.group, command.node, command.epoch)
    g = d.group(command.group)
    if g.phase not in RUNNING:
        raise Rejected(f"{command.group} is already {g.phase}")
    why = f"{command.resource}: {command.detail}"
    if not g.move:
        d.open_move(
            command.group,
            Trigger.SERVICE_FAILED,
            command,
            reason=why,
            stamps={Stamp.DETECTED: command.at_ms, Stamp.DECIDED: command.at_ms},
        )
    failed_on = tuple(dict.fromkeys((*g.failed_on, command.node)))
    d.set_group(command.group, target=None, failed_on=failed_on)
    d.step(command.group, What.FAILED, node=command.node, why=why)


def _restarted(d: Draft, command: c.Restarted) -> None:
    _owned_at(d, command.group, command.node, command.epoch)
    d.event(
        "restart",
        f"{command.resource} failed on {command.node} and was restarted in place: {command.detail}",
        group=command.group,
        node=command.node,
        resource=command.resource,
    )


def _released(d: Draft, command: c.Released) -> None:
    _owned_at(d, command.group, command.node, command.epoch)
    g = d.group(command.group)
    if g.phase is Phase.IDLE:
        raise Rejected(f"{command.group} is held by nobody")
    if not g.move:
        d.open_move(command.group, Trigger.SERVICE_FAILED, command, stamps={Stamp.DETECTED: command.at_ms})
    d.step(command.group, What.RELEASED, node=command.node)
    d.stamp(command.group, {Stamp.STOPPED: command.at_ms, **command.stamps})
    _free(d, command.group, Evidence.RELEASED)


def _stop_failed(d: Draft, command: c.StopFailed) -> None:
    _owned_at(d, command.group, command.node, command.epoch)
    g = d.group(command.group)
    if g.phase not in HELD:
        raise Rejected(f"{command.group} is already {g.phase}")
    why = f"the stop of {command.resource} failed, so it counts as still active: {command.detail}"
    if not g.move:
        d.open_move(command.group, Trigger.STOP_FAILED, command, reason=why)
    d.set_group(command.group, failed_on=tuple(dict.fromkeys((*g.failed_on, command.node))))
    d.step(command.group, _remedy(d, command.group, command.node), node=command.node, why=why)


def _owner_lost(d: Draft, command: c.OwnerLost) -> None:
    _owned_at(d, command.group, command.node, command.epoch)
    g = d.group(command.group)
    if g.phase not in HELD:
        raise Rejected(f"{command.group} is already {g.phase}")
    if d.maintenance.on:
        raise Rejected("the cluster is in maintenance")
    why = f"{' and '.join(command.voters)} have not heard {command.node} for {command.silent_ms / 1000:.2f} s."
    if not g.move:
        d.open_move(command.group, Trigger.NODE_LOST, command, reason=why)
    d.stamp(command.group, {Stamp.DETECTED: command.at_ms})
    if g.target == command.node:
        d.set_group(command.group, target=None)
    d.step(command.group, _remedy(d, command.group, command.node), node=command.node, why=why)


def _owner_back(d: Draft, command: c.OwnerBack) -> None:
    _owned_at(d, command.group, command.node, command.epoch)
    g = d.group(command.group)
    if d.node(command.node).fence is not None:
        raise Rejected(f"a fence of {command.node} is under way and cannot be called back")
    if g.trigger is Trigger.FENCE_REQUESTED or command.node in g.failed_on:
        raise Rejected(f"{command.node} is not trusted with {command.group} although it is heard")
    d.step(command.group, What.OWNER_BACK, node=command.node)


def _order_fence(d: Draft, command: c.OrderFence) -> None:
    node = _known(d, command.target)
    device = d.spec.fencing.get(command.device)
    if device is None or command.target not in device.targets:
        raise Rejected(f"{command.device} cannot fence {command.target}")
    if command.by not in d.spec.fence_executors(device, command.target):
        raise Rejected(f"{command.by} may not run {command.device} against {command.target}")
    if node.fence is not None:
        raise Rejected(f"a fence of {command.target} is already under way")
    if not any(g.owner == command.target and g.phase is Phase.FENCING for _, g in d.groups()):
        raise Rejected(f"{command.target} holds nothing that must be taken from it")
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
    words = f"{command.by} shall fence {command.target} with {command.device} (attempt {order.attempt})."
    d.event("fence", words, node=command.target, reason=command.reason)
    for name, g in d.groups():
        if g.owner == command.target:
            d.stamp(name, {Stamp.DECIDED: command.at_ms}, keep_first=True)


def _fence_done(d: Draft, command: c.FenceDone) -> None:
    node = _known(d, command.target)
    if node.fence is None or node.fence.id != command.order:
        raise Rejected(f"fence order {command.order} of {command.target} is not open")
    if not command.ok:
        words = f"fencing {command.target} with {node.fence.device} failed: {command.detail}"
        d.set_node(command.target, fence=None, fence_failure=words)
        d.event("fence", words, node=command.target)
        return
    if node.joined_at > command.order:
        d.set_node(command.target, fence=None)
        raise Rejected(f"{command.target} has joined again after this fence was ordered")
    why = f"fenced with {node.fence.device} by {node.fence.by}: {command.detail}".rstrip(": ")
    _out(d, command.target, What.FENCED, Evidence.FENCED, command, why)


def _fence_confirmed(d: Draft, command: c.FenceConfirmed) -> None:
    _known(d, command.target)
    if not any(g.owner == command.target for _, g in d.groups()) and d.node(command.target).fence is None:
        raise Rejected(f"{command.target} holds nothing and no fence of it is under way")
    why = f"Reason given: {command.reason}" if command.reason else ""
    _out(d, command.target, What.CONFIRMED, Evidence.CONFIRMED, command, why)


def _out(d: Draft, node: NodeName, event: What, evidence: Evidence, command: c.Command, why: str) -> None:
    """The node is surely off: what it held is free, and it owns nothing until it joins again."""
    d.set_node(node, fence=None, fence_attempts=0, fence_failure="", incarnation=None, fenced_at=d.index)
    d.event("fence", f"{node} is off: {why or 'confirmed by an operator'}", node=node, actor=command.actor)
    for name, g in d.groups():
        if g.owner == node and g.phase in OWNED:
            if not g.move:
                d.open_move(name, Trigger.FENCE_REQUESTED, command)
            d.step(name, event, node=node, why=why, actor=command.actor)
            d.stamp(name, {Stamp.FENCED: command.at_ms})
            _free(d, name, evidence)


def _request_fence(d: Draft, command: c.RequestFence) -> None:
    _known(d, command.target)
    if not d.spec.devices_for(command.target):
        raise Rejected(f"no fence device is configured for {command.target}")
    held = [(name, g) for name, g in d.groups() if g.owner == command.target and g.phase in OWNED]
    if not held:
        raise Rejected(f"{command.target} holds no group, so there is nothing to take from it")
    for name, g in held:
        if not g.move:
            d.open_move(name, Trigger.FENCE_REQUESTED, command, stamps={Stamp.DETECTED: command.at_ms})
        why = f"{command.actor} asked for it" + (f": {command.reason}" if command.reason else ".")
        d.step(name, What.MUST_FENCE, node=command.target, why=why)


def _request_move(d: Draft, command: c.RequestMove) -> None:
    name, target = command.group, command.target
    if name not in d.spec.groups:
        raise Rejected(f"there is no group {name}")
    _known(d, target)
    g = d.group(name)
    if g.epoch != command.expected_epoch:
        raise Rejected(f"{name} has moved meanwhile: it is at epoch {g.epoch}, not {command.expected_epoch}")
    if d.spec.nodes[target].witness or target not in d.spec.groups[name].nodes:
        raise Rejected(f"{target} may not own {name}")
    if d.node(target).standby or d.node(target).incarnation is None:
        raise Rejected(f"{target} is in standby or has not joined")
    if d.maintenance.on:
        raise Rejected("the cluster is in maintenance")
    if g.owner == target:
        raise Rejected(f"{target} already owns {name}")
    if g.phase not in RUNNING and g.phase is not Phase.IDLE:
        raise Rejected(f"{name} is {g.phase}: wait until that is over")
    d.open_move(name, Trigger.SWITCHOVER, command, target=target, stamps=_ordered(command))
    d.set_group(name, target=target, failed_on=())
    if g.phase in RUNNING:
        d.step(name, What.ORDERED_AWAY, node=g.owner, target=target, why=_order_words(command))


def _ordered(command: c.Command) -> dict[str, int]:
    return {Stamp.DETECTED: command.at_ms, Stamp.DECIDED: command.at_ms}


def _order_words(command: c.Command) -> str:
    return f"{command.actor} ordered it" + (f" ({command.reason})." if command.reason else ".")


def _set_standby(d: Draft, command: c.SetStandby) -> None:
    node = _known(d, command.node)
    if d.spec.nodes[command.node].witness:
        raise Rejected(f"{command.node} is a witness: it never owns a group, so it cannot be in standby")
    if node.standby == command.standby:
        raise Rejected(f"{command.node} is already {'in' if command.standby else 'out of'} standby")
    d.set_node(command.node, standby=command.standby)
    words = f"{command.node} is {'put into' if command.standby else 'taken out of'} standby."
    d.event("standby", words, node=command.node, actor=command.actor, reason=command.reason)
    if not command.standby or d.maintenance.on:
        return
    for name, g in d.groups():
        if g.owner == command.node and g.phase in RUNNING:
            d.open_move(name, Trigger.STANDBY, command, stamps=_ordered(command))
            d.set_group(name, target=None, failed_on=())
            d.step(name, What.ORDERED_AWAY, node=command.node, target="another node", why=_order_words(command))


def _set_maintenance(d: Draft, command: c.SetMaintenance) -> None:
    if d.maintenance.on == command.on:
        raise Rejected(f"maintenance is already {'on' if command.on else 'off'}")
    if command.on and any(g.phase not in (Phase.IDLE, Phase.ACTIVE) for _, g in d.groups()):
        raise Rejected("a group is on the move; wait until that is over")
    d.maintenance = Maintenance(on=command.on, actor=command.actor, reason=command.reason, since_ms=command.at_ms)
    words = f"Maintenance is {'on: nothing is started, stopped, fenced or moved' if command.on else 'off'}."
    d.event("maintenance", words, actor=command.actor, reason=command.reason)


def _ack_maintenance(d: Draft, command: c.AckMaintenance) -> None:
    _known(d, command.node)
    if not d.maintenance.on:
        raise Rejected("maintenance is off")
    acknowledged = tuple(sorted({*d.maintenance.acknowledged, command.node}))
    d.maintenance = replace(d.maintenance, acknowledged=acknowledged)


def _clear(d: Draft, command: c.Clear) -> None:
    name = command.group
    if name not in d.spec.groups:
        raise Rejected(f"there is no group {name}")
    g = d.group(name)
    d.set_group(name, failed_on=(), trigger=Trigger.CLEARED)
    if g.owner is not None:
        d.set_node(g.owner, fence_attempts=0, fence_failure="")
    d.event("clear", f"Failures of {name} are forgotten.", group=name, actor=command.actor, reason=command.reason)


def _apply_config(d: Draft, command: c.ApplyConfig) -> None:
    current = d.config
    if command.expected_revision != current.revision:
        raise Rejected(f"the configuration is at revision {current.revision}, not {command.expected_revision}")
    if current.revision and command.spec.nodes != d.spec.nodes:
        raise Rejected("nodes cannot be added, removed or readdressed while the cluster runs; see the operators' guide")
    for name, g in d.groups():
        if name not in command.spec.groups and g.phase is not Phase.IDLE:
            raise Rejected(f"{name} is {g.phase}; a group can be removed only when nobody owns it")
    d.spec = command.spec
    d.config = ConfigRevision(
        revision=current.revision + 1,
        index=d.index,
        applied_at_ms=command.at_ms,
        actor=command.actor,
        reason=command.reason,
        source=command.source,
    )
    d.keep_groups(set(command.spec.groups))
    words = f"Configuration revision {d.config.revision} is in force."
    d.event("config", words, actor=command.actor, reason=command.reason)


def _annotate(d: Draft, command: c.Annotate) -> None:
    if command.stamps:
        d.stamp_epoch(command.group, command.epoch, command.stamps)
    if command.sentence:
        d.event(command.event or "note", command.sentence, group=command.group, node=command.node)


HANDLERS: dict[type, Callable[[Draft, Any], None]] = {
    c.Barrier: _barrier,
    c.Join: _join,
    c.Grant: _grant,
    c.Started: _started,
    c.StartFailed: _start_failed,
    c.Failed: _failed,
    c.Restarted: _restarted,
    c.Released: _released,
    c.StopFailed: _stop_failed,
    c.OwnerLost: _owner_lost,
    c.OwnerBack: _owner_back,
    c.OrderFence: _order_fence,
    c.FenceDone: _fence_done,
    c.FenceConfirmed: _fence_confirmed,
    c.RequestFence: _request_fence,
    c.RequestMove: _request_move,
    c.SetStandby: _set_standby,
    c.SetMaintenance: _set_maintenance,
    c.AckMaintenance: _ack_maintenance,
    c.Clear: _clear,
    c.ApplyConfig: _apply_config,
    c.Annotate: _annotate,
}
