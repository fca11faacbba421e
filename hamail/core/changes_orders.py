"""What an operator's commands do to the replicated state: moves, standby, maintenance, configuration."""

from msgspec.structs import replace

from hamail.core.changes_nodes import known
from hamail.core.draft import Draft, Rejected
from hamail.core.policy_notes import kept_from, off
from hamail.core.proof import DOUBTFUL, RUNNING
from hamail.core.timing import problems
from hamail.core.transitions import What
from hamail.core.words import clock
from hamail.model import commands as c
from hamail.model.ids import GroupName, NodeName
from hamail.model.spec import ClusterSpec, GroupSpec
from hamail.model.state import ConfigRevision, Maintenance, Phase, Severity, Stamp, Term, Trigger, keep_revisions

NODES_ARE_FIXED = "the cluster's name and its nodes (added, removed, other addresses) cannot be changed while it runs"


def barrier(d: Draft, command: c.Barrier) -> None:
    """Nothing: that it was applied is the point."""


def request_move(d: Draft, command: c.RequestMove) -> None:
    name, target = command.group, command.target
    if name not in d.spec.groups:
        raise Rejected(f"there is no group {name}")
    known(d, target)
    g = d.group(name)
    if g.epoch != command.expected_epoch:
        raise Rejected(f"{name} has moved meanwhile: it is at epoch {g.epoch}, not {command.expected_epoch}")
    may_receive(d, name, target)
    if g.owner == target:
        raise Rejected(f"{target} already owns {name}; hamailctl status tells who else could take it")
    if g.phase not in RUNNING and g.phase is not Phase.IDLE:
        raise Rejected(f"{name} is {g.phase}: wait until that is over")
    d.open_move(name, Trigger.SWITCHOVER, command, target=target, stamps=ordered(command))
    d.set_group(name, target=target, failed_on=())
    if g.phase in RUNNING:
        d.step(name, What.ORDERED_AWAY, node=g.owner, target=target, why=order_words(command))


def may_receive(d: Draft, group: GroupName, target: NodeName) -> None:
    """Raises Rejected when an operator cannot send the group there."""
    node = known(d, target)
    if d.spec.nodes[target].witness or target not in d.spec.groups[group].nodes:
        raise Rejected(f"{target} may not own {group}; its nodes are {', '.join(d.spec.groups[group].nodes)}")
    if node.standby:
        raise Rejected(f"{target} is in standby; hamailctl unstandby {target} lifts it")
    if node.incarnation is None or node.fence is not None:
        raise Rejected(f"{target} has not joined, or is being fenced")
    if why := off(d, group) or kept_from(d, group, target):
        raise Rejected(why)
    if node.quarantine is not None:
        raise Rejected(f"{target} is in quarantine; hamailctl quarantine --clear {target} lifts it")


def ordered(command: c.Command) -> dict[str, int]:
    return {Stamp.DETECTED: command.at_ms, Stamp.DECIDED: command.at_ms}


def order_words(command: c.Command) -> str:
    return f"{command.actor} ordered it" + (f" ({command.reason})." if command.reason else ".")


