"""Which alerts are pending, from what one node's status says. Pure: status, metrics and rules all have them from here.

What somebody has ordered (standby, a ban, maintenance) is none, until it looks forgotten; what follows from it is one.
"""

from collections.abc import Iterator

from hamail.core.words import about, clock
from hamail.model.alert import KINDS, Alert, alert
from hamail.model.state import Maintenance, Phase, Term
from hamail.model.status import GroupView, NodeView, Status

MINUTE_MS = 60_000
DAY_MS = 86_400_000
CERTIFICATE_MS = 60 * DAY_MS  # a certificate that renews itself does so months earlier
MAINTENANCE_LONG_MS = 4 * 3_600_000
BROKEN = ("failed", "down")  # a state of a resource of an active group
DOWN = {
    Phase.IDLE: "no node runs it",
    Phase.STARTING: "it is starting on {owner}",
    Phase.STOPPING: "it is stopping on {owner}",
    Phase.FENCING: "{owner} may still hold it and is being fenced",
    Phase.WAITING: "{owner} may still hold it until its time has run out",
}
_ORDER = {name: number for number, name in enumerate(KINDS)}


def pending(status: Status) -> tuple[Alert, ...]:
    """The worst first. Without `since_ms`: see `board`. A node without a majority tells of itself only."""
    found = [*_own(status), *_certificates(status)]
    if hears_majority(status) and not status.fault:
        for node in status.nodes:
            found += _of_node(node, status)
        for one, other in status.broken_links:
            text = f"the link between {one} and {other} is broken: both live, but they do not hear each other"
            found.append(alert("link-broken", f"{one}-{other}", text, one=one, other=other))
        for group in status.groups:
            found += _of_group(group)
            found += _of_resources(group, status)
        found += _forgotten(status)
        for incident in status.incidents:
            text = f"incident {incident.id} is open since {clock(incident.opened_ms)}: {incident.title}"
            found.append(alert("incident-open", str(incident.id), text))
    return tuple(sorted(found, key=lambda a: (_ORDER[a.name], a.subject)))


def hears_majority(status: Status) -> bool:
    return sum(node.alive for node in status.nodes) * 2 > len(status.nodes)


def _own(status: Status) -> Iterator[Alert]:
    """At most one: what comes first hides the others."""
    me, why = status.node, status.passive
    if status.fault:
        yield alert("fail-stop", me, f"{me} takes no part: {status.fault}")
    elif not hears_majority(status):
        text = f"{me} decides nothing, and what it shows may be out of date: it does not hear a majority of the nodes"
        yield alert("no-majority", me, text)
    elif not status.quorum:
        yield alert("no-coordinator", me, f"nothing is decided: {me} knows of no coordinator{why and f' ({why})'}")


def _certificates(status: Status) -> Iterator[Alert]:
    for node in status.nodes:
        if node.certificate_revoked:
            text = f"the certificate of {node.name} was revoked: no other node talks to it"
            yield alert("certificate-revoked", node.name, text)
        ends_ms = node.certificate_expires_ms
        left_ms = ends_ms - status.at_ms
        if not ends_ms or left_ms >= CERTIFICATE_MS:
            continue
        day = clock(ends_ms)[:10]
        if left_ms < 0:
            yield alert("certificate-expired", node.name, f"the certificate of {node.name} EXPIRED on {day}")
        else:
            days = f"expires in {left_ms // DAY_MS} days, on {day}"
            yield alert("certificate-expires", node.name, f"the certificate of {node.name} {days}")


