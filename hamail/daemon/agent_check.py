"""Would the agents of a configuration be found here, and do they know the parameters that it gives them?

A configuration is accepted before any of its agents runs; without this a slip in a parameter's name would be found only
by the next failover. Agents tell their meta-data to anybody, so no privilege is needed.
"""

import subprocess
from pathlib import Path

from hamail.executor.metadata import METADATA_BYTES_MAX, BadMetadata, Metadata, parse
from hamail.executor.policy import Policy
from hamail.model.ids import NodeName
from hamail.model.spec import ClusterSpec, ResourceSpec

METADATA_TIMEOUT_S = 10.0
THEN = "of each mail node; then, where no group runs: systemctl restart hamail-executor hamaild"
PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin"  # where the executor looks for programs


def problems(spec: ClusterSpec, folders: tuple[Path, ...], me: NodeName | None = None) -> tuple[str, ...]:
    """One sentence for each resource that could not be started here. Blocks: call it in a thread.

    `me`: only of the groups that this node may own.
    """
    found: list[str] = []
    known: dict[str, Metadata | str] = {}
    groups = [group for group in spec.groups.values() if me is None or me in group.nodes]
    for group in groups:
        for resource in group.resources:
            if resource.agent not in known:
                known[resource.agent] = _ask(resource, folders)
            answer = known[resource.agent]
            why = answer if isinstance(answer, str) else answer.refuse(resource.parameters)
            if why:
                found.append(f"groups.{group.name}.resources.{resource.name}: {why}")
    return tuple(found)


def fence_problems(spec: ClusterSpec, me: NodeName) -> tuple[str, ...]:
    """One sentence for each fence device that `me` is to use and whose agent is not installed here."""
    return tuple(
        f"fencing.{device.name}: there is no fence agent {device.agent} on {me}, which is to run it"
        for device in spec.fencing.values()
        if any(me in spec.fence_executors(device, target) for target in device.targets)
        and not _may_be_there(device.agent)
    )


def disallowed(spec: ClusterSpec, me: NodeName, policy: Policy) -> tuple[str, ...]:
    """One sentence for each resource and fence device that the executor of `me` would refuse by its node.toml.

    Without this the standby could not take over: it cannot even verify that nothing of the group runs there.
    """
    found = [
        (f"groups.{group.name}.resources.{resource.name}", policy.foresee(resource))
        for group in spec.groups.values()
        if me in group.nodes
        for resource in group.resources
    ] + [
        (f"fencing.{d.name}", policy.refuse_fence(d.agent, d.parameters, d.targets, d.secret_files))
        for d in spec.fencing.values()
        if any(me in spec.fence_executors(d, target) for target in d.targets)
    ]
    return tuple(f"{place}: {why} ({THEN})" for place, why in found if why)


def _may_be_there(program: str) -> bool:
    """hamaild itself may neither execute it nor, perhaps, look into its folder; only what is surely missing counts."""
    try:
        return any((Path(folder) / program).is_file() for folder in PROGRAMS.split(":"))
    except PermissionError:
        return True


def _ask(resource: ResourceSpec, folders: tuple[Path, ...]) -> Metadata | str:
    provider, _, kind = resource.agent.removeprefix("ocf:").partition(":")
    path = next((f / provider / kind for f in folders if (f / provider / kind).is_file()), None)
    if path is None:
        return f"there is no agent {resource.agent} on this node (looked in {', '.join(map(str, folders))})"
    environment = {"PATH": PROGRAMS, "LC_ALL": "C", "OCF_ROOT": str(path.parents[2])}
    try:
        done = subprocess.run(
            [path, "meta-data"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=METADATA_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        return f"agent {resource.agent} gives no meta-data: {e}"
    try:
        return parse(done.stdout[:METADATA_BYTES_MAX].decode(errors="replace"))
    except BadMetadata as e:
        return f"agent {resource.agent} gives no usable meta-data (exit code {done.returncode}): {e}"