def set_standby(d: Draft, command: c.SetStandby) -> None:
    node = known(d, command.node)
    if d.spec.nodes[command.node].witness:
        raise Rejected(
            f"{command.node} is a witness: it never owns a group, so nothing has to leave it before work on it"
        )
    until_ms = node.standby_term.until_ms if node.standby_term else 0
    if node.standby == command.standby and until_ms == command.until_ms:
        if command.standby:
            raise Rejected(f"{command.node} is already in standby; hamailctl unstandby {command.node} ends that")
        raise Rejected(f"{command.node} is already out of standby; hamailctl status tells whether it could take over")
    held = [(name, g) for name, g in d.groups() if g.owner == command.node and g.phase in RUNNING]
    if command.standby and held and d.maintenance.on:
        raise Rejected(f"the cluster is in maintenance, and {command.node} owns {held[0][0]}")
    for name, _ in held if command.standby else ():
        if why := off(d, name):
            raise Rejected(why)
    if command.standby and command.until_ms and command.until_ms <= command.at_ms:
        raise Rejected("its end is not in the future")
    term = Term(since=d.index, since_ms=d.at_ms, until_ms=command.until_ms, actor=command.actor, reason=command.reason)
    d.set_node(command.node, standby=command.standby, standby_term=term if command.standby else None)
    until = f", until {clock(command.until_ms)}" if command.standby and command.until_ms else ""
    words = f"{command.node} is {'put into' if command.standby else 'taken out of'} standby by {command.actor}{until}."
    d.event("standby", words, node=command.node, actor=command.actor, reason=command.reason)
    if not command.standby:
        return
    for name, _ in held:
        d.open_move(name, Trigger.STANDBY, command, stamps=ordered(command))
        d.set_group(name, target=None, failed_on=())
        d.step(name, What.ORDERED_AWAY, node=command.node, target="another node", why=order_words(command))


def set_maintenance(d: Draft, command: c.SetMaintenance) -> None:
    """While it is on no grant is accepted, so a node may suspend its dead-man's switch as soon as it has applied this.

    When it ends, promises to a node prove nothing until that node has said that its switch is in force again.
    """
    if command.on and command.until_ms and command.until_ms <= command.at_ms:
        raise Rejected("its end is not in the future")
    if d.maintenance.on and command.on and d.maintenance.until_ms != command.until_ms:
        # Only its end changes: nobody need acknowledge anything anew. `since` stays, and with it what an Expire names.
        d.maintenance = replace(d.maintenance, until_ms=command.until_ms)
        end = f"until {clock(command.until_ms)}" if command.until_ms else "until somebody ends it"
        d.event("maintenance", f"Maintenance stays on {end}.", actor=command.actor, reason=command.reason)
        return
    if not command.on and d.maintenance.on and command.since not in (-1, d.maintenance.since):
        raise Rejected("maintenance was ended and begun anew since that was asked for")
    if d.maintenance.on == command.on:
        raise Rejected(f"maintenance is already {'on' if command.on else 'off'}")
    if command.on and any(g.phase not in (Phase.IDLE, Phase.ACTIVE) for _, g in d.groups()):
        raise Rejected("a group is on the move; wait until that is over")
    if command.on and any(d.node(n).fence is not None for n in d.spec.nodes):
        raise Rejected("a node is being fenced; wait until that is over")
    mail_nodes = tuple(sorted(n for n, spec in d.spec.nodes.items() if not spec.witness))
    d.maintenance = Maintenance(
        on=command.on,
        suspended=mail_nodes if command.on else d.maintenance.suspended,
        since=d.index,
        actor=command.actor,
        reason=command.reason,
        since_ms=command.at_ms,
        until_ms=command.until_ms if command.on else 0,
    )
    words = f"Maintenance is {'on: nothing is started, stopped, fenced or moved' if command.on else 'off'}."
    d.event("maintenance", words, actor=command.actor, reason=command.reason)


def ack_maintenance(d: Draft, command: c.AckMaintenance) -> None:
    known(d, command.node)
    if command.on != d.maintenance.on or command.since != d.maintenance.since:
        raise Rejected(f"this answers an earlier order: maintenance is {'on' if d.maintenance.on else 'off'}")
    if not command.on:
        d.resumed(command.node)
        return
    acknowledged = tuple(sorted({*d.maintenance.acknowledged, command.node}))
    d.maintenance = replace(d.maintenance, acknowledged=acknowledged)


