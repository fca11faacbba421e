"""The part of a preflight that looks at where a group is to go, and at what protects it there."""

from hamail.core import placement
from hamail.core.coordinator import fence_attempts
from hamail.core.facts import Facts
from hamail.model.ids import GroupName, NodeName
from hamail.model.preflight import Check, Verdict
from hamail.model.report import NodeReport
from hamail.model.spec import Requirement
from hamail.model.state import ClusterState

CLOCK_NOTE_US = 1_000_000
CLOCK_WARNING_US = 30_000_000


def checks(
    state: ClusterState,
    facts: Facts,
    group: GroupName,
    target: NodeName | None,
    report: NodeReport | None,
    gone: NodeName | None = None,
) -> list[Check]:
    """`gone`: a node that will be out afterwards."""
    owner = state.group(group).owner
    if target is None:
        others = [x for x in placement.candidates(state, facts, group) if x.node in state.spec.groups[group].nodes]
        whys = [f"{x.node}: {x.reason}" for x in others if x.node != owner]
        return [Check(name="target", verdict=Verdict.BAD, reason=why) for why in whys or [f"{group} has no other node"]]
    if target == owner:
        return [_other(state, group, target, f"{target} already owns {group}")]
    if target not in state.spec.groups[group].nodes:
        return [_other(state, group, target, f"{target}: {placement.unfit(state, facts, group, target)}")]
    able = _able(state, facts, group, target)
    if able.verdict is Verdict.BAD:
        return [able]
    return [
        able,
        _recent_failure(state, facts, group, target),
        _fence_device(state, facts, group, target),
        *_storage(state, group, target, report),
        _clock(target, report),
        _protected(state, facts, group, target, gone),
    ]


def _other(state: ClusterState, group: GroupName, target: NodeName, reason: str) -> Check:
    """Who was named can never be it."""
    names = " or ".join(n for n in state.spec.groups[group].nodes if n != target) or "another node in cluster.toml"
    step = f"name {names}; hamailctl status tells who could take {group}"
    return Check(name="target", verdict=Verdict.BAD, reason=reason, next_step=step)


def _able(state: ClusterState, facts: Facts, group: GroupName, target: NodeName) -> Check:
    """Alive, joined, ready, and kept from it by nobody's word."""
    why = placement.refusal(state, facts, group, target)
    if why:
        reason, _, step = why.partition("; ")
        return Check(name="target", verdict=Verdict.BAD, reason=f"{target}: {reason}", next_step=step)
    return Check(name="target", verdict=Verdict.GOOD, reason=f"{target} is heard, has joined and is ready")


def _recent_failure(state: ClusterState, facts: Facts, group: GroupName, target: NodeName) -> Check:
    name = "recent failure"
    reason = placement.recent_failure(state, facts, group, target)
    if not reason:
        return Check(name=name, verdict=Verdict.GOOD, reason=f"{group} has not failed on {target} of late")
    step = f"find out why (hamailctl history), then hamailctl clear {group}, or --force"
    return Check(name=name, verdict=Verdict.WARNING, reason=reason, next_step=step)


def _fence_device(state: ClusterState, facts: Facts, group: GroupName, target: NodeName) -> Check:
    """Could the target be fenced once it is the owner? Without that its loss would need a person."""
    name = "fence device"
    devices, ways = state.spec.devices_for(target), fence_attempts(state, facts, target)
    if not devices:
        needed = state.spec.groups[group].requires is Requirement.FENCING
        reason = f"no fence device is configured for {target}" + (": after its loss only you decide" if needed else "")
        return Check(name=name, verdict=Verdict.NOTE, reason=reason)
    told = {device.name: facts.node(by).fence_ready.get(device.name) for device, by in ways}
    ready = sorted(device for device, problem in told.items() if problem == "")
    if ready:
        return Check(name=name, verdict=Verdict.GOOD, reason=f"{target} can be fenced with {', '.join(ready)}")
    broken = sorted(f"{device}: {problem}" for device, problem in told.items() if problem)
    if broken:
        reason = f"{target} could not be fenced once it is active ({'; '.join(broken)})"
        return Check(name=name, verdict=Verdict.WARNING, reason=reason, next_step="mend the device, or --force")
    reason = f"whether {target} can be fenced has not been checked yet"
    return Check(name=name, verdict=Verdict.UNKNOWN, reason=reason)


