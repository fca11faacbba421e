"""What an operator's restart in place does to the replicated state. The group stays where it is all the while."""

from hamail.core.draft import Draft, Rejected
from hamail.core.policy_notes import off
from hamail.model import commands as c
from hamail.model.orders import RestartOrder
from hamail.model.state import Phase, Severity

STALE_MS = 15 * 60_000  # an order that its owner has not answered for so long keeps no other one out


def request_restart(d: Draft, command: c.RequestRestart) -> None:
    name, resource = command.group, command.resource
    if name not in d.spec.groups:
        raise Rejected(f"there is no group {name}")
    g = d.group(name)
    known = [r.name for r in d.spec.groups[name].resources]
    if resource and resource not in known:
        raise Rejected(f"{name} has no resource {resource}; it has {', '.join(known)}")
    if g.epoch != command.expected_epoch:
        raise Rejected(f"{name} has moved meanwhile: it is at epoch {g.epoch}, not {command.expected_epoch}")
    if why := off(d, name):
        raise Rejected(why)
    if g.phase is not Phase.ACTIVE:
        raise Rejected(f"{name} is {g.phase}: only what is active is restarted in place")
    if g.restart is not None and command.at_ms < g.restart.ordered_at_ms + STALE_MS:
        raise Rejected(f"{g.restart.resource or name} is being restarted already (order {g.restart.id})")
    order = RestartOrder(
        id=d.index,
        resource=resource,
        epoch=g.epoch,
        actor=command.actor,
        reason=command.reason,
        ordered_at_ms=command.at_ms,
    )
    d.set_group(name, restart=order)
    words = f"{g.owner} is to restart {resource or 'every resource'} of {name}, as {command.actor} ordered."
    d.event(
        "restart ordered",
        words,
        group=name,
        node=g.owner or "",
        resource=resource,
        actor=command.actor,
        reason=command.reason,
    )


def restart_ended(d: Draft, command: c.RestartEnded) -> None:
    name = command.group
    if name not in d.spec.groups:
        raise Rejected(f"there is no group {name}")
    g = d.group(name)
    if g.restart is None or g.restart.id != command.order or g.owner != command.node:
        raise Rejected(f"restart order {command.order} of {name} is not open")
    what = f"{g.restart.resource} of {name}" if g.restart.resource else f"every resource of {name}"
    d.set_group(name, restart=None)
    if command.ok:
        d.event("restart done", f"{command.node} has restarted {what}.", group=name, node=command.node)
        return
    words = f"{command.node} has not restarted {what}: {command.detail.rstrip('.')}."
    d.event("restart failed", words, group=name, node=command.node, severity=Severity.WARNING)
