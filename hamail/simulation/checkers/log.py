"""Judges the replicated log by what its nodes truly did: what they applied, whom they voted for, who led.

Much of it happens inside of the log, which would catch an exception; so findings are kept until `report`.
"""

from typing import TYPE_CHECKING

from hamail.consensus.journal import Journal, LogEntry
from hamail.consensus.port import ConsensusHealth
from hamail.core.engine import Engine
from hamail.core.timing import derive
from hamail.model.commands import AnyCommand
from hamail.model.ids import LogIndex, NodeName
from hamail.model.state import ClusterState
from hamail.simulation.checkers.violation import Violation

if TYPE_CHECKING:
    from hamail.simulation.world import World

STATES_KEPT = 5000
DISK_WORDS = ("cannot write the journal", "cannot open the journal", "is damaged", "takes no part until an operator")


class LogChecker:
    """Nodes lose what they held when they end (`begins`), but no node may contradict what any node ever showed."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.entries: list[AnyCommand | None] = []  # entry i has index i + 1; None where there is no command
        self.newest: LogIndex = 0  # of all that any node has applied
        self.leaders: dict[int, NodeName] = {}  # by term
        self.acknowledged_upto: LogIndex = 0
        self._states: dict[LogIndex, ClusterState] = {0: world.state}
        self._votes: dict[tuple[NodeName, int], NodeName] = {}
        self._terms: dict[NodeName, int] = {}  # the newest that a node has shown
        self._at: dict[NodeName, LogIndex] = {}
        self._entry_terms: dict[LogIndex, int] = {}
        self._held: dict[NodeName, LogIndex] = {}  # the newest committed entry that was durable there
        self._found = ""

    def report(self) -> None:
        """Raises Violation."""
        if self._found:
            raise Violation(f"at {self._world.now_ns / 1e9:.3f} s: {self._found}\n{self._world.recent()}")

    def _violation(self, what: str) -> None:
        self._found = self._found or what

    # ---- S8, S13: one sequence, and what it makes of the state ----------------------------------------------------

    def begins(self, name: NodeName) -> None:
        """A new life of hamaild; its state is empty."""
        self._at[name] = 0

    def applies(self, name: NodeName, index: LogIndex, command: AnyCommand) -> None:
        """`name` is about to apply this."""
        last = self._at[name]
        if index <= last:
            self._violation(f"{name} applies log entry {index} after {last}")
            return
        left_out = [i for i in range(last + 1, min(index, self.newest + 1)) if self.entries[i - 1] is not None]
        if left_out:
            self._violation(f"{name} applies log entry {index} without {left_out[0]}, which another node has applied")
        if index > self.newest:
            self.entries.extend([None] * (index - self.newest))
            self.entries[index - 1] = command
            self.newest = index
            self._world.committed(index, command)
            self._keep(index)
        elif self.entries[index - 1] != command:
            self._violation(f"{name} applies {command} as log entry {index}, another {self.entries[index - 1]}")
        self._at[name] = index

    def _keep(self, index: LogIndex) -> None:
        self._states[index] = self._world.state
        if len(self._states) > STATES_KEPT:
            del self._states[next(iter(self._states))]

    def applied(self, name: NodeName, index: LogIndex, engine: Engine) -> None:
        self._compare(name, index, engine)

    def restored(self, name: NodeName, engine: Engine) -> None:
        """`name` has taken over a snapshot, its own or another node's."""
        index = engine.state.applied
        if index < self._at[name]:
            self._violation(f"{name} has gone back from log entry {self._at[name]} to a snapshot of {index}")
        if index > self.newest:
            self._violation(f"{name} has a snapshot of log entry {index}, which no node has applied")
        self._at[name] = index
        self._compare(name, index, engine)

    def _compare(self, name: NodeName, index: LogIndex, engine: Engine) -> None:
        right = self._states.get(index)
        if right is None:
            return
        state = engine.state
        if (state.config, state.spec) != (right.config, right.spec):
            self._violation(f"{name} has another configuration than the log after entry {index}: {state.config}")
        elif state != right:
            self._violation(f"{name} has another state than the log after entry {index}")
        t = derive(state.spec.detection_ms, state.spec.watchdog_timeout_s) if state.config.revision else engine.timings
        if t != engine.timings:
            self._violation(f"{name} works with other timings than configured after log entry {index}")

    def acknowledged(self, name: NodeName, index: LogIndex, command: AnyCommand) -> None:
        """A proposer was told that its command is in the log: from now on it must never be lost."""
        if not 0 < index <= self.newest or self.entries[index - 1] != command:
            self._violation(f"{name} was told that {command} is log entry {index}, which it is not")
        self.acknowledged_upto = max(self.acknowledged_upto, index)

    def holds(self, name: NodeName, journal: Journal, applied: LogIndex) -> None:
        """All of the journal of `name` is durable just now: a committed entry that once was there must still be."""
        if applied == self.newest and (term := journal.term_at(applied)) is not None:
            self._entry_terms[applied] = term
        top = min(journal.last_index, self.newest)
        held = self._held.get(name, 0)
        if top < held:
            self._violation(f"{name} has no log entry {held} any more, which is committed and was durable there")
        elif top > held and journal.term_at(top) == self._entry_terms.get(top):
            self._held[name] = top

    def deletes(self, name: NodeName, entries: list[LogEntry]) -> None:
        """`name` throws these out of its log because its leader has others."""
        for _, index, term in entries:
            if index <= self.newest and self._entry_terms.get(index) == term:
                self._violation(f"{name} deletes log entry {index}, which is committed")

    # ---- S9: terms, votes and leaders -----------------------------------------------------------------------------

    def votes(self, name: NodeName, term: int, for_whom: NodeName) -> None:
        """`name` tells another node about its vote."""
        before = self._votes.setdefault((name, term), for_whom)
        if before != for_whom:
            self._violation(f"{name} votes for {for_whom} in term {term}, after it has voted for {before}")
        self._terms[name] = max(self._terms.get(name, 0), term)

    def opened(self, name: NodeName, term: int, vote: NodeName | None) -> None:
        """What the disk of `name` remembers at its start."""
        if term < self._terms.get(name, 0):
            self._violation(f"{name} remembers term {term} after it has voted in {self._terms[name]}")
        voted = self._votes.get((name, term))
        if voted is not None and voted != vote:
            self._violation(f"{name} remembers a vote for {vote} in term {term}, but has voted for {voted}")

    def disk_lost(self, name: NodeName) -> None:
        """It is known to have forgotten: an operator has replaced its disk, or somebody has put back an old copy."""
        self._terms.pop(name, None)
        self._held.pop(name, None)
        self._votes = {key: vote for key, vote in self._votes.items() if key[0] != name}

    def leads(self, name: NodeName, health: ConsensusHealth) -> None:
        """`name` believes that it leads."""
        term = health.term
        if self.leaders.setdefault(term, name) != name:
            self._violation(f"{self.leaders[term]} and {name} both lead in term {term}")
        if term == max(self.leaders) and health.caught_up_term and health.last_index < self.newest:
            self._violation(f"{name} leads in term {term} without log entry {self.newest}, which was applied elsewhere")
        self._terms[name] = max(self._terms.get(name, 0), term)

    # ---- what must never happen inside ------------------------------------------------------------------------------

    def problem(self, name: NodeName, problem: str) -> None:
        """`name` has stopped taking part. Only its disk may be a reason."""
        if not any(word in problem for word in DISK_WORDS):
            self.unforeseen(name, problem)

    def unforeseen(self, name: NodeName, what: str) -> None:
        self._violation(f"the log of {name}: {what}")

    # ---- at the end -----------------------------------------------------------------------------------------------

    def all_agree(self) -> None:
        """When all is well again: every node that takes part has applied the same. Raises Violation."""
        self.report()
        engines = [m.daemon.engine for m in self._world.machines.values() if m.votes and m.daemon is not None]
        for engine in engines:
            if not engine.problem and engine.state.applied < self.acknowledged_upto:
                self._violation(f"{engine.me} does not know log entry {self.acknowledged_upto}, which was acknowledged")
        self.report()
