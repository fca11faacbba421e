"""The root executor of a simulated node: honest, except where the machine's faults say otherwise."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from hamail.core import ordering
from hamail.model import actions as a
from hamail.model.ids import Epoch, GroupName, ResourceName
from hamail.model.spec import GroupSpec
from hamail.model.state import Incarnation
from hamail.simulation.fence_device import Mood

if TYPE_CHECKING:
    from hamail.simulation.machine import Machine


class Held:
    """A group in the executor's hands."""

    def __init__(self, spec: GroupSpec, epoch: Epoch, soft_ns: int, hard_ns: int) -> None:
        self.spec = spec
        self.epoch = epoch
        self.state = "starting"
        self.soft_ns = soft_ns
        self.hard_ns = hard_ns
        self.resources: dict[ResourceName, str] = {}

    def status(self) -> a.GroupStatus:
        return a.GroupStatus(
            epoch=self.epoch,
            state=self.state,
            resources=dict(self.resources),
            soft_ns=self.soft_ns,
            hard_ns=self.hard_ns,
        )


class Executor:
    def __init__(self, machine: "Machine", incarnation: Incarnation) -> None:
        self.m = machine
        self.incarnation = incarnation
        self.groups: dict[GroupName, Held] = {}
        self.configured: dict[GroupName, GroupSpec] = {}
        self.newest: dict[GroupName, Epoch] = {}  # an epoch is started once in the life of an executor
        self.config = 0
        self.clean = False
        self.maintenance = False
        self.alive = True

    def _after(self, delay_ms: float, deed: Callable[[], None]) -> None:
        def still() -> None:
            if self.alive:
                deed()

        self.m.after_ms(delay_ms, still)

    def _tell(self, notice: a.AnyNotice) -> None:
        self.m.tell_daemon(notice)

    # ---- requests -----------------------------------------------------------------------------------------------

    def request(self, r: a.AnyRequest) -> None:
        match r:
            case a.Hello():
                self._welcome()
                return
            case a.Configure():
                self.configured = {g.name: g for g in r.groups}
                self.config = r.config
            case a.CleanUp():
                self._clean_up()
            case a.StartGroup():
                refusal = self._why_not_start(r)
                if refusal:
                    self._tell(a.Refused(id=r.id, why=refusal))
                    return
                self._begin(r)
            case a.Extend():
                self._extend(r)
            case a.StopGroup():
                self._stop_order(r.group, r.epoch)
            case a.RestartResource():
                self._restart(r)
            case a.RunFence():
                self._run_fence(r)
            case a.CheckFence():
                device = self.m.world.devices[r.device]
                problem = device.problem(self.m.name)
                self._after(50, lambda: self._tell(a.FenceChecked(device=r.device, ok=not problem, detail=problem)))
            case a.Maintain():
                self.maintenance = r.on
                if not r.on:
                    for held in list(self.groups.values()):
                        self._watch(held)
        self._tell(a.Accepted(id=r.id))

    def _welcome(self) -> None:
        self._tell(
            a.Welcome(
                incarnation=self.incarnation,
                groups={name: held.status() for name, held in self.groups.items()},
                watchdog=a.WatchdogStatus(device="/dev/watchdog", armed=True, timeout_s=5)
                if self.m.watchdog
                else a.WatchdogStatus(),
                clean=self.clean,
                maintenance=self.maintenance,
            )
        )

    def _clean_up(self) -> None:
        config, sought = self.config, [name for name in sorted(self.configured) if name not in self.groups]
        left = [name for name in sought if name in self.m.running]
        took = sum(self.m.stop_ms for name in left if self.m.running[name])

        def done() -> None:
            stuck = [name for name in left if self.m.running.get(name) and self.m.stop_fails]
            for name in left:
                if name not in stuck and name not in self.groups:
                    self.m.running.pop(name, None)
            self.clean = self.clean or not stuck
            detail = f"{', '.join(stuck)} cannot be stopped" if stuck else ""
            clean = tuple(name for name in sought if name not in stuck and name not in self.groups)
            self._tell(a.Cleaned(ok=not stuck, detail=detail, config=config, groups=clean))

        self._after(took + 5, done)

    # ---- starting -----------------------------------------------------------------------------------------------

    def _why_not_start(self, r: a.StartGroup) -> str:
        if self.maintenance:
            return "the node is in maintenance"
        if r.group.name in self.groups:
            return f"{r.group.name} is held at epoch {self.groups[r.group.name].epoch}"
        if r.epoch <= self.newest.get(r.group.name, 0):
            return f"{r.group.name} was held at epoch {self.newest[r.group.name]} already"
        if self.m.local_ns >= r.soft_ns:
            return "the lease is over already"
        return ""

    def _begin(self, r: a.StartGroup) -> None:
        held = Held(r.group, r.epoch, r.soft_ns, r.hard_ns)
        self.groups[r.group.name] = held
        self.newest[r.group.name] = r.epoch
        self._watch(held)
        claim = self.m.world.claims.get(r.group.name, 0)
        if claim > r.epoch:
            first = r.group.resources[0].name
            self._start_failed(held, first, f"the storage carries the newer epoch {claim}")
            return
        self.m.world.claims[r.group.name] = r.epoch
        self._wave(held)

    def _wave(self, held: Held) -> None:
        """Start every resource whose dependencies are up."""
        if self.groups.get(held.spec.name) is not held or held.state != "starting":
            return
        up = frozenset(r for r, s in held.resources.items() if s == "up")
        begun = frozenset(held.resources)
        for resource in ordering.ready_to_start(held.spec.resources, up, begun):
            held.resources[resource.name] = "starting"
            self.m.running.setdefault(held.spec.name, set()).add(resource.name)
            self._after(self.m.start_ms, partial(self._resource_began, held, resource.name))
        if len(up) == len(held.spec.resources):
            held.state = "up"
            took = self.m.start_ms * len(ordering.waves(held.spec.resources))
            self._tell(a.GroupUp(group=held.spec.name, epoch=held.epoch, took_ms=int(took)))

    def _resource_began(self, held: Held, name: ResourceName) -> None:
        if self.groups.get(held.spec.name) is not held or held.state != "starting":
            return
        if name in self.m.start_fails:
            self._start_failed(held, name, "it exited with code 1")
            return
        held.resources[name] = "up"
        self._tell(
            a.ResourceUp(
                group=held.spec.name,
                epoch=held.epoch,
                resource=name,
                agent=next(r.agent for r in held.spec.resources if r.name == name),
                at_ms=self.m.wall_ms,
                took_ms=int(self.m.start_ms),
            )
        )
        self._wave(held)

    def _start_failed(self, held: Held, name: ResourceName, detail: str) -> None:
        held.state = "stopping"

        def stopped(clean: bool) -> None:
            group = held.spec.name
            self._tell(a.GroupStartFailed(group=group, epoch=held.epoch, resource=name, detail=detail, clean=clean))

        self._take_down(held, stopped)

    # ---- stopping -----------------------------------------------------------------------------------------------

    def _take_down(self, held: Held, then: Callable[[bool], None]) -> None:
        def done() -> None:
            if self.groups.get(held.spec.name) is not held:
                return
            clean = not self.m.stop_fails
            if clean:
                self.m.running.pop(held.spec.name, None)
                del self.groups[held.spec.name]
            else:
                held.state = "stop_failed"
            then(clean)

        self._after(self.m.stop_ms, done)

    def _stop_order(self, group: GroupName, epoch: Epoch) -> None:
        held = self.groups.get(group)
        if held is None:
            self.newest[group] = max(epoch, self.newest.get(group, 0))  # what is told to be stopped is never started
            self._verify_gone(group, epoch)
        elif held.epoch == epoch and held.state != "stopping":
            self._stop(held)

    def _stop(self, held: Held) -> None:
        held.state = "stopping"
        group, epoch = held.spec.name, held.epoch

        def stopped(clean: bool) -> None:
            if clean:
                self._tell(a.GroupDown(group=group, epoch=epoch, took_ms=int(self.m.stop_ms)))
            else:
                detail = "its processes do not end"
                resource = held.spec.resources[0].name
                self._tell(a.GroupStopFailed(group=group, epoch=epoch, resource=resource, detail=detail))

        self._take_down(held, stopped)

    def _verify_gone(self, group: GroupName, epoch: Epoch) -> None:
        def done() -> None:
            if group in self.groups:
                return
            if self.m.running.get(group) and self.m.stop_fails:
                self._tell(
                    a.GroupStopFailed(group=group, epoch=epoch, resource="left over", detail="its processes do not end")
                )
                return
            self.m.running.pop(group, None)
            self._tell(a.GroupDown(group=group, epoch=epoch, took_ms=5))

        self._after(self.m.stop_ms if self.m.running.get(group) else 5, done)

    # ---- the dead-man's switch ----------------------------------------------------------------------------------

    def _extend(self, r: a.Extend) -> None:
        held = self.groups.get(r.group)
        if held is not None and held.epoch == r.epoch:
            held.soft_ns, held.hard_ns = max(held.soft_ns, r.soft_ns), max(held.hard_ns, r.hard_ns)

    def _watch(self, held: Held) -> None:
        """Look again when the deadline that is known now has passed."""

        def look() -> None:
            if not self.alive or self.groups.get(held.spec.name) is not held or self.maintenance:
                return
            if self.m.local_ns < held.soft_ns:
                self._watch(held)
                return
            if held.state in ("starting", "up"):
                self._tell(a.DeadlinePassed(group=held.spec.name, epoch=held.epoch))
                self._stop(held)
            self.m.at_local(held.hard_ns, last)

        def last() -> None:
            if self.alive and self.groups.get(held.spec.name) is held and not self.maintenance:
                if self.m.local_ns < held.hard_ns:
                    self.m.at_local(held.hard_ns, last)
                else:
                    self.m.starve_watchdog("a group is overdue")

        self.m.at_local(held.soft_ns, look)

    # ---- the rest -----------------------------------------------------------------------------------------------

    def _restart(self, r: a.RestartResource) -> None:
        def done() -> None:
            held = self.groups.get(r.group)
            if held is None or held.epoch != r.epoch or held.state != "up":
                return
            ok = r.resource not in self.m.start_fails
            held.resources[r.resource] = "up" if ok else "failed"
            detail = "" if ok else "it exited with code 1"
            self._tell(a.ResourceRestarted(group=r.group, epoch=r.epoch, resource=r.resource, ok=ok, detail=detail))

        self._after(self.m.stop_ms + self.m.start_ms, done)

    def crash_resource(self, group: GroupName, resource: ResourceName) -> None:
        """The service dies; a pidfd tells at once."""
        held = self.groups.get(group)
        if held is not None and held.state == "up":
            held.resources[resource] = "failed"
            detail = "its main process ended by signal 9"
            self._tell(a.ResourceFailed(group=group, epoch=held.epoch, resource=resource, detail=detail))

    def _run_fence(self, r: a.RunFence) -> None:
        device, world = self.m.world.devices[r.device], self.m.world

        def result(ok: bool, detail: str, took: float) -> None:
            self._tell(a.FenceResult(order=r.order, target=r.target, ok=ok, detail=detail, took_ms=int(took)))

        def works() -> None:
            world.power_off(r.target)
            result(True, "the device reports it off", device.takes_ms)

        if self.m.name in device.unreachable_from:
            self._after(1000, lambda: result(False, "no route to the device", 1000))
        elif device.mood is Mood.WORKS:
            self._after(device.takes_ms, works)
        elif device.mood is Mood.FAILS:
            self._after(device.takes_ms, lambda: result(False, "the device refused", device.takes_ms))
        elif device.mood is Mood.SLOW:
            self._after(
                r.timeout_ms, lambda: result(False, f"no answer within {r.timeout_ms / 1000:g} s", r.timeout_ms)
            )
            world.agenda.after_ms(r.timeout_ms + 2000, lambda: world.power_off(r.target))
