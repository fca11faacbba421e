"""Groups and their resources."""

import re

from hamail.config.problem import Problems, dotted
from hamail.config.rules.secrets import looks_secret
from hamail.config.section import nearest, wrong_path
from hamail.core import ordering
from hamail.model.spec import ClusterSpec, GroupSpec

FILESYSTEM = "hamail:filesystem"
_AGENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_ABSOLUTE = ("device", "directory")  # parameters of the filesystem agent


def members(spec: ClusterSpec, problems: Problems) -> None:
    for name, group in sorted(spec.groups.items()):
        path = ("groups", name, "nodes")
        for node in group.nodes:
            if node not in spec.nodes:
                problems.add(path, f"no node is called {node!r}{nearest(node, tuple(spec.nodes))}")
            elif spec.nodes[node].witness:
                problems.add(path, f"{node} is a witness: it votes and may never own a group")


def resources(spec: ClusterSpec, problems: Problems) -> None:
    for name, group in sorted(spec.groups.items()):
        if not group.nodes:
            problems.add(("groups", name, "nodes"), "names no node that may own the group")
        if not group.resources:
            problems.add(("groups", name, "resources"), "there is nothing in this group")
        for resource in group.resources:
            if resource.agent and not _AGENT.fullmatch(resource.agent):
                short = resource.agent.removeprefix("ocf:")
                hint = f" (did you mean {short!r}?)" if _AGENT.fullmatch(short) else ", as in hamail:postfix"
                problems.add(
                    ("groups", name, "resources", resource.name, "agent"),
                    f"{resource.agent!r} is not of the form provider:type{hint}",
                )


def order(spec: ClusterSpec, problems: Problems) -> None:
    for name, group in sorted(spec.groups.items()):
        if _unknown_dependencies(group, problems):
            continue
        try:
            ordering.waves(group.resources)
        except ValueError as error:
            problems.add(("groups", name, "resources"), f"{error}; none of them could ever start")


def _unknown_dependencies(group: GroupSpec, problems: Problems) -> bool:
    names = tuple(r.name for r in group.resources)
    found = False
    for resource in group.resources:
        path = ("groups", group.name, "resources", resource.name, "after")
        for other in resource.after:
            if other == resource.name:
                problems.add(path, f"{other} cannot wait for itself")
            elif other not in names:
                problems.add(path, f"no resource of this group is called {other!r}{nearest(other, names)}")
            else:
                continue
            found = True
    return found


def parameters(spec: ClusterSpec, problems: Problems) -> None:
    for name, group in sorted(spec.groups.items()):
        for resource in group.resources:
            path = ("groups", name, "resources", resource.name, "parameters")
            for key, value in sorted(resource.parameters.items()):
                if looks_secret(key):
                    problems.add(
                        (*path, key), "a secret must not be written here; give the agent a file that only root reads"
                    )
                elif resource.agent == FILESYSTEM and key in _ABSOLUTE and (why := wrong_path(value)):
                    problems.add((*path, key), why)


def shared_devices(spec: ClusterSpec, problems: Problems) -> None:
    """Two file systems of one cluster never share a device, nor a mount point on a node that may own both."""
    seen: dict[tuple[str, str], str] = {}
    for name, group in sorted(spec.groups.items()):
        for resource in group.resources:
            if resource.agent != FILESYSTEM:
                continue
            here = ("groups", name, "resources", resource.name)
            for key in _ABSOLUTE:
                value = resource.parameters.get(key)
                if value is None:
                    continue
                other = seen.setdefault((key, value.rstrip("/")), dotted(here))
                if other != dotted(here):
                    problems.add((*here, "parameters", key), f"{value} is the {key} of {other} as well")
