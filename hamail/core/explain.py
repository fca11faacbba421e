"""Reasons in sentences: why is a group where it is, and what would have to change."""

from hamail.core import hands_off, placement, policy, retries
from hamail.core.facts import Facts
from hamail.core.words import clock
from hamail.model.ids import GroupName
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
        lines.append(
            f"The last move ({clock(m.started_at_ms)}, {m.result}): {m.trigger}{asked}{because}"
            + (f". {m.detail}" if m.detail else "")
        )
    if g.phase is Phase.IDLE and placement.choose(state, facts, group) is None:
        lines.append(f"No node may have {group} now:")
        lines += [f"  {c.node}: {c.reason}." for c in placement.candidates(state, facts, group)]
        if soon := retries.words(state, facts, group):
            lines.append(f"{soon}.")
    elif g.owner is not None:
        for c in placement.told(state, facts, group):
            if c.node != g.owner and c.node in state.spec.groups[group].nodes:
                can = "could take over" if c.eligible else "could not take over"
                lines.append(f"{c.node} {can}: {c.reason}.")
    if g.owner is not None and (failure := state.node(g.owner).fence_failure):
        lines.append(f"Fencing has not succeeded yet: {failure}")
    lines.append(f"Protected against a second active node by {protection(state.spec, group)}.")
    full = policy.used_up(state.spec.groups[group], g, facts.at_ms)
    if full is not None and full.limit:
        lines.append(f"{policy.words(group, full)}: it moves for no failed service before then.")
    if not state.maintenance.on and (off := hands_off.from_group(state, group)):
        lines.append(f"Nothing is done about it, whatever happens: {off}.")
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
