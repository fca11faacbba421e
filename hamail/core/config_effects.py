"""What a change of the configuration would do to what runs, said before it is applied. In sentences."""

from hamail.core.apply import apply
from hamail.model import commands as c
from hamail.model.ids import GroupName
from hamail.model.spec import ClusterSpec, GroupSpec, Requirement
from hamail.model.state import ClusterState

STRICTNESS = {Requirement.LEASE: 0, Requirement.WATCHDOG: 1, Requirement.FENCING: 2}


def refusals(state: ClusterState, new: ClusterSpec) -> tuple[str, ...]:
    """Why the cluster would not take it in its present state; the very rules that would refuse it are asked."""
    command = c.ApplyConfig(at_ms=0, spec=new, source="", expected_revision=state.config.revision)
    return apply(state, state.applied + 1, command)[1].reasons


def effects(state: ClusterState, new: ClusterSpec) -> tuple[str, ...]:
    """What is less safe comes first; the last sentence says what becomes of running services."""
    old = state.spec
    found = [*_less_safe(old, new)]
    for name in sorted({*old.groups, *new.groups}):
        found += _of_group(state, name, old.groups.get(name), new.groups.get(name))
    if new.detection_ms != old.detection_ms:
        found.append(
            f"a node is missed after {_seconds(new.detection_ms)} of silence instead of {_seconds(old.detection_ms)}, "
            "from now on; what was promised under the old time is waited for"
        )
    changed = sorted(name for name, device in new.fencing.items() if old.fencing.get(name) != device)
    if changed:
        found.append(f"{', '.join(changed)}: asked within a minute whether it would work; see hamailctl status")
    return (*found, "nothing is stopped, moved or fenced by this")


def _less_safe(old: ClusterSpec, new: ClusterSpec) -> list[str]:
    found = []
    for node in sorted(new.nodes):
        if old.devices_for(node) and not new.devices_for(node):
            found.append(f"! nothing could fence {node} any more: its loss would wait for an operator")
    for name, group in sorted(new.groups.items()):
        before = old.groups.get(name)
        if before is not None and STRICTNESS[group.requires] < STRICTNESS[before.requires]:
            found.append(
                f"! {name} would move without a fence, on {group.requires} alone: less proof that its owner is out"
            )
    return found


def _of_group(state: ClusterState, name: GroupName, old: GroupSpec | None, new: GroupSpec | None) -> list[str]:
    if old is None:
        return [f"{name} is started as soon as every node has made sure that nothing of it runs"]
    if new is None:
        return [f"{name} is not looked after any more; nothing of it runs now"]
    before = {r.name: r for r in old.resources}
    after = {r.name: r for r in new.resources}
    changed = sorted(r for r in {*before, *after} if before.get(r) != after.get(r))
    owner = state.group(name).owner
    if not changed:
        return []
    if owner is None:
        return [f"{', '.join(changed)} of {name}: takes effect when {name} starts"]
    return [
        f"{', '.join(changed)} of {name}: {owner} goes on as it is; takes effect at the next start of {name}, for "
        f"instance by hamailctl switchover {name}"
    ]


def _seconds(duration_ms: int) -> str:
    return f"{duration_ms / 1000:g} s"
