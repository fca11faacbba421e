"""The life of one group on this node: parallel start and stop by dependencies, verified, and the emergency stop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

from hamail.core.ordering import ready_to_start, ready_to_stop, standing_on
from hamail.executor.agents import INSTALLED, NOT_RUNNING, AgentError, Context, Severity
from hamail.executor.clock import NS_PER_MS, boottime_ns, wall_ms
from hamail.executor.kinds import Kind, is_own
from hamail.executor.metadata import Metadata
from hamail.executor.resource import Failure, Resource, State, Tools
from hamail.model.actions import (
    AnyNotice,
    GroupDown,
    GroupStartFailed,
    GroupStatus,
    GroupStopFailed,
    GroupUp,
    ResourceFailed,
    ResourceRestarted,
    ResourceUp,
)
from hamail.model.spec import GroupSpec, ResourceSpec
from hamail.model.state import Stamp

EMERGENCY_BUDGET_MIN_MS = 100  # of the first try; each further one may take twice as long: there is no hurry left
EMERGENCY_BUDGET_MAX_MS = 10_000
EMERGENCY_RETRY_S = 0.5
EMERGENCY_TRIES_MAX = 120
_T = TypeVar("_T")
_NO_METADATA = Metadata(name="", parameters={}, timeouts_ms={})
_STAMPS = {Kind.STORAGE: Stamp.STORAGE, Kind.SERVICE: Stamp.SERVICES, Kind.ADDRESS: Stamp.ADDRESS}
# share of the time left until the hard deadline that each phase of an emergency stop may use
_EMERGENCY = ((Kind.ADDRESS, 0.2), (Kind.SERVICE, 0.5), (Kind.STORAGE, 0.8))

log = logging.getLogger("hamail.executor.groups")


class Group:
    """A group under one epoch. Notices go to `tell`; `ended` is called once nothing of it is held any more."""

    def __init__(
        self,
        spec: GroupSpec,
        context: Context,
        tools: Tools,
        tell: Callable[[AnyNotice], None],
        ended: Callable[["Group"], None],
    ) -> None:
        self.spec = spec
        self.epoch = context.epoch
        self.state = "starting"  # starting | up | stopping | stop_failed
        self._context = context
        self._tools = tools
        self._tell = tell
        self._ended = ended
        self._resources: dict[str, Resource] = {}
        self._stamps: dict[str, int] = {}
        self._up_notice: GroupUp | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._restarts: dict[str, asyncio.Task[None]] = {}
        self._emergency_task: asyncio.Task[None] | None = None
        self._stop_epoch = context.epoch  # under which the end of a stop is told
        self._failure_owed = False  # a stop was asked for, and its failure has not been told yet
        self._hands_off = False
        self.known = False  # is everything of this group on this node either ours or stopped?

    # -- what is asked of it ---------------------------------------------------------------------------------------

    def start(self, looking: asyncio.Lock, *, clean_first: bool) -> None:
        """Begin to start, once nobody looks for leftovers of this group any more."""
        self.known = not clean_first

        async def start() -> None:
            async with looking:
                pass
            await self._start()

        self._replace(start)

    def stop(self, why: str, epoch: int) -> None:
        """Begin to stop. An emergency stop goes on and answers for this one: it is faster, and is tried again."""
        self.state = "stopping"  # from this moment: a restart that is asked for now would outlive the stop
        self._stop_epoch = epoch
        self._failure_owed = True
        if self._emergency_task is None or self._emergency_task.done():
            self._replace(lambda: self._stop(why, epoch))

    def emergency_stop(self, hard_ns: int) -> None:
        self.state = "stopping"
        self._failure_owed = True
        self._emergency_task = self._replace(lambda: self._emergency(hard_ns))

    def restart(self, name: str) -> str:
        """Begin a restart of one resource; returns why not, "" when begun."""
        if self.state != "up":
            return f"group {self.spec.name} is {self.state}"
        if name not in self._resources:
            return f"group {self.spec.name} has no resource {name}"
        if name in self._restarts:
            return f"{name} is being restarted already"
        related = {*self._below(name), name, *self._above(name)}
        before = {task for n, task in self._restarts.items() if n in related}
        task = asyncio.create_task(self._restart(self._resources[name], before), name=f"restart {name}")
        self._restarts[name] = task
        task.add_done_callback(lambda done: self._restart_over(name, done))
        self._track(task)
        return ""

    def _restart_over(self, name: str, task: "asyncio.Task[None]") -> None:
        if self._restarts.get(name) is task:
            del self._restarts[name]

    def victim(self, name: str) -> tuple[Resource | None, str]:
        """The service to be killed for practice (`name` "": the last one), or why there is none."""
        able = [r for n, r in self._resources.items() if r.killable and name in ("", n)]
        if not able:
            return None, f"group {self.spec.name} has no service {name} that runs here and could be killed"
        return able[-1], ""

    def hands_off(self, on: bool) -> None:
        """Maintenance: watch nothing. Afterwards take everything for up and look at once."""
        self._hands_off = on
        for resource in self._resources.values():
            if on:
                resource.end_monitoring()
            elif self.state == "up":
                if resource.state is State.FAILED:
                    resource.state = State.UP
                    self._tell_up(resource.spec, 0)
                resource.begin_monitoring(0)

    def check_addresses(self, present: frozenset[str]) -> None:
        """Tell of an address of this group that has vanished."""
        if self.state == "up" and not self._hands_off:
            for resource in self._resources.values():
                gone = sorted(resource.addresses - present)
                if gone:
                    resource.lost(f"address {', '.join(gone)} has vanished from this node")

    def status(self, soft_ns: int, hard_ns: int) -> GroupStatus:
        return GroupStatus(
            epoch=self.epoch,
            state=self.state,
            resources={name: str(r.state) for name, r in self._resources.items()},
            soft_ns=soft_ns,
            hard_ns=hard_ns,
        )

    @property
    def up_notice(self) -> GroupUp | None:
        return self._up_notice if self.state == "up" else None

    async def wait(self) -> None:
        """Until what is going on has ended."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def clean(self) -> list[str]:
        """Find and stop what is left over of this group here. Returns what could not be stopped; never raises."""
        try:
            await self._prepare()
        except AgentError as error:
            return [str(error)]
        found = await self._find()
        if found:
            log.warning("group %s has leftovers here: %s", self.spec.name, ", ".join(sorted(found)))
        left = await self._stop_ordered(found)
        return [f"{name}: {'; '.join(words)}" for name, words in left.items()] + await self._verify()

    async def rehearse(self, kinds: frozenset[Kind]) -> None:
        """Let our own agents find out ahead what their start needs to know. What they say is no verdict."""
        try:
            await self._prepare()
        except AgentError as error:
            log.warning("group %s could not be started here: %s", self.spec.name, error)
            return
        chosen = [r for r in self._resources.values() if is_own(r.spec.agent) and r.kind in kinds]
        await asyncio.gather(*(r.rehearse() for r in chosen))

    async def evict(self, addresses: frozenset[str]) -> list[str]:
        """Stop the address resources that have one of these. Returns what is left; never raises."""
        try:
            await self._prepare()
        except AgentError as error:
            return [str(error)]
        names = [n for n, r in self._resources.items() if r.addresses & addresses]
        return [f"{n}: {'; '.join(w)}" for n, w in (await self._stop_ordered(names)).items()]

    # -- operations ------------------------------------------------------------------------------------------------

    def _replace(self, operation: Callable[[], Awaitable[None]]) -> "asyncio.Task[None]":
        """Cancel whatever is going on and do this instead."""
        before = set(self._tasks)
        for task in before:
            task.cancel()  # now, so that it takes no further step before this operation begins

        async def run() -> None:
            if before:
                await asyncio.wait(before)
            await operation()

        task = asyncio.create_task(run(), name=f"group {self.spec.name}")
        self._track(task)
        return task

    def _track(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._operation_ended)

    def _operation_ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug: nothing is known of the group now, so it counts as held until a stop or its deadline ends that.
            log.critical("operation on group %s failed: %r", self.spec.name, error, exc_info=error)
            self.state = "stop_failed"
            self._tell_stop_failed("", f"internal error: {error!r}; outcome unknown", self.epoch)

    async def _start(self) -> None:
        began_ns = boottime_ns()
        failed, detail = await self._prepared()
        if not detail:
            failed, detail = await self._start_ordered()
        if detail:
            await self._start_failed(failed, detail)
            return
        self.state = "up"
        took_ms = (boottime_ns() - began_ns) // NS_PER_MS
        self._up_notice = GroupUp(group=self.spec.name, epoch=self.epoch, took_ms=took_ms, stamps=dict(self._stamps))
        self._tell(self._up_notice)
        log.info("group %s is up under epoch %d after %d ms", self.spec.name, self.epoch, took_ms)
        for position, resource in enumerate(() if self._hands_off else self._resources.values(), start=1):
            interval_ms = resource.spec.monitor_interval_ms
            resource.begin_monitoring(interval_ms * position // (len(self._resources) + 1))

    async def _prepared(self) -> tuple[str, str]:
        """Check everything before anything runs; returns ("", "") or (resource, why not)."""
        try:
            await self._prepare()
        except AgentError as error:
            return "", str(error)
        if not self.known:
            left = await self._stop_ordered(await self._find())
            if left:
                name = next(iter(left))
                return name, f"leftover could not be stopped: {'; '.join(left[name])}"
            self.known = True
        return "", ""

    async def _prepare(self) -> None:
        """Raises AgentError."""
        prepared = {}
        for spec in self.spec.resources:
            metadata = await self._tools.agents.check(spec)
            prepared[spec.name] = self._resource(spec, self._tools.agents.locate(spec.agent), metadata)
        self._resources = prepared

    def _resource(self, spec: ResourceSpec, path: Path, metadata: Metadata) -> Resource:
        return Resource(spec, path, metadata, self._context, self._tools, self._failed, self._recovered)

    async def _find(self) -> list[str]:
        """Which resources are here, or might be: by their agents and by the kernel."""

        async def is_here(resource: Resource) -> bool:
            traces = resource.traces()
            probe = await resource.probe()
            return bool(traces) or probe.exit_code not in (NOT_RUNNING, INSTALLED)

        resources = list(self._resources.values())
        here = await asyncio.gather(*(is_here(r) for r in resources))
        return [r.spec.name for r, found in zip(resources, here, strict=True) if found]

    async def _start_ordered(self) -> tuple[str, str]:
        """Start each resource as soon as what it needs is up. Returns ("", "") or (the one that failed, why)."""
        up: set[str] = set()
        begun: set[str] = set()
        running: dict[asyncio.Task[str], str] = {}
        try:
            while True:
                for spec in ready_to_start(self.spec.resources, frozenset(up), frozenset(begun)):
                    begun.add(spec.name)
                    running[asyncio.create_task(self._start_one(spec))] = spec.name
                if not running:
                    stuck = sorted(r.name for r in self.spec.resources if r.name not in up)
                    return (stuck[0], "it waits for what is never up") if stuck else ("", "")
                done, _pending = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    name = running.pop(task)
                    why = task.result()
                    if why:
                        return name, why
                    up.add(name)
        finally:
            await _cancel(running)

    async def _start_one(self, spec: ResourceSpec) -> str:
        """Returns why it is not up; "" when it is, or when the group does not need it."""
        resource = self._resources[spec.name]
        result = await resource.start()
        if resource.state is State.UP:
            at_ms = wall_ms()
            stamp = _STAMPS[resource.kind]
            self._stamps[stamp] = max(at_ms, self._stamps.get(stamp, 0))
            self._tell_up(spec, result.took_ms)
            return ""
        if result.severity is Severity.OK:
            return "it ended right after its start"
        if spec.critical:
            return result.detail
        self._failed(Failure(spec.name, result.detail, fatal=False))
        return ""

    async def _start_failed(self, name: str, detail: str) -> None:
        log.error("group %s cannot start: %s: %s", self.spec.name, name, detail)
        self.state = "stopping"
        begun = [n for n, r in self._resources.items() if r.state is not State.DOWN]
        left = await self._stop_ordered(begun)
        words = [f"{n}: {'; '.join(w)}" for n, w in left.items()] or await self._verify()
        clean = not words
        if words:
            detail = f"{detail}. Then not verified stopped: {'. '.join(words)}"
        self.state = "stopping" if clean else "stop_failed"
        self.known = self.known and (clean or bool(self._resources))  # else a stop must look for everything
        if clean:
            self._close()
        self._tell(GroupStartFailed(group=self.spec.name, epoch=self.epoch, resource=name, detail=detail, clean=clean))

    async def _stop(self, why: str, epoch: int) -> None:
        began_ns = boottime_ns()
        log.info("stopping group %s under epoch %d: %s", self.spec.name, epoch, why)
        await self._stop_ended(await self._stop_held(), began_ns)

    async def _stop_held(self) -> dict[str, list[str]]:
        """Stop what was begun; where the state found at the start is not known yet, look for everything."""
        if not self.known:
            left = await self.clean()
            self.known = not left
            return {self.spec.name: left} if left else {}
        return await self._stop_ordered([n for n, r in self._resources.items() if r.state is not State.DOWN])

    async def _emergency(self, hard_ns: int) -> None:
        """Addresses first (no new acknowledgements), then the services, then the storage; again until it is done."""
        began_ns = boottime_ns()
        self.state = "stopping"
        for number in range(EMERGENCY_TRIES_MAX):
            least_ms = min(EMERGENCY_BUDGET_MIN_MS << number, EMERGENCY_BUDGET_MAX_MS)
            left = {} if self.known else await self._stop_held()
            for kind, share in _EMERGENCY:
                budget_ms = max(least_ms, int((hard_ns - boottime_ns()) / NS_PER_MS * share))
                names = [n for n, r in self._resources.items() if r.kind is kind and r.state is not State.DOWN]
                left |= await self._stop_kind(kind, names, budget_ms)
            if not await self._stop_ended(left, began_ns):
                await asyncio.sleep(EMERGENCY_RETRY_S)
                continue
            return

    async def _stop_kind(self, kind: Kind, names: list[str], budget_ms: int) -> dict[str, list[str]]:
        if kind is Kind.STORAGE:
            return await self._stop_ordered(names, budget_ms)
        stops = await asyncio.gather(*(self._resources[n].stop(budget_ms) for n in names))
        return {n: left for n, left in zip(names, stops, strict=True) if left}

    async def _stop_ended(self, left: dict[str, list[str]], began_ns: int) -> bool:
        """Tell the verified result, a failure once to whoever asked; returns whether the group is down."""
        words = await self._verify() if not left else []
        if left or words:
            self.state = "stop_failed"
            name = next(iter(left), "")
            detail = ". ".join([f"{n}: {'; '.join(w)}" for n, w in left.items()] + words)
            log.error("group %s is NOT verified stopped: %s", self.spec.name, detail)
            if self._failure_owed:
                self._failure_owed = False
                self._tell_stop_failed(name, detail, self._stop_epoch)
            return False
        took_ms = (boottime_ns() - began_ns) // NS_PER_MS
        log.info("group %s is verified stopped after %d ms", self.spec.name, took_ms)
        self._close()
        stamps = {str(Stamp.STOPPED): wall_ms()}
        self._tell(GroupDown(group=self.spec.name, epoch=self._stop_epoch, took_ms=took_ms, stamps=stamps))
        return True

    async def _stop_ordered(self, names: Iterable[str], budget_ms: int | None = None) -> dict[str, list[str]]:
        """Stop these in reverse dependency order, in parallel where it allows. Returns what is left of whom.

        Where a stop fails, nothing under it is stopped: it is still in use.
        """
        chosen = tuple(r for r in self.spec.resources if r.name in set(names))
        stopped: set[str] = set()
        begun: set[str] = set()
        left: dict[str, list[str]] = {}
        running: dict[asyncio.Task[list[str]], str] = {}
        try:
            while True:
                for spec in ready_to_stop(chosen, frozenset(stopped), frozenset(begun)):
                    begun.add(spec.name)
                    running[asyncio.create_task(self._resources[spec.name].stop(budget_ms))] = spec.name
                if not running:
                    for name in sorted({r.name for r in chosen} - begun):
                        left[name] = ["not stopped: what stands on it is still active"]
                    return left
                done, _pending = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    name = running.pop(task)
                    if task.result():
                        left[name] = task.result()
                    else:
                        stopped.add(name)
        finally:
            await _cancel(running)

    async def _verify(self) -> list[str]:
        """The last look, at everything at once; the kernel can be asked also where an agent cannot be used."""
        resources = self._resources or {r.name: self._resource(r, Path(), _NO_METADATA) for r in self.spec.resources}
        return [f"{n}: {'; '.join(left)}" for n, r in resources.items() if (left := await r.left_over())]

    async def _restart(self, resource: Resource, before: "set[asyncio.Task[None]]") -> None:
        """Stop and start one resource. What stands on it follows only if it went down, or must for a storage to go.

        Restarts `before` come first: this one must not start a service while its storage is being taken away.
        """
        if before:
            await asyncio.wait(before)
        began_ns = boottime_ns()
        above = self._above(resource.spec.name)
        first = [resource.spec.name, *(above if resource.kind is Kind.STORAGE else ())]
        left = await self._stop_ordered(first)
        detail = "; ".join(f"{n} is not verified stopped: {', '.join(w)}" for n, w in left.items())
        for name in self._below(resource.spec.name) if not detail else ():
            if await self._resources[name].gone():  # e.g. its own restart has failed: nothing runs without its storage
                detail = detail or await self._start_again(name)
        for name in first if not detail else ():
            detail = detail or await self._start_again(name)
        for name in above if not detail and resource.kind is not Kind.STORAGE else ():
            if (await self._resources[name].monitor_once()).severity is not Severity.OK:
                left = await self._stop_ordered([name])
                detail = detail or "; ".join(left.get(name, [])) or await self._start_again(name)
        if not detail:
            log.info("restarted %s in %d ms", resource.spec.name, (boottime_ns() - began_ns) // NS_PER_MS)
        self._restarts.pop(resource.spec.name, None)  # whoever is told may ask for the next one at once
        self._tell(
            ResourceRestarted(
                group=self.spec.name,
                epoch=self.epoch,
                resource=resource.spec.name,
                ok=not detail,
                detail=detail,
            )
        )

    async def _start_again(self, name: str) -> str:
        resource = self._resources[name]
        result = await resource.start()
        if resource.state is not State.UP:
            return f"{name}: {result.detail}"
        self._tell_up(resource.spec, result.took_ms)
        if not self._hands_off:
            resource.begin_monitoring(resource.spec.monitor_interval_ms)
        return ""

    def _above(self, name: str) -> list[str]:
        """Everything that stands on a resource, directly or not, in start order."""
        found = {name}
        for _round in self.spec.resources:
            found |= {r.name for n in list(found) for r in standing_on(self.spec.resources, n)}
        return self._in_order(found - {name})

    def _below(self, name: str) -> list[str]:
        """Everything on which a resource stands, directly or not, in start order."""
        found = {name}
        for _round in self.spec.resources:
            found |= {below for r in self.spec.resources if r.name in found for below in r.after}
        return self._in_order(found - {name})

    def _in_order(self, names: set[str]) -> list[str]:
        ordered: list[str] = []
        for _round in self.spec.resources:  # each gives one at least
            ordered += [r.name for r in ready_to_start(self.spec.resources, frozenset(ordered), frozenset(ordered))]
        return [n for n in ordered if n in names]

    # -- telling ---------------------------------------------------------------------------------------------------

    def _failed(self, failure: Failure) -> None:
        log.warning("resource %s of group %s has failed: %s", failure.resource, self.spec.name, failure.detail)
        if not self._hands_off:
            self._tell(
                ResourceFailed(
                    group=self.spec.name,
                    epoch=self.epoch,
                    resource=failure.resource,
                    detail=failure.detail,
                    fatal=failure.fatal,
                )
            )

    def _recovered(self, name: str, took_ms: int) -> None:
        log.info("resource %s of group %s works again", name, self.spec.name)
        self._tell_up(self._resources[name].spec, took_ms)

    def _tell_up(self, spec: ResourceSpec, took_ms: int) -> None:
        log.info("%s is up after %d ms", spec.name, took_ms)
        self._tell(
            ResourceUp(
                group=self.spec.name,
                epoch=self.epoch,
                resource=spec.name,
                agent=spec.agent,
                at_ms=wall_ms(),
                took_ms=took_ms,
            )
        )

    def _tell_stop_failed(self, resource: str, detail: str, epoch: int) -> None:
        self._tell(GroupStopFailed(group=self.spec.name, epoch=epoch, resource=resource, detail=detail))

    def _close(self) -> None:
        for resource in self._resources.values():
            resource.close()
        self._ended(self)


async def _cancel(tasks: Iterable["asyncio.Task[_T]"]) -> None:
    """Cancel and wait, so that nothing of them runs on unseen."""
    pending = [t for t in tasks if not t.done()]
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.wait(pending)
