"""Runs fence orders and readiness checks for hamaild: reads the secrets, lends the runner, tells the result."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

from hamail.executor.cgroups import ProcessSets
from hamail.executor.policy import Policy
from hamail.executor.processes import Job, Processes
from hamail.executor.trust import Untrusted, read_secret
from hamail.fencing.agent import Device, Ended, FenceAgents
from hamail.model.actions import AnyNotice, CheckFence, FenceChecked, FenceResult, Practised, RunFence, SwitchPower

AT_ONCE_MAX = 16
ENDED_S = 0.5
TIMEOUT_MAX_MS = 600_000
METADATA_BYTES_MAX = 512 << 10
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}

log = logging.getLogger("hamail.executor.fences")


class Fences:
    """A fence goes before a check of the same device: many devices take one session at a time."""

    def __init__(
        self, processes: Processes, sets: ProcessSets, tell: Callable[[AnyNotice], None], policy: Policy
    ) -> None:
        self._policy = policy
        self._processes = processes
        self._sets = sets
        self._tell = tell
        self._agents = FenceAgents(self._run)
        self._numbers = itertools.count(1)
        self._fencing: dict[str, int] = {}  # device -> fences under way
        self._idle: dict[str, asyncio.Event] = {}
        self._checks: dict[str, asyncio.Task[str]] = {}  # device -> what asks it right now
        self._checking: set[str] = set()  # devices with a check under way, also while that waits for a fence
        self._tasks: dict[asyncio.Task[None], RunFence | CheckFence | SwitchPower] = {}

    def handle(self, request: RunFence | CheckFence) -> str:
        return self.run(request) if isinstance(request, RunFence) else self.check(request)

    def run(self, request: RunFence) -> str:
        """Begin a fence. Returns why not, "" when begun."""
        return self._begin(request, self._fence)

    def switch(self, request: SwitchPower) -> str:
        """Begin to switch a power for practice. Returns why not, "" when begun. A fence goes before it at any time."""
        if any(isinstance(r, RunFence) and _same(r, request) for r in self._tasks.values()):
            return f"{request.target} is being fenced, or {request.device} is at work"
        return self._begin(request, self._switch)

    def check(self, request: CheckFence) -> str:
        """Begin a readiness check. Returns why not, "" when begun."""
        return self._begin(request, self._check)

    def _begin(
        self, request: RunFence | CheckFence | SwitchPower, work: Callable[..., Coroutine[None, None, None]]
    ) -> str:
        fences = sum(isinstance(r, RunFence) for r in self._tasks.values())
        # checks that hang must not keep a fence out
        if (fences if isinstance(request, RunFence) else len(self._tasks)) >= AT_ONCE_MAX:
            return f"{AT_ONCE_MAX} fence agents are running already"
        if not 0 < request.timeout_ms <= TIMEOUT_MAX_MS:
            return f"a time limit of {request.timeout_ms} ms is outside 1..{TIMEOUT_MAX_MS}"
        task = asyncio.create_task(work(request))
        self._tasks[task] = request
        task.add_done_callback(self._ended)
        return ""

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A bug must not leave an order without an answer."""
        request = self._tasks.pop(task)
        if task.cancelled() and isinstance(request, SwitchPower):
            result = "refused" if request.on else "done"  # a power that was cut is what the fence is for
            self._tell(Practised(order=request.order, result=result, detail="a fence came before its end"))
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.critical("device %s: internal error: %r", request.device, error, exc_info=error)
        why = f"internal error: {error!r}; outcome unknown"
        if isinstance(request, SwitchPower):
            self._tell(Practised(order=request.order, result="refused", detail=why))
        elif isinstance(request, RunFence):
            self._tell(FenceResult(order=request.order, target=request.target, ok=False, detail=why, took_ms=0))
        else:
            self._tell(FenceChecked(device=request.device, ok=False, detail=why))

    async def _fence(self, request: RunFence) -> None:
        began = time.monotonic()
        log.warning("fencing %s by device %s (order %d)", request.target, request.device, request.order)
        self._fencing[request.device] = self._fencing.get(request.device, 0) + 1
        self._idle.setdefault(request.device, asyncio.Event()).clear()
        try:
            check = self._checks.get(request.device)
            if check is not None:
                check.cancel()
            await self._end_practice(request)
            device = self._device(request)
            why = await self._agents.fence(device, request.target, request.plug, request.timeout_ms)
        except Untrusted as error:
            why = f"{error}; surely not done"
        finally:
            self._fencing[request.device] -= 1
            if not self._fencing[request.device]:
                self._idle[request.device].set()
        took_ms = round((time.monotonic() - began) * 1000)
        log.warning("fence of %s %s after %d ms", request.target, f"failed: {why}" if why else "confirmed", took_ms)
        detail = why or f"device {request.device} reports {request.target} off"
        self._tell(FenceResult(order=request.order, target=request.target, ok=not why, detail=detail, took_ms=took_ms))

    async def _end_practice(self, fence: RunFence) -> None:
        """Nothing switches the power of its target back on while it is fenced, or is at its device."""
        over = [t for t, r in self._tasks.items() if isinstance(r, SwitchPower) and _same(fence, r)]
        for task in over:
            task.cancel()
        if over:
            await asyncio.wait(over, timeout=ENDED_S)  # what was killed need not be waited for

    async def _switch(self, request: SwitchPower) -> None:
        try:
            why = await self._switched(request)
        except Untrusted as error:
            why = str(error)
        self._tell(Practised(order=request.order, result="refused" if why else "done", detail=why))

    async def _switched(self, request: SwitchPower) -> str:
        """Why not; "" when it is. Raises Untrusted."""
        device = self._device(request)
        if why := await self._agents.no_power(device):
            return why
        if request.rehearse:
            return await self._agents.check(device, {request.target: request.plug}, request.timeout_ms)
        if request.on:
            return await self._agents.switch_on(device, request.target, request.plug, request.timeout_ms)
        return await self._agents.fence(device, request.target, request.plug, request.timeout_ms)

    async def _check(self, request: CheckFence) -> None:
        if request.device in self._checking:
            return  # the answer of the check under way is this one's as well
        self._checking.add(request.device)
        try:
            why = await self._asked(request)
        except Untrusted as error:
            why = str(error)
        finally:
            self._checking.discard(request.device)
        self._tell(FenceChecked(device=request.device, ok=not why, detail=why))

    async def _asked(self, request: CheckFence) -> str:
        """Why the device would not work; "" when it would. Raises Untrusted."""
        device = self._device(request)
        why: str | None = None
        while why is None:  # interrupted at most once per fence of this device
            if self._fencing.get(request.device):
                await self._idle[request.device].wait()
            check = asyncio.create_task(self._agents.check(device, request.plugs, request.timeout_ms))
            self._checks[request.device] = check
            await asyncio.wait((check,))
            del self._checks[request.device]
            why = None if check.cancelled() else check.result()
        return why

    def _device(self, request: RunFence | CheckFence | SwitchPower) -> Device:
        """Raises Untrusted for what this node does not allow, and for a secret file that is not fit to be used."""
        plugs = request.plugs if isinstance(request, CheckFence) else {request.target: request.plug}
        refused = self._policy.refuse_fence(request.agent, request.parameters, plugs, request.secret_files)
        if refused:
            raise Untrusted(refused)
        return Device(
            name=request.device,
            agent=request.agent,
            parameters=request.parameters,
            secrets=_secrets(request.secret_files),
        )

    async def _run(self, path: Path, stdin: bytes, timeout_ms: int) -> Ended:
        processes = self._sets.get(f"fence.{next(self._numbers)}")
        finished = await self._processes.run(
            Job(
                path=path,
                arguments=(),
                environment=_ENVIRONMENT,
                processes=processes,
                timeout_ms=max(1, timeout_ms),
                stdin=stdin,
                stdout_bytes_max=METADATA_BYTES_MAX,
                grace_ms=100,
            )
        )
        processes.remove()
        return Ended(exit_code=finished.exit_code, why=finished.why, stdout=finished.stdout, stderr=finished.stderr)


def _same(fence: RunFence, practice: SwitchPower) -> bool:
    return fence.target == practice.target or fence.device == practice.device


def _secrets(files: Mapping[str, str]) -> dict[str, str]:
    secrets = {}
    for key, name in files.items():
        try:
            secrets[key] = read_secret(Path(name))
        except Untrusted as error:
            raise Untrusted(f"secret file for {key}: {error}") from error
    return secrets
