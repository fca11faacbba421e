"""hamaild of a simulated node: the real engine, with the simulation for a shell."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from hamail.core import effects as fx
from hamail.core.engine import Engine
from hamail.daemon.barred import BarredError, BarredFile
from hamail.daemon.shell import never_waits
from hamail.model import actions as a
from hamail.model.commands import Outcome, Unknown
from hamail.model.ids import NodeName
from hamail.model.messages import AnyMessage, Heartbeat, LeaseAnswer, LeaseRequest, Raft
from hamail.simulation.agenda import MS
from hamail.simulation.calm import calm_until_ns
from hamail.simulation.disk import BARRED, Writer

if TYPE_CHECKING:
    from hamail.simulation.machine import Machine


class Daemon:
    dense = False  # make every tick, and check that those which would be left out do nothing

    def __init__(self, machine: "Machine", life: str) -> None:
        self.m = machine
        self.alive = True
        self.hung = False
        self.writer = Writer(machine)
        self._saving = False
        self._behind: list[fx.Effect] = []  # effects that wait for the disk, in their order
        self._missed: list[Callable[[], None]] = []
        self._grid_ns = machine.world.now_ns  # ticks come at multiples of `tick_ms` from here on
        self._tick_due_ns = self._grid_ns
        self._calm_ns = 0  # true time until which ticks were predicted to do nothing
        self._was_still = False
        self._rank = sorted(machine.world.spec.nodes).index(machine.name) + 1
        world = machine.world
        self._barred = BarredFile(BARRED, machine.disk)
        try:
            barred, problem = self._barred.load(), ""
        except BarredError as error:
            barred, problem = {}, str(error)
        self.engine = Engine(
            me=machine.name,
            bootstrap=world.spec,
            source="simulated",
            barred=barred,
            life=life,
            now_ns=machine.local_ns,
            version="simulated",
        )
        self.seat = world.log.seat(self)
        self.in_log = not problem  # as in the real one: who cannot read what it has barred does not open its log
        if problem:
            self.engine.fail(problem)
        else:
            self.seat.start()
        self._tick()

    def end(self, *, power: bool = False) -> None:
        """SIGKILL, or the power goes."""
        self.alive = False
        self.writer.end(power=power)
        self.seat.end()

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
            self._perform(effect)
            if self._ended():
                return

    def _still(self) -> bool:
        return self.hung or self.m.paused

    def _ended(self) -> bool:
        return not self.alive

    def wake(self) -> None:
        """The process runs again; what had queued up for it comes first."""
        self.hung = False
        self._was_still = True
        missed, self._missed = self._missed, []
        for deed in missed:
            deed()
        self.writer.resume()
        self.stir()

    def _tick(self) -> None:
        if not self.alive or self.m.world.now_ns != self._tick_due_ns:
            return
        if self._still():
            self._was_still = True
        else:
            self.seat.look()
            self._pretend_ticked()
            self.run(self._ticked)
        self._grid_ns = self.m.world.now_ns
        self._schedule()

    def _ticked(self) -> list[fx.Effect]:
        effects = self.engine.tick(self.m.local_ns, self.m.wall_ms)
        assert not effects or self.m.world.now_ns >= self._calm_ns, f"predicted to do nothing: {effects}"
        return effects

    def _schedule(self) -> None:
        """The next tick: the next one of the grid, or a later one when those between would do nothing."""
        tick_ns = self.engine.timings.tick_ms * MS
        skip = 0
        if not (self._still() or self.m.disk_hangs):
            calm_ns = self.m.clock.real_ns(calm_until_ns(self.engine)) - self._grid_ns
            skip = max(0, (calm_ns - 1) // tick_ns)
        self._calm_ns = self._grid_ns + (skip + 1) * tick_ns
        self._tick_at(self._grid_ns + tick_ns if self.dense else self._calm_ns)

    def _tick_at(self, real_ns: int) -> None:
        self._tick_due_ns = real_ns
        self.m.world.agenda.at(real_ns, self._tick, self._rank)

    def stir(self) -> None:
        """Something has happened: the next tick of the grid may have something to do."""
        tick_ns = self.engine.timings.tick_ms * MS
        upcoming_ns = self._grid_ns + max(1, -((self._grid_ns - self.m.world.now_ns) // tick_ns)) * tick_ns
        self._calm_ns = min(self._calm_ns, upcoming_ns)
        if upcoming_ns < self._tick_due_ns:
            self._tick_at(upcoming_ns)

    def _pretend_ticked(self) -> None:
        """The ticks that were left out have been no stall."""
        before_ns = self.m.world.now_ns - self.engine.timings.tick_ms * MS
        if before_ns > self._grid_ns and not self._was_still:
            self.engine.members = replace(self.engine.members, ticked_ns=self.m.clock.local_ns(before_ns))
        self._was_still = False

    # ---- events -------------------------------------------------------------------------------------------------

    def message(self, sender: NodeName, message: AnyMessage) -> None:
        if isinstance(message, Raft):
            self.raft(sender, message.payload)
            return
        news = not self._is_routine(sender, message)
        self.run(lambda: self.engine.message(sender, message, self.m.local_ns, self.m.wall_ms))
        if news:
            self.stir()

    def _is_routine(self, sender: NodeName, message: AnyMessage) -> bool:
        """Does it change nothing that a tick looks at, but that its sender was heard?"""
        match message:
            case Heartbeat():
                peer = self.engine.members.peers.get(sender)
                before = peer.heartbeat if peer is not None else None
                if before is None or sender in self.engine.missed():
                    return False
                same = self._misses(before) == self._misses(message)
                return same and replace(before, sequence=0, silent_ms={}) == replace(message, sequence=0, silent_ms={})
            case LeaseRequest():
                return True
            case LeaseAnswer():
                known = self.engine.local.leases.get(message.group)
                return known is not None and known.until_ns > 0
            case _:
                return False

    def _misses(self, beat: Heartbeat) -> set[NodeName]:
        return {name for name, ms in beat.silent_ms.items() if ms >= self.engine.timings.detection_ms}

    def notice(self, notice: a.AnyNotice) -> None:
        self.run(lambda: self.engine.notice(notice, self.m.local_ns, self.m.wall_ms))
        self.stir()

    def executor_lost(self) -> None:
        self.run(lambda: self.engine.executor_lost(self.m.local_ns, self.m.wall_ms))
        self.stir()

    def leadership(self, leading: bool) -> None:
        def deed() -> list[fx.Effect]:
            self.engine.leadership(leading)
            return []

        self.run(deed)
        self.stir()

    def fail(self, problem: str) -> None:
        def deed() -> list[fx.Effect]:
            self.engine.fail(problem)
            return []

        self.run(deed)
        self.stir()

    def leave(self) -> None:
        self.run(lambda: self.engine.leave(self.m.local_ns, self.m.wall_ms))
        self.stir()

    def raft(self, sender: NodeName, payload: bytes) -> None:
        if not self.alive:
            return
        if self._still():
            self._missed.append(lambda: self.raft(sender, payload))
        else:
            self.seat.deliver(sender, payload)

    # ---- effects ------------------------------------------------------------------------------------------------

    def _perform(self, effect: fx.Effect) -> None:
        if self.m.world.trace is not None:
            self.m.world.trace.add(self.m.world.now_ns, self.m.name, effect)
        if self._saving and not never_waits(effect):
            self._behind.append(effect)
        else:
            self._carry_out(effect)

    def _carry_out(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Send(to, message):
                self.m.world.network.send(self.m.name, to, message)
            case fx.Propose():
                self._propose(effect)
            case fx.Ask(request):
                self.m.tell_executor(request)
            case fx.SaveBarred():
                self._save(effect)
            case fx.Transfer(to):
                self.seat.transfer(to)
            case fx.Note(level, text):
                self.m.world.note(self.m.name, level, text)

    def _save(self, effect: fx.SaveBarred) -> None:
        """A barrier, as in the real shell."""
        self._saving = True

        def saved(error: Exception | None) -> None:
            self._saving = False
            behind, self._behind = self._behind, []
            if error is not None:
                self.fail(str(error))
            else:
                self.run(lambda: behind)

        self.writer.write(lambda: self._barred.save(effect.barred), saved)

    def _propose(self, effect: fx.Propose) -> None:
        def done(result: Outcome | Unknown) -> None:
            self.engine.proposed(effect.key, result)
            self.stir()

        self.seat.propose(effect.command, done)
