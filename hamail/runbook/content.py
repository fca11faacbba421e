"""What the runbook says, as plain data: the same for Markdown and HTML. Pure."""

import hashlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from hamail.core.ordering import ready_to_start
from hamail.model.spec import ClusterSpec, FenceDeviceSpec, GroupSpec, Requirement, ResourceSpec
from hamail.model.state import ClusterState
from hamail.model.timings import Timings

DRILLS_SHOWN = 5
UNITS = {"postfix": "postfix@-.service", "dovecot": "dovecot.service"}
ROOF = "postfix.service"  # up to Debian 12 above the unit that runs Postfix; from 13 on it runs it, and no other may


@dataclass(frozen=True)
class Step:
    """One thing to do, or to look at; `expect`: what is seen then."""

    text: str
    command: str = ""
    expect: str = ""


@dataclass(frozen=True)
class Section:
    title: str
    intro: str = ""
    steps: tuple[Step, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    danger: str = ""


@dataclass(frozen=True)
class Runbook:
    title: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...] = field(default=())


def checksum(state: ClusterState) -> str:
    """As `hamailctl config show` prints it, with a line end."""
    return hashlib.sha256(f"{state.config.source.removesuffix(chr(10))}\n".encode()).hexdigest()


def make(state: ClusterState, t: Timings, made_at: str) -> Runbook:
    spec = state.spec
    facts = (
        ("made", made_at),
        ("configuration", f"revision {state.config.revision}, SHA-256 {checksum(state)}"),
        ("still valid if", "`hamailctl config show | sha256sum` says the same"),
        ("a node counts as lost after", f"{t.detection_ms} ms"),
    )
    sections = [
        _nodes(spec, state),
        _contacts(spec),
        _order(spec),
        _look(),
        *_scenarios(spec, t),
        *(_by_hand(spec, group) for group in spec.groups.values()),
        _drills(state),
        _promises(spec),
    ]
    return Runbook(f"Runbook of cluster {spec.name}", facts, tuple(sections))


def _nodes(spec: ClusterSpec, state: ClusterState) -> Section:
    rows = []
    for name, node in sorted(spec.nodes.items()):
        owned = [g for g in spec.groups if state.group(g).owner == name]
        role = "witness" if node.witness else (f"active for {', '.join(owned)}" if owned else "standby")
        ways = "; ".join(f"{d.name} (plug {d.targets[name]}, {d.agent})" for d in spec.devices_for(name))
        rows.append((name, node.address, role, ways or "-", node.watchdog_device or "-"))
    head = ("node", "address", "role when printed", "switched off by", "watchdog")
    return Section("Machines", head=head, rows=tuple(rows))


def _contacts(spec: ClusterSpec) -> Section:
    rows = tuple(spec.contacts.items())
    intro = "" if rows else "None is configured: fill in [contacts] of cluster.toml, and write them here by hand."
    return Section("Contacts", intro=intro, head=("who", "how") if rows else (), rows=rows)


def waves(group: GroupSpec) -> Iterator[tuple[ResourceSpec, ...]]:
    """What may start at the same time, in order."""
    up: frozenset[str] = frozenset()
    while wave := tuple(ready_to_start(group.resources, up, up)):
        yield wave
        up |= {r.name for r in wave}


def _order(spec: ClusterSpec) -> Section:
    rows = []
    for group in spec.groups.values():
        for number, wave in enumerate(waves(group), start=1):
            rows += [(group.name, str(number), r.name, r.agent, _parameters(r)) for r in wave]
    return Section(
        "Start order",
        intro="Each group starts in this order; it stops in the reverse one.",
        head=("group", "step", "resource", "agent", "parameters"),
        rows=tuple(rows),
    )


def _parameters(resource: ResourceSpec) -> str:
    return " ".join(f"{k}={v}" for k, v in resource.parameters.items()) or "-"


def _look() -> Section:
    return Section(
        "First of all: look",
        steps=(
            Step("Who is active, who could take over, what is wrong", "hamailctl status", "mail is active on …"),
            Step("Why it is so", "hamailctl why GROUP", "sentences, newest first"),
            Step("What has happened", "hamailctl events | tail -30", "one line each"),
            Step("What bites later", "hamailctl doctor", "every line with a verdict and a remedy"),
        ),
    )


