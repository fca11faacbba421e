"""What truly is on a machine: mounts, live processes, configured addresses. Nobody's opinion, only facts."""

from enum import StrEnum
from typing import TYPE_CHECKING

from hamail.executor.kinds import Kind
from hamail.model.ids import Epoch, GroupName, ResourceName
from hamail.simulation.storage import Mount

if TYPE_CHECKING:
    from hamail.simulation.machine import Machine


class End(StrEnum):
    STOPPED = "stopped in order"
    FORCED = "stopped by itself, or in an emergency: what stands on it need not be down"
    GONE = "gone by itself"


class Thing:
    """One resource that is physically here. `epoch` 0: put here by a person."""

    __slots__ = ("epoch", "kind", "mount", "ready")

    def __init__(self, kind: Kind, epoch: Epoch, mount: Mount | None = None) -> None:
        self.kind = kind
        self.epoch = epoch
        self.mount = mount
        self.ready = False  # it serves: its start has ended, and it has not hung since


class Premises:
    """Every change is shown to the world's checker at the moment at which it happens."""

    def __init__(self, machine: "Machine") -> None:
        self._m = machine
        self.things: dict[GroupName, dict[ResourceName, Thing]] = {}

    def of(self, group: GroupName) -> dict[ResourceName, Thing]:
        return self.things.get(group, {})

    def put(self, group: GroupName, name: ResourceName, thing: Thing) -> None:
        self.things.setdefault(group, {})[name] = thing
        if thing.kind is Kind.ADDRESS:
            self._m.world.switch.announce(group, self._m.name)
        self._m.world.checker.placed(self._m, group, name, thing)

    def take(self, group: GroupName, name: ResourceName, end: End = End.STOPPED) -> None:
        thing = self.of(group).get(name)
        if thing is None:
            return
        if thing.kind is Kind.STORAGE:
            self._m.world.lun(group).unmount(self._m.name)
        del self.things[group][name]
        if not self.things[group]:
            del self.things[group]
        self._m.world.checker.taken(self._m, group, name, thing, end)

    def power_lost(self) -> None:
        for group, things in list(self.things.items()):
            if any(t.kind is Kind.STORAGE for t in things.values()):
                self._m.world.lun(group).power_lost(self._m.name)
            for name in reversed(list(things)):
                self.take(group, name, End.GONE)
