"""A log that keeps no promise: it shows nodes different entries, forgets some, goes back, and makes several leaders.

What must hold even so is what the storage alone defends. When the world is at peace this log becomes an honest one,
with the longest of its histories for everybody.
"""

from random import Random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from hamail.core.apply import apply, empty_state
from hamail.core.effects import Effect
from hamail.model.commands import AnyCommand, Grant, Outcome, Unknown
from hamail.model.ids import LogIndex, NodeName
from hamail.model.state import ClusterState
from hamail.simulation.checkers.claims import Hazard
from hamail.simulation.logs.port import Done

if TYPE_CHECKING:
    from hamail.simulation.daemon import Daemon
    from hamail.simulation.machine import Machine
    from hamail.simulation.world import World

LOOK_MS = 50
COMMIT_MS = (4, 12)
MISCHIEF_MS = (300, 6000)
UNKNOWN_MS = 1000
FORGET_ENTRIES_MAX = 6
LEFT_OUT = 0.15  # share of entries that a node is not shown
TWISTED = 0.1  # share of grants that another node is shown with another name in them
LEADERS_MAX = 3

History = list[AnyCommand | None]


class MaliciousLog:
    """A `Log`. Every node has a history of its own."""

    def __init__(self, world: "World", rng: Random) -> None:
        self.late_share = 0.0
        self.histories: dict[NodeName, History] = {}
        self.leaders: set[NodeName] = set()
        self._world = world
        self._rng = rng
        self._honest = False

    def start(self) -> None:
        self.histories = {name: [] for name in self._world.machines}
        self._world.checker.hazard(Hazard.FORKED_LOG)
        self._look()
        self._mischief()

    @property
    def leader(self) -> NodeName | None:
        able = sorted(name for name in self.leaders if self._world.machines[name].votes)
        return able[0] if able else None

    @property
    def entries(self) -> History:
        """The longest of the histories."""
        return max(self.histories.values(), key=len)

    def seat(self, daemon: "Daemon") -> "MaliciousSeat":
        return MaliciousSeat(self, daemon)

    def propose(self, sender: NodeName, command: AnyCommand, done: Done) -> None:
        daemon = self._world.machines[sender].daemon
        if daemon is not None:
            daemon.seat.propose(command, done)

    def break_journal(self, machine: "Machine", problem: str) -> None:
        machine.journal_problem = problem
        if machine.daemon is not None:
            machine.daemon.fail(problem)

    def disk_replaced(self, machine: "Machine") -> None:
        self.histories[machine.name] = list(self.entries) if self._honest else []

    def disk_put_back(self, machine: "Machine") -> None:
        self._forget(machine.name)

    # ---- who leads ----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        world = self._world
        world.agenda.after_ms(LOOK_MS, self._look)
        if world.peace and not self._honest:
            self._become_honest()
        able = [name for name, m in sorted(world.machines.items()) if m.votes]
        if self._honest:
            first = next((n for n in able if self._majority(n)), None)
            chosen = self.leaders if self.leaders & set(able) == self.leaders != set() else {first} - {None}
        elif self._rng.random() < 0.02:
            chosen = set(self._rng.sample(able, min(len(able), self._rng.randint(0, LEADERS_MAX))))
        else:
            chosen = self.leaders & set(able) or set(able[:1])
        self.leaders = {name for name in chosen if name is not None}
        for name in able:
            daemon = world.machines[name].daemon
            if daemon is not None and daemon.engine.leading != (name in self.leaders):
                daemon.leadership(name in self.leaders)

    def _majority(self, name: NodeName) -> bool:
        reached = [n for n, m in self._world.machines.items() if m.votes and self._world.network.both_ways(name, n)]
        return 2 * len(reached) > len(self._world.machines)

    # ---- what it does to them -----------------------------------------------------------------------------------

    def _mischief(self) -> None:
        if self._honest:
            return
        self._world.agenda.after_ms(self._rng.uniform(*MISCHIEF_MS), self._mischief)
        victim = self._rng.choice(sorted(self.histories))
        kind = self._rng.choice(("forget", "copy", "renumber", "nothing"))
        if kind == "forget":
            self._forget(victim)
        elif kind == "copy":
            self.histories[victim] = list(self.histories[self._rng.choice(sorted(self.histories))])
        elif kind == "renumber":
            self.histories[victim] += [None] * self._rng.randrange(5)
        if kind != "nothing":
            self._world.remark(f"the log of {victim}: {kind}")
            self._rewind(victim)

    def _forget(self, name: NodeName) -> None:
        del self.histories[name][-self._rng.randint(1, FORGET_ENTRIES_MAX) :]

    def _rewind(self, name: NodeName) -> None:
        """The node is given the state that its history makes, as with a snapshot."""
        daemon = self._world.machines[name].daemon
        if daemon is not None and isinstance(daemon.seat, MaliciousSeat):
            daemon.seat.restore()

    def _become_honest(self) -> None:
        self._honest = True
        longest = list(self.entries)
        self._world.state = state_of(longest)
        for name in self.histories:
            self.histories[name] = list(longest)
            self._rewind(name)
        self.leaders = set()

    # ---- what is in it ------------------------------------------------------------------------------------------

    def commit(self, sender: NodeName, command: AnyCommand) -> bool:
        """False: an honest log has no majority there."""
        if self._honest and not self._majority(sender):
            return False
        for name, history in self.histories.items():
            if name == sender or self._honest:
                history.append(command)
            elif self._rng.random() >= LEFT_OUT:
                history.append(self._twisted(command))
        index = len(self.histories[sender])
        if index > self._world.state.applied:
            self._world.committed(index, command)
        for name in self.histories:
            daemon = self._world.machines[name].daemon
            if daemon is not None and isinstance(daemon.seat, MaliciousSeat):
                daemon.seat.catch_up()
        return True

    def _twisted(self, command: AnyCommand) -> AnyCommand:
        if isinstance(command, Grant) and self._rng.random() < TWISTED:
            others = [n for n, m in sorted(self._world.machines.items()) if not m.witness and n != command.node]
            return replace(command, node=self._rng.choice(others))
        return command