def _scenarios(spec: ClusterSpec, t: Timings) -> Iterator[Section]:
    group = next(iter(spec.groups), "GROUP")
    mail_nodes = [name for name, node in sorted(spec.nodes.items()) if not node.witness]
    node = mail_nodes[0] if mail_nodes else "NODE"
    yield Section(
        "Scenario: planned work on a server",
        steps=(
            Step("Empty it", f'hamailctl standby {node} --reason "…"', f"{node} is on standby"),
            Step("Work; reboot as often as needed. Then", f"hamailctl unstandby {node}", "it may take over again"),
            Step("Is the pair whole again?", "hamailctl status", f"{node} could take over"),
        ),
    )
    yield Section(
        "Scenario: the active server has died",
        intro=f"The cluster does it by itself: noticed after {t.detection_ms} ms, fenced, started on the other one.",
        steps=(
            Step("See that it is done", "hamailctl history", "a move with the result done"),
            Step("Mend the dead server and switch it on. It joins as standby by itself", "hamailctl status", "ready"),
            Step("Nothing moves back by itself; if you want it back", f"hamailctl switchover {group}", "is active on"),
        ),
    )
    yield Section(
        "Scenario: fencing does not work, and the group is blocked",
        danger="Two active servers destroy mailboxes. Confirm only what you have seen with your own eyes.",
        steps=(
            Step("Why?", f"hamailctl why {group}", "must be fenced before another node may start it"),
            Step("Switch the dead server off: pull its power cords, or cut it off from the storage"),
            Step(
                "Only then vouch for it, on a mail node",
                f"hamailctl fence confirm {node}",
                "asks you to type the name; the group then starts elsewhere",
            ),
        ),
    )
    yield Section(
        "Scenario: a service does not start anywhere",
        steps=(
            Step("What failed, where", f"hamailctl why {group}", "the resource and the words of its agent"),
            Step("Mend the cause, then", f"hamailctl clear {group}", "it is tried again at once"),
        ),
    )
    yield Section(
        "Scenario: no majority",
        intro=f"At least {spec.majority()} of {len(spec.nodes)} machines must hear each other, or nothing is decided.",
        steps=(
            Step("Which are heard?", "hamailctl status", "the column heard"),
            Step("Bring one more up, the witness for instance", "systemctl start hamaild", "a majority again"),
        ),
    )
    yield Section(
        "Hands off, and stopping everything",
        steps=(
            Step("Nobody takes over while this is on", 'hamailctl maintenance on --reason "…"', "acknowledged by all"),
            Step("In force again", "hamailctl maintenance off"),
            Step(
                "Stop hamail on every machine, witness last; on the active one this stops the group in order",
                "systemctl stop hamail-executor hamaild",
            ),
        ),
    )


def _by_hand(spec: ClusterSpec, group: GroupSpec) -> Section:
    """Exact commands for this cluster's resources, in the order of the start."""
    steps = [
        Step(
            "On EVERY mail node: stop hamail, so that it does not interfere", "systemctl stop hamail-executor hamaild"
        ),
        *_make_sure(spec, group),
    ]
    for wave in waves(group):
        for resource in wave:
            steps += _start(resource)
    steps.append(Step("Back to hamail: stop all of this again, on the machine where it runs"))
    steps += [_stop(resource) for resource in reversed([r for wave in waves(group) for r in wave])]
    steps.append(
        Step("Then on every machine", "systemctl start hamail-executor hamaild", "hamailctl status: active on one")
    )
    return Section(
        f"Manual takeover of {group.name} without hamail",
        intro=f"When hamail itself cannot be used. Choose ONE of {', '.join(group.nodes)}; all commands as root there.",
        danger="First make sure that the other server is OFF. If both mount the storage, all mail is lost.",
        steps=tuple(steps),
    )


def _make_sure(spec: ClusterSpec, group: GroupSpec) -> Iterator[Step]:
    for node in group.nodes:
        devices = spec.devices_for(node)
        for device in devices:
            yield Step(f"If {node} is the other one: switch it off with {device.name}", _off(device, node), "off")
        if not devices:
            yield Step(f"If {node} is the other one: pull its power cords; no device can switch it")


def _off(device: FenceDeviceSpec, node: str) -> str:
    """As the cluster would: the password goes on standard input, never on the command line."""
    given = {"action": "off", **device.parameters, "plug": device.targets[node]}
    words = " ".join(shlex.quote(f"{key}={value}") for key, value in given.items())
    secrets = "".join(f'; echo "{key}=$(cat {shlex.quote(file)})"' for key, file in device.secret_files.items())
    return f"(printf '%s\\n' {words}{secrets}) | {device.agent}"


