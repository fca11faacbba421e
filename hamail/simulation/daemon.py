"""hamaild of a simulated node: the real engine, with the simulation for a shell."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from hamail.core import effects as fx
from hamail.core.engine import Engine
from hamail.model import actions as a
from hamail.model.commands import AnyCommand, Outcome, Unknown
from hamail.model.ids import LogIndex, NodeName
from hamail.model.messages import AnyMessage

if TYPE_CHECKING:
    from hamail.simulation.machine import Machine

DISK_SLOW_MS = 1000


class Daemon:
    def __init__(self, machine: "Machine", life: str) -> None:
        self.m = machine
        self.alive = True
        self.hung = False
        self.awaited: list[tuple[LogIndex, Callable[[LogIndex | Unknown], None]]] = []
        self._outcomes: dict[LogIndex, Outcome] = {}
        self._missed: list[Callable[[], None]] = []
        world = machine.world
        self.engine = Engine(
            me=machine.name,
            bootstrap=world.spec,
            source="simulated",
            barred=dict(machine.barred),
            life=life,
            now_ns=machine.local_ns,
            version="simulated",
        )
        if machine.journal_problem:
            self.engine.fail(machine.journal_problem)
        self._replay()
        self._tick()

    def _replay(self) -> None:
        """What the journal holds as committed is applied again before anything else happens."""
        for index in range(1, self.m.committed + 1):
            entry = self.m.world.log.entries[index - 1]
            if entry is not None:
                self.engine.apply(index, entry)
        self.engine.react(self.m.local_ns, self.m.world.wall_ms)

    def end(self) -> None:
        self.alive = False

    def run(self, deed: Callable[[], list[fx.Effect]]) -> None:
        """Let the engine do something now, or when the process runs again."""
        if not self.alive:
            return
        if self._still():
            self._missed.append(lambda: self.run(deed))
            return
        for effect in deed():
            self.m.world.failpoint(self.m, effect)
            if self._ended():
                return
            self._carry_out(effect)
            if self._ended():
                return

    def _still(self) -> bool:
        return self.hung or self.m.paused

    def _ended(self) -> bool:
        return not self.alive

    def wake(self) -> None:
        """The process runs again; what had queued up for it comes first."""
        self.hung = False
        missed, self._missed = self._missed, []
        for deed in missed:
            deed()

    def _tick(self) -> None:
        if not self.alive:
            return
        if not self._still():
            self.engine.stalled_ms = self.m.stalled_ms
            self.engine.hindrance = "the disk does not answer" if self.m.stalled_ms > DISK_SLOW_MS else ""
            self.run(lambda: self.engine.tick(self.m.local_ns, self.m.world.wall_ms))
        self.m.world.agenda.after_ms(self.engine.timings.tick_ms, self._tick)

    # ---- events -------------------------------------------------------------------------------------------------

    def message(self, sender: NodeName, message: AnyMessage) -> None:
        self.run(lambda: self.engine.message(sender, message, self.m.local_ns, self.m.world.wall_ms))

    def notice(self, notice: a.AnyNotice) -> None:
        self.run(lambda: self.engine.notice(notice, self.m.local_ns, self.m.world.wall_ms))

    def executor_lost(self) -> None:
        self.run(lambda: self.engine.executor_lost(self.m.local_ns, self.m.world.wall_ms))

    def leadership(self, leading: bool) -> None:
        def deed() -> list[fx.Effect]:
            self.engine.leadership(leading)
            return []

        self.run(deed)

    def fail(self, problem: str) -> None:
        def deed() -> list[fx.Effect]:
            self.engine.fail(problem)
            return []

        self.run(deed)

    def leave(self) -> None:
        self.run(lambda: self.engine.leave(self.m.local_ns, self.m.world.wall_ms))

    def committed(self, upto: LogIndex) -> None:
        """Apply what is committed up to here."""

        def deed() -> list[fx.Effect]:
            while self.m.committed < upto:
                self.m.committed += 1
                entry = self.m.world.log.entries[self.m.committed - 1]
                if entry is not None:
                    self._outcomes[self.m.committed] = self.engine.apply(self.m.committed, entry)
            self._answer()
            return self.engine.react(self.m.local_ns, self.m.world.wall_ms)

        self.run(deed)

    def _answer(self) -> None:
        due = [x for x in self.awaited if x[0] <= self.m.committed]
        self.awaited = [x for x in self.awaited if x[0] > self.m.committed]
        for index, done in due:
            done(index)

    # ---- effects ------------------------------------------------------------------------------------------------

    def _carry_out(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Send(to, message):
                self.m.world.network.send(self.m.name, to, message)
            case fx.Propose(key, command):
                self._propose(key, command)
            case fx.Ask(request):
                self.m.tell_executor(request)
            case fx.SaveBarred(barred):
                self.m.barred = dict(barred)
            case fx.Transfer(to):
                self.m.world.log.transfer(self.m.name, to)
            case fx.Note(level, text):
                self.m.world.note(self.m.name, level, text)

    def _propose(self, key: str, command: AnyCommand) -> None:
        asked = [True]

        def done(result: LogIndex | Unknown) -> None:
            if not self.alive or not asked:
                return
            asked.clear()
            outcome = (
                self._outcomes.get(result, Outcome(index=result, accepted=True)) if isinstance(result, int) else result
            )
            self.engine.proposed(key, outcome)

        self.m.world.log.propose(self.m.name, command, done)