def _storage(state: ClusterState, group: GroupName, target: NodeName, report: NodeReport | None) -> list[Check]:
    name = "storage"
    seen = report.machine.storage if report is not None and report.machine is not None else None
    if seen is None:
        why = report.machine_problem if report is not None and report.machine_problem else "it was not asked"
        return [
            Check(name=name, verdict=Verdict.UNKNOWN, reason=f"whether {target} sees the storage is not known: {why}")
        ]
    result = []
    for key, facts in sorted(seen.items()):
        if key.partition("/")[0] != group:
            continue
        if facts.present:
            result.append(Check(name=name, verdict=Verdict.GOOD, reason=f"{target} sees {facts.device}"))
        else:
            reason = f"{target} does not see {facts.device}" + (f": {facts.problem}" if facts.problem else "")
            step = "cabling, zoning, LVM; hamailctl doctor says more"
            result.append(Check(name=name, verdict=Verdict.BAD, reason=reason, next_step=step))
    return result


def _clock(target: NodeName, report: NodeReport | None) -> Check:
    name = "clock"
    known = [] if report is None else [x.offset_us for x in report.links.values() if x.offset_us is not None]
    if not known:
        return Check(name=name, verdict=Verdict.UNKNOWN, reason=f"the clock of {target} has not been compared")
    worst_us = max(abs(us) for us in known)
    reason = f"the clock of {target} differs by {worst_us / 1e6:.3f} s at most from those of the others"
    if worst_us < CLOCK_NOTE_US:
        return Check(name=name, verdict=Verdict.GOOD, reason=reason)
    verdict = Verdict.WARNING if worst_us >= CLOCK_WARNING_US else Verdict.NOTE
    return Check(name=name, verdict=verdict, reason=reason, next_step="set the clocks (chrony), or --force")


def _protected(state: ClusterState, facts: Facts, group: GroupName, target: NodeName, gone: NodeName | None) -> Check:
    """Who could take over from the target?"""
    name = "afterwards"
    listed = [n for n in state.spec.groups[group].nodes if n not in (target, gone)]
    others = [n for n in listed if not placement.unfit(state, facts, group, n)]
    if others:
        return Check(name=name, verdict=Verdict.GOOD, reason=f"{' and '.join(others)} could take over from {target}")
    reason = f"nobody could take over from {target} afterwards" + (f", until {gone} is back" if gone else "")
    return Check(name=name, verdict=Verdict.NOTE, reason=reason)


def leaves(state: ClusterState, facts: Facts, group: GroupName, node: NodeName) -> list[Check]:
    """Standby: where does the group go? A stop without a start elsewhere is an outage, but nothing unsafe."""
    target = next((x.node for x in placement.candidates(state, facts, group) if x.eligible and x.node != node), None)
    if target is not None:
        found = checks(state, facts, group, target, None)
        to = Check(name=group, verdict=Verdict.GOOD, reason=f"{group} goes to {target}")
        shown = (Verdict.WARNING, Verdict.BAD)
        return [to, *(x for x in found if x.verdict in shown)]
    found = checks(state, facts, group, None, None)
    step = "--force stops it all the same"
    why = "; ".join(x.reason for x in found)
    reason = f"{group} would stop, since nobody can take it ({why})"
    return [Check(name=group, verdict=Verdict.WARNING, reason=reason, next_step=step)]


def left_alone(state: ClusterState, facts: Facts, node: NodeName) -> list[Check]:
    """Which groups have no standby while this node is away?"""
    found = []
    for group, spec in sorted(state.spec.groups.items()):
        able = [n for n in spec.nodes if n != node and not placement.unfit(state, facts, group, n)]
        if node in spec.nodes and len(able) == 1:
            reason = f"until hamailctl unstandby {node}, nobody could take {group} over from {able[0]}"
            found.append(Check(name="afterwards", verdict=Verdict.NOTE, reason=reason))
    return found
