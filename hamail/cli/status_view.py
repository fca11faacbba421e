"""`hamailctl status` for people: the answer first, then what needs attention, then the details."""

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hamail.cli import policy_view
from hamail.cli.words import ago, counted, in_local_time, listed, moment, roughly, took
from hamail.model.state import Phase, Severity
from hamail.model.status import GroupView, NodeView, Status

GOOD, POOR, BAD, DIM = "green", "yellow", "bold red", "dim"
PHASE_STYLE = {Phase.ACTIVE: f"bold {GOOD}", Phase.STARTING: f"bold {POOR}", Phase.STOPPING: f"bold {POOR}"}
RESOURCE_STYLE = {"up": GOOD, "starting": POOR, "stopping": POOR, "failed": BAD, "unknown": BAD}
DOWN = {
    Phase.IDLE: "is down: no node runs it",
    Phase.STARTING: "is starting on {owner}",
    Phase.STOPPING: "is stopping on {owner}",
    Phase.FENCING: "is down: {owner} may still hold it and is being fenced",
    Phase.WAITING: "is down: {owner} may still hold it until its time has run out",
    Phase.BLOCKED: "is BLOCKED on {owner}: only you can decide",
}


def render(status: Status, at_a_glance: Iterable[RenderableType] = ()) -> RenderableType:
    """`at_a_glance`: what comes after the alerts; see `glance`."""
    return Group(*_parts(status, at_a_glance))


def _parts(status: Status, at_a_glance: Iterable[RenderableType]) -> Iterator[RenderableType]:
    for group in status.groups:
        yield headline(group, status)
    if not status.config_revision:
        text = f"{status.node} has heard nothing of a running cluster since it started: it cannot say what runs where"
        yield Text(text, style=BAD)
    elif not status.groups:
        yield Text("no group is configured", style=POOR)
    yield Text(
        f"cluster {status.cluster} seen by {status.node} at {moment(status.at_ms)}, coordinator"
        f" {status.coordinator or 'nobody'}, configuration {status.config_revision}",
        style=DIM,
    )
    yield from attention(status)
    yield from at_a_glance
    for group in status.groups:
        yield Text()
        yield _group(group, status)
    yield Text()
    yield nodes(status)


def headline(group: GroupView, status: Status) -> Text:
    """The state of one group in one sentence."""
    if group.phase is Phase.ACTIVE and not status.quorum:
        return Text(_without_majority(group, status), style=BAD)
    if group.phase is not Phase.ACTIVE:
        words = DOWN[group.phase].format(owner=group.owner or "nobody")
        return Text(f"{group.name} {words}", style=PHASE_STYLE.get(group.phase, BAD))
    line = Text(f"{group.name} is active on {group.owner}", style=f"bold {GOOD}")
    if broken := [name for name, state in group.resources.items() if state == "failed"]:
        line = Text(f"{group.name} is on {group.owner}, but {listed(broken)} FAILED there", style=BAD)
    line = Text.assemble(line, "; ")
    if _hands_off(group, status):
        return line.append("nobody takes over: maintenance is on", style=POOR)
    able = [c.node for c in group.candidates if c.eligible and c.node != group.owner]
    if able:
        return line.append(f"{listed(able)} could take over")
    if group.last_resorts:
        return line.append(f"only {listed(group.last_resorts)} could take over, in quarantine", style=POOR)
    return line.append("nobody could take over", style=BAD)


def _hands_off(group: GroupView, status: Status) -> bool:
    return status.maintenance.on or (group.policy is not None and bool(group.policy.hands_off))


def _without_majority(group: GroupView, status: Status) -> str:
    """A node that hears no majority knows no more than what it does itself."""
    if group.owner != status.node or group.lease_ms is None:
        return f"{group.name} was last known active on {group.owner}; without a majority {status.node} knows no more"
    if group.lease_ms > 0:
        return f"{group.name} is active on {group.owner}, but must stop within {took(group.lease_ms)}: no majority"
    return f"{group.name} is down: without a majority {group.owner} had to stop it"


def attention(status: Status) -> Iterator[RenderableType]:
    """What somebody has switched off, and the alerts that are pending."""
    maintenance = status.maintenance
    if maintenance.on:
        because = f": {maintenance.reason}" if maintenance.reason else ""
        acknowledged = listed(maintenance.acknowledged) if maintenance.acknowledged else "nobody yet"
        yield _point(
            f"MAINTENANCE since {moment(maintenance.since_ms)} by {maintenance.actor}{because}. Nothing is started,"
            f" stopped, fenced or taken over. Acknowledged by {acknowledged}",
            f"bold {POOR}",
        )
    if not status.alerts:
        yield Text("no alert is pending", style=GOOD)
        return
    critical = sum(alert.severity is Severity.CRITICAL for alert in status.alerts)
    told = f"{counted(len(status.alerts), 'alert')} pending" + (f", {critical} of them CRITICAL" if critical else "")
    yield Text(told, style=BAD if critical else POOR)
    for alert in status.alerts:
        lasted = f" (pending for {roughly(max(0, status.at_ms - alert.since_ms))})" if alert.since_ms else ""
        yield _point(
            f"{in_local_time(alert.text)}{lasted}",
            BAD if alert.severity is Severity.CRITICAL else POOR,
            in_local_time(alert.next_step),
        )


def _point(text: str, style: str, step: str = "") -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text("!", style=style), Text(text, style=style))
    if step:
        grid.add_row("", Text(f"next: {step}", style=DIM))
    return grid


