"""Judges the true state of the simulated world after every event; it believes no node."""

from typing import TYPE_CHECKING

from hamail.model import commands as c
from hamail.model.ids import Epoch, GroupName, NodeName
from hamail.model.state import Evidence, GroupState, Phase

if TYPE_CHECKING:
    from hamail.simulation.world import World


class Violation(AssertionError):
    """The world is in a state in which it must never be."""


class Checker:
    def __init__(self, world: "World") -> None:
        self._world = world
        self._epochs: dict[GroupName, Epoch] = {}
        self._active: dict[GroupName, NodeName | None] = {}
        self.intervals: list[tuple[GroupName, NodeName, int, int | None]] = []  # (group, node, from_ns, to_ns)
        self.trusting = False  # set when somebody has vouched falsely, or a lie was arranged: overlaps are expected

    def look(self) -> None:
        """At most one node is active for a group: no address, mount or process of it anywhere else."""
        for group in self._world.groups:
            active = [name for name, m in self._world.machines.items() if m.running.get(group)]
            if len(active) > 1 and not self.trusting:
                raise self._violation(f"{' and '.join(active)} are both active for {group}")
            self._note(group, active[0] if active else None)

    def granted(self, before: GroupState, command: c.Grant, epoch: Epoch) -> None:
        """A grant was committed: was the former owner truly out, and is the epoch new?"""
        last = self._epochs.get(command.group, 0)
        if epoch <= last:
            raise self._violation(f"epoch {epoch} of {command.group} comes after {last}")
        self._epochs[command.group] = epoch
        if self.trusting:
            return
        for name, machine in self._world.machines.items():
            if machine.running.get(command.group):
                raise self._violation(f"{command.group} was granted to {command.node} while {name} is active for it")
        if before.phase is not Phase.IDLE and command.evidence is Evidence.EXPIRED and before.owner is not None:
            self._lease_is_over(before.owner, command.group, before.epoch)

    def _lease_is_over(self, owner: NodeName, group: GroupName, epoch: Epoch) -> None:
        machine = self._world.machines[owner]
        if not machine.powered or machine.daemon is None:
            return
        lease = machine.daemon.engine.local.leases.get(group)
        if lease is not None and lease.epoch == epoch and machine.clock.local_ns(self._world.now_ns) < lease.until_ns:
            raise self._violation(f"{owner} still has a lease on epoch {epoch} of {group}")

    def _note(self, group: GroupName, node: NodeName | None) -> None:
        if self._active.get(group) == node:
            return
        if self._active.get(group) is not None:
            index = max(i for i, x in enumerate(self.intervals) if x[0] == group)
            g, n, begin, _ = self.intervals[index]
            self.intervals[index] = (g, n, begin, self._world.now_ns)
        if node is not None:
            self.intervals.append((group, node, self._world.now_ns, None))
        self._active[group] = node

    def _violation(self, what: str) -> Violation:
        return Violation(f"at {self._world.now_ns / 1e9:.3f} s: {what}\n{self._world.recent()}")
