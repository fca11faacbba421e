"""The replicated log of the simulated cluster: what Raft promises, without Raft.

A command is committed only by a leader that reaches a majority both ways. A new leader is elected after an election
time by a majority that cannot hear the old one, and knows every committed entry. A leader that was cut off believes in
itself for a while longer. A proposal whose fate its proposer cannot see ends as unknown, and may yet be committed.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from hamail.model.commands import AnyCommand, Outcome, Unknown
from hamail.model.ids import LogIndex, NodeName
from hamail.model.state import ClusterState
from hamail.simulation.logs.port import Committed, Done

if TYPE_CHECKING:
    from hamail.core.effects import Effect
    from hamail.simulation.daemon import Daemon
    from hamail.simulation.machine import Machine

Told = Callable[[LogIndex | Unknown], None]

LOOK_MS = 50
SLOW_LOOK_MS = 250  # where nodes are missed after SLOW_MS or more: an election is then a moment
SLOW_MS = 10_000
FALLBACK_MS = 600
ELECTION_MS = (300, 600)
COMMIT_MS = (4, 12)
UNKNOWN_MS = 1000
RESTARTED_MS = 20.0  # after its start a node hears what is committed
DISK_SLOW_MS = 1000
SNAPSHOT_EVERY = 50  # entries
REPLAYED_MIN = 20  # entries that a start reads behind its snapshot


class PerfectLog:
    """A `Log`. `committed` is told of every entry once, at the moment of its commit."""

    def __init__(
        self,
        machines: dict[NodeName, "Machine"],
        reaches: Callable[[NodeName, NodeName], bool],
        after_ms: Callable[[float, Callable[[], None]], None],
        now_ms: Callable[[], float],
        rng: random.Random,
        committed: Committed,
        look_ms: int = LOOK_MS,
    ) -> None:
        self._look_ms = look_ms
        self._machines = machines
        self._reaches = reaches
        self._after_ms = after_ms
        self._now_ms = now_ms
        self._rng = rng
        self._committed = committed
        self.journaled: dict[NodeName, LogIndex] = {}  # on each disk, which never loses it
        self.applied: dict[NodeName, LogIndex] = {}  # known there to be committed
        self.entries: list[AnyCommand | None] = []  # entry i has index i + 1; None opens a term
        self.snapshots: dict[LogIndex, ClusterState] = {}  # so that a start need not read the whole log
        self.leader: NodeName | None = None
        self.late_share = 0.0  # of proposals whose proposer gives up before they are committed
        self._last_ms: dict[NodeName, float] = {}
        self._believers: set[NodeName] = set()
        self._alone_since_ms: dict[NodeName, float] = {}
        self._leaderless_since_ms: float | None = 0.0
        self._patience_ms = rng.uniform(*ELECTION_MS)

    def start(self) -> None:
        self.journaled = dict.fromkeys(self._machines, 0)
        self.applied = dict.fromkeys(self._machines, 0)
        self._after_ms(0, self._look)

    def seat(self, daemon: "Daemon") -> "PerfectSeat":
        return PerfectSeat(self, daemon)

    def break_journal(self, machine: "Machine", problem: str) -> None:
        machine.journal_problem = problem
        self.gone(machine.name)
        if machine.daemon is not None:
            machine.daemon.fail(problem)

    def disk_replaced(self, machine: "Machine") -> None:
        """It learns everything again from a leader."""
        self.journaled[machine.name] = self.applied[machine.name] = 0

    def disk_put_back(self, machine: "Machine") -> None:
        """This log never loses what it holds; only the file of barred epochs went back."""

    # ---- who leads ---------------------------------------------------------------------------------------------

    def _circle(self, name: NodeName) -> list[NodeName]:
        """Nodes that `name` could replicate to, itself included."""
        return [n for n, m in self._machines.items() if m.votes and self._reaches(name, n)]

    def _majority(self, name: NodeName) -> bool:
        return self._machines[name].votes and len(self._circle(name)) * 2 > len(self._machines)

    def _look(self) -> None:
        self._after_ms(self._look_ms, self._look)
        if self._all_is_well():
            return
        now = self._now_ms()
        for name in sorted(self._believers):
            if name == self.leader and self._majority(name):
                self._alone_since_ms.pop(name, None)
            elif now - self._alone_since_ms.setdefault(name, now) >= FALLBACK_MS:
                self._disbelieve(name)
        if self.leader is not None and self._majority(self.leader):
            self._leaderless_since_ms = None
            self._believe(self.leader)
            self._spread(self.leader)
            return
        if self._leaderless_since_ms is None:
            self._leaderless_since_ms = now
            self._patience_ms = self._rng.uniform(*ELECTION_MS)
        if now - self._leaderless_since_ms >= self._patience_ms:
            self._elect()

    def _all_is_well(self) -> bool:
        """One leads, knows it, and everybody whom it reaches has everything."""
        leader, last = self.leader, len(self.entries)
        if (
            leader is None
            or self._believers != {leader}
            or self._alone_since_ms
            or self._leaderless_since_ms is not None
        ):
            return False
        circle = self._circle(leader) if self._machines[leader].votes else []
        return len(circle) * 2 > len(self._machines) and all(self.journaled[name] == last for name in circle)

    def _elect(self) -> None:
        able = [n for n in sorted(self._machines) if self._majority(n)]
        if able:
            most = max(self.journaled[n] for n in able)
            self._lead(self._rng.choice([n for n in able if self.journaled[n] == most]))

    def _lead(self, name: NodeName) -> None:
        self.leader = name
        self._leaderless_since_ms = None
        self.entries.append(None)
        self._spread(name)

        self._after_ms(self._rng.uniform(*COMMIT_MS), lambda: self._believe(name))

    def _believe(self, name: NodeName) -> None:
        """An entry of its own term is committed: it may coordinate."""
        machine = self._machines[name]
        if self.leader == name and name not in self._believers and machine.daemon is not None and machine.votes:
            self._believers.add(name)
            machine.daemon.leadership(True)

    def _disbelieve(self, name: NodeName) -> None:
        self._believers.discard(name)
        self._alone_since_ms.pop(name, None)
        if self.leader == name:
            self.leader = None
        daemon = self._machines[name].daemon
        if daemon is not None:
            daemon.leadership(False)

    def gone(self, name: NodeName) -> None:
        """This node's daemon has ended; a new one believes nothing."""
        self._believers.discard(name)
        self._alone_since_ms.pop(name, None)
        if self.leader == name:
            self.leader = None

    def transfer(self, sender: NodeName, to: NodeName) -> None:
        if self.leader == sender and self._reaches(sender, to) and self._majority(to):
            self._spread(sender)
            self._disbelieve(sender)
            self._lead(to)

    # ---- what is in it ------------------------------------------------------------------------------------------

    def propose(self, sender: NodeName, command: AnyCommand, done: Done) -> None:
        daemon = self._machines[sender].daemon
        if daemon is not None:
            daemon.seat.propose(command, done)

    def enter(self, sender: NodeName, command: AnyCommand, done: Told) -> None:
        """`done` is called at most once: with the index when the sender has applied it, or with unknown."""
        leader = self.leader
        if leader is None or not self._reaches(sender, leader) or not self._machines[sender].votes:
            self._after_ms(UNKNOWN_MS / 2, lambda: done(Unknown(why="no leader is known")))
            return

        def late() -> None:
            self._commit(command)

        if self._rng.random() < self.late_share:
            done(Unknown(why="no answer in time"))
            self._after_ms(self._rng.uniform(0, 8000), late)
            return

        def commit() -> None:
            index = self._commit(command)
            if index is None:
                done(Unknown(why="the leader was lost"))
            else:
                self._await_applied(sender, index, done)

        # First in, first out for each proposer, as over a connection.
        at_ms = max(self._now_ms() + self._rng.uniform(*COMMIT_MS), self._last_ms.get(sender, 0.0))
        self._last_ms[sender] = at_ms
        self._after_ms(at_ms - self._now_ms(), commit)

    def _commit(self, command: AnyCommand) -> LogIndex | None:
        leader = self.leader
        if leader is None or not self._majority(leader):
            return None
        self.entries.append(command)
        index = len(self.entries)
        self._committed(index, command)
        self._spread(leader)
        return index

    def _spread(self, leader: NodeName) -> None:
        """What is committed is in the journal of everybody whom the leader reaches; they learn of it a little later."""
        index = len(self.entries)
        for name in self._circle(leader):
            if self.journaled[name] < index:
                self.journaled[name] = index
                self.learn(name, index, 0.0 if name == leader else self._rng.uniform(1, 40))

    def learn(self, name: NodeName, index: LogIndex, delay_ms: float) -> None:
        """The leader says there that the log is committed up to here."""
        machine = self._machines[name]

        def told() -> None:
            if machine.daemon is not None and machine.daemon.in_log and isinstance(machine.daemon.seat, PerfectSeat):
                machine.daemon.seat.committed(index)

        machine.after_ms(delay_ms, told)

    def _await_applied(self, name: NodeName, index: LogIndex, done: Told) -> None:
        machine = self._machines[name]
        if machine.daemon is None:
            return
        if index <= self.applied[name]:
            done(index)
            return
        assert isinstance(machine.daemon.seat, PerfectSeat)
        machine.daemon.seat.awaited.append((index, done))
        machine.after_ms(UNKNOWN_MS, lambda: done(Unknown(why="no answer in time")))


