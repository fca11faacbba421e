"""Prometheus text of one node's status. The shapes follow what operators of other cluster managers already graph.

Every sample but `hamail_up` names its cluster, so that rules hold where one Prometheus watches several.
"""

from collections.abc import Iterable

from hamail.core.words import span
from hamail.model.state import Phase
from hamail.model.status import GroupView, NodeView, Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UP = "hamail_up"

Labels = dict[str, str]
Sample = tuple[Labels, float]


def render(status: Status) -> str:
    """Gauges only: everything here is what `status` says now."""
    cluster = {"cluster": status.cluster}
    families = (
        (name, text, [({**cluster, **labels}, v) for labels, v in samples]) for name, text, samples in _families(status)
    )
    return up(True) + "".join(_text(*family) for family in families)


def up(answers: bool) -> str:
    """All that can be told when hamaild does not answer, and the first line when it does."""
    return _text(UP, "1 when hamaild answers.", [({}, float(answers))])


def _text(name: str, text: str, samples: list[Sample]) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
    lines += [f"{name}{_labels(labels)} {value:.15g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _families(status: Status) -> Iterable[tuple[str, str, list[Sample]]]:
    yield from _cluster(status)
    yield from _nodes(status.nodes)
    yield from _groups(status)


def _cluster(status: Status) -> Iterable[tuple[str, str, list[Sample]]]:
    info = {"node": status.node, "version": status.version}
    yield "hamail_info", "Who answers, and its version.", [(info, 1)]
    yield "hamail_seen_seconds", "When hamaild answered, Unix time.", [({}, status.at_ms / 1000)]
    yield "hamail_quorate", "1 when this node hears a majority and has a recent commit.", [({}, status.quorum)]
    coordinator = [({"node": n.name}, float(n.name == status.coordinator)) for n in status.nodes]
    yield "hamail_coordinator", "1 for the node that proposes commands.", coordinator
    yield "hamail_term", "Raft term.", [({}, status.term)]
    yield "hamail_applied_index", "Last log entry applied on this node.", [({}, status.applied)]
    yield "hamail_config_revision", "Revision of the applied configuration.", [({}, status.config_revision)]
    yield "hamail_maintenance", "1 while maintenance is on.", [({}, status.maintenance.on)]
    alerts = [({"name": a.name, "severity": a.severity.value, "subject": a.subject}, 1.0) for a in status.alerts]
    yield "hamail_alert", "Alerts that are pending, as hamailctl status tells them.", alerts
    drilled = status.last_drill.at_ms / 1000 if status.last_drill is not None else 0.0
    yield "hamail_last_drill_seconds", "When the last drill was held, Unix time; 0: never.", [({}, drilled)]


def _nodes(nodes: tuple[NodeView, ...]) -> Iterable[tuple[str, str, list[Sample]]]:
    states: list[Sample] = []
    for node in nodes:
        kind = "witness" if node.witness else "mail"
        flags = {
            "alive": node.alive,
            "suspected": node.suspected,
            "joined": node.joined,
            "standby": node.standby,
            "ready": node.ready,
            "fencing": node.fence is not None,
            "restarting": node.restarting,
        }
        states += [({"node": node.name, "status": s, "type": kind}, float(on)) for s, on in flags.items()]
    yield "hamail_nodes", "State of each node as this node sees it, one series per state.", states
    silent = [({"node": n.name}, n.silent_ms / 1000) for n in nodes]
    yield "hamail_node_silent_seconds", "Time since this node last heard the node.", silent
    armed = [({"node": n.name}, float(n.watchdog == "armed")) for n in nodes if not n.witness]
    yield "hamail_watchdog_armed", "1 when the node's watchdog is armed.", armed
    devices = [({"node": n.name, "device": d}, float(not why)) for n in nodes for d, why in n.fence_devices.items()]
    yield "hamail_fence_device_ready", "1 when the device would be able to fence the node.", devices
    failed = [({"node": n.name}, float(bool(n.fence_failure))) for n in nodes if n.fence_devices]
    yield "hamail_fence_failed", "1 when the last fence of the node failed.", failed
    ends = [({"node": n.name}, n.certificate_expires_ms / 1000) for n in nodes if n.certificate_expires_ms]
    yield "hamail_certificate_expires_seconds", "When the node's certificate ends, Unix time.", ends


def _groups(status: Status) -> Iterable[tuple[str, str, list[Sample]]]:
    groups = status.groups
    phases = [({"group": g.name, "phase": p.value}, float(g.phase is p)) for g in groups for p in Phase]
    yield "hamail_groups", "Phase of each group, one series per phase.", phases
    owners = [({"group": g.name, "node": n.name}, float(g.owner == n.name)) for g in groups for n in status.nodes]
    yield "hamail_group_owner", "1 for the node that holds, or may still hold, the group.", owners
    since = [({"group": g.name}, g.since_ms / 1000) for g in groups]
    yield "hamail_group_since_seconds", "When the group came into its phase, Unix time.", since
    epochs = [({"group": g.name}, float(g.epoch)) for g in groups]
    yield "hamail_group_epoch", "Epoch of the group's grant; a step is a new owner or a restart.", epochs
    leases = [({"group": g.name}, g.lease_ms / 1000) for g in groups if g.lease_ms is not None]
    yield "hamail_group_lease_seconds", "What is left of the lease that this node holds.", leases
    held = [({"group": g.name, "node": status.node}, float(g.held)) for g in groups]
    yield "hamail_group_held", "1 when something of the group runs on the node that answers.", held
    able = [({"group": g.name}, float(_standbys(g))) for g in groups]
    yield "hamail_group_standbys", "Nodes that could take the group over now.", able
    unsafe = [({"group": g.name, "requires": g.requires}, float(g.unsafe_reason is not None)) for g in groups]
    yield "hamail_group_unsafe", "1 when less than fencing protects shared storage, by the operator's choice.", unsafe
    budgets = [
        ({"group": g.name, "window": span(b.window_ms)}, float(b.used))
        for g in groups
        if g.policy is not None
        for b in g.policy.failovers
    ]
    yield "hamail_group_failovers", "Moves by failures within each window of the group's policy.", budgets
    resources = [
        ({"group": g.name, "resource": r, "node": g.owner or "", "status": s}, 1.0)
        for g in groups
        for r, s in g.resources.items()
    ]
    yield "hamail_resources", "State of each resource of the groups, as a label.", resources


def _standbys(group: GroupView) -> int:
    return sum(c.eligible and c.node != group.owner for c in group.candidates)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
