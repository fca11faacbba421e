"""What each `requires` claims to survive: one table. What is not in it holds under every fault.

A hazard is a fault that takes away something on which the proof of safety stands. The world notes it at the moment at
which it takes effect; from then on the invariants named here may break, and no others. They are the declared price.

What the claim on the storage really does. It is read when a node mounts, and then it stops that node if a newer epoch
has claimed the storage (S4c: the claim never goes back, whatever happens). It does not stop a node that has mounted
already: no write asks the claim. So where a hazard makes two nodes active (S1), the former owner's writes land after
the new owner's (S4), and mail is lost or damaged (S5). Only storage that refuses writes by itself could prevent that.
"""

from enum import StrEnum

from hamail.model.spec import Requirement


class Hazard(StrEnum):
    FENCE_LIES = "a fence device said off of a node that was on"
    FENCE_WRONG = "a fence device hit another node than the one it was told"
    FENCE_LATE = "a fence device cut the power after its agent's time was over"
    VOUCHED = "a person confirmed a fence of a node that was on"
    BY_HAND = "a person started something of a group"
    PAUSED_GUEST = "a virtual machine stood still together with its clocks and its watchdog"
    WATCHDOG_BROKEN = "an armed watchdog did not fire, or late"
    UNSTOPPABLE = "something of a group could not be stopped, or nobody was there to stop it"
    SLOW_STOP = "the agents' stops of a group took longer than the stop budget, so an unmount was still under way"
    STOPPED_NODE = "a whole node stood still while its clock ran on"
    WILD_CLOCK = "a clock ran more wrong than the timings allow for"
    FORKED_LOG = "the log did not keep what it promises"
    MONITOR_LIES = "a monitor said that something was well that was not"


_TWICE = frozenset({"S1", "S2", "S4", "S5", "S7"})  # what two active nodes bring with them
_NONE = frozenset[str]()
_F, _W, _L = Requirement.FENCING, Requirement.WATCHDOG, Requirement.LEASE

PRICE: dict[Hazard, dict[Requirement, frozenset[str]]] = {
    Hazard.FENCE_LIES: {_F: _TWICE, _W: _TWICE, _L: _TWICE},
    Hazard.FENCE_WRONG: {_F: _TWICE | {"S12"}, _W: _TWICE | {"S12"}, _L: _TWICE | {"S12"}},
    Hazard.FENCE_LATE: {_F: frozenset({"S12"}), _W: frozenset({"S12"}), _L: frozenset({"S12"})},
    Hazard.VOUCHED: {_F: _TWICE, _W: _TWICE, _L: _TWICE},
    Hazard.BY_HAND: {_F: _TWICE | {"S6"}, _W: _TWICE | {"S6"}, _L: _TWICE | {"S6"}},
    Hazard.PAUSED_GUEST: {_F: _NONE, _W: _TWICE, _L: _TWICE},
    Hazard.WATCHDOG_BROKEN: {_F: _NONE, _W: _TWICE, _L: _TWICE},
    Hazard.UNSTOPPABLE: {_F: _NONE, _W: _NONE, _L: _TWICE},
    # Services can be killed at the end of their share of the stop budget; what the kernel unmounts cannot be hurried. A
    # watchdog resets the machine at the hard deadline; a lease alone has nothing that does.
    Hazard.SLOW_STOP: {_F: _NONE, _W: _NONE, _L: _TWICE},
    Hazard.STOPPED_NODE: {_F: _NONE, _W: _NONE, _L: _TWICE},
    Hazard.WILD_CLOCK: {_F: _NONE, _W: _TWICE, _L: _TWICE},
    # Neither leases nor fences mean anything when the log grants twice; the claim stops only what has yet to mount.
    Hazard.FORKED_LOG: {r: _TWICE | {"S3", "S10", "S12", "S14", "O2"} for r in Requirement},
    # What a start says is looked at; what a monitor says of a service is all that is known of it.
    Hazard.MONITOR_LIES: {r: frozenset({"O2"}) for r in Requirement},
}


def unclaimed(requires: Requirement, hazards: set[Hazard]) -> frozenset[str]:
    """The invariants for which nothing is claimed once these have happened."""
    return frozenset().union(*(PRICE[h][requires] for h in hazards))
