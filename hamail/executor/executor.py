"""What this node holds, and what hamaild asks of it: the composition of everything in this package."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hamail.executor import verify
from hamail.executor.agents import NAME, AgentError, Agents, Context
from hamail.executor.cgroups import ProcessSets
from hamail.executor.clock import NS_PER_MS, BootTimer, boottime_ns
from hamail.executor.deadman import Deadline, Deadman
from hamail.executor.fences import Fences
from hamail.executor.gather import Gatherer
from hamail.executor.groups import Group
from hamail.executor.kinds import Kind
from hamail.executor.ledger import Held, Ledger, Page
from hamail.executor.police import TICK_S, AddressEvents, Police
from hamail.executor.policy import ANYTHING, Policy
from hamail.executor.practice import Practice
from hamail.executor.processes import Processes
from hamail.executor.resource import Tools
from hamail.executor.watchdog import Watchdog
from hamail.model.actions import (
    AnyNotice,
    AnyRequest,
    CheckFence,
    Cleaned,
    CleanUp,
    Configure,
    DeadlinePassed,
    EndPractice,
    Extend,
    GatherFacts,
    GroupDown,
    GroupStopFailed,
    Hello,
    Maintain,
    Practise,
    Prepare,
    RestartResource,
    RunFence,
    StartGroup,
    StopGroup,
    SwitchPower,
    Welcome,
)
from hamail.model.spec import GroupSpec
from hamail.model.state import Incarnation

GROUPS_MAX = 64
RESOURCES_MAX = 64
TASKS_MAX = 256  # hamaild never has so much under way; whoever speaks in its place might
EPOCHS_MAX = 4096
SHUTDOWN_TRIES_MAX = 2

_BUSY = "more is under way here already than hamaild ever asks for; nothing was done"
PREPARE = "prepare"  # the evidence that an agent is told instead of one; see hamail.ocf.prepared
log = logging.getLogger("hamail.executor")


@dataclass(frozen=True)
class Settings:
    node: str
    agent_dirs: tuple[Path, ...]
    watchdog_device: str | None
    watchdog_timeout_s: int
    policy: Policy = ANYTHING  # main always gives the node's own


class Executor:
    """Handles typed requests; every result is a notice given to `tell`."""

    def __init__(
        self, settings: Settings, processes: Processes, sets: ProcessSets, watchdog: Watchdog, ledger: Ledger
    ) -> None:
        self._settings = settings
        self.watchdog = watchdog
        self._ledger = ledger
        agents = Agents(settings.agent_dirs, processes, sets, settings.policy)
        self._tools = Tools(processes, sets, agents)
        self._fences = Fences(processes, sets, self.tell, settings.policy)
        self._practice = Practice(settings.policy, agents, processes, sets, self._fences, self._find_held, self.tell)
        self._gatherer = Gatherer(settings.policy, self.tell)
        self._incarnation = Incarnation(boot_id=ledger.page.boot_id, executor_id=uuid.uuid4().hex)
        self._cluster = ""
        self._configured: dict[str, GroupSpec] = {}
        self._cleaned: dict[str, GroupSpec] = {}  # found or made clean here since, under this configuration
        self._config = 0  # the entry of the log that put it into force
        self._clean = False
        self._cleaning: asyncio.Task[None] | None = None
        self._looking: dict[str, asyncio.Lock] = {}  # held per group while it is searched for and cleaned here
        self._held: dict[str, Group] = {}
        self._last_epoch: dict[str, int] = {}
        self._left: tuple[Held, ...] = ()  # of the executor before this one, untouched because of maintenance
        self._maintenance = False
        self._stale = False  # the ledger does not say what it should
        self._doomed = ledger.page.doomed
        self._stopping = False
        self._listener: Callable[[AnyNotice], None] = _nobody_listens
        self._deadman = Deadman(self._soft_passed, self._hard_passed)
        self._police = Police(self._free_groups, self._evict, self.tell)
        self._tasks: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        self._timer = BootTimer(loop, self._check_deadlines)
        self._events = AddressEvents(self._addresses_changed)

    # -- life ------------------------------------------------------------------------------------------------------

    def listen(self, listener: Callable[[AnyNotice], None]) -> None:
        """Notices go to `listener` from now on."""
        self._listener = listener

    def tell(self, notice: AnyNotice) -> None:
        self._listener(notice)

    async def recover(self) -> None:
        """Stop what an executor that died in this boot has left, then arm the watchdog.

        Not the other way round: to open the device is to feed it, and with services running that nobody minds it must
        not be fed. The countdown that the dead executor has left goes on meanwhile.
        """
        page = self._ledger.page
        left: list[str] = []
        self._last_epoch = page.epochs | {held.spec.name: held.epoch for held in page.groups}
        if page.maintenance:
            log.warning("maintenance: what an executor before this one has left running stays as it is")
            self._cluster = page.cluster
            self._maintenance = True
            self._left = page.groups
            self._deadman.suspend(True)
        elif page.groups:
            names = ", ".join(held.spec.name for held in page.groups)
            log.warning("an executor has died here while it held %s: stopping that", names)
            self._cluster = page.cluster
            left = [words for held in page.groups if (words := await self._clean_one(held.spec))]
        doomed = "; ".join(left) or self._doomed
        if doomed:
            self._doom(doomed)
            return
        if not page.maintenance:
            self._note()
        self.watchdog.arm()

    async def run(self) -> None:
        """The heartbeat of the process: feeds the watchdog and polices the node, until cancelled."""
        ticks = max(1, round(TICK_S / self.watchdog.feed_interval_s))
        pause_s = TICK_S / ticks
        count = 0
        while True:
            self.feed()
            if count % ticks == 0:
                self._spawn(self._patrol())
            count += 1
            await asyncio.sleep(pause_s)

    def feed(self) -> None:
        """Feed the watchdog, unless a group is past its hard deadline, or runs and has none."""
        if self._stale:
            self._note()
        self._check_deadlines()
        overdue = self._deadman.overdue(boottime_ns())
        if overdue:
            self._doom(f"group {', '.join(overdue)} was not verified stopped by its hard deadline")
        if self._doomed:
            self._doom(self._doomed)  # it may not be written down yet
        if self._maintenance or not self._left:
            self.watchdog.feed()

    async def shutdown(self) -> bool:
        """Stop every held group; True when all is verified stopped (or under maintenance), and it is safe to disarm."""
        self._stopping = True
        # First of all: once a group is free, it must not be given back to this node, which could not start it.
        self._clean = False
        self.tell(Cleaned(ok=False, detail="its executor is being stopped"))
        if not self._maintenance:
            for _try in range(SHUTDOWN_TRIES_MAX):
                groups = list(self._held.values())
                for group in groups:
                    group.stop("the executor is stopped", group.epoch)
                for group in groups:
                    await group.wait()
        elif self._held:
            log.warning("maintenance: %s stays as it is", ", ".join(self._held))
        for group in self._held.values():
            group.hands_off(on=True)
        return not self._held or self._maintenance

    def close(self) -> None:
        self._events.close()
        self._timer.close()
        self._gatherer.close()
        for task in self._tasks:
            task.cancel()

    def sentence(self) -> str:
        """What it does, in one line."""
        held = [f"{name} {group.state} (epoch {group.epoch})" for name, group in self._held.items()]
        state = "holding " + ", ".join(held) if held else "holding nothing"
        watchdog = self.watchdog.status()
        guarded = "watchdog armed" if watchdog.armed else "no armed watchdog"
        return f"{state}; {guarded}{'; maintenance' if self._maintenance else ''}"

    # -- requests --------------------------------------------------------------------------------------------------

    def welcome(self) -> Welcome:
        return Welcome(
            incarnation=self._incarnation,
            groups={name: group.status(*self._deadline(name)) for name, group in self._held.items()},
            watchdog=self.watchdog.status(),
            clean=self._clean,
            maintenance=self._maintenance,
        )

    def handle(self, request: AnyRequest) -> str:
        """Begin what is asked. Returns why not ("" when accepted): then surely nothing was done."""
        if self._stopping and not isinstance(request, Extend):  # a stop in order shall have its time
            return "the executor is being stopped"
        match request:
            case Configure():
                return self._configure(request)
            case CleanUp():
                return self._clean_up()
            case Prepare():
                return self._prepare(request.group)
            case StartGroup():
                return self._start_group(request)
            case Extend():
                return self._extend(request)
            case StopGroup():
                return self._stop_group(request)
            case RestartResource():
                return self._restart_resource(request)
            case RunFence() | CheckFence():
                return self._fences.handle(request)
            case Practise() | SwitchPower() | EndPractice():
                return self._practice.handle(request, self._maintenance)
            case Maintain():
                return self._maintain(request.on)
            case GatherFacts():
                return self._gatherer.begin(self._configured.values())
            case Hello():
                return "already greeted"

    def _find_held(self, name: str) -> Group | None:
        return self._held.get(name)

    def _configure(self, request: Configure) -> str:
        if len(request.groups) > GROUPS_MAX:
            return f"{len(request.groups)} groups are more than {GROUPS_MAX}"
        for group in request.groups:
            if refused := _refuse_names(group):
                return refused
        if len(self._tasks) >= TASKS_MAX:
            return _BUSY
        self._cluster = request.cluster
        self._configured = {group.name: group for group in request.groups}
        self._config = request.config
        self._cleaned = {name: spec for name, spec in self._cleaned.items() if self._configured.get(name) == spec}
        known = self._configured.keys() | self._held.keys()
        self._looking = {name: lock for name, lock in self._looking.items() if name in known or lock.locked()}
        self._spawn(self._warm_up())
        return ""

    async def _warm_up(self) -> None:
        """Read the meta-data of every agent now, so that no start has to."""
        for name in sorted({r.agent for g in self._configured.values() for r in g.resources}):
            try:
                await self._tools.agents.metadata(name)
            except AgentError as error:
                log.warning("%s", error)

    def _clean_up(self) -> str:
        if self._maintenance:
            return "maintenance is on: nothing is stopped"
        if self._cleaning is not None and not self._cleaning.done():
            return ""  # its end will be told
        self._cleaning = self._spawn(self._clean_all(tuple(self._configured.values()), self._config))
        return ""

    async def _clean_all(self, groups: tuple[GroupSpec, ...], config: int) -> None:
        """The boot hold; once it is over, what is found of a changed group later does not bring it back."""
        specs = [g for g in groups if g.name not in self._held]
        results = await asyncio.gather(*(self._clean_one(spec) for spec in specs))
        left = [words for words in results if words]
        ending = self._stopping or self.watchdog.bites
        self._clean = (self._clean or not left) and not ending
        if left:
            log.error("this node is not clean: %s", "; ".join(left))
        clean = tuple(spec.name for spec in specs if self._cleaned.get(spec.name) == spec)
        if not ending:
            self.tell(Cleaned(ok=not left, detail="; ".join(left), config=config, groups=clean))

    async def _clean_one(self, spec: GroupSpec) -> str:
        """Returns what is left over, "" when clean."""
        async with self._look_lock(spec.name):
            if spec.name in self._held:
                return ""  # granted meanwhile: its start looks for itself
            group = Group(spec, self._context(spec.name, 0, ""), self._tools, self.tell, _nothing)
            try:
                left = await group.clean()
            except Exception as error:  # a bug must not leave an order without an answer
                log.critical("looking for what is left of group %s failed: %r", spec.name, error, exc_info=error)
                left = [f"internal error: {error!r}; outcome unknown"]
        if left:
            self._cleaned.pop(spec.name, None)
            return f"group {spec.name}: {'; '.join(left)}"
        self._cleaned[spec.name] = spec
        self._spawn(self._rehearse(spec, frozenset({Kind.SERVICE, Kind.STORAGE})))
        return ""

    def _start_group(self, request: StartGroup) -> str:
        name = request.group.name
        held = self._held.get(name)
        if held is not None and held.epoch == request.epoch and held.spec == request.group:
            if held.up_notice is not None:
                asyncio.get_running_loop().call_soon(self.tell, held.up_notice)  # after the Accepted
            return "" if held.state in ("starting", "up") else f"group {name} is {held.state} under this epoch"
        refused = self._may_not_start(request)
        if not refused:
            refused = self._deadman.arm(name, request.epoch, request.soft_ns, request.hard_ns, boottime_ns())
        if refused:
            return refused
        context = self._context(name, request.epoch, str(request.evidence))
        group = self._held[name] = Group(request.group, context, self._tools, self.tell, self._ended)
        before, self._last_epoch = self._last_epoch, self._last_epoch | {name: request.epoch}
        unwritten = self._note()
        if unwritten:
            del self._held[name]
            self._last_epoch = before
            self._deadman.disarm(name)
            return f"{unwritten}; nothing was started"
        self._rearm()
        group.start(self._look_lock(name), clean_first=self._cleaned.pop(name, None) != request.group)
        return ""

    def _prepare(self, spec: GroupSpec) -> str:
        if self._maintenance or not self._clean or spec.name in self._held:
            return ""  # nothing will be started here, so there is nothing to find out
        if refused := _refuse_names(spec):
            return refused
        if len(self._tasks) >= TASKS_MAX:
            return _BUSY
        self._spawn(self._rehearse(spec, frozenset({Kind.ADDRESS})))
        return ""

    async def _rehearse(self, spec: GroupSpec, kinds: frozenset[Kind]) -> None:
        # process sets of its own: what it runs never meets what the start runs
        context = self._context(f"{spec.name}.prepare", 0, PREPARE)
        await Group(spec, context, self._tools, self.tell, _nothing).rehearse(kinds)

    def _may_not_start(self, request: StartGroup) -> str:
        name = request.group.name
        if self._maintenance:
            return "maintenance is on: nothing is started"
        if not self._clean:
            return "this node has not been cleaned up yet: nothing is started before that"
        if refused := _refuse_names(request.group):
            return refused
        if name in self._held:
            return f"group {name} is still held under epoch {self._held[name].epoch} ({self._held[name].state})"
        last = self._last_epoch.get(name, 0)
        if request.epoch <= last:
            late = f"this start is for epoch {request.epoch}, so it is out of date"
            anew = "if the cluster was set up anew, restart hamail-executor"
            return f"group {name} was already held, or found stopped, under epoch {last}; {late} ({anew})"
        return ""

    def _extend(self, request: Extend) -> str:
        refused = self._deadman.extend(request.group, request.epoch, request.soft_ns, request.hard_ns, boottime_ns())
        self._rearm()
        return refused

    def _stop_group(self, request: StopGroup) -> str:
        if self._maintenance:
            return "maintenance is on: nothing is stopped"
        name = request.group
        held = self._held.get(name)
        if held is not None:
            if request.epoch < held.epoch:
                return f"group {name} is held under epoch {held.epoch}, which is newer"
            self._never_start(name, request.epoch)
            if held.state != "stopping":
                held.stop(request.why, request.epoch)
            return ""
        if name not in self._configured:
            return f"group {name} is not configured here"
        if len(self._tasks) >= TASKS_MAX or (len(self._last_epoch) >= EPOCHS_MAX and name not in self._last_epoch):
            return _BUSY
        self._never_start(name, request.epoch)
        self._spawn(self._verify_stopped(self._configured[name], request.epoch))
        return ""

    def _never_start(self, name: str, epoch: int) -> None:
        """Whoever hears that nothing of this epoch runs here relies on it."""
        if epoch > self._last_epoch.get(name, 0):
            self._last_epoch[name] = epoch
            self._note()

    async def _verify_stopped(self, spec: GroupSpec, epoch: int) -> None:
        began_ns = boottime_ns()
        left = await self._clean_one(spec)
        if left:
            self.tell(GroupStopFailed(group=spec.name, epoch=epoch, resource="", detail=left))
        else:
            took_ms = (boottime_ns() - began_ns) // NS_PER_MS
            self.tell(GroupDown(group=spec.name, epoch=epoch, took_ms=took_ms))

    def _restart_resource(self, request: RestartResource) -> str:
        held = self._held.get(request.group)
        if self._maintenance:
            return "maintenance is on: nothing is restarted"
        if held is None or held.epoch != request.epoch:
            return f"group {request.group} is not held under epoch {request.epoch}"
        return held.restart(request.resource)

    def _maintain(self, on: bool) -> str:
        if on != self._maintenance:
            log.warning("maintenance %s", "on: deadlines are suspended, nothing is touched" if on else "off")
            self._maintenance = on
            unwritten = self._note()
            if on and unwritten:
                self._maintenance = False
                return f"{unwritten}; maintenance is not on"
            self._deadman.suspend(on)
            for group in self._held.values():
                group.hands_off(on)
            self._rearm()
            if not on and self._left:
                self._spawn(self._stop_left())
        return ""

    async def _stop_left(self) -> None:
        """Maintenance is over: what the executor before this one has left has no deadline, so it must not go on.

        The watchdog is not fed meanwhile, as after a crash.
        """
        left = [words for held in self._left if (words := await self._clean_one(held.spec))]
        if self._maintenance:
            return  # again
        if left:
            self._doom("; ".join(left))
            return
        self._left = ()
        self._note()

    # -- deadlines -------------------------------------------------------------------------------------------------

    def _check_deadlines(self) -> None:
        self._deadman.check(boottime_ns())
        self._rearm()

    def _rearm(self) -> None:
        self._timer.set(self._deadman.next_ns())

    def _soft_passed(self, name: str, deadline: Deadline) -> None:
        log.error("dead-man's switch: the lease on group %s was not renewed in time, stopping it", name)
        self.tell(DeadlinePassed(group=name, epoch=deadline.epoch))
        self._held[name].emergency_stop(deadline.hard_ns)

    def _hard_passed(self, name: str, _deadline: Deadline) -> None:
        self._doom(f"group {name} was not verified stopped by its hard deadline")

    def _doom(self, why: str) -> None:
        """This machine must not go on: also a restarted executor will not feed its watchdog, and what it is given now
        would be lost with the reset."""
        bitten = self.watchdog.bites
        self.watchdog.starve(why)  # first: nothing that may fail comes before it
        self._doomed = self._doomed or why
        self._remember(msgspec.structs.replace(self._ledger.page, doomed=self._doomed))
        if self.watchdog.bites and not bitten:
            self._clean = False
            self.tell(Cleaned(ok=False, detail=f"its watchdog resets it: {why}"))

    def _note(self) -> str:
        """Remember what is held, before anything is done under it. Returns why not, "" when done."""
        groups = tuple(Held(spec=group.spec, epoch=group.epoch) for group in self._held.values())
        page = self._ledger.page
        why = self._remember(
            Page(
                boot_id=page.boot_id,
                cluster=self._cluster,
                groups=groups + tuple(held for held in self._left if held.spec.name not in self._held),
                epochs=dict(self._last_epoch),
                maintenance=self._maintenance,
                doomed=self._doomed,
            )
        )
        self._stale = bool(why)  # then it is tried again at every feed
        return why

    def _remember(self, page: Page) -> str:
        try:
            self._ledger.write(page)
        except OSError as error:
            why = f"what this executor holds cannot be written down: {error.strerror or error}"
            log.critical("%s", why)
            return why
        return ""

    def _deadline(self, name: str) -> tuple[int, int]:
        deadline = self._deadman.get(name)
        return (deadline.soft_ns, deadline.hard_ns) if deadline else (0, 0)

    def _ended(self, group: Group) -> None:
        """Nothing of the group is held any more: verified."""
        name = group.spec.name
        if self._held.get(name) is group:
            del self._held[name]
            self._deadman.disarm(name)
            if group.known:
                self._cleaned[name] = group.spec
            self._rearm()
            self._note()

    # -- police ----------------------------------------------------------------------------------------------------

    def _addresses_changed(self) -> None:
        self._spawn(self._patrol())

    async def _patrol(self) -> None:
        if self._maintenance or self._stopping:
            return
        try:
            present = verify.local_addresses()
        except OSError as error:
            log.warning("this node cannot be looked at: %s", error)
            return
        for group in self._held.values():
            group.check_addresses(present)
        await self._police.look(present)

    def _free_groups(self) -> list[GroupSpec]:
        return [
            spec
            for name, spec in self._configured.items()
            if name not in self._held and not self._look_lock(name).locked()
        ]

    async def _evict(self, spec: GroupSpec, addresses: frozenset[str]) -> list[str]:
        """Remove addresses of a group that is not held here. Returns what is left."""
        async with self._look_lock(spec.name):
            if spec.name in self._held:
                return []  # granted meanwhile
            group = Group(spec, self._context(spec.name, 0, ""), self._tools, self.tell, _nothing)
            return await group.evict(addresses)

    def _look_lock(self, name: str) -> asyncio.Lock:
        return self._looking.setdefault(name, asyncio.Lock())

    def _context(self, group: str, epoch: int, evidence: str) -> Context:
        return Context(group, epoch, evidence, self._cluster, self._settings.node)

    def _spawn(self, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("%s failed: %r", task.get_name(), error, exc_info=error)


def _refuse_names(spec: GroupSpec) -> str:
    """Process sets are named after groups and resources: two of one name would be killed for each other."""
    names = [resource.name for resource in spec.resources]
    if not NAME.fullmatch(spec.name) or len(names) > RESOURCES_MAX:
        return f"group {spec.name!r} has no usable name, or more than {RESOURCES_MAX} resources"
    for name in names:
        if not NAME.fullmatch(name) or names.count(name) > 1:
            return f"resource {name!r} of group {spec.name} has no usable name, or is not the only one of it"
    return ""


def _nobody_listens(_notice: AnyNotice) -> None:
    return


def _nothing(_group: Group) -> None:
    return