def _start(resource: ResourceSpec) -> Iterator[Step]:
    p, kind = resource.parameters, resource.agent.rpartition(":")[2].lower()
    name = resource.name
    if kind == "filesystem":
        device, directory = shlex.quote(p.get("device", "DEVICE")), shlex.quote(p.get("directory", "DIRECTORY"))
        fstype = f"-t {shlex.quote(p['fstype'])} " if p.get("fstype") else ""
        options = f"-o {shlex.quote(p['options'])} " if p.get("options") else ""
        yield Step(f"{name}: mount", f"mount {fstype}{options}{device} {directory}", f"findmnt {directory} shows it")
    elif kind == "vip":
        interface = p.get("interface", "INTERFACE")
        for address in p.get("address", "").split():
            add = f"ip address add {address} dev {interface}"
            if ":" in address:  # the kernel itself then tells the neighbours of it
                add = f"sysctl -w net.ipv6.conf.{interface}.ndisc_notify=1; {add}"
            yield Step(f"{name}: address", add, f"ip address show {interface}")
            if ":" not in address:
                bare = address.partition("/")[0]
                yield Step("tell the neighbours", f"arping -U -c 3 -I {interface} {bare}")
    elif _unit(resource) == UNITS["postfix"]:
        command = f"systemctl start {UNITS['postfix']} || systemctl start {ROOF}"
        yield Step(f"{name}: start; which unit runs it depends on Debian", command, "postfix status: running")
    elif unit := _unit(resource):
        yield Step(f"{name}: start", f"systemctl start {shlex.quote(unit)}", f"systemctl is-active {unit}: active")
    else:
        yield Step(f"{name}: its agent", _agent(resource, "start"), "0")


def _stop(resource: ResourceSpec) -> Step:
    p, kind, name = resource.parameters, resource.agent.rpartition(":")[2].lower(), resource.name
    if kind == "filesystem":
        directory = shlex.quote(p.get("directory", "DIRECTORY"))
        return Step(f"{name}: unmount", f"umount {directory}", f"findmnt {directory} shows nothing")
    if kind == "vip":
        interface = p.get("interface", "INTERFACE")
        words = "; ".join(f"ip address del {a} dev {interface}" for a in p.get("address", "").split())
        return Step(f"{name}: address", words, f"ip address show {interface}: gone")
    if _unit(resource) == UNITS["postfix"]:
        return Step(f"{name}: stop", f"systemctl stop {UNITS['postfix']} {ROOF}", "postfix status: not running")
    if unit := _unit(resource):
        return Step(f"{name}: stop", f"systemctl stop {shlex.quote(unit)}", f"systemctl is-active {unit}: inactive")
    return Step(f"{name}: its agent", _agent(resource, "stop"), "0")


def _unit(resource: ResourceSpec) -> str:
    """Of systemd; empty for what no unit runs."""
    kind, unit = resource.agent.rpartition(":")[2].lower(), resource.parameters.get("unit", "")
    if kind not in UNITS and kind != "systemd":
        return ""
    return UNITS.get(kind, unit) if unit in ("", "auto", "none") else unit


def _agent(resource: ResourceSpec, action: str) -> str:
    given = " ".join(f"OCF_RESKEY_{k}={shlex.quote(v)}" for k, v in resource.parameters.items())
    path = f"/usr/lib/ocf/resource.d/{resource.agent.removeprefix('ocf:').replace(':', '/')}"
    return f"OCF_ROOT=/usr/lib/ocf {given} {path} {action}; echo $?"


def _drills(state: ClusterState) -> Section:
    rows = []
    for d in reversed(state.drills[-DRILLS_SHOWN:]):
        rto = "did not come back" if d.rto_ms is None else f"{d.rto_ms} ms"
        rpo = "not measured" if d.rpo is None else str(d.rpo)
        rows.append((_day(d.at_ms), d.name, d.group, d.verdict, rto, rpo))
    intro = "" if rows else "No drill has been held: `hamailctl drill switchover` is a good first one."
    head = ("when", "drill", "group", "verdict", "outage", "mails lost") if rows else ()
    return Section("Last drills", intro=intro, head=head, rows=tuple(rows))


def _day(at_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _promises(spec: ClusterSpec) -> Section:
    o = spec.objectives
    rows = [
        ("longest outage (RTO)", f"{o.rto_ms} ms" if o.rto_ms is not None else "not set"),
        ("mails that may be lost (RPO)", str(o.rpo)),
        ("availability", f"{o.availability} %" if o.availability else "not set"),
    ]
    for group in spec.groups.values():
        proof = "a confirmed fence" if group.requires is Requirement.FENCING else f"{group.requires} (no fence needed)"
        rows.append((f"{group.name} starts elsewhere only on", proof))
    return Section("What was promised", head=("what", "value"), rows=tuple(rows))
