"""Reasons in sentences: why is a group where it is, and what would have to change."""

from hamail.core import placement, policy_warnings, retries
from hamail.core.facts import Facts, NodeFacts
from hamail.core.words import clock
from hamail.model.ids import GroupName, NodeName
from hamail.model.spec import ClusterSpec, Requirement
from hamail.model.state import ClusterState, Phase


def protection(spec: ClusterSpec, group: GroupName) -> str:
    """What keeps a second node from being active, in words."""
    g = spec.groups[group]
    if g.requires is Requirement.FENCING:
        devices = sorted({d.name for n in g.nodes for d in spec.devices_for(n)})
        if not devices:
            return "leases and the epoch on the storage; no fence device is configured, so after a loss only you decide"
        return f"fencing ({', '.join(devices)}), leases, and the epoch on the storage"
    if g.requires is Requirement.WATCHDOG:
        return "leases and each node's watchdog"
    return "leases only"


def why(state: ClusterState, facts: Facts, group: GroupName) -> tuple[str, ...]:
    """The story of a group's present place, newest fact first, then what keeps it there."""
    if group not in state.spec.groups:
        known = ", ".join(sorted(state.spec.groups)) or "none"
        return (f"There is no group {group}. Groups: {known}.",)
    g = state.group(group)
    lines = [_headline(state, group)]
    if g.sentence:
        lines.append(f"Last step ({clock(g.since_ms)}): {g.sentence}")
    moves = [m for m in state.moves if m.group == group]
    if moves:
        m = moves[-1]
        asked = f", ordered by {m.actor}" if m.actor not in ("", "hamail") else ""
        because = f": {m.reason}" if m.reason else ""
        lines.append(f"The last move ({clock(m.started_at_ms)}, {m.result}): {m.trigger}{asked}{because}")
    if g.phase is Phase.IDLE and placement.choose(state, facts, group) is None:
        lines.append(f"No node may have {group} now:")
        lines += [f"  {c.node}: {c.reason}." for c in placement.candidates(state, facts, group)]
        if soon := retries.words(facts, group):
            lines.append(f"{policy_warnings.waiting(group, g)}; {soon}.")
    elif g.owner is not None:
        for c in placement.candidates(state, facts, group):
            if c.node != g.owner and c.node in state.spec.groups[group].nodes:
                can = "could take over" if c.eligible else "could not take over"
                lines.append(f"{c.node} {can}: {c.reason}.")
    if g.owner is not None and (failure := state.node(g.owner).fence_failure):
        lines.append(f"Fencing has not succeeded yet: {failure}")
    lines.append(f"Protected against a second active node by {protection(state.spec, group)}.")
    lines += policy_warnings.why(state, facts, group)
    if state.maintenance.on:
        lines.append("The cluster is in maintenance: nothing is started, stopped, fenced or moved.")
    return tuple(lines)


def _headline(state: ClusterState, group: GroupName) -> str:
    g = state.group(group)
    return {
        Phase.IDLE: f"{group} is not running: nobody owns it.",
        Phase.STARTING: f"{group} is being started on {g.owner} (epoch {g.epoch}).",
        Phase.ACTIVE: f"{group} runs on {g.owner} since {clock(g.since_ms)} (epoch {g.epoch}).",
        Phase.STOPPING: f"{group} is being stopped on {g.owner}.",
        Phase.FENCING: f"{group} is not available: {g.owner} must be fenced before another node may start it.",
        Phase.WAITING: f"{group} is not available: every promise to {g.owner} must run out first.",
        Phase.BLOCKED: f"{group} is blocked: only you can say whether {g.owner} is off.",
    }[g.phase]


def warnings(state: ClusterState, facts: Facts) -> tuple[str, ...]:
    """What is one failure away from an outage."""
    found = []
    for node in sorted(state.spec.nodes):
        found += _node_warnings(state, facts, node)
    for name in sorted(state.spec.groups):
        g = state.group(name)
        others = [c for c in placement.candidates(state, facts, name) if c.eligible and c.node != g.owner]
        if g.owner is not None and not others and not placement.last_resorts(state, facts, name):
            found.append(f"{name} has no standby: if {g.owner} fails, mail stops")
        if g.phase is Phase.ACTIVE and g.owner is not None and _denies(facts.node(g.owner), name):
            found.append(f"{name} does not run on {g.owner} any more, which cannot report its stop yet")
        if soon := retries.words(facts, name):
            found.append(f"{policy_warnings.waiting(name, g)}; {soon}")
        found += policy_warnings.of_group(state, facts, name)
        if state.spec.groups[name].unsafe_reason:
            found.append(f"{name} runs without fencing (reason given: {state.spec.groups[name].unsafe_reason})")
        if (
            state.spec.groups[name].requires is Requirement.WATCHDOG
            and g.owner
            and not state.node(g.owner).watchdog_armed
        ):
            found.append(
                f"{name} relies on watchdogs, and {g.owner} has none armed: if it is lost, only you can decide"
            )
    if state.maintenance.on:
        found.append("maintenance is on: nobody takes over if a node fails")
    return tuple(found)


def _denies(owner: NodeFacts, group: GroupName) -> bool:
    """Is it heard, and says that nothing of the group runs there?"""
    return owner.alive and owner.holds is not None and group not in owner.holds


def _node_warnings(state: ClusterState, facts: Facts, node: NodeName) -> list[str]:
    heard = facts.node(node)
    found = []
    if not heard.alive:
        role = "witness " if state.spec.nodes[node].witness else ""
        found.append(f"{role}{node} has not been heard for {heard.silent_ms / 1000:.1f} s")
    elif not heard.ready:
        found.append(f"{node} is not ready: {heard.detail}")
    found += policy_warnings.of_node(node, state.node(node))
    for device, problem in sorted(heard.fence_ready.items()):
        if problem:
            found.append(f"{node} could not fence with {device}: {problem}")
    return found
