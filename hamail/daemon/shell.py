"""The shell around the engine: reads the clocks, delivers what arrives, carries out effects in their order."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec
import structlog

from hamail.consensus.port import Consensus, ConsensusHealth
from hamail.core.effects import Ask, Effect, Note, Propose, SaveBarred, Send, Transfer
from hamail.core.engine import Engine
from hamail.core.provenance import refusal
from hamail.daemon.barred import BarredError, BarredFile
from hamail.model.actions import AnyNotice, AnyRequest, Extend
from hamail.model.commands import AnyCommand, Outcome
from hamail.model.ids import LogIndex, NodeName
from hamail.model.messages import AnyMessage, Aside, Heartbeat, LeaseAnswer, LeaseRequest, Raft
from hamail.model.state import ClusterState

MS = 1_000_000

log = structlog.get_logger("hamail")


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_ms() -> int:
    return time.time_ns() // MS


class EngineMachine:
    """The engine's state machine as the log sees it."""

    def __init__(self, engine: Engine, applied: Callable[[], None]) -> None:
        self._engine = engine
        self._applied = applied
        self.heard: Callable[[LogIndex, AnyCommand, Outcome], None] | None = None  # keeps the audit trail

    def refusal(self, sender: NodeName, command: AnyCommand) -> str:
        return refusal(self._engine.state, sender, command)

    def apply(self, index: LogIndex, command: AnyCommand) -> Outcome:
        outcome = self._engine.apply(index, command)
        if self.heard is not None:
            self.heard(index, command, outcome)
        self._applied()
        return outcome

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._engine.state)

    def restore(self, data: bytes) -> None:
        self._engine.restore(msgspec.msgpack.decode(data, type=ClusterState))
        self._applied()


Done: TypeAlias = Callable[[Exception | None], None]
Background: TypeAlias = Callable[[Callable[[], None], Done], None]
"""Run the work anywhere, then call back in the loop with what it raised, or None."""


def at_once(work: Callable[[], None], done: Done) -> None:
    try:
        work()
    except BarredError as e:
        done(e)
    else:
        done(None)


def never_waits(effect: Effect) -> bool:
    """Heartbeats and leases must not wait for a disk, and promise nothing that the disk would have to know first."""
    match effect:
        case Send(message=Heartbeat() | LeaseRequest() | LeaseAnswer()) | Ask(request=Extend()) | Note():
            return True
        case _:
            return False


class Links(Protocol):
    def send(self, peer: NodeName, message: AnyMessage) -> bool: ...


class Executor(Protocol):
    def send(self, request: AnyRequest) -> bool: ...


class Asides(Protocol):
    """Who answers people's questions that are none of the engine's business. Must never raise, nor wait."""

    def message(self, sender: NodeName, message: Aside) -> None: ...

    def notice(self, notice: AnyNotice) -> None: ...