def _of_node(node: NodeView, status: Status) -> Iterator[Alert]:
    name, here = node.name, node.name == status.node
    if tuple(sorted((name, status.node))) in status.broken_links:
        pass  # others hear it: what is broken is the link
    elif not node.alive and not node.restarting:
        lasted = f"{node.silent_ms / 1000:.1f} s" if node.silent_ms < MINUTE_MS else about(node.silent_ms)
        role, kind = ("witness ", "witness-lost") if node.witness else ("", "node-not-heard")
        yield alert(kind, name, f"{role}{name} has not been heard for {lasted}")
    elif node.alive and not node.ready:
        yield alert("node-not-ready", name, f"{name} is not ready: {node.detail or 'no reason given'}")
    if node.fence_failure:
        text = f"{name} could not be fenced, and is tried again: {node.fence_failure}"
        yield alert("fence-failed", name, text)
    if broken := [f"{device}: {why}" for device, why in sorted(node.fence_devices.items()) if why]:
        yield alert("fence-not-ready", name, f"{name} could not be fenced with {'; '.join(broken)}")
    if node.alive and node.ready and node.watchdog == "not armed":
        whose = "this node's watchdog" if here else f"the watchdog of {name}"
        yield alert("watchdog-not-armed", name, f"{whose} is not armed: it would not reset {name} in time")
    if node.quarantine is not None:
        text = f"{name} is in quarantine until {clock(node.quarantine.until_ms)}: {node.quarantine.reason}"
        yield alert("quarantined", name, text)


def _of_group(group: GroupView) -> Iterator[Alert]:
    name, owner = group.name, group.owner or "nobody"
    if group.phase is Phase.BLOCKED:
        yield alert("group-blocked", name, f"{name} is blocked: only you can say whether {owner} is off", node=owner)
    elif group.phase is not Phase.ACTIVE:
        yield alert("group-not-active", name, group.retry or f"{name} is down: {DOWN[group.phase].format(owner=owner)}")
    elif group.denied:
        text = f"{name} does not run on {owner} any more, which cannot report its stop yet"
        yield alert("group-gone", name, text)
    if group.owner is not None and not any(c.eligible and c.node != group.owner for c in group.candidates):
        if group.last_resorts:
            text = f"{name} has no standby but {', '.join(group.last_resorts)}, in quarantine: used if nobody else can"
        else:
            text = f"{name} has no standby: if {owner} fails, mail stops"
        yield alert("no-standby", name, text)
    policy = group.policy
    if policy is not None and policy.used_up and all(b.limit for b in policy.failovers):
        yield alert("failovers-used-up", name, f"{policy.used_up}: it moves for no failed service")


def _of_resources(group: GroupView, status: Status) -> Iterator[Alert]:
    """Of an active group, by the word of an owner that is heard."""
    name, owner = group.name, group.owner
    heard = any(node.name == owner and node.alive for node in status.nodes)
    broken = [resource for resource, state in group.resources.items() if state in BROKEN]
    if group.phase is not Phase.ACTIVE or owner is None or not heard or group.denied or not broken:
        return
    hands_off = group.policy.hands_off if group.policy is not None else ""
    text = f"{', '.join(broken)} of {name} {'has' if len(broken) == 1 else 'have'} failed on {owner}"
    if not hands_off:
        yield alert("service-failed", name, f"{text}, and hamail is at it", node=owner)
        return
    text = f"{text}, and nothing is done about it: {hands_off.partition(';')[0]}"
    if set(broken) <= set(group.optional):
        yield alert("service-failed", name, text, node=owner)
        return
    in_group = group.policy is not None and group.policy.maintenance is not None
    scope = "" if status.maintenance.on else f"--group {name}" if in_group else f"--node {owner}"
    yield alert("service-down", name, text, node=owner, scope=scope)


def _forgotten(status: Status) -> Iterator[Alert]:
    held: list[tuple[str, str, Term | Maintenance]] = []
    if status.maintenance.on:
        held.append((status.cluster, "", status.maintenance))
    for group in status.groups:
        if group.policy is not None and group.policy.maintenance is not None:
            held.append((group.name, f"--group {group.name}", group.policy.maintenance))
    for node in status.nodes:
        if node.maintenance is not None:
            held.append((node.name, f"--node {node.name}", node.maintenance))
    for subject, scope, term in held:
        if status.at_ms - term.since_ms >= MAINTENANCE_LONG_MS:
            because = f" ({term.reason})" if term.reason else ""
            text = f"{subject} is in maintenance since {clock(term.since_ms)} by {term.actor or 'somebody'}{because}"
            yield alert("maintenance-on-long", subject, text, scope=scope)
    if not status.maintenance.on:
        for node_name in status.maintenance.suspended:
            text = f"maintenance is off, but the dead-man's switch of {node_name} may still be suspended"
            yield alert("deadman-suspended", node_name, text)
