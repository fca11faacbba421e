"""What a configuration must obey beyond its shape. Each rule notes every breach with its place and reason."""

from hamail.config.problem import Problems
from hamail.config.rules import addresses, cluster, fencing, groups, protection
from hamail.model.spec import ClusterSpec

RULES = (
    cluster.voters,
    cluster.timings,
    cluster.node_addresses,
    fencing.agents,
    fencing.targets,
    fencing.executors,
    fencing.parameters,
    groups.members,
    groups.resources,
    groups.order,
    groups.parameters,
    groups.shared_devices,
    protection.shared_storage,
    protection.requirement,
    addresses.floating,
)


def check(spec: ClusterSpec, problems: Problems) -> None:
    """Stand-ins of values that were refused before (empty texts, no entries) are passed over in silence."""
    for rule in RULES:
        rule(spec, problems)
