"""What operators must know of bans, quarantine, maintenance and used-up failovers: nothing of it may be a surprise."""

from hamail.core import hands_off, placement, policy
from hamail.core.facts import Facts
from hamail.core.words import clock
from hamail.model.ids import GroupName, NodeName
from hamail.model.state import ClusterState, GroupState, NodeState, Term


def waiting(group: GroupName, g: GroupState) -> str:
    """Why it waits for its next try."""
    return f"{group} could not be started anywhere" if g.failed_on else f"{group} waits, for it moved too often"


def of_group(state: ClusterState, facts: Facts, name: GroupName) -> list[str]:
    g, spec, found = state.group(name), state.spec.groups[name], []
    full = policy.used_up(spec, g, facts.at_ms)
    if full is not None and full.limit:
        found.append(f"{policy.words(name, full)}: it moves for no failed service; hamailctl clear {name} forgets them")
    able = any(c.eligible and c.node != g.owner for c in placement.candidates(state, facts, name))
    if g.owner is not None and not able and (last := placement.last_resorts(state, facts, name)):
        found.append(f"{name} has no standby but {', '.join(last)}, in quarantine: used only if nobody else can")
    for node, ban in sorted(g.bans.items()):
        found.append(f"{name} is banned from {node}{_term(ban)}")
    if g.maintenance is not None:
        found.append(f"{name} is in maintenance{_term(g.maintenance)}: nothing is done about it, whatever happens")
    return found


def why(state: ClusterState, facts: Facts, name: GroupName) -> list[str]:
    """For `hamailctl why`: what the policy and people say about the group, in whole sentences."""
    lines = []
    full = policy.used_up(state.spec.groups[name], state.group(name), facts.at_ms)
    if full is not None and full.limit:
        lines.append(f"{policy.words(name, full)}: it moves for no failed service before then.")
    if not state.maintenance.on and (off := hands_off.from_group(state, name)):
        lines.append(f"Nothing is done about it, whatever happens: {off}.")
    return lines


def of_node(name: NodeName, n: NodeState) -> list[str]:
    found = []
    if n.standby:
        until = f" until {clock(n.standby_term.until_ms)}" if n.standby_term and n.standby_term.until_ms else ""
        found.append(f"{name} is in standby{until}")
    if n.quarantine is not None:
        found.append(f"{name} is in quarantine until {clock(n.quarantine.until_ms)}: {n.quarantine.reason}")
    if n.maintenance is not None:
        found.append(f"{name} is in maintenance{_term(n.maintenance)}: it is neither fenced nor given anything")
    return found


def _term(term: Term) -> str:
    """Who, until when, why."""
    until = f" until {clock(term.until_ms)}" if term.until_ms else ""
    because = f" ({term.reason})" if term.reason else ""
    return f"{until} by {term.actor}{because}"
