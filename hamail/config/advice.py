"""What is allowed but leaves less than it could: shown to the operator, never refused."""

from hamail.config.rules.groups import FILESYSTEM
from hamail.config.rules.protection import owners
from hamail.model.spec import ClusterSpec, Requirement


def warnings(spec: ClusterSpec) -> tuple[str, ...]:
    found = []
    if not any(node.witness for node in spec.nodes.values()):
        found.append("no node is a witness: fine with three or more mail nodes, a pair needs one")
    if not spec.groups:
        found.append("there is no group yet: nothing will be kept running")
    for name, group in sorted(spec.groups.items()):
        if len(group.nodes) == 1:
            found.append(f"group {name} may run on {group.nodes[0]} only: it cannot fail over")
        if not group.shared_storage and any(r.agent == FILESYSTEM for r in group.resources):
            found.append(f"group {name} mounts a file system but says shared_storage = false: is that device local?")
        if group.shared_storage and group.requires == Requirement.FENCING:
            bare = [node for node in owners(spec, group) if not spec.devices_for(node)]
            if bare and len(group.nodes) > 1:
                found.append(f"group {name}: no fence device for {', '.join(bare)}; its loss waits for an operator")
        if group.unsafe_reason is not None:
            found.append(f"group {name} accepts a risk: {group.unsafe_reason}")
    for node in sorted(spec.nodes):
        devices = spec.devices_for(node)
        levels = {device.level for device in devices}
        if len(devices) > len(levels):
            found.append(
                f"{node}: some of its fence devices share a level; they are tried one after the other, by name"
            )
    return tuple(found)
