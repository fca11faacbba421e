"""One group in the hands of a simulated executor, step by step as hamail.executor.groups and .resource do it."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from hamail.core import ordering
from hamail.executor.kinds import Kind, kind_of
from hamail.model import actions as a
from hamail.model.ids import Epoch, GroupName, ResourceName
from hamail.model.spec import GroupSpec, ResourceSpec
from hamail.simulation.agents import STOP_TIMEOUT_MS, After
from hamail.simulation.premises import End

if TYPE_CHECKING:
    from hamail.simulation.executor import Executor

VERIFY_MS = 5.0
VERIFY_WAIT_MS = 1000.0  # how long a stop looks before it says that something is left
TERM_GRACE_MS = 500.0
EMERGENCY_BUDGET_MIN_MS = 100
EMERGENCY_BUDGET_MAX_MS = 10_000
EMERGENCY_RETRY_MS = 500.0
EMERGENCY_TRIES_MAX = 120
EMERGENCY = ((Kind.ADDRESS, 0.2), (Kind.SERVICE, 0.5), (Kind.STORAGE, 0.8))
STOP_SHARE = {Kind.ADDRESS: 0.1, Kind.SERVICE: 0.5, Kind.STORAGE: 0.4}  # of the time that a whole stop takes
RELATED_MS = 5.0  # between looks whether the restart of what it stands on has ended
MS = 1_000_000

Left = dict[ResourceName, str]


class Group:
    def __init__(self, executor: "Executor", spec: GroupSpec, epoch: Epoch) -> None:
        self.x = executor
        self.m = executor.m
        self.spec = spec
        self.epoch = epoch
        self.state = "starting"  # starting | up | stopping | stop_failed
        self.resources: dict[ResourceName, str] = {}
        self.known = True  # is everything of it here either ours or stopped?
        self._operation = 0  # a newer one cancels those before
        self.restarting: dict[ResourceName, int] = {}  # and the number of the restart
        self._restarts = 0
        self._monitoring = 0

    @property
    def name(self) -> GroupName:
        return self.spec.name

    def status(self) -> a.GroupStatus:
        soft_ns, hard_ns = self.x.deadline(self.name)
        return a.GroupStatus(
            epoch=self.epoch, state=self.state, resources=dict(self.resources), soft_ns=soft_ns, hard_ns=hard_ns
        )

    def _begin(self) -> After:
        """A new operation: what an earlier one had still to do is dropped. Returns its `after`."""
        self._operation += 1
        operation = self._operation
        self.restarting.clear()

        def after(delay_ms: float, deed: Callable[[], None]) -> None:
            def still() -> None:
                if operation == self._operation:
                    deed()

            self.x.after(delay_ms, still)

        return after

    # ---- start --------------------------------------------------------------------------------------------------

    def start(self, *, clean_first: bool) -> None:
        self.known = not clean_first
        after = self._begin()
        left_over = tuple(r for r in self.spec.resources if clean_first and r.name in self.m.premises.of(self.name))

        def cleaned(left: Left) -> None:
            if left:
                name, why = next(iter(left.items()))
                self._start_failed(name, f"leftover could not be stopped: {why}")
                return
            self.known = True
            self._wave(after)

        if left_over:
            self._stop_ordered(left_over, after, cleaned)
        else:
            self.known = True
            self._wave(after)

    def _wave(self, after: After) -> None:
        """Start every resource whose dependencies are up."""
        up = frozenset(r for r, s in self.resources.items() if s == "up")
        for resource in ordering.ready_to_start(self.spec.resources, up, frozenset(self.resources)):
            self.resources[resource.name] = "starting"
            self.m.agents.start(self.spec, resource, self.epoch, after, self._began(resource, after))
        if len(up) == len(self.spec.resources):
            self.state = "up"
            self.x.tell(self.up_notice())
            self.monitor()

    def up_notice(self) -> a.GroupUp:
        took = self.m.start_ms * len(ordering.waves(self.spec.resources))
        return a.GroupUp(group=self.name, epoch=self.epoch, took_ms=int(took))

    def _began(self, resource: ResourceSpec, after: After) -> Callable[[str], None]:
        def began(why: str) -> None:
            why = why or self._missing(resource)
            if why:
                self.resources[resource.name] = "failed"
                self._start_failed(resource.name, why)
                return
            self.resources[resource.name] = "up"
            self._tell_up(resource)
            self._wave(after)

        return began

    def _missing(self, resource: ResourceSpec) -> str:
        """Whatever its start said: only what the kernel shows counts, and whose the storage is."""
        thing = self.m.premises.of(self.name).get(resource.name)
        if thing is None:
            return "its start said that it worked, but it is not there"
        if thing.mount is not None:
            claim = self.m.world.lun(self.name).claim
            if claim is None or (claim.epoch, claim.node) != (self.epoch, self.m.name):
                return "its start said that it worked, but the storage is not claimed for it"
        return ""

    def _tell_up(self, resource: ResourceSpec) -> None:
        self.x.tell(
            a.ResourceUp(
                group=self.name,
                epoch=self.epoch,
                resource=resource.name,
                agent=resource.agent,
                at_ms=self.m.world.wall_ms,
                took_ms=int(self.m.start_ms),
            )
        )

    def _start_failed(self, name: ResourceName, detail: str) -> None:
        self.state = "stopping"
        after = self._begin()

        def stopped(left: Left) -> None:
            self.state = "stop_failed" if left else "stopping"
            if not left:
                self.x.ended(self)
            self.x.tell(
                a.GroupStartFailed(group=self.name, epoch=self.epoch, resource=name, detail=detail, clean=not left)
            )

        self._stop_ordered(self._begun(), after, stopped)

    def _begun(self) -> tuple[ResourceSpec, ...]:
        return tuple(r for r in self.spec.resources if r.name in self.resources)

    # ---- stop ---------------------------------------------------------------------------------------------------

    def stop(self, epoch: Epoch) -> None:
        self.state = "stopping"
        began_ns = self.m.local_ns

        def ended(left: Left) -> None:
            self._stop_ended(left, epoch, began_ns)

        self._stop_ordered(self._to_stop(), self._begin(), ended)

    def _to_stop(self) -> tuple[ResourceSpec, ...]:
        if self.known:
            return self._begun()
        here = self.m.premises.of(self.name)
        return tuple(r for r in self.spec.resources if r.name in here or r.name in self.resources)

    def _stop_ended(self, left: Left, epoch: Epoch, began_ns: int, *, tell_failure: bool = True) -> bool:
        """The last look, at everything at once; then tell."""
        left = left or {r.name: _STILL for r in self.spec.resources if self.left_over(r)}
        if left:
            self.state = "stop_failed"
            name, detail = next(iter(left.items()))
            if tell_failure:
                self.x.tell(a.GroupStopFailed(group=self.name, epoch=epoch, resource=name, detail=detail))
            return False
        self.x.ended(self)
        took_ms = (self.m.local_ns - began_ns) // MS
        self.x.tell(a.GroupDown(group=self.name, epoch=epoch, took_ms=took_ms))
        return True

    def emergency(self, hard_ns: int, tries: int = EMERGENCY_TRIES_MAX) -> None:
        """Addresses first, then services, then the storage, each within its share of what is left; again until done."""
        self.state = "stopping"
        after, began_ns, left = self._begin(), self.m.local_ns, dict[ResourceName, str]()
        number = EMERGENCY_TRIES_MAX - tries
        least_ms = min(EMERGENCY_BUDGET_MIN_MS << number, EMERGENCY_BUDGET_MAX_MS)

        def phase(step: int) -> None:
            if step == len(EMERGENCY):
                first = tries == EMERGENCY_TRIES_MAX
                if not self._stop_ended(left, self.epoch, began_ns, tell_failure=first) and tries > 1:
                    after(EMERGENCY_RETRY_MS, lambda: self.emergency(hard_ns, tries - 1))
                return
            kind, share = EMERGENCY[step]
            budget_ms = max(least_ms, (hard_ns - self.m.local_ns) / MS * share)
            chosen = tuple(r for r in self._to_stop() if kind_of(r) is kind)

            def ended(found: Left) -> None:
                left.update(found)
                phase(step + 1)

            self._stop_ordered(chosen, after, ended, budget_ms, End.FORCED)

        phase(0)

    def fits(self, budget_ms: float) -> bool:
        """Can an emergency stop succeed in so much time, as long as the agents here take?"""
        rest_ms = budget_ms
        for kind, share in EMERGENCY:
            if not any(kind_of(r) is kind for r in self.spec.resources):
                continue
            takes_ms, limit_ms = self.m.stop_ms * STOP_SHARE[kind], max(EMERGENCY_BUDGET_MIN_MS, rest_ms * share)
            if takes_ms > limit_ms and kind is not Kind.SERVICE:  # a service is killed, the rest cannot be forced
                return False
            rest_ms -= min(takes_ms, limit_ms)
        return True

    def clean(self, then: Callable[[Left], None]) -> None:
        """Find and stop what is left over of it here."""
        here = self.m.premises.of(self.name)
        left_over = tuple(r for r in self.spec.resources if r.name in here)
        self._stop_ordered(left_over, self._begin(), then)

    def left_over(self, resource: ResourceSpec) -> bool:
        """What the kernel shows."""
        return resource.name in self.m.premises.of(self.name)

    def _stop_ordered(
        self,
        chosen: Iterable[ResourceSpec],
        after: After,
        then: Callable[[Left], None],
        budget_ms: float | None = None,
        end: End = End.STOPPED,
    ) -> None:
        """In reverse order of dependencies. Where a stop fails, nothing under it is stopped: it is still in use."""
        resources = tuple(chosen)
        stopped: set[ResourceName] = set()
        begun: set[ResourceName] = set()
        left: Left = {}

        def ended(resource: ResourceSpec, words: str) -> None:
            if words:
                left[resource.name] = words
            else:
                stopped.add(resource.name)
                self.resources.pop(resource.name, None)
            step()

        def step() -> None:
            for r in ordering.ready_to_stop(resources, frozenset(stopped), frozenset(begun)):
                begun.add(r.name)
                self._stop_one(r, after, lambda words, r=r: ended(r, words), budget_ms, end)  # type: ignore[misc]
            if len(stopped) + len(left) == len(begun):
                below = {r.name: "not stopped: what stands on it is still active" for r in resources}
                then({**left, **{n: w for n, w in below.items() if n not in begun}})

        if resources:
            step()
        else:
            after(VERIFY_MS, lambda: then({}))

    def _stop_one(
        self,
        resource: ResourceSpec,
        after: After,
        then: Callable[[str], None],
        budget_ms: float | None,
        end: End,
    ) -> None:
        if resource.name in self.resources:
            self.resources[resource.name] = "stopping"
        limit_ms = float(resource.stop_timeout_ms or STOP_TIMEOUT_MS)
        limit_ms = limit_ms if budget_ms is None else min(budget_ms, limit_ms)
        takes_ms = self.m.stop_ms * STOP_SHARE[kind_of(resource)]

        began_ns = self.m.world.now_ns

        def verify() -> None:
            spent_ms = (self.m.world.now_ns - began_ns) / MS
            rest_ms = VERIFY_WAIT_MS if budget_ms is None else max(0.0, min(VERIFY_WAIT_MS, budget_ms - spent_ms))
            self._verify(resource, rest_ms, after, then)

        def kill() -> None:
            """What an agent's stop has left running."""
            if not self.m.agents.stays(resource.name):
                self.m.premises.take(self.name, resource.name, end)
            verify()

        def said(_done: bool) -> None:
            if self.left_over(resource) and kind_of(resource) is Kind.SERVICE:
                after(TERM_GRACE_MS if budget_ms is None else 0.0, kill)
            else:
                verify()

        self.m.agents.stop(self.spec, resource, takes_ms, limit_ms, end, after, said)

    def _verify(self, resource: ResourceSpec, rest_ms: float, after: After, then: Callable[[str], None]) -> None:
        """Whatever the agent said: only what the kernel shows counts."""
        if not self.left_over(resource):
            then("")
            return

        def look() -> None:
            left = self.left_over(resource)
            if left and resource.name in self.resources:
                self.resources[resource.name] = "failed"
            then(_STILL if left else "")

        after(rest_ms, look)

    # ---- watching and repairing ---------------------------------------------------------------------------------

    def monitor(self) -> None:
        """Ask every agent, again and again while it is up."""
        self._monitoring += 1
        turn = self._monitoring
        interval_ms = min(r.monitor_interval_ms for r in self.spec.resources)

        def look() -> None:
            if turn != self._monitoring or self.state != "up" or self.x.groups.get(self.name) is not self:
                return
            if not self.x.maintenance:
                for resource in self.spec.resources:
                    self._judge(resource)
            self.x.after(interval_ms, look)

        self.x.after(interval_ms, look)

    def _judge(self, resource: ResourceSpec) -> None:
        if resource.name in self.restarting:
            return
        why = self.m.agents.monitor(self.name, resource)
        known = self.resources.get(resource.name)
        if why and known == "up":
            self.lost(resource.name, why)
        elif not why and known == "failed":
            self.resources[resource.name] = "up"
            self._tell_up(resource)

    def lost(self, name: ResourceName, detail: str) -> None:
        if self.resources.get(name) != "up" or self.x.maintenance:
            return
        self.resources[name] = "failed"
        self.x.tell(a.ResourceFailed(group=self.name, epoch=self.epoch, resource=name, detail=detail))

    def hands_off(self, on: bool) -> None:
        """Maintenance: nothing is watched. Afterwards everything is taken for up, and looked at."""
        if on or self.state != "up":
            return
        for resource in self.spec.resources:
            if self.resources.get(resource.name) == "failed":
                self.resources[resource.name] = "up"
                self._tell_up(resource)
            self._judge(resource)

    def restart(self, name: ResourceName) -> str:
        """Stop, verify and start one resource; what stands on a storage goes along. Returns why not, "" when begun."""
        if self.state != "up":
            return f"group {self.name} is {self.state}"
        if name in self.restarting:
            return f"{name} is being restarted already"
        resource = next((r for r in self.spec.resources if r.name == name), None)
        if resource is None:
            return f"group {self.name} has no resource {name}"
        self._restarts += 1
        related = (*self._below(resource), *self._with_above(resource))
        before = {(r.name, self.restarting[r.name]) for r in related if r.name in self.restarting}
        self.restarting[name] = self._restarts
        operation = self._operation

        def after(delay_ms: float, deed: Callable[[], None]) -> None:
            self.x.after(delay_ms, lambda: deed() if operation == self._operation else None)

        first = self._with_above(resource) if kind_of(resource) is Kind.STORAGE else (resource,)

        def told(detail: str) -> None:
            del self.restarting[name]
            ok = not detail
            self.x.tell(a.ResourceRestarted(group=self.name, epoch=self.epoch, resource=name, ok=ok, detail=detail))

        def stopped(left: Left) -> None:
            if left:
                told("; ".join(f"{n} is not verified stopped: {w}" for n, w in left.items()))
            else:
                missing = [r for r in self._below(resource) if r.name not in self.m.premises.of(self.name)]
                self._start_again([*missing, *first], after, told)

        def begin() -> None:
            if before & set(self.restarting.items()):
                after(RELATED_MS, begin)
            else:
                self._stop_ordered(first, after, stopped, end=End.FORCED)

        begin()
        return ""

    def _start_again(
        self,
        todo: list[ResourceSpec],
        after: After,
        told: Callable[[str], None],
    ) -> None:
        """One after the other, in the order of dependencies."""
        if not todo:
            told("")
            return
        resource = todo.pop(0)
        self.resources[resource.name] = "starting"

        def began(why: str) -> None:
            why = why or self._missing(resource)
            self.resources[resource.name] = "failed" if why else "up"
            if why:
                told(why)
                return
            self._tell_up(resource)
            self._start_again(todo, after, told)

        self.m.agents.start(self.spec, resource, self.epoch, after, began)

    def _below(self, resource: ResourceSpec) -> tuple[ResourceSpec, ...]:
        """Everything on which it stands, in start order."""
        found = {resource.name}
        for wave in reversed(ordering.waves(self.spec.resources)):
            found |= {below for r in self.spec.resources if r.name in wave and r.name in found for below in r.after}
        by_name = {r.name: r for r in self.spec.resources}
        return tuple(
            by_name[n] for wave in ordering.waves(self.spec.resources) for n in wave if n in found - {resource.name}
        )

    def _with_above(self, resource: ResourceSpec) -> tuple[ResourceSpec, ...]:
        """It and everything that stands on it, in start order."""
        found = {resource.name}
        for wave in ordering.waves(self.spec.resources):
            found |= {r.name for r in self.spec.resources if r.name in wave and found & set(r.after)}
        by_name = {r.name: r for r in self.spec.resources}
        return tuple(by_name[n] for wave in ordering.waves(self.spec.resources) for n in wave if n in found)


_STILL = "its processes do not end"
