"""What a drill will do, how long that may take, and whether it may begin. Pure: reads state, status, timings."""

from collections.abc import Iterator

from msgspec import Struct

from hamail.core import estimates, hands_off
from hamail.model.practice import Fault
from hamail.model.spec import GroupSpec, Requirement
from hamail.model.state import ClusterState, Phase
from hamail.model.status import Status
from hamail.model.timings import Timings
from hamail.practice.report import Check, Expectation, limit_ms

SWITCHOVER, SERVICE_KILL, NODE_LOSS = "switchover", "service-kill", "node-loss"
NETWORK_LOSS, STORAGE_LOSS = "network-loss", "storage-loss"
NAMES = (SWITCHOVER, SERVICE_KILL, NODE_LOSS, NETWORK_LOSS, STORAGE_LOSS)
FAULTS = {
    SERVICE_KILL: Fault.SERVICE_KILL,
    NODE_LOSS: Fault.POWER_OFF,
    NETWORK_LOSS: Fault.NETWORK_LOSS,
    STORAGE_LOSS: Fault.STORAGE_LOSS,
}
CUTS_POWER = (NODE_LOSS, NETWORK_LOSS)
STILL_MS = 10_000  # a group that has just moved is not moved for practice
DEEP_CHECK_MS = 30_000  # how long a lost file system may stay unnoticed while nobody writes

DOORS = {"postfix": "smtp", "dovecot": "imap"}


class Plan(Struct, frozen=True, kw_only=True):
    """`node` carries the fault out; `device` where power is switched."""

    name: str
    group: str
    source: str
    target: str
    epoch: int
    node: str
    device: str = ""
    power_by: str = ""  # who can switch the power back on
    duration_ms: int
    resource: str = ""
    expected: Expectation


def make(
    state: ClusterState, t: Timings, name: str, group: str, duration_ms: int, resource: str, objective: int | None
) -> Plan:
    """The group is configured and somebody owns it."""
    spec, g = state.spec, state.group(group)
    source = g.owner or ""
    others = [n for n in spec.groups[group].nodes if n != source and not state.node(n).standby]
    target = source if name == SERVICE_KILL else (others[0] if others else "")
    device, by = _switch(state, source)
    return Plan(
        name=name,
        group=group,
        source=source,
        target=target,
        epoch=g.epoch,
        node=by if name == NODE_LOSS else source,
        device=device,
        power_by=by,
        duration_ms=duration_ms,
        resource=resource,
        expected=_expected(state, t, name, group, source, target, objective),
    )


def _switch(state: ClusterState, target: str) -> tuple[str, str]:
    """Who can switch the target's power, with what: a node that lives, the first device."""
    for device in state.spec.devices_for(target):
        for node in state.spec.fence_executors(device, target):
            if state.node(node).incarnation is not None:
                return device.name, node
    return "", ""


def _expected(
    state: ClusterState, t: Timings, name: str, group: str, source: str, target: str, objective: int | None
) -> Expectation:
    e, spec = estimates.of(state, group), state.spec.groups[group]
    parts = {
        SWITCHOVER: {"stop": e.stop_ms, "start": e.start_ms},
        SERVICE_KILL: {"restart": e.restart_ms},
        NODE_LOSS: {"detection": t.detection_ms, **_proof(spec, t, e.fence_ms), "start": e.start_ms},
        NETWORK_LOSS: {"detection": t.detection_ms, **_proof(spec, t, e.fence_ms), "start": e.start_ms},
        STORAGE_LOSS: {"noticing": _noticing_ms(spec), "stop": e.stop_ms, "start": e.start_ms},
    }[name]
    total = sum(parts.values())
    basis = " + ".join(f"{word} {ms} ms" for word, ms in parts.items())
    seen = f"as in the last {e.seen} moves" if e.seen else "assumed, since no move has shown it yet"
    return Expectation(
        rto_ms=total,
        limit_ms=limit_ms(total, objective),
        objective_ms=objective,
        rpo=state.spec.objectives.rpo,
        basis=f"{basis} ({seen})",
        steps=tuple(_steps(spec, name, source, target)),
    )


def _proof(spec: GroupSpec, t: Timings, fence_ms: int) -> dict[str, int]:
    """What it takes until the former owner is surely out, beyond detection."""
    if spec.requires is Requirement.FENCING:
        return {"fencing": fence_ms}
    wait = t.wait_ms if spec.requires is Requirement.LEASE else t.watchdog_wait_ms
    return {"promises that run out": max(0, wait - t.detection_ms)}


