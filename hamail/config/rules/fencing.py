"""Fence devices: what they can cut off, who drives them, and where their secrets are."""

import re

from hamail.config.problem import Problems
from hamail.config.rules.secrets import looks_secret
from hamail.config.section import nearest, wrong_path
from hamail.model.spec import ClusterSpec

_AGENT = re.compile(r"fence_[A-Za-z0-9_.-]{1,60}")
# Said by hamail itself in every call (and their older names), so a fixed value could fence the wrong node.
OURS = ("action", "option", "plug", "port", "nodename")


def agents(spec: ClusterSpec, problems: Problems) -> None:
    for name, device in sorted(spec.fencing.items()):
        if not device.agent or _AGENT.fullmatch(device.agent):
            continue
        path = ("fencing", name, "agent")
        if "/" not in device.agent:
            problems.add(path, f"{device.agent!r} is not a fence agent: expected fence_NAME, or its path from /")
        elif why := wrong_path(device.agent):
            problems.add(path, why)


def targets(spec: ClusterSpec, problems: Problems) -> None:
    for name, device in sorted(spec.fencing.items()):
        path = ("fencing", name, "targets")
        if not device.targets:
            problems.add(path, 'names no node; write which plug belongs to which, as in { n1 = "1", n2 = "2" }')
        plugs: dict[str, str] = {}
        for node, plug in sorted(device.targets.items()):
            if node not in spec.nodes:
                problems.add((*path, node), f"no node is called {node!r}{nearest(node, tuple(spec.nodes))}")
            elif spec.nodes[node].witness:
                problems.add((*path, node), f"{node} is a witness: it holds nothing and is never fenced")
            if plug in plugs:
                problems.add((*path, node), f"plug {plug!r} is that of {plugs[plug]} as well: it would cut off both")
            plugs.setdefault(plug, node)


def executors(spec: ClusterSpec, problems: Problems) -> None:
    for name, device in sorted(spec.fencing.items()):
        path = ("fencing", name, "executors")
        for node in device.executors:
            if node not in spec.nodes:
                problems.add(path, f"no node is called {node!r}{nearest(node, tuple(spec.nodes))}")
            elif spec.nodes[node].witness:
                problems.add(path, f"{node} is a witness, which runs no agents")
        for target in sorted(device.targets):
            if target in spec.nodes and not spec.fence_executors(device, target):
                problems.add(
                    path if device.executors else ("fencing", name, "targets", target),
                    f"nobody can fence {target} with it: a node does not fence itself, and a witness runs no agents",
                )


def parameters(spec: ClusterSpec, problems: Problems) -> None:
    for name, device in sorted(spec.fencing.items()):
        path = ("fencing", name, "parameters")
        for key in sorted(device.parameters):
            if key in OURS:
                problems.add((*path, key), "is set by hamail in every call; plugs belong into `targets`")
            elif looks_secret(key):
                problems.add((*path, key), f"a secret must not be written here; use secret_files = {{ {key} = FILE }}")
        for key, file in sorted(device.secret_files.items()):
            here = ("fencing", name, "secret_files", key)
            if key in device.parameters:
                problems.add(here, "is given in `parameters` as well")
            if key in OURS:
                problems.add(here, "is set by hamail in every call")
            if why := wrong_path(file):
                problems.add(here, why)
