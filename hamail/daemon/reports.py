"""What `hamailctl doctor` asks: each node tells of itself and its links, now, through the links that hamail has anyway.

Nothing is kept and nothing is decided here. A node that does not answer within the time is silent: its facts are
unknown, not bad.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from hamail import __version__
from hamail.core.engine import Engine
from hamail.daemon.questions import Questions
from hamail.model.actions import AnyNotice, AnyRequest, FactsGathered, FenceChecked, GatherFacts, Refused
from hamail.model.ids import DeviceName, NodeName
from hamail.model.messages import AnyMessage, Aside, Ping, Pong, ReportAnswer, ReportRequest
from hamail.model.report import LinkFacts, NodeReport

GATHER_TIMEOUT_S = 9.0  # above the executor's own limit
COLLECT_TIMEOUT_S = 12.0
PINGS = 5
PING_TIMEOUT_S = 0.5
FENCE_TIMEOUT_S = 8.0
GATHER_ID = -1  # the engine's requests count from 1
ASKERS_MAX = 16  # per node, so that nobody can pile up work here

log = structlog.get_logger("hamail.reports")


class Reports:
    """Implements hamail.daemon.shell.Asides."""

    def __init__(
        self, engine: Engine, send: Callable[[NodeName, AnyMessage], bool], ask: Callable[[AnyRequest], bool] | None
    ) -> None:
        """`ask` puts a request to this node's executor; None on a witness, which has none."""
        self._engine = engine
        self._send = send
        self._ask = ask
        self._nonces = itertools.count(time.time_ns())
        self._pongs: dict[tuple[NodeName, int], asyncio.Future[Pong]] = {}
        self._questions = Questions[NodeReport](engine, send)
        self._gathered: asyncio.Future[FactsGathered] | None = None
        self._unchecked: set[DeviceName] = set()  # fence devices that are being asked
        self._checked = asyncio.Event()
        self._report: asyncio.Task[NodeReport] | None = None
        self._askers: dict[NodeName, int] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    # ---- what arrives ------------------------------------------------------------------------------------------------

    def message(self, sender: NodeName, message: Aside) -> None:
        match message:
            case Ping():
                self._send(sender, Pong(nonce=message.nonce, at_us=time.time_ns() // 1000))
            case Pong():
                _settle(self._pongs.get((sender, message.nonce)), message)
            case ReportAnswer():
                self._questions.answered(sender, message.nonce, message.report)
            case ReportRequest():
                if self._askers.get(sender, 0) >= ASKERS_MAX:
                    log.warning("a node asks for more reports than anybody needs", node=sender)
                    return
                self._askers[sender] = self._askers.get(sender, 0) + 1
                self._spawn(self._answer(sender, message.nonce))

    def notice(self, notice: AnyNotice) -> None:
        match notice:
            case FactsGathered():
                _settle(self._gathered, notice)
            case FenceChecked():
                self._unchecked.discard(notice.device)
                if not self._unchecked:
                    self._checked.set()
            case Refused(id=number) if number == GATHER_ID:
                _settle(self._gathered, FactsGathered(facts=None, problem=notice.why))

    # ---- asking ------------------------------------------------------------------------------------------------------

    async def collect(self) -> tuple[dict[NodeName, NodeReport], dict[NodeName, str]]:
        """The reports of all nodes, and of the others why there is none."""
        peers = tuple(self._engine.members.peers)
        answers = await asyncio.gather(self.own(), *(self._of(peer) for peer in peers))
        found = dict(zip((self._engine.me, *peers), answers, strict=True))
        reports = {name: answer for name, answer in found.items() if isinstance(answer, NodeReport)}
        return reports, {name: answer for name, answer in found.items() if isinstance(answer, str)}

    async def of(self, node: NodeName) -> NodeReport | str:
        """The report of one node, or why there is none."""
        if node == self._engine.me:
            return await self.own()
        known = node in self._engine.members.peers
        return await self._of(node) if known else f"{node} is not a node of this cluster"

    async def own(self) -> NodeReport:
        """This node's; whoever asks while one is being made gets the same."""
        if self._report is None or self._report.done():
            self._report = self._spawn(self._make())
        return await asyncio.shield(self._report)

    async def _of(self, peer: NodeName) -> NodeReport | str:
        return await self._questions.ask(peer, lambda n: ReportRequest(nonce=n), COLLECT_TIMEOUT_S, peer)

    # ---- answering ---------------------------------------------------------------------------------------------------

    async def _answer(self, asker: NodeName, nonce: int) -> None:
        try:
            self._send(asker, ReportAnswer(nonce=nonce, report=await self.own()))
        finally:
            self._askers[asker] -= 1

    async def _make(self) -> NodeReport:
        peers = tuple(self._engine.members.peers)
        measuring = asyncio.gather(*(self._link(peer) for peer in peers))
        gathered, links, _ = await asyncio.gather(self._gather(), measuring, self._check_fences())
        witness = self._ask is None
        return NodeReport(
            at_ms=time.time_ns() // 1_000_000,
            version=__version__,
            links=dict(zip(peers, links, strict=True)),
            watchdog=None if witness or not self._engine.local.connected else self._engine.local.watchdog,
            fence_ready=dict(self._engine.local.fences.ready),
            machine=gathered.facts,
            machine_problem=gathered.problem,
        )

    async def _gather(self) -> FactsGathered:
        if self._ask is None:
            return FactsGathered(facts=None, problem="a witness has no executor, and nothing to look at")
        waiting: asyncio.Future[FactsGathered] = asyncio.get_running_loop().create_future()
        self._gathered = waiting
        if not self._ask(GatherFacts(id=GATHER_ID)):
            return FactsGathered(facts=None, problem="hamaild has no connection to the executor of this node")
        try:
            async with asyncio.timeout(GATHER_TIMEOUT_S):
                return await waiting
        except TimeoutError:
            return FactsGathered(facts=None, problem=f"the executor has not answered within {GATHER_TIMEOUT_S:g} s")

    async def _check_fences(self) -> None:
        """Have the devices asked now; what has not answered in time is told as it was at the last check."""
        if self._ask is None:
            return
        self._unchecked = set(self._engine.local.fences.hurry())
        if not self._unchecked:
            return
        self._checked.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FENCE_TIMEOUT_S):
                await self._checked.wait()

    async def _link(self, peer: NodeName) -> LinkFacts:
        """One ping after the other; the quickest tells most about the way and about the clocks."""
        best: tuple[int, int] | None = None
        beat = self._engine.members.peers[peer].heartbeat
        if beat is not None and beat.version == __version__:
            for _ in range(PINGS):
                one = await self._ping(peer)
                if one is None:
                    break
                best = min(best, one) if best else one
        silent_ms = self._engine.facts().node(peer).silent_ms
        return LinkFacts(silent_ms=silent_ms, rtt_us=best[0] if best else None, offset_us=best[1] if best else None)

    async def _ping(self, peer: NodeName) -> tuple[int, int] | None:
        """Round-trip time and clock offset in microseconds."""
        key = (peer, next(self._nonces))
        waiting: asyncio.Future[Pong] = asyncio.get_running_loop().create_future()
        self._pongs[key] = waiting
        began_ns, sent_us = time.monotonic_ns(), time.time_ns() // 1000
        try:
            if not self._send(peer, Ping(nonce=key[1])):
                return None
            async with asyncio.timeout(PING_TIMEOUT_S):
                pong = await waiting
        except TimeoutError:
            return None
        finally:
            del self._pongs[key]
        rtt_us = max(1, (time.monotonic_ns() - began_ns) // 1000)
        return rtt_us, pong.at_us - (sent_us + rtt_us // 2)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a report could not be made", exc_info=error)


def _settle(waiting: "asyncio.Future[Any] | None", value: object) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(value)