class Shell:
    """Everything runs in one event loop; no method blocks but `SaveBarred`, which must."""

    def __init__(
        self, engine: Engine, barred: BarredFile, alive: Callable[[], None], background: Background | None = None
    ) -> None:
        """`alive` is called at each tick: the proof of life for systemd's watchdog. `background` waits for the disk."""
        self._background = background or at_once
        self._saving = False
        self._behind: list[Effect] = []  # effects that wait for the disk, in their order
        self.engine = engine
        self.machine = EngineMachine(engine, self._on_applied)
        self.consensus: Consensus | None = None  # None: the journal could not be opened; the node is passive
        self.links: Links | None = None
        self.executor: Executor | None = None
        self.asides: Asides | None = None
        self._barred = barred
        self._alive = alive
        self._applied = asyncio.Event()
        self._news = False
        self._pump_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._next_tick_s = 0.0
        self._stopped = False

    # ---- what comes in -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._next_tick_s = asyncio.get_running_loop().time()
        self._tick()

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def on_message(self, sender: NodeName, message: AnyMessage) -> None:
        if isinstance(message, Raft):
            if self.consensus is not None:
                self.consensus.deliver(sender, message.payload)
                self.wake()
            return
        if isinstance(message, Aside):
            if self.asides is not None:
                self.asides.message(sender, message)
            return
        self._perform(self.engine.message(sender, message, boottime_ns(), wall_ms()))

    def on_notice(self, notice: AnyNotice) -> None:
        if self.asides is not None:
            self.asides.notice(notice)
        self._perform(self.engine.notice(notice, boottime_ns(), wall_ms()))

    def on_executor_lost(self) -> None:
        self._perform(self.engine.executor_lost(boottime_ns(), wall_ms()))

    def send_raft(self, peer: NodeName, payload: bytes) -> bool:
        return self.links is not None and self.links.send(peer, Raft(payload=payload))

    def propose(self, command: AnyCommand, done: Callable[[object], None]) -> None:
        """For the control API: a command of an operator."""
        assert self.consensus is not None
        self.consensus.propose(command, done)
        self.wake()

    def health(self) -> ConsensusHealth:
        return ConsensusHealth(journal_ok=False, problem=self.engine.problem) if not self.consensus else self._health()

    async def wait_applied(self, after: LogIndex, timeout_s: float) -> LogIndex:
        try:
            async with asyncio.timeout(timeout_s):  # not wait_for, which loses a cancellation in Python 3.11
                while self.engine.state.applied <= after:
                    self._applied.clear()
                    await self._applied.wait()
        except TimeoutError:
            pass
        return self.engine.state.applied

    # ---- what goes on ------------------------------------------------------------------------------------------------

    def _health(self) -> ConsensusHealth:
        assert self.consensus is not None
        return self.consensus.health()

    def _on_applied(self) -> None:
        self._news = True
        self._applied.set()

    def wake(self) -> None:
        if not self._pump_due and not self._stopped:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Let the log work, then let the engine react to what was applied."""
        self._pump_due = False
        if self._stopped:
            return
        self._run_log()
        if self._news:
            self._news = False
            self._perform(self.engine.react(boottime_ns(), wall_ms()))

    def _run_log(self) -> None:
        if self.consensus is None:
            return
        self.consensus.tick(boottime_ns())
        health = self.consensus.health()
        if health.problem:
            self.engine.fail(health.problem)
        self.engine.hindrance = health.hindrance
        self.engine.rejoining = health.rejoining
        self.engine.stalled_ms = health.stalled_ms
        self.engine.leadership(health.is_leader and health.caught_up_term and not health.problem)

    def _tick(self) -> None:
        """Runs after the loop has delivered what arrived: asyncio takes ready sockets before due timers."""
        if self._stopped:
            return
        loop = asyncio.get_running_loop()
        self._run_log()
        self._news = False
        self._perform(self.engine.tick(boottime_ns(), wall_ms()))
        self._alive()
        period_s = self.engine.timings.tick_ms / 1000
        self._next_tick_s = max(self._next_tick_s + period_s, loop.time() + period_s / 4)
        self._timer = loop.call_at(self._next_tick_s, self._tick)

    def perform(self, effects: list[Effect]) -> None:
        self._perform(effects)

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if self._saving and not never_waits(effect):
                self._behind.append(effect)
            else:
                self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send():
                if self.links is not None:
                    self.links.send(effect.to, effect.message)
            case Ask():
                if self.executor is not None:
                    self.executor.send(effect.request)
            case Propose():
                self._propose(effect)
            case SaveBarred():
                self._save(effect)
            case Transfer():
                if self.consensus is not None and self.consensus.transfer_leadership(effect.to):
                    log.info("handing the lead of the log over", to=effect.to)
            case Note():
                (log.warning if effect.level == "warning" else log.info)(effect.text)

    def _save(self, effect: SaveBarred) -> None:
        """A barrier: what comes behind it waits for the disk, except what must never wait for one."""
        self._saving = True

        def work() -> None:
            self._barred.save(effect.barred)

        def saved(error: Exception | None) -> None:
            self._saving = False
            behind, self._behind = self._behind, []
            if error is not None:
                self.engine.fail(str(error))  # what follows a failed barrier must not happen
            elif not self._stopped:
                self._perform(behind)

        self._background(work, saved)

    def _propose(self, effect: Propose) -> None:
        if self.consensus is None:
            return

        def done(result: object) -> None:
            self.engine.proposed(effect.key, result)  # type: ignore[arg-type]
            self._news = True
            self.wake()

        self.consensus.propose(effect.command, done)
        self.wake()
