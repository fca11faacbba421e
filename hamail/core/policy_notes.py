"""What apply writes down for the failure policy and for the quarantine, while it carries out other commands."""

from hamail.core import hands_off, policy
from hamail.core.draft import Draft
from hamail.core.words import clock, span
from hamail.model.ids import GroupName, NodeName, ResourceName
from hamail.model.state import FAILURES_KEPT, RETURNS_KEPT, Failure, Term

MOMENT_MS_MAX = 2**63 - 1  # the end of a term is part of every snapshot: whatever a clock says, it can be written
ONE_RETURN_MS = 5000  # what comes closer together is one return that was seen twice


def failure(d: Draft, group: GroupName, node: NodeName, resource: ResourceName = "") -> None:
    kept = d.group(group).failures
    d.set_group(group, failures=(*kept, Failure(at_ms=d.at_ms, node=node, resource=resource))[-FAILURES_KEPT:])


def restart(d: Draft, group: GroupName, node: NodeName, resource: ResourceName) -> None:
    kept = d.group(group).restarts
    d.set_group(group, restarts=(*kept, Failure(at_ms=d.at_ms, node=node, resource=resource))[-FAILURES_KEPT:])


def granted(d: Draft, group: GroupName, former: NodeName | None, node: NodeName) -> None:
    """Call after the grant: was it a failover?"""
    g = d.group(group)
    if former in (None, node) or g.trigger not in policy.BY_FAILURE:
        return
    d.set_group(group, failovers=(*g.failovers, d.at_ms)[-FAILURES_KEPT:])
    spec = d.spec.groups[group]
    full = policy.used_up(spec, d.group(group), d.at_ms)
    if full is not None and full.limit:
        words = f"{policy.words(group, full)}: no failed service moves it before then, and it does not bounce"
        d.event(
            "policy", f"{words} between nodes that have failed it. hamailctl clear {group} forgets that.", group=group
        )


def returned(d: Draft, node: NodeName) -> None:
    """A node came back after it was lost. Too often: quarantine."""
    n, rule = d.node(node), d.spec.quarantine
    planned = d.maintenance.on or n.standby or n.maintenance is not None
    if rule is None or planned or (n.returns and abs(d.at_ms - n.returns[-1]) < ONE_RETURN_MS):
        return
    returns = (*n.returns, d.at_ms)[-RETURNS_KEPT:]
    d.set_node(node, returns=returns)
    used = policy.use(rule, returns, d.at_ms)
    if not used.up:
        return
    until_ms = min(d.at_ms + d.spec.quarantine_for_ms, MOMENT_MS_MAX)
    why = f"it was lost and came back {used.used} times within {span(rule.window_ms)}"
    d.set_node(node, quarantine=Term(since=d.index, since_ms=d.at_ms, until_ms=until_ms, actor="hamail", reason=why))
    words = (
        f"{node} is in quarantine until {clock(until_ms)}: {why}. It is given a group only if no other node can run it."
    )
    d.event("quarantine", words, node=node)


def kept_from(d: Draft, group: GroupName, node: NodeName) -> str:
    """Why an operator's word keeps the group from this node; empty when none does."""
    ban, maintenance = d.group(group).bans.get(node), d.node(node).maintenance
    if ban is not None:
        return f"{group} is banned from {node} until {clock(ban.until_ms)}; hamailctl unban {group} {node} lifts it"
    if maintenance is not None:
        return f"{node} is in maintenance; hamailctl maintenance off --node {node} ends it"
    return ""


def off(d: Draft, group: GroupName) -> str:
    """Why nothing is done about the group; empty when it is looked after."""
    return hands_off.why(d.maintenance, group, d.group(group), d.node)