def state_of(history: History) -> ClusterState:
    state = empty_state()
    for index, command in enumerate(history, start=1):
        if command is not None:
            state, _ = apply(state, index, command)
    return state


class MaliciousSeat:
    """A `Seat`."""

    def __init__(self, log: MaliciousLog, daemon: "Daemon") -> None:
        self._log = log
        self._daemon = daemon
        self._m = daemon.m
        self._applied: LogIndex = 0
        self._waiting: dict[int, tuple[AnyCommand, Done]] = {}  # by the identity of the command

    def start(self) -> None:
        if self._m.journal_problem:
            self._daemon.engine.fail(self._m.journal_problem)
        self._catch_up()
        self._daemon.engine.react(self._m.local_ns, self._m.world.wall_ms)

    def look(self) -> None:
        engine = self._daemon.engine
        engine.stalled_ms = self._m.stalled_ms

    def deliver(self, peer: NodeName, payload: bytes) -> None:
        raise AssertionError("this log sends nothing")

    def transfer(self, to: NodeName) -> None:
        pass

    def end(self) -> None:
        self._log.leaders.discard(self._m.name)
        self._waiting.clear()

    def restore(self) -> None:
        def deed() -> list[Effect]:
            history = self._log.histories[self._m.name]
            self._applied = len(history)
            self._daemon.engine.restore(state_of(history))
            return self._daemon.engine.react(self._m.local_ns, self._m.world.wall_ms)

        self._daemon.run(deed)
        self._daemon.stir()

    def catch_up(self) -> None:
        def deed() -> list[Effect]:
            self._catch_up()
            return self._daemon.engine.react(self._m.local_ns, self._m.world.wall_ms)

        self._daemon.run(deed)
        self._daemon.stir()

    def _catch_up(self) -> None:
        history = self._log.histories[self._m.name]
        for index in range(self._applied + 1, len(history) + 1):
            command = history[index - 1]
            self._applied = index
            if command is not None:
                outcome = self._daemon.engine.apply(index, command)
                waiting = self._waiting.pop(id(command), None)
                if waiting is not None:
                    waiting[1](outcome)

    def propose(self, command: AnyCommand, done: Done) -> None:
        def told(result: Outcome | Unknown) -> None:
            if self._daemon.alive:
                done(result)

        def enter() -> None:
            if not self._m.votes or not self._log.commit(self._m.name, command):
                give_up()

        def give_up() -> None:
            if self._waiting.pop(id(command), None) is not None:
                told(Unknown(why="no answer in time"))

        self._waiting[id(command)] = (command, told)
        self._m.after_ms(self._log._rng.uniform(*COMMIT_MS), enter)
        self._m.after_ms(UNKNOWN_MS, give_up)
