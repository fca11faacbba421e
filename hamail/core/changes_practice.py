"""What drills, incidents and audit trails do to the replicated state. None of it touches who owns what."""

from msgspec.structs import replace

from hamail.core import hands_off
from hamail.core.changes_nodes import known
from hamail.core.draft import Draft, Rejected
from hamail.model import commands as c
from hamail.model.practice import (
    DRILL_MS_MAX,
    DRILL_MS_MIN,
    DRILLS_KEPT,
    INCIDENTS_KEPT,
    NOTES_KEPT,
    POWER,
    TEXT_CHARS_MAX,
    AuditHead,
    DrillOrder,
    Fault,
    Incident,
    IncidentNote,
)
from hamail.model.state import Phase


def order_drill(d: Draft, command: c.OrderDrill) -> None:
    order = d.drill
    if order is not None and not order.result and command.at_ms - order.at_ms < DRILL_MS_MAX:
        raise Rejected(
            f"{order.node} has been ordered a {order.fault} and has not answered yet; hamailctl drill --abort"
        )
    name, g = command.group, d.group(command.group)
    if name not in d.spec.groups:
        raise Rejected(f"there is no group {name}")
    if why := hands_off.why(d.maintenance, name, g, d.node):
        raise Rejected(f"{why}: nothing would be taken over")
    if not DRILL_MS_MIN <= command.duration_ms <= DRILL_MS_MAX:
        raise Rejected(f"a fault lasts {DRILL_MS_MIN} to {DRILL_MS_MAX} ms, not {command.duration_ms}")
    known(d, command.node)
    target = command.target or command.node
    if command.fault in POWER:
        _check_power(d, command, target)
    elif command.node != g.owner or target != g.owner or g.phase is not Phase.ACTIVE:
        raise Rejected(f"{command.node} does not run {name}: it is {g.phase} on {g.owner or 'no node'}")
    if command.epoch != g.epoch and command.fault is not Fault.POWER_ON:
        raise Rejected(f"{name} has moved meanwhile: it is at epoch {g.epoch}, not {command.epoch}")
    d.drill = DrillOrder(
        id=d.index,
        fault=command.fault,
        group=name,
        epoch=g.epoch,
        node=command.node,
        target=target,
        device=command.device,
        resource=command.resource,
        duration_ms=command.duration_ms,
        rehearse=command.rehearse,
        at_ms=command.at_ms,
        actor=command.actor,
    )
    if not command.rehearse:
        words = f"Drill: {command.node} is to do a {command.fault}" + (
            f" of {target}." if target != command.node else "."
        )
        d.event("drill", words, group=name, node=target, actor=command.actor, reason=command.reason)


def _check_power(d: Draft, command: c.OrderDrill, target: str) -> None:
    node = known(d, target)
    device = d.spec.fencing.get(command.device)
    if device is None or target not in device.targets:
        raise Rejected(f"{command.device or 'no device'} cannot switch {target}")
    if command.node not in d.spec.fence_executors(device, target):
        raise Rejected(f"{command.node} may not run {command.device} on {target}")
    if node.fence is not None:
        raise Rejected(f"{target} is being fenced: wait until that is over")
    if command.fault is Fault.POWER_OFF and d.group(command.group).owner != target:
        raise Rejected(f"{target} does not own {command.group}")
    if command.fault is Fault.POWER_OFF and d.group(command.group).phase is not Phase.ACTIVE:
        raise Rejected(f"{command.group} is {d.group(command.group).phase}")
    if command.fault is Fault.POWER_ON and any(g.owner == target for _, g in d.groups()):
        raise Rejected(f"{target} may still hold a group: it is not switched on before that is settled")
    if command.fault is Fault.POWER_ON and node.incarnation is not None:
        raise Rejected(f"{target} is not known to be out: it is not switched on before that is settled")


def drill_done(d: Draft, command: c.DrillDone) -> None:
    order = d.drill
    after = order is not None and order.result == "done" and command.result == "undone"
    if order is None or order.id != command.order or order.node != command.node or (order.result and not after):
        raise Rejected(f"nobody waits for an answer to drill order {command.order}")
    d.drill = replace(order, result=command.result[:TEXT_CHARS_MAX], detail=command.detail[:TEXT_CHARS_MAX])
    if not order.rehearse:
        words = f"Drill: {order.fault} by {order.node}: {command.result}" + (
            f", {command.detail}." if command.detail else "."
        )
        d.event("drill", words, group=order.group, node=order.target)


def end_drill(d: Draft, command: c.EndDrill) -> None:
    if d.drill is None:
        raise Rejected("no drill is under way")
    if not d.drill.rehearse:
        d.event("drill", "Drill: it is ended; what can be undone is undone.", group=d.drill.group, actor=command.actor)
    d.drill = None


def record_drill(d: Draft, command: c.RecordDrill) -> None:
    record = replace(command.record, actor=command.actor, detail=command.record.detail[:TEXT_CHARS_MAX])
    if any(len(text) > TEXT_CHARS_MAX for text in (record.id, record.name, record.group, record.verdict)):
        raise Rejected("the record has a text that is too long")
    d.drills = (*d.drills[1 - DRILLS_KEPT :], record)
    words = f"Drill {record.name} of {record.group} {record.verdict}."
    d.event("drill", words, group=record.group, actor=command.actor, reason=command.reason)


def incident(d: Draft, command: c.ChangeIncident) -> None:
    text = command.text[:TEXT_CHARS_MAX]
    if command.what == "open":
        new = Incident(id=d.index, title=text, opened_ms=command.at_ms, actor=command.actor, since=command.since)
        d.incidents = (*d.incidents[1 - INCIDENTS_KEPT :], new)
        d.event("incident", f"Incident {d.index} is opened: {text}", actor=command.actor)
        return
    found = next((i for i in d.incidents if i.id == command.incident), None)
    if found is None:
        raise Rejected(f"there is no incident {command.incident}")
    if found.closed_ms:
        raise Rejected(f"incident {found.id} is closed")
    if text:
        if len(found.notes) >= NOTES_KEPT:
            raise Rejected(f"incident {found.id} has {NOTES_KEPT} notes already: close it and open another")
        note = IncidentNote(at_ms=command.at_ms, actor=command.actor, text=text)
        found = replace(found, notes=(*found.notes, note))
    if command.what == "close":
        found = replace(found, closed_ms=command.at_ms, until=d.index)
        d.event("incident", f"Incident {found.id} is closed.", actor=command.actor, reason=text)
    d.incidents = tuple(found if i.id == found.id else i for i in d.incidents)


def audit_head(d: Draft, command: c.ReportAudit) -> None:
    """A trail only grows: an older head than the one that is known is not believed."""
    known(d, command.node)
    before = d.audit.get(command.node)
    if before is not None and command.sequence < before.sequence and not command.anew:
        raise Rejected(f"the audit trail of {command.node} had {before.sequence} entries, now {command.sequence}")
    if len(command.digest) > TEXT_CHARS_MAX:
        raise Rejected("that is no digest")
    head = AuditHead(sequence=command.sequence, digest=command.digest, at_ms=command.at_ms)
    d.audit = {**d.audit, command.node: head}
    if command.anew:
        d.event("audit", f"The audit trail of {command.node} begins anew.", node=command.node)
