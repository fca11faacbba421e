"""S2: no start before release. S3: epochs only grow, each has one holder, and everything acts under its own."""

from typing import TYPE_CHECKING

from hamail.model import commands as c
from hamail.model.ids import Epoch, GroupName, LogIndex, NodeName, ResourceName
from hamail.model.state import ClusterState, Evidence, GroupState, Phase

if TYPE_CHECKING:
    from hamail.simulation.checkers.checker import Checker
    from hamail.simulation.machine import Machine
    from hamail.simulation.premises import Thing


class Grants:
    def __init__(self, checker: "Checker") -> None:
        self._c = checker
        self._newest: dict[GroupName, Epoch] = {}
        self._ended: dict[tuple[NodeName, GroupName], Epoch] = {}
        self.holders: dict[tuple[GroupName, Epoch], NodeName] = {}

    def granted(self, before: ClusterState, command: c.Grant, epoch: LogIndex) -> None:
        """A grant was committed: was the former owner truly out, and is the epoch new?"""
        group, found = command.group, self._c.found
        g = before.group(group)
        last = self._newest.get(group, 0)
        if epoch <= last:
            found("S3", group, f"epoch {epoch} of {group} comes after {last}")
        self._newest[group] = max(epoch, last)
        self.holders[group, epoch] = command.node
        for name, machine in self._c.world.machines.items():
            if machine.premises.of(group):
                found("S2", group, f"{group} was granted to {command.node} while {name} is active for it")
        if g.phase is not Phase.IDLE and command.evidence is Evidence.EXPIRED and g.owner is not None:
            self._lease_is_over(g.owner, group, g)

    def _lease_is_over(self, owner: NodeName, group: GroupName, g: GroupState) -> None:
        machine = self._c.world.machines[owner]
        if not machine.powered or machine.daemon is None:
            return
        lease = machine.daemon.engine.local.leases.get(group)
        if lease is not None and lease.epoch == g.epoch and machine.local_ns < lease.until_ns:
            self._c.found("S2", group, f"{owner} still has a lease on epoch {g.epoch} of {group}")

    def ended(self, machine: "Machine", group: GroupName, epoch: Epoch) -> None:
        """The executor has said that nothing of this epoch runs here any more: others rely on it."""
        self._ended[machine.name, group] = max(epoch, self._ended.get((machine.name, group), 0))

    def placed(self, machine: "Machine", group: GroupName, name: ResourceName, thing: "Thing") -> None:
        holder = self.holders.get((group, thing.epoch))
        if thing.epoch and holder != machine.name:
            who = f"which is {holder}'s" if holder else "which was never granted"
            self._c.found("S3", group, f"{machine.name} starts {name} of {group} under epoch {thing.epoch}, {who}")
        if 0 < thing.epoch <= self._ended.get((machine.name, group), 0):
            why = f"{machine.name} starts {name} of {group} under epoch {thing.epoch}, whose end it has told"
            self._c.found("S3", group, why)
