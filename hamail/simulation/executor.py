"""The root executor of a simulated node: hamail.executor.executor step by step, with the simulation for a kernel.

It has the real dead-man's switch, the real order of starts and stops, and the real kinds of resources.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from hamail.executor.deadman import Deadline, Deadman
from hamail.executor.kinds import Kind, kind_of
from hamail.model import actions as a
from hamail.model.ids import Epoch, GroupName, LogIndex, ResourceName
from hamail.model.spec import GroupSpec
from hamail.model.state import Incarnation
from hamail.simulation.checkers.claims import Hazard
from hamail.simulation.group import MS, Group, Left
from hamail.simulation.premises import End

if TYPE_CHECKING:
    from hamail.simulation.machine import Machine

CHECK_FENCE_MS = 50.0
POLICE_MS = 10.0  # from a change of an address to the look at it
MAINTENANCE = "maintenance is on"


class Ledger:
    """What outlives an executor, but not a boot."""

    def __init__(self) -> None:
        self.held: dict[GroupName, tuple[GroupSpec, Epoch]] = {}
        self.maintenance = False
        self.doomed = ""


class Executor:
    def __init__(self, machine: "Machine", incarnation: Incarnation) -> None:
        self.m = machine
        self.incarnation = incarnation
        self.groups: dict[GroupName, Group] = {}
        self.configured: dict[GroupName, GroupSpec] = {}
        self.cleaned: dict[GroupName, GroupSpec] = {}  # found or made clean here since, under this configuration
        self.newest: dict[GroupName, Epoch] = {}  # an epoch is started once in the life of an executor
        self.config: LogIndex = 0
        self.clean = False
        self.maintenance = False
        self.alive = True
        self.recovered = False
        self.deadman = Deadman(self._soft_passed, self._hard_passed)
        self._timer_ns: int | None = None
        self._cleaning = False
        self._looking: dict[GroupName, list[Callable[[], None]]] = {}  # who waits until the search has ended

    def after(self, delay_ms: float, deed: Callable[[], None]) -> None:
        def still() -> None:
            if self.alive:
                deed()

        self.m.after_ms(delay_ms, still)

    def tell(self, notice: a.AnyNotice) -> None:
        self.m.world.checker.told(self.m, notice)
        self.m.tell_daemon(notice)

    # ---- life ---------------------------------------------------------------------------------------------------

    def recover(self, then: Callable[[], None]) -> None:
        """Stop what an executor that died in this boot has left; only then feed the watchdog, and answer."""
        page = self.m.ledger
        self.newest = {name: epoch for name, (_, epoch) in page.held.items()}
        todo = [] if page.maintenance else [spec for spec, _ in page.held.values()]
        self.maintenance = page.maintenance
        self.deadman.suspend(page.maintenance)
        left: list[str] = []

        def ended(words: str) -> None:
            if words:
                left.append(words)
            step()

        def step() -> None:
            if todo:
                self._clean_one(todo.pop(), ended)
                return
            self.recovered = True
            page.doomed = "; ".join(left) or page.doomed
            if page.doomed:
                self.m.starve_watchdog("doomed")
            else:
                if not page.maintenance:
                    page.held.clear()
                self.m.feed_watchdog("no executor")
            then()

        step()

    # ---- requests -----------------------------------------------------------------------------------------------

    def request(self, r: a.AnyRequest) -> None:
        if isinstance(r, a.Hello):
            self._welcome()
            return
        why = self._handle(r)
        self.tell(a.Refused(id=r.id, why=why) if why else a.Accepted(id=r.id))

    def _handle(self, r: a.AnyRequest) -> str:
        """Begin what is asked. Returns why not: then surely nothing was done."""
        match r:
            case a.Configure():
                self.configured = {g.name: g for g in r.groups}
                self.config = r.config
                self.cleaned = {n: spec for n, spec in self.cleaned.items() if self.configured.get(n) == spec}
            case a.CleanUp():
                return self._clean_up()
            case a.StartGroup():
                return self._start_group(r)
            case a.Extend():
                why = self.deadman.extend(r.group, r.epoch, r.soft_ns, r.hard_ns, self.m.local_ns)
                self._rearm()
                return why
            case a.StopGroup():
                return self._stop_group(r)
            case a.RestartResource():
                return self._restart(r)
            case a.RunFence():
                self._run_fence(r)
            case a.CheckFence():
                problem = self.m.world.devices[r.device].problem(self.m.name)
                told = a.FenceChecked(device=r.device, ok=not problem, detail=problem)
                self.after(CHECK_FENCE_MS, lambda: self.tell(told))
            case a.Maintain():
                self._maintain(r.on)
            case _:
                pass
        return ""

    def _welcome(self) -> None:
        armed = self.m.watchdog
        self.tell(
            a.Welcome(
                incarnation=self.incarnation,
                groups={name: group.status() for name, group in self.groups.items()},
                watchdog=a.WatchdogStatus(
                    device="/dev/watchdog", armed=True, timeout_s=self.m.world.spec.watchdog_timeout_s
                )
                if armed
                else a.WatchdogStatus(),
                clean=self.clean,
                maintenance=self.maintenance,
            )
        )

    # ---- cleaning up --------------------------------------------------------------------------------------------

    def _clean_up(self) -> str:
        if self.maintenance:
            return f"{MAINTENANCE}: nothing is stopped"
        if self._cleaning:
            return ""
        self._cleaning = True
        config, sought = self.config, [self.configured[n] for n in sorted(self.configured) if n not in self.groups]
        open_, left = len(sought), list[str]()

        def ended(words: str) -> None:
            nonlocal open_
            open_ -= 1
            if words:
                left.append(words)
            if open_ <= 0:
                self._cleaning = False
                self.clean = self.clean or not left
                clean = tuple(spec.name for spec in sought if self.cleaned.get(spec.name) == spec)
                self.tell(a.Cleaned(ok=not left, detail="; ".join(left), config=config, groups=clean))

        for spec in sought:
            self._clean_one(spec, ended)
        if not sought:
            ended("")
        return ""

    def _clean_one(self, spec: GroupSpec, then: Callable[[str], None]) -> None:
        """Told what is left over, "" when clean."""
        if spec.name in self._looking:
            self._looking[spec.name].append(lambda: self._clean_one(spec, then))
            return
        if spec.name in self.groups:
            then("")  # granted meanwhile: its start looks for itself
            return
        self._looking[spec.name] = []

        def ended(left: Left) -> None:
            waiting = self._looking.pop(spec.name)
            if not left:
                self.cleaned[spec.name] = spec
            then(f"{spec.name} cannot be stopped" if left else "")
            for deed in waiting:
                deed()

        Group(self, spec, 0).clean(ended)

    # ---- starting and stopping ----------------------------------------------------------------------------------

    def _start_group(self, r: a.StartGroup) -> str:
        name = r.group.name
        held = self.groups.get(name)
        if held is not None and held.epoch == r.epoch and held.spec == r.group:
            if held.state == "up":
                self.after(0, lambda: self.tell(held.up_notice()))
            return "" if held.state in ("starting", "up") else f"group {name} is {held.state} under this epoch"
        refused = self._why_not_start(r)
        refused = refused or self.deadman.arm(name, r.epoch, r.soft_ns, r.hard_ns, self.m.local_ns)
        if refused:
            return refused
        group = self.groups[name] = Group(self, r.group, r.epoch)
        self.newest[name] = r.epoch
        self.m.ledger.held[name] = (r.group, r.epoch)
        self._rearm()
        clean_first = self.cleaned.pop(name, None) != r.group

        def start() -> None:
            if self.groups.get(name) is group and group.state == "starting":
                group.start(clean_first=clean_first)

        if name in self._looking:
            self._looking[name].append(start)
        else:
            start()
        return ""

    def _why_not_start(self, r: a.StartGroup) -> str:
        name = r.group.name
        if self.maintenance:
            return f"{MAINTENANCE}: nothing is started"
        if not self.clean:
            return "this node has not been cleaned up yet: nothing is started before that"
        if name in self.groups:
            return f"{name} is held at epoch {self.groups[name].epoch}"
        if r.epoch <= self.newest.get(name, 0):
            return f"{name} was held at epoch {self.newest[name]} already"
        return ""

    def _stop_group(self, r: a.StopGroup) -> str:
        if self.maintenance:
            return f"{MAINTENANCE}: nothing is stopped"
        held = self.groups.get(r.group)
        if held is not None:
            if r.epoch < held.epoch:
                return f"{r.group} is held under epoch {held.epoch}, which is newer"
            if held.state != "stopping":
                held.stop(r.epoch)
            return ""
        spec = self.configured.get(r.group)
        if spec is None:
            return f"group {r.group} is not configured here"
        # Whoever hears that nothing of this epoch runs here relies on it: it must not be started any more.
        self.newest[r.group] = max(r.epoch, self.newest.get(r.group, 0))

        def verified(left: str) -> None:
            if left:
                self.tell(a.GroupStopFailed(group=r.group, epoch=r.epoch, resource="left over", detail=left))
            else:
                self.tell(a.GroupDown(group=r.group, epoch=r.epoch, took_ms=5))

        self._clean_one(spec, verified)
        return ""

    def ended(self, group: Group) -> None:
        """Nothing of the group is held any more: verified."""
        if self.groups.get(group.name) is group:
            del self.groups[group.name]
            self.m.ledger.held.pop(group.name, None)
            self.deadman.disarm(group.name)
            self.cleaned[group.name] = group.spec

    def _restart(self, r: a.RestartResource) -> str:
        held = self.groups.get(r.group)
        if self.maintenance:
            return f"{MAINTENANCE}: nothing is restarted"
        if held is None or held.epoch != r.epoch:
            return f"group {r.group} is not held under epoch {r.epoch}"
        return held.restart(r.resource)

    def _maintain(self, on: bool) -> None:
        if on == self.maintenance:
            return
        self.maintenance = self.m.ledger.maintenance = on
        self.deadman.suspend(on)
        for group in self.groups.values():
            group.hands_off(on)
        self._rearm()

    # ---- the dead-man's switch ----------------------------------------------------------------------------------

    def deadline(self, group: GroupName) -> tuple[int, int]:
        found = self.deadman.get(group)
        return (found.soft_ns, found.hard_ns) if found else (0, 0)

    def _rearm(self) -> None:
        """One timer is on its way; it is moved only forward in time by looking again when it has fired."""
        due_ns = self.deadman.next_ns()
        if due_ns is None or (self._timer_ns is not None and self._timer_ns <= due_ns):
            return
        self._timer_ns = due_ns

        def fire() -> None:
            if self.alive and self._timer_ns == due_ns:
                self._timer_ns = None
                self.deadman.check(self.m.local_ns)
                self._rearm()

        self.m.at_local(due_ns, fire)

    def _soft_passed(self, name: GroupName, deadline: Deadline) -> None:
        self.tell(a.DeadlinePassed(group=name, epoch=deadline.epoch))
        group = self.groups[name]
        if not group.fits((deadline.hard_ns - deadline.soft_ns) / MS):  # not what is left: to begin late is no excuse
            self.m.world.checker.hazard(Hazard.SLOW_STOP)
        group.emergency(deadline.hard_ns)

    def _hard_passed(self, _name: GroupName, _deadline: Deadline) -> None:
        self.m.ledger.doomed = "a group is overdue"
        self.m.starve_watchdog("doomed")

    # ---- the rest -----------------------------------------------------------------------------------------------

    def crash_resource(self, group: GroupName, resource: ResourceName) -> None:
        """It dies, or vanishes; a pidfd or the kernel's events tell at once. A mount stays."""
        held, thing = self.groups.get(group), self.m.premises.of(group).get(resource)
        if held is None or held.state != "up" or thing is None:
            return
        if thing.kind is not Kind.STORAGE:
            self.m.premises.take(group, resource, End.GONE)
        held.lost(resource, "its main process ended by signal 9")

    def addresses_changed(self) -> None:
        """An address of a group that is not held here is removed."""

        def look() -> None:
            for name, spec in sorted(self.configured.items()):
                if self.maintenance or name in self.groups or name in self._looking:
                    continue
                for r in spec.resources:
                    if kind_of(r) is Kind.ADDRESS and r.name in self.m.premises.of(name):
                        removed = not self.m.agents.stays(r.name)
                        if removed:
                            self.m.premises.take(name, r.name)
                        self.tell(a.Stray(group=name, what=f"address {r.name}", removed=removed))

        self.after(POLICE_MS, look)

    def _run_fence(self, r: a.RunFence) -> None:
        def result(ok: bool, detail: str, took_ms: float) -> None:
            self.tell(a.FenceResult(order=r.order, target=r.target, ok=ok, detail=detail, took_ms=int(took_ms)))

        self.m.world.devices[r.device].run(self.m.world, self.m.name, r, self.after, result)
