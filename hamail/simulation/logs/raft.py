"""The real log: hamail's adapter, PySyncObj and the journal, on simulated disks, clocks and links.

A seat drives the adapter as the shell of hamaild does. Only ticks that would surely do nothing are left out.
"""

from random import Random
from typing import TYPE_CHECKING

from hamail.consensus.codec import RequestVote, Vote, decode_envelope
from hamail.consensus.journal import Journal, JournalError, initialise
from hamail.consensus.syncobj import SyncObjConsensus
from hamail.core.effects import Effect
from hamail.core.engine import Engine
from hamail.daemon.shell import EngineMachine
from hamail.model.commands import AnyCommand, Outcome, Unknown
from hamail.model.ids import LogIndex, NodeName
from hamail.model.messages import Raft
from hamail.simulation.agenda import MS
from hamail.simulation.checkers.log import LogChecker
from hamail.simulation.disk import LOG_DIR
from hamail.simulation.logs.port import Done

if TYPE_CHECKING:
    from hamail.simulation.daemon import Daemon
    from hamail.simulation.machine import Machine
    from hamail.simulation.world import World

WRITE_MS = (0.2, 2.0)
COMPACT_ENTRIES = 40
QUIET_MS = 200  # a follower without work is ticked so often; well below what its election would take for a stall


class RaftLog:
    """A `Log`."""

    def __init__(self, world: "World", rng: Random, compact_entries: int = COMPACT_ENTRIES) -> None:
        self.world = world
        self.rng = rng
        self.compact_entries = compact_entries
        self.late_share = 0.0
        self.checker = LogChecker(world)

    def start(self) -> None:
        for machine in self.world.machines.values():
            machine.disk.write_ms = WRITE_MS
            self.initialise(machine)

    def initialise(self, machine: "Machine", *, replaced_disk: bool = False) -> None:
        """What an operator does once for each node. Raises JournalError."""
        initialise(
            LOG_DIR,
            self.world.spec.name,
            machine.name,
            disk=machine.disk,
            replaced_disk=replaced_disk,
        )

    @property
    def leader(self) -> NodeName | None:
        leaders = [
            (m.daemon.seat.term, name)
            for name, m in self.world.machines.items()
            if m.votes and m.daemon is not None and m.daemon.engine.leading and isinstance(m.daemon.seat, RaftSeat)
        ]
        return max(leaders)[1] if leaders else None

    @property
    def entries(self) -> list[AnyCommand | None]:
        return self.checker.entries

    def seat(self, daemon: "Daemon") -> "RaftSeat":
        return RaftSeat(self, daemon)

    def propose(self, sender: NodeName, command: AnyCommand, done: Done) -> None:
        daemon = self.world.machines[sender].daemon
        if daemon is not None:
            daemon.seat.propose(command, done)

    def break_journal(self, machine: "Machine", problem: str) -> None:
        """The next write meets it."""
        machine.disk.fill()

    def disk_replaced(self, machine: "Machine") -> None:
        self.checker.disk_lost(machine.name)
        self.initialise(machine, replaced_disk=True)

    def disk_put_back(self, machine: "Machine") -> None:
        self.checker.disk_lost(machine.name)


class WatchedMachine(EngineMachine):
    """The state machine, with the checker looking on. What it finds cannot be raised here: the log would catch it."""

    def __init__(self, seat: "RaftSeat") -> None:
        super().__init__(seat.engine, seat.on_applied)
        self._name = seat.m.name
        self._checker = seat.log.checker

    def apply(self, index: LogIndex, command: AnyCommand) -> Outcome:
        self._checker.applies(self._name, index, command)
        outcome = super().apply(index, command)
        self._checker.applied(self._name, index, self._engine)
        return outcome

    def restore(self, data: bytes) -> None:
        super().restore(data)
        self._checker.restored(self._name, self._engine)


