"""One resource on this node: starts, stops, watches and verifies it. One action at a time."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from hamail.executor import presence, verify
from hamail.executor.agents import (
    GENERIC,
    INSTALLED,
    NOT_RUNNING,
    SUCCESS,
    UNIMPLEMENTED,
    ActionResult,
    Agents,
    Context,
    Severity,
    action_environment,
    result_of,
)
from hamail.executor.cgroups import ProcessSets, cgroup_dirs, kill_cgroup
from hamail.executor.kinds import Kind, MountPoint, addresses_of, is_own, kind_of, mount_of
from hamail.executor.metadata import Metadata
from hamail.executor.processes import GRACE_MS, Job, Processes, kill_set, members
from hamail.executor.watch import PidWatch
from hamail.model.spec import ResourceSpec
from hamail.ocf.claim import Claim
from hamail.ocf.parameters import FALSE_WORDS

MONITOR_INTERVAL_MIN_MS = 500
TERM_GRACE_MS = 500  # for what an agent's stop has left running
VERIFY_WAIT_MS = 1_000  # how long the kernel may take to finish what a stop began
FORCED_GRACE_MS = 50
REHEARSAL_TIMEOUT_MS = 2_000
_POLL_S = 0.01

log = logging.getLogger("hamail.executor.resource")


class State(StrEnum):
    DOWN = "down"
    STARTING = "starting"
    UP = "up"
    FAILED = "failed"
    STOPPING = "stopping"


@dataclass(frozen=True)
class Tools:
    """What every resource needs of the executor."""

    processes: Processes
    sets: ProcessSets
    agents: Agents


@dataclass(frozen=True)
class Failure:
    """A resource that was up is not any more, or is wrong."""

    resource: str
    detail: str
    fatal: bool


class Resource:
    def __init__(
        self,
        spec: ResourceSpec,
        path: Path,
        metadata: Metadata,
        context: Context,
        tools: Tools,
        failed: Callable[[Failure], None],
        recovered: Callable[[str, int], None],
    ) -> None:
        self.spec = spec
        self.kind: Kind = kind_of(spec)
        self.state = State.DOWN
        self._path = path
        self._metadata = metadata
        self._context = context
        self._tools = tools
        self._failed = failed
        self._recovered = recovered
        base = f"{context.group}.{spec.name}"
        self._service = tools.sets.get(f"{base}.service")
        self._action = tools.sets.get(f"{base}.action")
        self._addresses = addresses_of(spec)
        self._mount = mount_of(spec)
        self._watches: dict[tuple[int, int], PidWatch] = {}
        self._watched: set[tuple[int, int]] = set()  # everything ever watched since the last verified stop
        self._cgroups: set[str] = set()
        self._monitor: asyncio.Task[None] | None = None
        self._busy = asyncio.Lock()

    # -- actions ---------------------------------------------------------------------------------------------------

    async def start(self) -> ActionResult:
        """Run the agent's start. When it says that it worked, and this is so, the resource is up and watched."""
        async with self._busy:
            self.state = State.STARTING
            result = await self._run("start", self.timeout_ms("start"), keep_children=True)
            if result.severity is Severity.OK and (missing := await self._missing(result)):
                detail = f"its start said that it worked, but {missing}"
                result = replace(result, exit_code=GENERIC, detail=detail)
            if result.severity is Severity.OK:
                self.state = State.UP
                self._adopt(result)
            else:
                self.state = State.FAILED
                self._remember(result)
            return result

    async def rehearse(self) -> None:
        """A start may follow in a moment: see hamail.ocf.prepared."""
        result = await self._run("validate-all", REHEARSAL_TIMEOUT_MS)
        if result.severity is not Severity.OK:
            log.warning("%s of group %s may not start here: %s", self.spec.name, self._context.group, result.detail)

    async def probe(self) -> ActionResult:
        """A monitor that asks whether it is here at all."""
        async with self._busy:
            result = await self._run("monitor", self.timeout_ms("monitor"), interval_ms=0)
            self._remember(result)
            return result

    async def stop(self, budget_ms: int | None = None) -> list[str]:
        """Stop it and verify. Returns what is left of it; empty: verified stopped.

        With `budget_ms` it is forced: the agent gets that long, then what remains is killed without grace.
        """
        self.end_monitoring()
        async with self._busy:
            self._unwatch()
            self.state = State.STOPPING
            began_s = time.monotonic()
            limit_ms = self.timeout_ms("stop") if budget_ms is None else min(budget_ms, self.timeout_ms("stop"))
            grace_ms = GRACE_MS if budget_ms is None else FORCED_GRACE_MS
            result = await self._run("stop", limit_ms, grace_ms=grace_ms)
            self._remember(result)
            await self._kill_left_over(TERM_GRACE_MS if budget_ms is None else 0)
            spent_ms = (time.monotonic() - began_s) * 1000
            rest_ms = VERIFY_WAIT_MS if budget_ms is None else min(VERIFY_WAIT_MS, budget_ms - spent_ms)
            left = await self._settled(rest_ms)
            if not left:
                probe_ms = self.timeout_ms("monitor")
                left = await self._doubts(result, probe_ms if budget_ms is None else min(budget_ms, probe_ms))
            if left:
                self.state = State.FAILED
                return [f"{result.detail}", *left] if result.exit_code != SUCCESS else left
            self._forget()
            self.state = State.DOWN
            return []

    async def gone(self) -> bool:
        """Is it surely not here, once whatever is being done to it has ended?"""
        if self.state is State.UP:
            return False
        async with self._busy:
            if self.state is State.DOWN:
                return True
            shown = self._visible() or is_own(self.spec.agent)
            return self.state is State.FAILED and shown and not await self.left_over()

    async def left_over(self) -> list[str]:
        """What the kernel says is still there of this resource, in words; what cannot be seen counts as there."""
        try:
            left = self._processes_left()
            left += await verify.mounts_left(self._mount)
            return left + verify.addresses_left(self._addresses)
        except OSError as error:
            return [f"what is left cannot be seen: {error.strerror or error}"]

    def traces(self) -> list[str]:
        """Like `left_over`, but cheap and without what only an agent can know: enough to see a stray."""
        try:
            left = verify.processes_left((), (self._service, self._action), ())
            left += verify.visible_mounts(self._mount) if self._mount else []
            return left + verify.addresses_left(self._addresses)
        except OSError as error:
            return [f"whether it is here cannot be seen: {error.strerror or error}"]

    def _processes_left(self) -> list[str]:
        """Raises OSError."""
        return verify.processes_left(self._watched, (self._service, self._action), self._cgroups)

    def timeout_ms(self, action: str) -> int:
        chosen = {
            "start": self.spec.start_timeout_ms,
            "stop": self.spec.stop_timeout_ms,
            "monitor": self.spec.monitor_timeout_ms,
        }[action]
        return chosen or self._metadata.timeout_ms(action)

    # -- watching --------------------------------------------------------------------------------------------------

    @property
    def killable(self) -> bool:
        """Is it a service whose main process is known?"""
        return self.kind is Kind.SERVICE and self.state is State.UP and bool(self._watches)

    def kill(self) -> bool:
        """For practice: SIGKILL its main processes, as a crash would. What follows is what follows a crash."""
        for watch in list(self._watches.values()):
            watch.kill()
        return bool(self._watches)

    def begin_monitoring(self, first_after_ms: int) -> None:
        """Monitor from now on; the first time after `first_after_ms`, so that resources do not all fire at once."""
        self.end_monitoring()
        self._monitor = asyncio.create_task(self._monitor_forever(first_after_ms), name=f"monitor {self.spec.name}")

    def end_monitoring(self) -> None:
        """Also kills a monitor that runs right now: it must not eat the time of a stop."""
        if self._monitor is not None:
            self._monitor.cancel()
            self._monitor = None

    def lost(self, detail: str, *, fatal: bool = False) -> None:
        """Something outside of this object has seen that the resource is gone."""
        if self.state is State.UP:
            self.state = State.FAILED
            self._failed(Failure(self.spec.name, detail, fatal))

    @property
    def addresses(self) -> frozenset[str]:
        return self._addresses

    def close(self) -> None:
        """Forget it without touching what runs."""
        self.end_monitoring()
        self._unwatch()

    async def _monitor_forever(self, first_after_ms: int) -> None:
        interval_ms = max(MONITOR_INTERVAL_MIN_MS, self.spec.monitor_interval_ms)
        # Our own agents advertise deeper checks that are meant to run less often; those of others are left to others.
        deep_ms = self._metadata.deep_intervals_ms if is_own(self.spec.agent) else {}
        last_s = dict.fromkeys(deep_ms, time.monotonic())
        await asyncio.sleep(first_after_ms / 1000)
        while True:
            now_s = time.monotonic()
            level = max((d for d in deep_ms if now_s - last_s[d] >= deep_ms[d] / 1000), default=0)
            last_s |= {level: now_s} if level else {}
            if self.state in (State.UP, State.FAILED):
                await self.monitor_once(level)
            await asyncio.sleep(interval_ms / 1000)

    async def monitor_once(self, level: int = 0) -> ActionResult:
        """One recurring monitor; tells of a failure or of a recovery."""
        async with self._busy:
            interval_ms = max(MONITOR_INTERVAL_MIN_MS, self.spec.monitor_interval_ms)
            result = await self._run("monitor", self.timeout_ms("monitor"), interval_ms=interval_ms, level=level)
            self._judge(result)
            return result

    def _judge(self, result: ActionResult) -> None:
        if result.exit_code == UNIMPLEMENTED:
            return  # a recurring monitor that the agent does not have is no failure
        if result.severity is Severity.OK:
            if self.state is State.FAILED:
                self.state = State.UP
                self._recovered(self.spec.name, result.took_ms)
            self._adopt(result)
        else:
            self.lost(result.detail, fatal=result.severity in (Severity.HARD, Severity.FATAL))

    def _adopt(self, result: ActionResult) -> None:
        """Watch what the agent says is the service, and nothing else."""
        self._remember(result)
        if not result.watched:
            return
        for key in set(self._watches) - set(result.watched):
            self._watches.pop(key).close()
        for pid, start_ticks in result.watched:
            if (pid, start_ticks) in self._watches:
                continue
            try:
                self._watches[pid, start_ticks] = PidWatch(pid, start_ticks, self.lost)
            except ProcessLookupError:
                self.lost(f"process {pid} has ended right after {result.action}")
            except OSError as error:
                log.warning("process %d of %s cannot be watched: %s", pid, self.spec.name, error)

    def _remember(self, result: ActionResult) -> None:
        self._watched.update(result.watched)
        self._cgroups.update(result.cgroups)
        if result.left_behind:
            names = ", ".join(result.left_behind)
            log.warning("%s of %s left processes behind, killed: %s", result.action, self.spec.name, names)

    def _unwatch(self) -> None:
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()

    def _forget(self) -> None:
        self._watched.clear()
        self._cgroups.clear()
        self._service.remove()
        self._action.remove()

    # -- running and verifying -------------------------------------------------------------------------------------

    async def _run(
        self,
        action: str,
        timeout_ms: int,
        *,
        interval_ms: int = 0,
        level: int = 0,
        keep_children: bool = False,
        grace_ms: int = GRACE_MS,
    ) -> ActionResult:
        environment = action_environment(
            self._path, self.spec, self._context, action, timeout_ms=timeout_ms, interval_ms=interval_ms, level=level
        )
        job = Job(
            path=self._path,
            arguments=(action,),
            environment=environment,
            processes=self._service if keep_children else self._action,
            timeout_ms=timeout_ms,
            keep_children=keep_children,
            grace_ms=grace_ms,
        )
        return result_of(action, await self._tools.processes.run(job))

    async def _kill_left_over(self, grace_ms: int) -> None:
        """What an agent's stop has left running is stopped here: TERM, grace, KILL."""
        try:
            left = self._processes_left()
        except OSError as error:
            left = [f"unknown processes ({error.strerror or error})"]
        if not left:
            return
        log.warning("stop of %s left %s running: killing", self.spec.name, ", ".join(left))
        if grace_ms:
            self._service.signal(signal.SIGTERM)
            until = time.monotonic() + grace_ms / 1000
            while members(self._service) != [] and time.monotonic() < until:  # noqa: ASYNC110 - processes give no event
                await asyncio.sleep(_POLL_S)
        with contextlib.suppress(OSError):  # what cannot be killed is found by the look that follows
            for folder in (d for name in self._cgroups for d in cgroup_dirs(name)):
                kill_cgroup(folder)
        for pid, start_ticks in self._watched:
            _kill_exactly(pid, start_ticks)
        await kill_set(self._service)
        await kill_set(self._action)

    async def _missing(self, start: ActionResult) -> str:
        """Why it cannot be as a start says; "" when the kernel shows it, or could not show it anyway."""
        try:
            if self._addresses:
                interface = self.spec.parameters.get("interface", "") if is_own(self.spec.agent) else ""
                return presence.addresses_missing(self._addresses, interface)
            if self._mount is not None and is_own(self.spec.agent):
                return presence.mount_wrong(self._mount) or await self._claim_wrong(self._mount)
            if self._mount is not None:
                return "" if verify.visible_mounts(self._mount) else await self._asked(silence_is_consent=False)
            if verify.processes_left(start.watched, (self._service,), start.cgroups):
                return ""
            if not is_own(self.spec.agent):
                return await self._asked(silence_is_consent=True)
            # Of a unit that is not made of processes there is a control group at most.
            return "" if start.cgroups else "nothing of it runs"
        except OSError as error:
            return f"what is there cannot be seen: {error.strerror or error}"

    async def _claim_wrong(self, mount: MountPoint) -> str:
        if "claim" not in self._metadata.parameters or self.spec.parameters.get("claim", "").lower() in FALSE_WORDS:
            return ""
        c = self._context
        return await presence.claim_wrong(mount, Claim(cluster=c.cluster, group=c.group, epoch=c.epoch, node=c.node))

    async def _asked(self, *, silence_is_consent: bool) -> str:
        """The kernel shows nothing of what an agent of others has started, and perhaps cannot. What says its monitor?

        `silence_is_consent`: only a plain no counts; a monitor that fails, or is missing, says nothing.
        """
        interval_ms = max(MONITOR_INTERVAL_MIN_MS, self.spec.monitor_interval_ms)
        result = await self._run("monitor", self.timeout_ms("monitor"), interval_ms=interval_ms)
        denied = result.exit_code in (NOT_RUNNING, INSTALLED)
        return result.detail if denied or (result.severity is not Severity.OK and not silence_is_consent) else ""

    async def _settled(self, wait_ms: float) -> list[str]:
        """`left_over` once the kernel has finished tearing down, or after its time."""
        until = time.monotonic() + wait_ms / 1000
        while True:
            left = await self.left_over()
            if not left:
                return []
            if time.monotonic() >= until:
                with contextlib.suppress(OSError):  # it is only for the sentence
                    left += verify.mount_holders(self._mount)
                return left
            await asyncio.sleep(_POLL_S)

    async def _doubts(self, stop: ActionResult, probe_ms: int) -> list[str]:
        """The kernel shows nothing any more; is that enough? Returns why not.

        It is when our own agent agrees. An agent of others is asked once more (their stop is known to say "done" when
        it could not even read its configuration), and a failed stop only counts as done when the kernel could have
        shown this resource and the agent then finds nothing.
        """
        if stop.exit_code == SUCCESS and is_own(self.spec.agent):
            return []
        probe = await self._run("monitor", probe_ms)
        absent = probe.exit_code in (NOT_RUNNING, INSTALLED)
        if stop.exit_code == SUCCESS:
            if absent or (self._visible() and probe.exit_code not in (SUCCESS, 8)):
                return []
            return [f"stop says done, but {probe.detail}"]
        if self._visible() and absent:
            log.warning("%s: %s. Yet the kernel and its monitor show that it is gone", self.spec.name, stop.detail)
            return []
        return [f"whether it runs cannot be verified ({probe.detail})"]

    def _visible(self) -> bool:
        """Would the kernel show this resource if it were active?"""
        return bool(self._addresses or self._mount or self._watched or self._cgroups)


def _kill_exactly(pid: int, start_ticks: int) -> None:
    with contextlib.suppress(OSError):
        watch = PidWatch(pid, start_ticks, _ignore)
        watch.kill()
        watch.close()


def _ignore(_detail: str) -> None:
    return