def _noticing_ms(spec: GroupSpec) -> int:
    intervals = [r.monitor_interval_ms for r in spec.resources if r.agent.endswith(":filesystem")]
    return min([DEEP_CHECK_MS, *intervals])


def _steps(spec: GroupSpec, name: str, source: str, target: str) -> Iterator[str]:
    group = spec.name
    if name == SWITCHOVER:
        yield f"{group} is stopped on {source} and started on {target}; it stays there"
    elif name == SERVICE_KILL:
        yield f"a service of {group} is killed on {source} (SIGKILL), as a crash would"
        yield f"it should be restarted on {source}; if it cannot be, {group} moves"
    elif name == NODE_LOSS:
        yield f"the power of {source} is cut through its fence device, without a word to the cluster"
        yield f"the others must notice, fence {source}, and start {group} on {target}"
        yield f"then {source} is switched on again and joins as standby"
    elif name == NETWORK_LOSS:
        yield f"{source} loses its network; its own kernel gives it back after the time of the drill"
        if spec.requires is Requirement.FENCING:
            yield f"the others must notice and CUT THE POWER of {source}, then start {group} on {target}"
            yield f"then {source} is switched on again and joins as standby"
        else:
            yield f"the others must wait until {source} has surely stopped, then start {group} on {target}"
    else:
        yield f"the file system of {group} on {source} is shut down as if its device were gone"
        yield "what was not synced is lost, as in a power cut; a mount brings it back"
        yield f"hamail must notice, and mount it anew on {source} or start {group} on {target}"
    yield "clients are cut off meanwhile; mail that was acknowledged must all be there afterwards"


def checks(state: ClusterState, status: Status, plan: Plan, here_only: bool) -> Iterator[Check]:
    """Go or no-go, as far as the state of the cluster tells. `here_only`: the probe runs on this machine."""
    group = next((g for g in status.groups if g.name == plan.group), None)
    yield Check(
        name="this node hears a majority",
        ok=status.quorum and not status.passive,
        detail=status.passive or ("" if status.quorum else f"{status.node} does not"),
    )
    hands = hands_off.from_group(state, plan.group)
    yield Check(name="no maintenance", ok=not hands, detail=f"{hands}: nothing would be taken over")
    if group is None:
        yield Check(name="the group runs", ok=False, detail=f"there is no group {plan.group}")
        return
    ill = [name for name, state_of in group.resources.items() if state_of != "up"]
    active = group.phase is Phase.ACTIVE
    yield Check(
        name="the group runs and all of it is up",
        ok=active and not ill,
        detail=f"{', '.join(ill)} not up" if active else group.phase.value,
    )
    still_ms = status.at_ms - group.since_ms
    yield Check(
        name="it has not just moved",
        ok=still_ms >= STILL_MS or plan.name == SERVICE_KILL,
        detail=f"it moved {max(0, still_ms) // 1000} s ago; wait for {STILL_MS // 1000} s",
    )
    able = [c for c in group.candidates if c.eligible and c.node != group.owner]
    why = "; ".join(f"{c.node}: {c.reason}" for c in group.candidates if c.node != group.owner and not c.eligible)
    yield Check(name="another node could take over", ok=bool(able), detail=why)
    ready = {n.name: n for n in status.nodes}
    source = ready.get(plan.source)
    broken = {} if source is None else {d: w for d, w in source.fence_devices.items() if w}
    working = source is not None and len(broken) < len(source.fence_devices)
    if plan.name in CUTS_POWER:
        words = "; ".join(f"{d}: {w}" for d, w in broken.items()) or "no device is configured"
        needs = plan.name == NODE_LOSS or state.spec.groups[plan.group].requires is Requirement.FENCING
        yield Check(name=f"a fence device of {plan.source} answers", ok=working or not needs, detail=words)
    lost = [n.name for n in status.nodes if not n.alive]
    yield Check(name="every node is heard", ok=not lost, detail=f"{', '.join(lost)} not heard")
    if plan.name != SERVICE_KILL and here_only:
        inside = status.node in state.spec.groups[plan.group].nodes
        detail = f"{status.node} may own {plan.group}: give the order on the witness, or name another --prober"
        yield Check(name="the probe looks from outside", ok=not inside, detail=detail if inside else "")
    busy = state.drill is not None and not state.drill.rehearse
    yield Check(name="no other drill", ok=not busy, detail="hamailctl drill --abort ends it")
