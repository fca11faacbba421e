"""Faults for practice: only where root allows drills, one at a time, each order once, and undone by a timer.

The network comes back by the kernel's own timer even if everything of hamail has died meanwhile. A file system that was
shut down comes back with its next mount, which is what a takeover or a restart does anyway.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine

from hamail.executor.agents import AgentError, Agents, Context, Severity, action_environment, result_of
from hamail.executor.cgroups import ProcessSets
from hamail.executor.fences import Fences
from hamail.executor.groups import Group
from hamail.executor.kinds import mount_of
from hamail.executor.policy import DRILL_AGENT, Policy
from hamail.executor.processes import Job, Processes
from hamail.model.actions import AnyNotice, EndPractice, Practise, Practised, SwitchPower
from hamail.model.practice import DRILL_MS_MAX, DRILL_MS_MIN, Fault
from hamail.model.spec import ResourceSpec

ACTION_TIMEOUT_MS = 10_000
FORBIDDEN = "drills are not allowed on this node: [allow] drills = true in its node.toml"

log = logging.getLogger("hamail.executor.practice")


class Practice:
    """`held`: the group that this executor holds, by name."""

    def __init__(
        self,
        policy: Policy,
        agents: Agents,
        processes: Processes,
        sets: ProcessSets,
        fences: Fences,
        held: Callable[[str], Group | None],
        tell: Callable[[AnyNotice], None],
    ) -> None:
        self._policy = policy
        self._agents = agents
        self._processes = processes
        self._sets = sets
        self._fences = fences
        self._held = held
        self._tell = tell
        self._last = 0  # the newest order that was carried out
        self._undo: Callable[[], Coroutine[None, None, None]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, request: Practise | SwitchPower | EndPractice, maintenance: bool) -> str:
        """Begin what is asked. Returns why not, "" when begun."""
        if isinstance(request, EndPractice):
            return self.end()
        if maintenance:
            return "maintenance is on: no drills"
        return self.switch(request) if isinstance(request, SwitchPower) else self.begin(request)

    def begin(self, request: Practise) -> str:
        """Begin what is ordered. Returns why not, "" when begun; then `Practised` follows."""
        if refused := self._may_not(request.order, request.rehearse):
            return refused
        if not DRILL_MS_MIN <= request.duration_ms <= DRILL_MS_MAX:
            return f"a fault lasts {DRILL_MS_MIN} to {DRILL_MS_MAX} ms, not {request.duration_ms}"
        group = self._held(request.group)
        if group is None or group.epoch != request.epoch or group.state != "up":
            return f"group {request.group} is not up here under epoch {request.epoch}"
        match request.fault:
            case Fault.SERVICE_KILL:
                return self._kill(request, group)
            case Fault.NETWORK_LOSS:
                self._run(request, self._lose_network(request))
            case Fault.STORAGE_LOSS:
                mounts = [m for r in group.spec.resources if (m := mount_of(r)) is not None]
                if len(mounts) != 1:
                    return f"group {request.group} has {len(mounts)} storages: which one is to be lost cannot be told"
                self._run(request, self._lose_storage(request, mounts[0].directory))
            case _:
                return f"{request.fault} is nothing that a node does to itself"
        return ""

    def switch(self, request: SwitchPower) -> str:
        """Returns why not, "" when begun; then `Practised` follows."""
        if refused := self._may_not(request.order, request.rehearse):
            return refused
        if not request.rehearse:
            self._last = request.order
            log.warning("drill: power of %s is switched %s", request.target, "on" if request.on else "off")
        return self._fences.switch(request)

    def end(self) -> str:
        """Undo at once."""
        undo, self._undo = self._undo, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if undo is not None:
            self._spawn(undo())
        return ""

    def _may_not(self, order: int, rehearse: bool) -> str:
        if not self._policy.drills:
            return FORBIDDEN
        if order <= self._last and not rehearse:
            return f"drill order {order} was carried out already; how it ended was told then"
        return "another drill is under way here" if self._undo is not None or self._tasks else ""

    def _kill(self, request: Practise, group: Group) -> str:
        victim, why = group.victim(request.resource)
        if victim is None:
            return why
        result = "done"
        if not request.rehearse:
            self._last = request.order
            log.warning("drill: killing %s of group %s", victim.spec.name, request.group)
            if not victim.kill():
                result = "refused"
        self._tell(Practised(order=request.order, result=result, detail=f"{victim.spec.name} of {request.group}"))
        return ""

    def _run(self, request: Practise, work: Coroutine[None, None, None]) -> None:
        if not request.rehearse:
            self._last = request.order
            log.warning("drill: %s for %d ms", request.fault, request.duration_ms)
        self._spawn(work)

    async def _lose_network(self, request: Practise) -> None:
        seconds = -(-request.duration_ms // 1000)
        parameters = {"fault": "network-loss", "seconds": str(seconds)}
        if not await self._act(request, parameters) or request.rehearse:
            return

        async def undo() -> None:
            why = await self._agent("stop", parameters)
            detail = why or "the network is open again"
            self._tell(Practised(order=request.order, result="undone", detail=detail))

        self._undo = undo
        # The kernel has opened it by then; what is left is an empty table.
        self._timer = asyncio.get_running_loop().call_later(seconds + 1, self.end)

    async def _lose_storage(self, request: Practise, directory: str) -> None:
        await self._act(request, {"fault": "storage-loss", "directory": directory})

    async def _act(self, request: Practise, parameters: dict[str, str]) -> bool:
        why = await self._agent("validate-all" if request.rehearse else "start", parameters)
        self._tell(Practised(order=request.order, result="refused" if why else "done", detail=why))
        return not why

    async def _agent(self, action: str, parameters: dict[str, str]) -> str:
        """Run the agent of drills; returns why it has not worked."""
        spec = ResourceSpec(name="drill", agent=DRILL_AGENT, parameters=parameters)
        try:
            path = self._agents.locate(DRILL_AGENT)
        except AgentError as error:
            return str(error)
        context = Context("drill", 0, "", "", "")
        environment = action_environment(path, spec, context, action, timeout_ms=ACTION_TIMEOUT_MS, interval_ms=0)
        processes = self._sets.get(f"drill:{action}")  # no group's name has a colon
        finished = await self._processes.run(
            Job(
                path=path,
                arguments=(action,),
                environment=environment,
                processes=processes,
                timeout_ms=ACTION_TIMEOUT_MS,
            )
        )
        processes.remove()
        result = result_of(action, finished)
        return "" if result.severity is Severity.OK else result.detail

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="drill")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("a drill failed in an unforeseen way: %r", error, exc_info=error)