class RaftSeat:
    """A `Seat`."""

    def __init__(self, log: RaftLog, daemon: "Daemon") -> None:
        self.log = log
        self.m = daemon.m
        self.engine: Engine = daemon.engine
        self.ended = False
        self._daemon = daemon
        self._news = False
        self._pump_due = False
        self._began_ns = self.m.world.now_ns
        self._due_ns = 0
        self._ran_ns = 0
        self._consensus: SyncObjConsensus | None = None

    def start(self) -> None:
        world, name = self.m.world, self.m.name
        self._consensus = consensus = SyncObjConsensus(
            node=name,
            voters=world.spec.voters(),
            cluster=world.spec.name,
            path=LOG_DIR,
            machine=WatchedMachine(self),
            timings=self.engine.timings,
            send=self._send,
            now_ns=lambda: self.m.local_ns,
            rng=Random(f"{world.seed}/{self.engine.life}"),  # noqa: S311 - reproducible on purpose
            disk=self.m.disk,
            background=self._daemon.writer.write,
            wake=self.wake,
            compact_entries=self.log.compact_entries,
        )
        self.log.checker.begins(name)
        try:
            consensus.start()
        except JournalError as error:
            self._consensus = None
            self.engine.fail(str(error))
            return
        self.log.checker.opened(name, consensus._journal.term, consensus._journal.vote)
        self._watch(consensus._journal)
        self._arm()

    def _watch(self, journal: Journal) -> None:
        right = journal.deleteEntriesFrom

        def delete(position: int) -> None:
            self.log.checker.deletes(self.m.name, journal[position:])
            right(position)

        journal.deleteEntriesFrom = delete  # type: ignore[method-assign, assignment]

    @property
    def term(self) -> int:
        return self._consensus.health().term if self._consensus is not None else 0

    def end(self) -> None:
        self.ended = True

    # ---- the shell's part ---------------------------------------------------------------------------------------

    def on_applied(self) -> None:
        self._news = True

    def wake(self) -> None:
        if not self._pump_due and not self.ended:
            self._pump_due = True
            self.m.after_ms(0, self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        if not self.ended:
            self._daemon.run(self._pumped)

    def _pumped(self) -> list[Effect]:
        self._run_log()
        self._arm()
        if not self._news:
            return []
        self._news = False
        self._daemon.stir()
        return self.engine.react(self.m.local_ns, self.m.world.wall_ms)

    def look(self) -> None:
        """The shell works on the log before each tick of the engine; left out where that has just been done."""
        recent_ns = self.engine.timings.tick_ms * MS
        if self._news or self._pump_due or self.m.world.now_ns - self._ran_ns >= recent_ns or self.engine.stalled_ms:
            self._run_log()
            self._news = False

    def _run_log(self) -> None:
        consensus, engine = self._consensus, self.engine
        if consensus is None:
            return
        self._ran_ns = self.m.world.now_ns
        consensus.tick(self.m.local_ns)
        health = consensus.health()
        leads = health.is_leader and health.caught_up_term and not health.problem
        if health.is_leader:
            self.log.checker.leads(self.m.name, health)
        news = (leads, health.hindrance, health.stalled_ms) != (engine.leading, engine.hindrance, engine.stalled_ms)
        if consensus._writing_since_ns is None and not health.problem:
            self.log.checker.holds(self.m.name, consensus._journal, health.applied)
        if health.problem:
            self.log.checker.problem(self.m.name, health.problem)
            news = news or not engine.problem
            engine.fail(health.problem)
        engine.hindrance = health.hindrance
        engine.rejoining = health.rejoining
        engine.stalled_ms = health.stalled_ms
        engine.leadership(leads)
        self.log.checker.report()
        if news:
            self._daemon.stir()

    # ---- when to tick -------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """The next tick, on a grid as in the shell, unless one is due before it."""
        grid_ns = self.engine.timings.tick_ms * MS
        now_ns = self.m.world.now_ns
        steps = -(-(now_ns + max(grid_ns, self._calm_ns()) - self._began_ns) // grid_ns)
        due_ns = self._began_ns + steps * grid_ns
        if self._due_ns <= now_ns or due_ns < self._due_ns:
            self._due_ns = due_ns
            self.m.after_ms((due_ns - now_ns) / MS, self._timer)

    def _timer(self) -> None:
        if self.ended or self.m.world.now_ns < self._due_ns:
            return  # another one is due later
        if self._calm_ns() > self.engine.timings.tick_ms * MS:
            self._arm()
        else:
            self._daemon.run(self._pumped)

    def _calm_ns(self) -> int:
        """For how long ticks would surely do nothing: for a follower that has no work, until it misses its leader."""
        c = self._consensus
        if c is None or c._problem:
            return QUIET_MS * MS
        if c._is_leader or c._proposals._waiting or c._inbox or c._writing_since_ns is not None:
            return 0
        if c._journal.rejoining.pending or c._standing.asks:
            return 0
        return min(QUIET_MS * MS, c._election._deadline_ns - self.m.local_ns)

    # ---- messages and proposals ---------------------------------------------------------------------------------

    def deliver(self, peer: NodeName, payload: bytes) -> None:
        if self._consensus is not None:
            self._pump_due = True  # at once, without a detour over the agenda
            self._consensus.deliver(peer, payload)
            self._pump()

    def _send(self, peer: NodeName, payload: bytes) -> bool:
        if self.ended:
            return False
        if b"\xa1v" in payload or b"\xa1V" in payload:
            self._note_vote(peer, payload)
        return self.m.world.network.send(self.m.name, peer, Raft(payload=payload))

    def _note_vote(self, peer: NodeName, payload: bytes) -> None:
        match decode_envelope(payload).body:
            case Vote(term):
                self.log.checker.votes(self.m.name, term, peer)
            case RequestVote(term):
                self.log.checker.votes(self.m.name, term, self.m.name)
            case _:
                pass  # the letter stood in a command

    def propose(self, command: AnyCommand, done: Done) -> None:
        if self._consensus is None:
            return
        given_up = self.log.late_share > 0 and self.log.rng.random() < self.log.late_share

        def told(result: Outcome | Unknown) -> None:
            if self.ended:
                return
            if isinstance(result, Outcome) and result.accepted:
                self.log.checker.acknowledged(self.m.name, result.index, command)
            if not given_up:
                self._tell(done, result)

        self._consensus.propose(command, told)
        if given_up:
            self.m.after_ms(0, lambda: None if self.ended else self._tell(done, Unknown(why="no answer in time")))

    def _tell(self, done: Done, result: Outcome | Unknown) -> None:
        try:
            done(result)
        except Exception as error:  # noqa: BLE001 - the adapter would log it and go on
            self.log.checker.unforeseen(self.m.name, f"a proposer's callback raised {error!r}")
        self._news = True
        self.wake()

    def transfer(self, to: NodeName) -> None:
        if self._consensus is not None:
            self._consensus.transfer_leadership(to)
