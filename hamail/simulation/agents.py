"""The resource agents of a simulated node, with the faults that agents have. What they say may not be what they did."""

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from hamail.executor.kinds import Kind, kind_of
from hamail.model.ids import Epoch, GroupName, ResourceName
from hamail.model.spec import GroupSpec, ResourceSpec
from hamail.ocf.claim import Claim
from hamail.simulation.checkers.claims import Hazard
from hamail.simulation.premises import End, Thing
from hamail.simulation.storage import StorageError

if TYPE_CHECKING:
    from hamail.simulation.machine import Machine

START_TIMEOUT_MS = 20_000
STOP_TIMEOUT_MS = 20_000
MONITOR_TIMEOUT_MS = 20_000
DEVICE_WAIT_MS = 3_000  # for a device that is not there
LOOK_TIMEOUT_MS = 15_000  # for storage that hangs while the claim is read
PROBE_TIMEOUT_MS = 5_000  # for the synced write of a monitor
SLOW_FACTOR = 20


class Fault(StrEnum):
    START_FAILS = "start fails"
    START_HANGS = "start hangs"
    START_SLOW = "start is slow"
    START_EMPTY = "start says 0 but does nothing"
    START_UNSAID = "start fails but has done it"
    STOP_FAILS = "stop fails"
    STOP_HANGS = "stop hangs"
    STOP_LIES = "stop says 0 but does nothing"
    STOP_UNSAID = "stop fails but has done it"
    UNKNOWN_EXIT = "every action ends with an exit code that does not exist"
    UNKILLABLE = "its process survives SIGKILL"  # or: an unmount that stays busy, an address that comes back
    FALSE_ALARM = "monitor says failed though it works"
    BLIND = "monitor says well though it is gone"
    WRONG_DEVICE = "its device leads to the storage of another cluster"


_DEAF = frozenset({Fault.STOP_FAILS, Fault.STOP_HANGS, Fault.STOP_LIES})
Done: TypeAlias = Callable[[str], None]  # "" or why not
After: TypeAlias = Callable[[float, Callable[[], None]], None]  # drops what comes after the operation was cancelled


