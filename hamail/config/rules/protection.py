"""What keeps a second node from being active, and which settings are not enough for shared storage."""

from hamail.config.problem import Problems
from hamail.model.ids import NodeName
from hamail.model.spec import ClusterSpec, GroupSpec, Requirement


def shared_storage(spec: ClusterSpec, problems: Problems) -> None:
    for name, group in sorted(spec.groups.items()):
        if not group.shared_storage or group.requires == Requirement.FENCING:
            continue
        path = ("groups", name, "requires")
        if guests := [node for node in owners(spec, group) if spec.nodes[node].virtual]:
            problems.add(
                path,
                f"{group.requires.value!r} is not enough for shared storage on virtual machines ({', '.join(guests)}): "
                "a paused guest stops its clock and its watchdog together and writes on when it goes on; use 'fencing'",
            )
        elif group.unsafe_reason is None:
            problems.add(
                path,
                f"{group.requires.value!r} does not prove that a lost node has stopped writing to shared storage; "
                "use 'fencing', or say in unsafe_reason why you accept that",
            )


def requirement(spec: ClusterSpec, problems: Problems) -> None:
    """Each way to be sure needs something on every node that may own the group."""
    for name, group in sorted(spec.groups.items()):
        if group.requires == Requirement.FENCING:
            _fencing(spec, group, problems)
        elif group.requires == Requirement.WATCHDOG:
            for node in owners(spec, group):
                if spec.nodes[node].watchdog_device is None:
                    problems.add(
                        ("groups", name, "requires"),
                        f"'watchdog' needs one on every node: {node} has no watchdog_device",
                    )


def _fencing(spec: ClusterSpec, group: GroupSpec, problems: Problems) -> None:
    bare = [node for node in owners(spec, group) if not spec.devices_for(node)]
    if not bare or len(group.nodes) == 1:
        return
    if group.shared_storage and group.unsafe_reason is None:
        problems.add(
            ("groups", group.name, "requires"),
            f"shared storage without a fence device for {', '.join(bare)}: its loss would wait for an operator; "
            "add one under [fencing], or say in unsafe_reason why you accept that",
        )
    elif not group.shared_storage:
        problems.add(
            ("groups", group.name, "requires"),
            f"'fencing' without a fence device for {', '.join(bare)}; add one, or choose requires = \"lease\"",
        )


def owners(spec: ClusterSpec, group: GroupSpec) -> tuple[NodeName, ...]:
    """The nodes of a group that can own it; others are refused elsewhere."""
    return tuple(node for node in group.nodes if node in spec.nodes and not spec.nodes[node].witness)