def clear(d: Draft, command: c.Clear) -> None:
    name = command.group
    if name not in d.spec.groups:
        raise Rejected(f"there is no group {name}")
    g = d.group(name)
    if command.epoch not in (-1, g.epoch):
        raise Rejected(f"{name} has moved since that was asked for: look at it again")
    d.set_group(name, failed_on=(), retries=0, failovers=(), failures=(), restarts=(), pardoned=False)
    if g.phase is not Phase.ACTIVE:
        d.set_group(name, trigger=Trigger.CLEARED)
    if g.owner is not None:
        d.set_node(g.owner, fence_attempts=0, fence_failure="")
    words = f"{command.actor} has cleared {name}: its failures are forgotten."
    d.event("clear", words, group=name, actor=command.actor, reason=command.reason)
    if g.stuck and g.phase in DOUBTFUL and g.owner is not None and d.node(g.owner).fence is None:
        d.step(name, What.TRY_AGAIN, node=g.owner, why=order_words(command))


def apply_config(d: Draft, command: c.ApplyConfig) -> None:
    current = d.config
    if command.expected_revision != current.revision:
        raise Rejected(f"the configuration is at revision {current.revision}, not {command.expected_revision}")
    if unusable := problems(command.spec.detection_ms, command.spec.watchdog_timeout_s):
        raise Rejected("; ".join(unusable))
    for name, group in command.spec.groups.items():  # no parser lets that through; who forges one must stop nobody
        if not group.nodes or not set(group.nodes) <= set(command.spec.nodes):
            raise Rejected(f"the nodes of {name} are not nodes of the cluster, or there is none")
    if current.revision:
        _check_change(d, command.spec)
        d.revisions = keep_revisions((*d.revisions, current))
    before, d.spec = d.spec, command.spec
    d.config = ConfigRevision(
        revision=current.revision + 1,
        index=d.index,
        applied_at_ms=command.at_ms,
        actor=command.actor,
        reason=command.reason,
        source=command.source,
    )
    d.keep_groups(set(command.spec.groups))
    if current.revision:  # before the first one nobody can join: whoever does has cleaned up under it
        for name, group in command.spec.groups.items():
            if name not in before.groups or not _named_by(group) <= _named_by(before.groups[name]):
                d.set_group(name, changed_at=d.index)
    words = f"Configuration revision {d.config.revision} is in force."
    d.event("config", words, actor=command.actor, reason=command.reason)


def _named_by(group: GroupSpec) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """What in the world belongs to the group: devices, addresses, services."""
    return {(r.agent, tuple(sorted(r.parameters.items()))) for r in group.resources}


def _check_change(d: Draft, spec: ClusterSpec) -> None:
    """What may not change under a running cluster."""
    if spec.nodes != d.spec.nodes or spec.name != d.spec.name:
        raise Rejected(NODES_ARE_FIXED)
    for name, g in d.groups():
        changed = spec.groups.get(name)
        if changed is None and g.phase is not Phase.IDLE:
            raise Rejected(f"{name} is {g.phase}; a group can be removed only when nobody owns it")
        if changed != d.spec.groups[name] and g.phase not in (Phase.IDLE, Phase.ACTIVE):
            raise Rejected(f"{name} is {g.phase}: wait until that is over")
        if changed is not None and g.owner is not None and g.owner not in changed.nodes:
            raise Rejected(f"{g.owner} owns {name} and cannot be taken from its nodes; move {name} first")
    for name in d.spec.nodes:
        order = d.node(name).fence
        if order is not None and spec.fencing.get(order.device) != d.spec.fencing.get(order.device):
            raise Rejected(f"{order.device} is fencing {name} just now: wait until that is over")


def annotate(d: Draft, command: c.Annotate) -> None:
    if command.stamps:
        d.stamp_epoch(command.group, command.epoch, command.stamps)
    if command.sentence:
        actor, reason = ("", "") if command.actor == "hamail" else (command.actor, command.reason)
        kind = command.event or "note"
        level = Severity.WARNING if kind in ("node", "policy") else Severity.INFO
        group, node = command.group, command.node
        d.event(kind, command.sentence, group=group, node=node, actor=actor, reason=reason, severity=level)
