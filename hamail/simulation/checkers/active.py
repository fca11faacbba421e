"""S1: at most one node is active per group: by address, by mount, by process. S6: what stands on what."""

from typing import TYPE_CHECKING

from hamail.executor.kinds import Kind
from hamail.model.ids import GroupName, NodeName, ResourceName

if TYPE_CHECKING:
    from hamail.simulation.checkers.checker import Checker
    from hamail.simulation.machine import Machine
    from hamail.simulation.premises import End, Thing

_MARK = {Kind.ADDRESS: "S1v", Kind.STORAGE: "S1m", Kind.SERVICE: "S1p"}


class Active:
    def __init__(self, checker: "Checker") -> None:
        self._c = checker
        self._active: dict[GroupName, NodeName | None] = {}
        self._crashed: set[tuple[NodeName, GroupName, ResourceName]] = set()  # gone by themselves
        self._standing: dict[GroupName, dict[ResourceName, tuple[ResourceName, ...]]] = {}  # resource -> its `after`
        self.intervals: list[tuple[GroupName, NodeName, int, int | None]] = []  # (group, node, from_ns, to_ns)

    def placed(self, machine: "Machine", group: GroupName, name: ResourceName, thing: "Thing") -> None:
        for other in self._c.world.machines.values():
            theirs = other.premises.of(group)
            if other is machine or not theirs:
                continue
            both = [r for r, t in theirs.items() if t.kind is thing.kind]
            mark = _MARK[thing.kind] if both else "S1"
            said = f"{other.name} and {machine.name} are both active for {group}"
            self._c.found("S1", group, f"{said} ({mark}: {', '.join(theirs)} and {name})")
        self._crashed.discard((machine.name, group, name))
        if thing.epoch:
            self._stands(machine, group, name)
        self.note(group)

    def taken(self, machine: "Machine", group: GroupName, name: ResourceName, thing: "Thing", end: "End") -> None:
        if end == "gone by itself":
            self._crashed.add((machine.name, group, name))
        elif end == "stopped in order" and thing.epoch:
            for above, needs in self._order(group).items():
                if name in needs and above in machine.premises.of(group):
                    why = f"{machine.name} stops {name} of {group} while {above}, which stands on it, is up"
                    self._c.found("S6", group, why)
        self.note(group)

    def _stands(self, machine: "Machine", group: GroupName, name: ResourceName) -> None:
        here = machine.premises.of(group)
        for below in self._order(group).get(name, ()):
            if below not in here and (machine.name, group, below) not in self._crashed:
                self._c.found(
                    "S6", group, f"{machine.name} starts {name} of {group} without {below}, on which it stands"
                )

    def _order(self, group: GroupName) -> dict[ResourceName, tuple[ResourceName, ...]]:
        if group not in self._standing:
            specs = {**self._c.world.spec.groups, **self._c.world.state.spec.groups}
            found = specs.get(group)
            self._standing[group] = {r.name: r.after for r in found.resources} if found else {}
        return self._standing[group]

    def reconfigured(self) -> None:
        self._standing.clear()

    def note(self, group: GroupName) -> None:
        """Keep the timeline."""
        world = self._c.world
        node = next((n for n, m in world.machines.items() if m.premises.of(group)), None)
        if self._active.get(group) == node:
            return
        if self._active.get(group) is not None:
            index = max(i for i, x in enumerate(self.intervals) if x[0] == group)
            g, n, begin, _ = self.intervals[index]
            self.intervals[index] = (g, n, begin, world.now_ns)
        if node is not None:
            self.intervals.append((group, node, world.now_ns, None))
        self._active[group] = node
