"""What an operator's orders about moves do to the replicated state: failover, scheduled moves, cancelling."""

from hamail.core.changes_groups import doubt
from hamail.core.changes_nodes import known
from hamail.core.changes_orders import may_receive, order_words, request_move
from hamail.core.draft import Draft, Rejected
from hamail.core.outcome import ASKED_AWAY
from hamail.core.policy_notes import off
from hamail.core.proof import DOUBTFUL, no_expiry, remedy
from hamail.core.transitions import What
from hamail.core.words import clock
from hamail.model import commands as c
from hamail.model.ids import GroupName, LogIndex, NodeName
from hamail.model.orders import SCHEDULED_MAX, ScheduledMove
from hamail.model.state import Move, Phase, Severity, Stamp, Trigger

AHEAD_MS_MAX = 90 * 86_400_000  # a move that is scheduled for later is a slip of the pen


def request_failover(d: Draft, command: c.RequestFailover) -> None:
    """The owner counts as lost, because an operator says so. What proves that it is out is the same as ever."""
    name, target = command.group, command.target
    if name not in d.spec.groups:
        raise Rejected(f"there is no group {name}")
    g = d.group(name)
    if g.epoch != command.expected_epoch:
        raise Rejected(f"{name} has moved meanwhile: it is at epoch {g.epoch}, not {command.expected_epoch}")
    may_receive(d, name, target)
    if g.owner is None:
        raise Rejected(f"nobody holds {name}, so nobody must be taken out: hamailctl switchover {name} --to {target}")
    if g.owner == target:
        raise Rejected(f"{target} already owns {name}; hamailctl status tells who else could take it")
    if why := unprovable(d, name, g.owner):
        raise Rejected(why)
    d.open_move(name, Trigger.FAILOVER, command, target=target, stamps={Stamp.DETECTED: command.at_ms})
    d.set_group(name, target=target, failed_on=())
    if g.phase in DOUBTFUL and d.node(g.owner).fence is None:
        d.set_node(g.owner, fence_attempts=0)  # a new case: it waits for no pause of the one before
    doubt(d, name, order_words(command))


def unprovable(d: Draft, group: GroupName, owner: NodeName) -> str:
    """Why nothing but an operator's word could prove that the owner is out; empty when something can."""
    why_not = no_expiry(d.spec.groups[group].requires, d.group(group), d.node(owner), d.maintenance)
    if remedy(bool(d.spec.devices_for(owner)), why_not) is not What.MUST_ASK:
        return ""
    return (
        f"nothing can prove that {owner} is out: {why_not}, and no fence device is configured for it. "
        f"Switch {owner} off, then: hamailctl fence confirm {owner}"
    )


def schedule_move(d: Draft, command: c.ScheduleMove) -> None:
    name, target = command.group, command.target
    if name not in d.spec.groups:
        raise Rejected(f"there is no group {name}")
    if target is not None:
        if target not in d.spec.groups[name].nodes:
            raise Rejected(f"{target} may not own {name}")
        known(d, target)
        if d.spec.nodes[target].witness:
            raise Rejected(f"{target} may not own {name}")
    if not command.at_ms < command.due_ms <= command.at_ms + AHEAD_MS_MAX:
        raise Rejected(f"{clock(command.due_ms)} is not within the next {AHEAD_MS_MAX // 86_400_000} days")
    if len(d.scheduled) >= SCHEDULED_MAX:
        raise Rejected(f"{SCHEDULED_MAX} moves are scheduled already; hamailctl scheduled lists them")
    order = ScheduledMove(
        id=d.index,
        group=name,
        target=target,
        due_ms=command.due_ms,
        force=command.force,
        actor=command.actor,
        reason=command.reason,
        ordered_at_ms=command.at_ms,
        request=command.request,
    )
    d.scheduled = (*d.scheduled, order)
    words = f"{command.actor} has scheduled a move of {name} to {target or 'the best node'} for {clock(order.due_ms)}."
    d.event("scheduled", words, group=name, node=target or "", actor=command.actor, reason=command.reason)


def run_scheduled(d: Draft, command: c.RunScheduled) -> None:
    """Whatever comes of it, it is not scheduled any more."""
    order = _scheduled(d, command.order)
    if order is None:
        raise Rejected(f"there is no scheduled move {command.order} any more")
    if command.at_ms < order.due_ms:
        raise Rejected(f"scheduled move {order.id} is not due before {clock(order.due_ms)}")
    _drop(d, order)
    why_not = command.refusal or ("" if command.target else "no node can take it")
    if not why_not and command.target:
        move = c.RequestMove(
            at_ms=command.at_ms,
            request=order.request,
            actor=order.actor,
            reason=order.reason,
            group=order.group,
            target=command.target,
            expected_epoch=command.expected_epoch,
        )
        try:
            request_move(d, move)
        except Rejected as e:
            why_not = str(e)
    if why_not:
        words = (
            f"The move of {order.group} that {order.actor} had scheduled for {clock(order.due_ms)} was not made, and "
            f"will not be: {why_not.rstrip('.')}. To move it now: hamailctl switchover {order.group}"
        )
        d.event("scheduled", words, group=order.group, severity=Severity.WARNING)


def cancel(d: Draft, command: c.Cancel) -> None:
    order = _scheduled(d, command.order)
    if order is not None:
        _drop(d, order)
        words = f"{command.actor} has cancelled the move of {order.group} scheduled for {clock(order.due_ms)}."
        d.event("cancel", words, group=order.group, actor=command.actor, reason=command.reason)
        return
    for name, g in d.groups():
        if g.restart is not None and g.restart.id == command.order:
            raise Rejected(f"a restart on {g.owner} cannot be turned back; it is over when it is over")
        move = d.open_move_of(name)
        if move is not None and move.id == command.order:
            _turn_back(d, name, move, command)
            return
    known = "hamailctl scheduled and hamailctl history show the numbers"
    raise Rejected(f"nothing with the number {command.order} is scheduled or under way; {known}")


def _turn_back(d: Draft, name: GroupName, move: Move, command: c.Cancel) -> None:
    """Whoever has it or is about to stops it as ever, and it goes back where it came from."""
    g, back = d.group(name), move.source
    if move.trigger not in ASKED_AWAY:
        raise Rejected(f"this move of {name} was not ordered ({move.trigger}), so it cannot be called back")
    if move.cancelled:
        raise Rejected(f"this move of {name} is being turned back already")
    if back is None:
        raise Rejected(f"{name} came from nowhere, so it cannot go back")
    if g.phase in DOUBTFUL:
        raise Rejected(f"{name} is {g.phase}: {g.owner} is being taken out, and that cannot be called back")
    if why := off(d, name):
        raise Rejected(why)
    if g.owner == back and g.phase is Phase.STARTING:
        raise Rejected(f"{name} is on its way back to {back} already")
    may_receive(d, name, back)
    asked = f"{command.actor} cancelled the move" + (f" ({command.reason})." if command.reason else ".")
    d.mark(name, cancelled=asked)
    d.set_group(name, target=back, failed_on=tuple(n for n in g.failed_on if n != back))
    d.event("cancel", asked.replace("the move", f"the move of {name}", 1), group=name, actor=command.actor)
    if g.phase is Phase.STARTING:
        d.step(name, What.ORDERED_AWAY, node=g.owner, target=back, why=asked)


def _scheduled(d: Draft, order: LogIndex) -> ScheduledMove | None:
    return next((s for s in d.scheduled if s.id == order), None)


def _drop(d: Draft, order: ScheduledMove) -> None:
    d.scheduled = tuple(s for s in d.scheduled if s.id != order.id)
