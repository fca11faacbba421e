"""What bans, quarantine, the smaller scopes of maintenance, and the end of their time do to the replicated state."""

from msgspec.structs import replace

from hamail.core.changes_nodes import known
from hamail.core.changes_orders import order_words, ordered
from hamail.core.draft import Draft, Rejected
from hamail.core.policy_notes import off, returned
from hamail.core.proof import RUNNING
from hamail.core.transitions import What
from hamail.core.words import clock
from hamail.model import commands as c
from hamail.model.commands import Lapse
from hamail.model.state import Maintenance, Phase, Term, Trigger

BAN_MS_MAX = 30 * 86_400_000
AT_REST = (Phase.IDLE, Phase.ACTIVE)


def _term(d: Draft, command: c.Command, until_ms: int) -> Term:
    return Term(since=d.index, since_ms=d.at_ms, until_ms=until_ms, actor=command.actor, reason=command.reason)


def set_ban(d: Draft, command: c.SetBan) -> None:
    name, node = command.group, command.node
    if name not in d.spec.groups:
        raise Rejected(f"there is no group {name}")
    known(d, node)
    if d.spec.nodes[node].witness or node not in d.spec.groups[name].nodes:
        raise Rejected(f"{node} may not own {name} anyway")
    if not command.at_ms < command.until_ms <= command.at_ms + BAN_MS_MAX:
        raise Rejected("a ban always ends: in the future, and within 30 days")
    g = d.group(name)
    runs_here = g.owner == node
    if runs_here and (why := off(d, name)):
        raise Rejected(why)
    if runs_here and g.phase not in RUNNING:
        raise Rejected(f"{name} is {g.phase} on {node}: wait until that is over")
    target = None if runs_here or g.target == node else g.target
    d.set_group(name, bans={**g.bans, node: _term(d, command, command.until_ms)}, target=target)
    words = f"{command.actor} has banned {name} from {node} until {clock(command.until_ms)}."
    d.event("ban", words, group=name, node=node, actor=command.actor, reason=command.reason)
    if runs_here:
        d.open_move(name, Trigger.BAN, command, stamps=ordered(command))
        d.set_group(name, failed_on=())
        d.step(name, What.ORDERED_AWAY, node=node, target="another node", why=order_words(command))


def lift_ban(d: Draft, command: c.LiftBan) -> None:
    _end_ban(
        d, command.group, command.node, f"{command.actor} has lifted the ban of {command.group} from {command.node}."
    )


def _end_ban(d: Draft, group: str, node: str, words: str) -> None:
    bans = d.group(group).bans
    if node not in bans:
        raise Rejected(f"{group} is not banned from {node}; hamailctl status tells which bans there are")
    d.set_group(group, bans={n: term for n, term in bans.items() if n != node})
    d.event("ban", words, group=group, node=node)


def lift_quarantine(d: Draft, command: c.LiftQuarantine) -> None:
    if known(d, command.node).quarantine is None:
        raise Rejected(f"{command.node} is not in quarantine; hamailctl quarantine tells who is")
    d.set_node(command.node, quarantine=None, returns=())
    words = f"{command.actor} has taken {command.node} out of quarantine."
    d.event("quarantine", words, node=command.node, actor=command.actor, reason=command.reason)


def set_hands_off(d: Draft, command: c.HandsOff) -> None:
    if bool(command.group) == bool(command.node):
        raise Rejected("name either a group or a node")
    if command.on and command.until_ms and command.until_ms <= command.at_ms:
        raise Rejected("its end is not in the future")
    (_group_hands_off if command.group else _node_hands_off)(d, command)


def _group_hands_off(d: Draft, command: c.HandsOff) -> None:
    name = command.group
    if name not in d.spec.groups:
        raise Rejected(f"there is no group {name}")
    g = d.group(name)
    _already(name, g.maintenance, command)
    if command.on and g.phase not in AT_REST:
        raise Rejected(f"{name} is {g.phase}: wait until that is over")
    d.set_group(name, maintenance=_term(d, command, command.until_ms) if command.on else None)
    words = (
        f"{name} is in maintenance: it is watched, and nothing is done about it" if command.on else _looked_after(name)
    )
    d.event("maintenance", f"{words}.", group=name, actor=command.actor, reason=command.reason)


