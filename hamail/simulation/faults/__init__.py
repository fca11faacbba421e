"""The fault catalogue: what can be done to a simulated cluster, one topic a file."""

from hamail.model.spec import Requirement
from hamail.simulation.faults.agents import agents
from hamail.simulation.faults.clocks import clocks
from hamail.simulation.faults.configuration import configuration
from hamail.simulation.faults.disks import disks
from hamail.simulation.faults.fault import Fault, Kind
from hamail.simulation.faults.fencing import fencing
from hamail.simulation.faults.network import network
from hamail.simulation.faults.operators import operators
from hamail.simulation.faults.orders import orders
from hamail.simulation.faults.policies import policies
from hamail.simulation.faults.power import power
from hamail.simulation.faults.processes import processes
from hamail.simulation.faults.storage import storage

TOPICS = (
    power,
    processes,
    network,
    clocks,
    disks,
    storage,
    agents,
    fencing,
    operators,
    orders,
    policies,
    configuration,
)
KINDS: dict[str, Kind] = {kind.name: kind for topic in TOPICS for kind in topic.kinds}
assert len(KINDS) == sum(len(topic.kinds) for topic in TOPICS), "two kinds of one name"


def kinds_for(requires: Requirement) -> list[Kind]:
    """Those under which a cluster with this requirement claims to be safe."""
    return [kind for kind in KINDS.values() if requires in kind.survived]


__all__ = ["KINDS", "Fault", "Kind", "kinds_for"]