class PerfectSeat:
    """A `Seat`: what this node has applied follows what the log holds."""

    def __init__(self, log: PerfectLog, daemon: "Daemon") -> None:
        self._log = log
        self._daemon = daemon
        self._m = daemon.m
        self.awaited: list[tuple[LogIndex, Told]] = []
        self._outcomes: dict[LogIndex, Outcome] = {}

    def start(self) -> None:
        if self._m.journal_problem:
            self._daemon.engine.fail(self._m.journal_problem)
        applied = self._log.applied[self._m.name]
        from_index = max((i for i in self._log.snapshots if i <= applied - REPLAYED_MIN), default=0)
        if from_index:
            self._daemon.engine.restore(self._log.snapshots[from_index])
        for index in range(from_index + 1, applied + 1):
            entry = self._log.entries[index - 1]
            if entry is not None:
                self._daemon.engine.apply(index, entry)
        self._daemon.engine.react(self._m.local_ns, self._m.wall_ms)
        self._log.learn(self._m.name, self._log.journaled[self._m.name], RESTARTED_MS)

    def look(self) -> None:
        engine = self._daemon.engine
        engine.stalled_ms = self._m.stalled_ms
        engine.hindrance = "the disk does not answer" if self._m.stalled_ms > DISK_SLOW_MS else ""

    def deliver(self, peer: NodeName, payload: bytes) -> None:
        raise AssertionError("the perfect log sends nothing")

    def transfer(self, to: NodeName) -> None:
        self._log.transfer(self._m.name, to)

    def end(self) -> None:
        self._log.gone(self._m.name)

    def committed(self, upto: LogIndex) -> None:
        """Apply what is committed up to here."""
        name, applied = self._m.name, self._log.applied

        def deed() -> "list[Effect]":
            engine = self._daemon.engine
            while applied[name] < upto:
                applied[name] += 1
                entry = self._log.entries[applied[name] - 1]
                if entry is not None:
                    self._outcomes[applied[name]] = engine.apply(applied[name], entry)
                if applied[name] % SNAPSHOT_EVERY == 0:
                    self._log.snapshots.setdefault(applied[name], engine.state)
            self._answer()
            return engine.react(self._m.local_ns, self._m.wall_ms)

        self._daemon.run(deed)
        self._daemon.stir()

    def _answer(self) -> None:
        applied = self._log.applied[self._m.name]
        due = [x for x in self.awaited if x[0] <= applied]
        self.awaited = [x for x in self.awaited if x[0] > applied]
        for index, done in due:
            done(index)

    def propose(self, command: AnyCommand, done: Done) -> None:
        asked = [True]

        def told(result: LogIndex | Unknown) -> None:
            if not self._daemon.alive or not asked:
                return
            asked.clear()
            if isinstance(result, int):
                done(self._outcomes.get(result, Outcome(index=result, accepted=True)))
            else:
                done(result)

        self._log.enter(self._m.name, command, told)
