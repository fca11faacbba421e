"""A perfect replicated log in memory, behind the same port: for the simulator and for tests of what stands on it.

The world decides who leads and who is cut off; everything else is as the port promises, and the same for equal calls.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct

from hamail.consensus.port import NOT_LOGGED, ConsensusHealth, Done, Machine
from hamail.model.commands import AnyCommand, Outcome, Unknown
from hamail.model.ids import LogIndex, NodeName

MS = 1_000_000  # ns
MAX_WAITING = 1024
KEEP_ENTRIES = 2000  # older ones live on in a snapshot only


class _Logged(Struct, frozen=True):
    index: LogIndex
    term: int
    command: AnyCommand | None  # None: the no-op of a new leader, which takes an index as in Raft
    proposer: "MemoryConsensus | None"
    number: int


class MemoryLog:
    """What all nodes share. Entries are committed as soon as they are logged."""

    def __init__(self, voters: Sequence[NodeName], *, keep_entries: int = KEEP_ENTRIES) -> None:
        self.voters = tuple(sorted(voters))
        self.term = 0
        self.leader: NodeName | None = None
        self._keep = keep_entries
        self._cut: set[NodeName] = set()
        self._running: dict[NodeName, MemoryConsensus] = {}
        self._entries: list[_Logged] = []
        self._snapshot: tuple[LogIndex, bytes] = (1, b"")  # index 1 is the empty beginning, as in Raft

    # ------------------------------------------------------------------ what the world decides

    def set_leader(self, name: NodeName | None) -> None:
        """The named node leads from now on; None: nobody does, and nothing is committed."""
        assert name is None or name in self.voters
        if name == self.leader:
            return
        self.leader = name
        if name is not None:
            self.term += 1
            self._append(None, None, 0)

    def cut(self, name: NodeName) -> None:
        """The node neither proposes nor learns anything."""
        self._cut.add(name)

    def heal(self, name: NodeName) -> None:
        self._cut.discard(name)

    # ------------------------------------------------------------------ what the nodes ask

    @property
    def last_index(self) -> LogIndex:
        return self._snapshot[0] + len(self._entries)

    def reachable(self, name: NodeName) -> bool:
        return name in self._running and name not in self._cut

    def working(self) -> bool:
        """There is a leader with a majority."""
        there = sum(self.reachable(voter) for voter in self.voters)
        return self.leader is not None and self.reachable(self.leader) and there > len(self.voters) // 2

    def join(self, node: "MemoryConsensus", name: NodeName) -> None:
        assert name in self.voters and name not in self._running
        self._running[name] = node

    def leave(self, name: NodeName) -> None:
        self._running.pop(name, None)

    def append(self, command: AnyCommand, proposer: "MemoryConsensus", number: int) -> None:
        self._append(command, proposer, number)

    def _append(self, command: AnyCommand | None, proposer: "MemoryConsensus | None", number: int) -> None:
        self._entries.append(_Logged(self.last_index + 1, self.term, command, proposer, number))

    def after(self, index: LogIndex) -> tuple[tuple[LogIndex, bytes] | None, list[_Logged]]:
        """What a node that has applied `index` lacks: a snapshot to begin with (or none), and entries."""
        base = self._snapshot[0]
        if index < base:
            return self._snapshot, list(self._entries)
        return None, self._entries[index - base :]

    def compact(self, applied: LogIndex, state: Callable[[], bytes]) -> None:
        """Offered by each node after applying; taken when there is enough to forget."""
        covered = applied - self._snapshot[0]
        if covered > self._keep:
            self._snapshot = (applied, state())
            self._entries = self._entries[covered:]

    def term_at(self, index: LogIndex) -> int:
        position = index - self._snapshot[0] - 1
        return self._entries[position].term if 0 <= position < len(self._entries) else 0


class _Proposed(Struct):
    number: int
    command: AnyCommand
    done: Done
    deadline_ns: int
    logged: bool = False


class MemoryConsensus:
    """A `Consensus` on a shared `MemoryLog`."""

    def __init__(
        self, log: MemoryLog, node: NodeName, machine: Machine, propose_ms: int, now_ns: Callable[[], int]
    ) -> None:
        self._log = log
        self._node = node
        self._machine = machine
        self._propose_ns = propose_ms * MS
        self._clock = now_ns
        self._applied: LogIndex = 1
        self._number = 0
        self._waiting: dict[int, _Proposed] = {}
        self._finished: list[tuple[Done, Outcome | Unknown]] = []
        self._heard_ns = 0
        self._problem = ""
        self._running = False

    def start(self) -> None:
        self._log.join(self, self._node)
        self._running = True
        self._heard_ns = self._clock()

    def stop(self) -> None:
        self._halt("this node was stopped")

    def _halt(self, why: str) -> None:
        if self._running:
            self._log.leave(self._node)
        self._running = False
        for proposed in self._waiting.values():
            self._finished.append((proposed.done, Unknown(why=why)))
        self._waiting.clear()
        self._report()

    def deliver(self, peer: NodeName, payload: bytes) -> None:
        """Nothing travels: the log is shared."""

    def propose(self, command: AnyCommand, done: Done) -> None:
        if not self._running or len(self._waiting) >= MAX_WAITING:
            why = self._problem or "consensus is not running on this node, or too many commands wait for the log"
            self._finished.append((done, Outcome(index=NOT_LOGGED, accepted=False, reasons=(why,))))
            return
        self._number += 1
        self._waiting[self._number] = _Proposed(self._number, command, done, self._clock() + self._propose_ns)

    def tick(self, now_ns: int) -> None:
        if self._running and self._log.reachable(self._node):
            if self._log.working():
                self._heard_ns = now_ns
                for proposed in self._waiting.values():
                    if not proposed.logged:
                        proposed.logged = True
                        self._log.append(proposed.command, self, proposed.number)
            self._catch_up()
        expired = [p for p in self._waiting.values() if p.deadline_ns <= now_ns]
        for proposed in expired:
            del self._waiting[proposed.number]
            self._finished.append((proposed.done, Unknown(why="no result in time from the log")))
        self._report()

    def _catch_up(self) -> None:
        snapshot, entries = self._log.after(self._applied)
        try:
            if snapshot is not None and snapshot[1]:
                self._machine.restore(snapshot[1])
                self._applied = snapshot[0]
            for entry in entries:
                if entry.command is not None:
                    outcome = self._machine.apply(entry.index, entry.command)
                    if entry.proposer is self and (proposed := self._waiting.pop(entry.number, None)) is not None:
                        self._finished.append((proposed.done, outcome))
                self._applied = entry.index
        except Exception as error:  # noqa: BLE001 - fail-stop, as the real one
            self._problem = f"state machine raised {error!r} after log index {self._applied}"
            self._halt(self._problem)
            return
        self._log.compact(self._applied, self._machine.snapshot)

    def _report(self) -> None:
        finished, self._finished = self._finished, []
        for done, result in finished:
            done(result)

    def transfer_leadership(self, to: NodeName) -> bool:
        if self._log.leader != self._node or not self._log.reachable(self._node) or not self._log.reachable(to):
            return False
        self._log.set_leader(to)
        return True

    def health(self) -> ConsensusHealth:
        reachable = self._running and self._log.reachable(self._node)
        leader = self._log.leader if reachable and self._log.working() else None
        is_leader = leader == self._node
        return ConsensusHealth(
            leader=leader,
            is_leader=is_leader,
            term=self._log.term,
            applied=self._applied,
            last_index=self._log.last_index if reachable else self._applied,
            caught_up_term=is_leader and self._log.term_at(self._applied) == self._log.term,
            problem=self._problem,
            heard_leader_ms=0 if is_leader else max(0, self._clock() - self._heard_ns) // MS,
        )
