"""A simulated machine: power, clock, disk, watchdog, what truly runs on it, and the two processes of hamail."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from hamail.executor.kinds import Kind, kind_of
from hamail.model import actions as a
from hamail.model.ids import GroupName, NodeName, ResourceName
from hamail.model.state import Incarnation
from hamail.simulation.agents import Agents
from hamail.simulation.checkers.claims import Hazard
from hamail.simulation.clock import Clock
from hamail.simulation.daemon import Daemon
from hamail.simulation.disk import SimulatedDisk
from hamail.simulation.executor import Executor, Ledger
from hamail.simulation.premises import Premises, Thing
from hamail.simulation.watchdog import Watchdog

if TYPE_CHECKING:
    from hamail.simulation.world import World

SOCKET_MS = 1


class Machine:
    def __init__(self, world: "World", name: NodeName, *, witness: bool, watchdog: bool, rate_ppm: int) -> None:
        self.world = world
        self.name = name
        self.witness = witness
        self.dog = Watchdog(self, self._reset, armed=watchdog)
        self.clock = Clock(rate_ppm)
        self.powered = False
        self.paused = False
        self.paused_at_ns = 0
        self.slept_ns = 0  # in all: CLOCK_MONOTONIC does not count it
        self.daemon: Daemon | None = None
        self.executor: Executor | None = None
        self.premises = Premises(self)  # what truly is here
        self.ledger = Ledger()  # of its executors, for one boot
        self.disk = SimulatedDisk(name, world.seed)
        self.journal_problem = ""
        # what agents do here
        self.start_ms = 100.0
        self.stop_ms = 100.0
        self.agents = Agents(self)
        self.start_fails: set[ResourceName] = set()
        self.stop_fails = False  # nothing here ends, whatever is done about it
        self.reboot_ms: float | None = None  # after its watchdog has fired; None: it stays down
        self.returns_ms: float | None = None  # until somebody switches it on again, whatever switched it off
        self._wall_offset_ms = 0
        self._timers: dict[int, tuple[int, Callable[[], None]]] = {}  # of this boot
        self._timers_made = 0
        self._boots = 0
        self._lives = 0
        self._life = 0  # grows with every boot; what an earlier boot had put on the agenda is void
        self.when_it_goes_on: list[Callable[[], None]] = []  # after a pause of the whole guest
        self._deferred: list[Callable[[], None]] = []

    @property
    def local_ns(self) -> int:
        return self.clock.local_ns(self.world.now_ns)

    @property
    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC, which stands still while the machine does. Nothing may use it; a planted bug does."""
        return self.local_ns - self.slept_ns

    @property
    def votes(self) -> bool:
        """Does its part of the replicated log work now?"""
        able = self.powered and not self.paused and not self.journal_problem and not self.disk_hangs
        return able and self.daemon is not None and self.daemon.in_log and not self.daemon.hung

    # ---- time on this machine -----------------------------------------------------------------------------------

    @property
    def wall_ms(self) -> int:
        """Its wall clock, for display only: it may be wrong by years."""
        return self.world.wall_ms + self._wall_offset_ms

    def wall_jump(self, by_ms: int) -> None:
        self._wall_offset_ms += by_ms

    def set_rate(self, rate_ppm: int) -> None:
        self.clock.set_rate(self.world.now_ns, rate_ppm)
        for local_ns, due in list(self._timers.values()):
            self._on_agenda(self.clock.real_ns(local_ns), due)
        if self.daemon is not None:
            self.daemon.stir()

    def after_ms(self, delay_ms: float, deed: Callable[[], None]) -> None:
        self._on_agenda(self.world.now_ns + int(delay_ms * 1_000_000), deed)

    def at_local(self, local_ns: int, deed: Callable[[], None]) -> None:
        """As a timer of the kernel does it: when this clock reads `local_ns`, also if its rate changes meanwhile."""
        self._timers_made += 1
        number = self._timers_made

        def due() -> None:
            if number not in self._timers:
                return
            if self.local_ns < local_ns:
                self._on_agenda(self.clock.real_ns(local_ns), due)
            else:
                del self._timers[number]
                deed()

        self._timers[number] = (local_ns, due)
        self._on_agenda(self.clock.real_ns(local_ns), due)

    def _on_agenda(self, real_ns: int, deed: Callable[[], None]) -> None:
        life = self._life

        def guarded() -> None:
            if life != self._life:
                return
            if self.paused:
                self._deferred.append(guarded)
            else:
                deed()

        self.world.agenda.at(real_ns, guarded)

    # ---- power --------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        if self.powered:
            return
        self._boots += 1
        self._life += 1
        self.powered = True
        self.world.checker.fences.powered_on(self.name)
        self.paused = False
        self.dog.boot()
        self.ledger = Ledger()
        self._timers.clear()
        self.clock.boot(self.world.now_ns)
        if not self.witness:
            self.start_executor()
        self.start_daemon()

    def power_off(self) -> None:
        if not self.powered:
            self._life += self.returns_ms is None  # nobody will switch it on again, also who was about to
            return
        self.powered = False
        self._life += 1
        self.paused = False
        self._deferred = []
        self.when_it_goes_on = []
        self.premises.power_lost()
        if self.daemon is not None:
            self.daemon.end(power=True)
        else:
            self.disk.strike(None, power=True)
        if self.executor is not None:
            self.executor.alive = False
        self.daemon = self.executor = None
        if self.returns_ms is not None:
            life = self._life
            self.world.agenda.after_ms(self.returns_ms, lambda: self.power_on() if life == self._life else None)

    def pause(self) -> None:
        """Everything on it stands still, its clock and its watchdog do not."""
        if self.powered and not self.paused:
            self.paused = True
            self.paused_at_ns = self.world.now_ns
            self._note_deadlines()
            self.dog.starve("it stands still")

    def _note_deadlines(self) -> None:
        """Who stands still when a group is to be stopped cannot stop it: only a watchdog or a fence helps then."""
        life, at_ns = self._life, self.paused_at_ns

        def passed() -> None:
            if self.paused and (life, at_ns) == (self._life, self.paused_at_ns):
                self.world.checker.hazard(Hazard.STOPPED_NODE)

        for group in self.executor.groups if self.executor is not None else ():
            soft_ns = self.executor.deadline(group)[0] if self.executor is not None else 0
            self.world.agenda.at(self.clock.real_ns(soft_ns), passed)

    def pause_guest(self) -> None:
        """A virtual machine is paused: everything stands still, its clocks and its watchdog with it."""
        if self.powered and not self.paused:
            self.paused = True
            self.paused_at_ns = self.world.now_ns
            self.world.checker.hazard(Hazard.PAUSED_GUEST)
            self.clock.stop(self.world.now_ns)

    def resume(self) -> None:
        if not self.paused:
            return
        self.paused = False
        self.slept_ns += self.world.now_ns - self.paused_at_ns
        if self.clock.stopped:
            self.clock.go_on(self.world.now_ns)
            waiting, self.when_it_goes_on = self.when_it_goes_on, []
            for deed in waiting:
                deed()
        self.dog.feed("it stands still")
        deferred, self._deferred = self._deferred, []
        for deed in deferred:
            deed()
        if self.daemon is not None:
            self.daemon.wake()

    # ---- the watchdog -------------------------------------------------------------------------------------------

    @property
    def watchdog(self) -> bool:
        """Is there an armed one?"""
        return self.dog.armed

    def starve_watchdog(self, why: str) -> None:
        """Nobody feeds it from now on: the machine is reset when its time is over, unless all reasons end before."""
        self.dog.starve(why)

    def feed_watchdog(self, why: str) -> None:
        """That reason has ended."""
        self.dog.feed(why)

    def _reset(self) -> None:
        self.world.remark(f"the watchdog resets {self.name}")
        self.power_off()
        if self.reboot_ms is not None:
            self.world.agenda.after_ms(self.reboot_ms, self.power_on)

    # ---- what runs here -------------------------------------------------------------------------------------------

    @property
    def running(self) -> dict[GroupName, frozenset[ResourceName]]:
        """The truth: what is here of which group."""
        return {group: frozenset(things) for group, things in self.premises.things.items()}

    def by_hand(self, group: GroupName, resource: ResourceName) -> None:
        """A person starts something, whatever hamail thinks; it counts as active here."""
        spec = next(r for g in self.world.spec.groups.values() for r in g.resources if r.name == resource)
        self.world.checker.hazard(Hazard.BY_HAND)
        kind = kind_of(spec)
        thing = Thing(kind, 0, self.world.lun(group).mount(self.name, 0) if kind is Kind.STORAGE else None)
        thing.ready = True
        self.premises.put(group, resource, thing)
        if kind is Kind.ADDRESS and self.executor is not None:
            self.executor.addresses_changed()

    # ---- processes ----------------------------------------------------------------------------------------------

    def start_daemon(self) -> None:
        if self.daemon is not None or not self.powered:
            return
        self._lives += 1
        self.daemon = Daemon(self, f"{self.name}-{self._lives}")
        self.after_ms(SOCKET_MS, self._connect)

    def end_daemon(self) -> None:
        """SIGKILL. The executor notices nothing but silence."""
        if self.daemon is not None:
            self.daemon.end()
            self.daemon = None

    def start_executor(self) -> None:
        """It first stops what an earlier executor has left running; only then does it feed the watchdog and answer."""
        if self.executor is not None or not self.powered:
            return
        self._lives += 1
        self.executor = Executor(
            self, Incarnation(boot_id=f"{self.name}-boot-{self._boots}", executor_id=f"x{self._lives}")
        )
        self.after_ms(SOCKET_MS, partial(self.executor.recover, self._connect))

    def end_executor(self) -> None:
        """SIGKILL. Services go on running without supervision; nobody feeds the watchdog."""
        if self.executor is None:
            return
        self.executor.alive = False
        self.executor = None
        self.world.checker.hazard(Hazard.UNSTOPPABLE)
        self.dog.starve("no executor")
        if self.daemon is not None:
            self.daemon.executor_lost()

    def _connect(self) -> None:
        if self.daemon is not None and self.executor is not None and self.executor.recovered:
            self.tell_executor(a.Hello(id=0, version="simulated"))

    def tell_executor(self, request: a.AnyRequest) -> None:
        executor = self.executor
        if executor is None:
            return
        self.after_ms(SOCKET_MS, lambda: executor.request(request) if executor.alive else None)

    def tell_daemon(self, notice: a.AnyNotice) -> None:
        """Lost when hamaild is not there, as on a socket."""
        daemon = self.daemon
        if daemon is not None:
            self.after_ms(SOCKET_MS, lambda: daemon.notice(notice))

    # ---- the disk -----------------------------------------------------------------------------------------------

    def break_journal(self, problem: str) -> None:
        """Nothing can be made durable here any more: this node takes no further part in the log."""
        self.world.log.break_journal(self, problem)

    def hang_disk(self, hangs: bool) -> None:
        """Its log stands still meanwhile; heartbeats and leases wait for no disk."""
        self.disk.hung_at_ns = self.world.now_ns if hangs else None
        if self.daemon is not None:
            self.daemon.writer.resume()
            self.daemon.stir()

    def repair_disk(self) -> None:
        """It works again, with what is still on it. A hamaild that takes no part any more must be restarted."""
        self.journal_problem = ""
        self.disk.repair()
        if self.disk_hangs:
            self.hang_disk(False)

    def replace_disk(self) -> None:
        """A new one, empty, set up by an operator as the disk of a known node. hamaild must not run."""
        self.repair_disk()
        self.disk.wipe()
        self.world.log.disk_replaced(self)

    def put_disk_back(self, copy: object) -> None:
        """The disk is as it was when `disk.copy()` was made. hamaild must not run."""
        self.repair_disk()
        self.disk.put_back(copy)
        self.world.log.disk_put_back(self)

    @property
    def disk_hangs(self) -> bool:
        """A write is neither done nor refused."""
        return self.disk.hung_at_ns is not None

    @property
    def stalled_ms(self) -> int:
        hung_at_ns = self.disk.hung_at_ns
        return (self.world.now_ns - hung_at_ns) // 1_000_000 if hung_at_ns is not None else 0