def _node_hands_off(d: Draft, command: c.HandsOff) -> None:
    name = command.node
    n = known(d, name)
    if d.spec.nodes[name].witness:
        raise Rejected(f"{name} is a witness: it runs nothing that could be left alone")
    _already(name, n.maintenance, command)
    if command.on and n.fence is not None:
        raise Rejected(f"{name} is being fenced: wait until that is over")
    moving = [group for group, g in d.groups() if g.owner == name and g.phase not in AT_REST]
    if command.on and moving:
        raise Rejected(f"{moving[0]} is {d.group(moving[0]).phase} on {name}: wait until that is over")
    d.set_node(name, maintenance=_term(d, command, command.until_ms) if command.on else None)
    words = f"{name} is in maintenance: it is given nothing and not fenced, and what it runs is left alone"
    words = words if command.on else _looked_after(name)
    d.event("maintenance", f"{words}.", node=name, actor=command.actor, reason=command.reason)


def _already(name: str, term: Term | None, command: c.HandsOff) -> None:
    if not command.on and term is None:
        raise Rejected(f"{name} is not in maintenance; hamailctl status tells what is")
    if command.on and term is not None and term.until_ms == command.until_ms:
        raise Rejected(f"{name} is already in maintenance")


def _looked_after(name: str) -> str:
    return f"The maintenance of {name} is over"


def expire(d: Draft, command: c.Expire) -> None:
    """Only what is meant, and only when its time has passed for whoever proposed it."""
    what, group, node = command.lapse, command.group, command.node
    term = _meant(d, command)
    if term is None or term[0] != command.since:
        raise Rejected(f"this {what} is over already, or has been set anew")
    if not 0 < term[1] <= command.at_ms:
        raise Rejected(f"this {what} lasts until {clock(term[1])}")
    match what:
        case Lapse.BAN:
            _end_ban(d, group, node, f"The ban of {group} from {node} has ended by itself.")
        case Lapse.QUARANTINE:
            d.set_node(node, quarantine=None)
            d.event("quarantine", f"The quarantine of {node} has ended by itself.", node=node)
        case Lapse.STANDBY:
            d.set_node(node, standby=False, standby_term=None)
            d.event("standby", f"The standby of {node} has ended by itself; nothing moves back.", node=node)
        case Lapse.NODE_MAINTENANCE:
            d.set_node(node, maintenance=None)
            d.event("maintenance", f"{_looked_after(node)}: its time has passed.", node=node)
        case Lapse.GROUP_MAINTENANCE:
            d.set_group(group, maintenance=None)
            d.event("maintenance", f"{_looked_after(group)}: its time has passed.", group=group)
        case Lapse.MAINTENANCE:
            over = Maintenance(suspended=d.maintenance.suspended, since=d.index, since_ms=d.at_ms, actor=command.actor)
            d.maintenance = replace(over, reason=command.reason)
            d.event("maintenance", "Maintenance is off: its time has passed.")


def _meant(d: Draft, command: c.Expire) -> tuple[int, int] | None:
    """(since, until) of what is in force now."""
    n, g = d.node(command.node), d.group(command.group)
    if command.lapse is Lapse.MAINTENANCE:
        return (d.maintenance.since, d.maintenance.until_ms) if d.maintenance.on else None
    terms = {
        Lapse.BAN: g.bans.get(command.node),
        Lapse.QUARANTINE: n.quarantine,
        Lapse.STANDBY: n.standby_term if n.standby else None,
        Lapse.NODE_MAINTENANCE: n.maintenance,
        Lapse.GROUP_MAINTENANCE: g.maintenance,
    }
    term = terms[command.lapse]
    return None if term is None else (term.since, term.until_ms)


def node_back(d: Draft, command: c.NodeBack) -> None:
    node = known(d, command.node)
    if node.incarnation is None:
        raise Rejected(f"{command.node} is out: it comes back when it joins")
    words = f"{command.node} is heard again after {command.silent_ms / 1000:.1f} s."
    d.event("node", words, node=command.node)
    returned(d, command.node)