class Agents:
    def __init__(self, machine: "Machine") -> None:
        self._m = machine
        self.faults: dict[ResourceName, set[Fault]] = {}

    def add(self, resource: ResourceName, fault: Fault) -> None:
        self.faults.setdefault(resource, set()).add(fault)

    def heal(self) -> None:
        self.faults.clear()

    def has(self, name: ResourceName, fault: Fault) -> bool:
        return fault in self.faults.get(name, ())

    # ---- start --------------------------------------------------------------------------------------------------

    def start(
        self,
        group: GroupSpec,
        spec: ResourceSpec,
        epoch: Epoch,
        after: After,
        done: Done,
    ) -> None:
        """A cancelled operation kills the agent."""
        self._m.world.checker.began(self._m, group.name, spec.name, "start")
        takes_ms = self._m.start_ms * (SLOW_FACTOR if self.has(spec.name, Fault.START_SLOW) else 1)
        limit_ms = spec.start_timeout_ms or START_TIMEOUT_MS
        late = takes_ms > limit_ms or self.has(spec.name, Fault.START_HANGS)
        if self.has(spec.name, Fault.START_EMPTY):
            after(takes_ms, lambda: done(""))
        elif kind_of(spec) is Kind.STORAGE:
            self._mount(group, spec, epoch, takes_ms, after, done)
        else:
            thing = Thing(kind_of(spec), epoch)
            self._m.premises.put(group.name, spec.name, thing)

            def ended() -> None:
                why = self._why_failed(spec.name)
                thing.ready = not why
                done(why)

            after(limit_ms if late else takes_ms, ended if not late else lambda: done("it did not end in time"))

    def _why_failed(self, name: ResourceName) -> str:
        if self.has(name, Fault.UNKNOWN_EXIT):
            return "it exited with code 177, which does not exist"
        bad = name in self._m.start_fails or self.has(name, Fault.START_FAILS) or self.has(name, Fault.START_UNSAID)
        return "it exited with code 1" if bad else ""

    def _mount(
        self,
        group: GroupSpec,
        spec: ResourceSpec,
        epoch: Epoch,
        takes_ms: float,
        after: After,
        done: Done,
    ) -> None:
        """Read the claim, mount, compare it once more, put ours there. Between reading and mounting time passes."""
        lun, node = self._m.world.lun(group.name), self._m.name
        ours = Claim(cluster=self._m.world.spec.name, group=group.name, epoch=epoch, node=node)
        why = self._why_failed(spec.name)
        if self.has(spec.name, Fault.WRONG_DEVICE):
            why = "the storage belongs to another cluster: check `device`"
        if why:
            after(takes_ms, lambda: done(why))
            return
        if node in lun.hung or self.has(spec.name, Fault.START_HANGS):
            after(LOOK_TIMEOUT_MS, lambda: done("reading the claim: no answer, the storage hangs"))
            return
        try:
            refused = lun.refusal(ours)
        except StorageError as e:
            detail = str(e)
            after(DEVICE_WAIT_MS, lambda: done(detail))
            return
        if refused:
            after(takes_ms, lambda: done(refused))
            return

        def mount() -> None:
            if node in lun.mounts:
                return  # it was mounted already: taken over as it is
            try:
                mounted = lun.mount(node, epoch)
            except StorageError:
                return  # `settle` finds no mount
            self._m.premises.put(group.name, spec.name, Thing(Kind.STORAGE, epoch, mounted))

        def settle() -> None:
            if node in lun.hung:
                after(LOOK_TIMEOUT_MS, lambda: done("claiming it: no answer, the storage hangs"))
                return
            why = lun.settle(ours)
            thing = self._m.premises.of(group.name).get(spec.name)
            if why:
                self._m.premises.take(group.name, spec.name)
            elif thing is not None:
                thing.ready = True
                thing.epoch = epoch
            done(why)

        after(takes_ms / 2, mount)
        after(takes_ms, settle)

    # ---- stop ---------------------------------------------------------------------------------------------------

    def stop(
        self,
        group: GroupSpec,
        spec: ResourceSpec,
        takes_ms: float,
        limit_ms: float,
        end: End,
        after: After,
        done: Callable[[bool], None],
    ) -> None:
        """`done` is told whether the agent said that it is stopped."""
        self._m.world.checker.began(self._m, group.name, spec.name, "stop")
        name = spec.name
        here = name in self._m.premises.of(group.name)
        hangs = here and kind_of(spec) is Kind.STORAGE and self._m.name in self._m.world.lun(group.name).hung
        deaf = self.faults.get(name, set()) & _DEAF if kind_of(spec) is not Kind.SERVICE else set()
        if here and (hangs or deaf or self.stays(name)):  # a process that only its agent cannot stop is killed
            self._m.world.checker.hazard(Hazard.UNSTOPPABLE)
        if self.has(name, Fault.STOP_HANGS) or hangs or takes_ms > limit_ms:
            after(limit_ms, lambda: done(False))
            return
        if self.has(name, Fault.STOP_LIES):
            after(takes_ms, lambda: done(True))
            return

        def ended() -> None:
            stays = self.stays(name) or self.has(name, Fault.STOP_FAILS)
            if not stays:
                self._m.premises.take(group.name, name, end)
            silent = self.has(name, Fault.STOP_UNSAID) or self.has(name, Fault.UNKNOWN_EXIT)
            done(not stays and not silent)

        after(takes_ms, ended)

    def stays(self, name: ResourceName) -> bool:
        """Nothing ends it: no agent, no signal."""
        return self._m.stop_fails or self.has(name, Fault.UNKILLABLE)

    # ---- monitor ------------------------------------------------------------------------------------------------

    def monitor(self, group: GroupName, spec: ResourceSpec) -> str:
        """Why it is not well; "" when it is, as far as the agent says."""
        if self.has(spec.name, Fault.UNKNOWN_EXIT):
            return "monitor exited with code 177, which does not exist"
        if self.has(spec.name, Fault.FALSE_ALARM):
            return "monitor exited with code 1"
        if self.has(spec.name, Fault.BLIND):
            return ""
        thing = self._m.premises.of(group).get(spec.name)
        if thing is None:
            return "it is not running"
        if not thing.ready:
            return "it does not answer"
        return self._storage_wrong(thing)

    def _storage_wrong(self, thing: Thing) -> str:
        if thing.mount is None:
            return ""
        if thing.mount.hangs:
            return "a synced write did not end: the storage hangs"
        try:
            thing.mount.sync()
        except StorageError as e:
            return f"a synced write failed: {e}"
        return "it has become read-only after storage errors" if thing.mount.read_only else ""