def _group(group: GroupView, status: Status) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=DIM, no_wrap=True)
    grid.add_column(overflow="fold")
    phase = Text(group.phase.value.upper(), style=PHASE_STYLE.get(group.phase, BAD) if status.quorum else DIM)
    if group.owner is not None:
        phase.append(f" on {group.owner}")
    if group.since_ms:
        phase.append(f" for {ago(max(0, status.at_ms - group.since_ms))}, since {moment(group.since_ms)}")
    if not status.quorum:
        phase.append(" (last known)")
    grid.add_row("state", phase)
    asked = f", asked by {group.actor}" if group.actor not in ("", "hamail") else ""
    because = f" ({group.reason.rstrip('.')})" if group.reason and group.reason not in group.sentence else ""
    grid.add_row("why", Text(f"{group.trigger}{asked}{because}. {group.sentence}".strip()))
    owner = next((node for node in status.nodes if node.name == group.owner), None)
    grid.add_row("standby", _candidates(group, status))
    if group.lease_ms is not None and not status.maintenance.on:
        style = "" if group.lease_ms > 0 else BAD
        grid.add_row("lease", Text(f"{took(group.lease_ms)} left, if no majority renews it", style=style))
    guard = Text(f"kept away by {group.protection} (requires = {group.requires})")
    if group.unsafe_reason is not None:
        guard.append(f"\nLESS THAN FENCING on shared storage, accepted because: {group.unsafe_reason}", style=POOR)
    grid.add_row("split brain", guard)
    if group.policy is not None:
        if away := policy_view.kept_away(group, status.at_ms):
            grid.add_row("kept away", away)
        grid.add_row("policy", policy_view.line(group.policy))
    grid.add_row("resources", _resources(group, heard=owner is None or owner.alive))
    return Group(Text(group.name, style="bold"), Padding(grid, (0, 0, 0, 2)))


def _candidates(group: GroupView, status: Status) -> Text:
    witnesses = {node.name for node in status.nodes if node.witness}
    lines = Text()
    for candidate in group.candidates:
        if candidate.node == group.owner or candidate.node in witnesses:
            continue
        able = candidate.eligible
        lines.append("\n" if lines else "")
        then = " once maintenance is over" if able and _hands_off(group, status) else ""
        style = POOR if then else GOOD if able else BAD
        lines.append(f"{candidate.node} could {'' if able else 'NOT '}take over{then}", style=style)
        lines.append(f": {candidate.reason}" if candidate.reason else "")
    return lines or Text("no other node may own it", style=POOR)


def _resources(group: GroupView, heard: bool) -> Text:
    line = Text() if heard else Text(f"unknown, {group.owner} is not heard; last known:", style=BAD)
    for name, state in group.resources.items():
        line.append("  " if line else "")
        line.append(f"{name} ").append(state, style=RESOURCE_STYLE.get(state, DIM) if heard else DIM)
    return line or Text("none", style=DIM)


def nodes(status: Status) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style=DIM)
    table.add_column("node", no_wrap=True, style="bold")
    table.add_column("role", no_wrap=True)
    table.add_column("state", overflow="fold", ratio=2, min_width=9)
    table.add_column("watchdog", no_wrap=True)
    table.add_column("fencing it", overflow="fold", ratio=2, min_width=10)
    table.add_column("heard", no_wrap=True)
    for node in status.nodes:
        role = _role(node, status)
        heard = Text("here", style=DIM) if node.name == status.node else _heard(node)
        table.add_row(node.name, role, _state(node, status.at_ms), _watchdog(node), _fencing(node), heard)
    return table


def _role(node: NodeView, status: Status) -> str:
    if node.witness:
        return "witness"
    held = [group for group in status.groups if group.owner == node.name]
    if status.quorum and any(group.phase is Phase.ACTIVE for group in held):
        return "active"
    return "may hold" if held else "standby"


def _heard(node: NodeView) -> Text:
    return Text(f"{roughly(node.silent_ms)} ago", style=DIM if node.alive else BAD)


def _state(node: NodeView, now_ms: int) -> Text:
    if node.fence is not None:
        order = node.fence
        return Text(f"being fenced with {order.device} by {order.by}, attempt {order.attempt}", style=BAD)
    if not node.alive:
        return Text("not heard" + (", called lost by a majority" if node.suspected else ""), style=BAD)
    if node.restarting:
        return Text("hamaild restarts", style=POOR)
    if node.witness:
        return Text("votes", style=GOOD)
    if not node.joined:
        return Text("has not joined" + (f": {node.detail}" if node.detail else ""), style=POOR)
    if words := policy_view.node_words(node, now_ms):
        return Text(words, style=POOR)
    if not node.ready:
        return Text(f"not ready: {node.detail or 'no reason given'}", style=POOR)
    return Text("ready", style=GOOD)


def _watchdog(node: NodeView) -> Text:
    if node.witness:
        return Text("-", style=DIM)
    return Text(node.watchdog, style=GOOD if node.watchdog == "armed" else POOR)


def _fencing(node: NodeView) -> Text:
    if node.witness:
        return Text("-", style=DIM)
    cell = Text()
    for device, failure in node.fence_devices.items():
        cell.append("\n" if cell else "").append(f"{device}: " if failure else f"{device} ")
        cell.append(failure or "ready", style=BAD if failure else GOOD)
    if node.fence_failure:
        cell.append("\n" if cell else "").append("last try failed", style=BAD)
    return cell or Text("no device", style=POOR)
