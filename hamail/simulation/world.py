"""A whole cluster in one process: machines, network, log, fence devices, and a checker on the true state."""

import random
from collections.abc import Callable

from hamail.core import effects as fx
from hamail.core.apply import apply, empty_state
from hamail.model import commands as c
from hamail.model.ids import DeviceName, GroupName, LogIndex, NodeName
from hamail.model.messages import AnyMessage
from hamail.model.spec import ClusterSpec
from hamail.model.state import ClusterState
from hamail.simulation.agenda import MS, Agenda
from hamail.simulation.checkers.checker import Checker
from hamail.simulation.checkers.claims import Hazard
from hamail.simulation.fence_device import FenceDevice
from hamail.simulation.logs.build import LogKind, build
from hamail.simulation.machine import Machine
from hamail.simulation.mail import EVERY_MS, Clients
from hamail.simulation.network import Network
from hamail.simulation.storage import Lun
from hamail.simulation.switch import Switch
from hamail.simulation.trace import Trace

WALL_START_MS = 1_767_261_600_000  # 2026-01-01 10:00:00 UTC, for display only
NOTES_KEPT = 200


class World:
    """`rates_ppm`: by how much each node's clock runs wrong. One seed makes one history."""

    def __init__(
        self,
        spec: ClusterSpec,
        *,
        seed: int = 1,
        watchdogs: frozenset[NodeName] = frozenset(),
        rates_ppm: dict[NodeName, int] | None = None,
        log: LogKind = "perfect",
        traced: bool = False,
    ) -> None:
        self.spec = spec
        self.seed = seed
        self.trace = Trace() if traced else None
        self.agenda = Agenda()
        self.groups: set[GroupName] = set(spec.groups)
        self.devices: dict[DeviceName, FenceDevice] = {name: FenceDevice(name) for name in spec.fencing}
        self.luns: dict[GroupName, Lun] = {}  # shared storage
        self.switch = Switch()
        self.clients: dict[GroupName, Clients] = {}
        self.remarks: list[tuple[int, str]] = []  # what the world did, as opposed to hamail
        self.failpoints: list[Callable[[Machine, fx.Effect], bool]] = []  # true: done with it
        self.peace = False  # the chaos is over: what its faults still had in mind is void
        self.state: ClusterState = empty_state()  # of the log itself, as nobody in the cluster may know it yet
        self._outcomes: dict[LogIndex, c.Outcome] = {}
        self._notes: list[tuple[int, NodeName, str, str]] = []
        self._rng = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self.network = Network(self.agenda, random.Random(seed + 1), self._deliver, self._life)  # noqa: S311
        self.machines = {
            name: Machine(
                self,
                name,
                witness=node.witness,
                watchdog=name in watchdogs,
                rate_ppm=(rates_ppm or {}).get(name, 0),
            )
            for name, node in sorted(spec.nodes.items())
        }
        self.checker = Checker(self)
        if log == "malicious":
            self.checker.hazard(Hazard.FORKED_LOG)
        self.log_kind = log
        self.log = build(log, self)
        self.log.start()

    @property
    def now_ns(self) -> int:
        return self.agenda.now_ns

    @property
    def wall_ms(self) -> int:
        return WALL_START_MS + self.now_ns // MS

    def lun(self, group: GroupName) -> Lun:
        """Each group has storage of its own."""
        if group not in self.luns:
            rng = random.Random(f"{self.seed} {group}")  # noqa: S311
            self.luns[group] = Lun(group, rng, self.checker.gate)
        return self.luns[group]

    def begin_mail(self, group: GroupName, every_ms: int = EVERY_MS) -> Clients:
        """Clients send and read from now on."""
        clients = self.clients[group] = Clients(self, group, every_ms)
        clients.begin()
        return clients

    @property
    def log_index(self) -> LogIndex:
        """Newer than every epoch so far."""
        return self.state.applied

    # ---- running ------------------------------------------------------------------------------------------------

    def run_ms(self, duration_ms: float) -> None:
        self.run_until(lambda: False, duration_ms)

    def run_until(self, happened: Callable[[], bool], limit_ms: float) -> bool:
        """Run until something holds. False: it did not within the limit."""
        end_ns = self.now_ns + int(limit_ms * MS)
        while not happened():
            upcoming = self.agenda.next_ns()
            if upcoming is None or upcoming > end_ns:
                self.agenda.at(end_ns, lambda: None)
                self.agenda.step()
                return happened()
            self.agenda.step()
            self.checker.look()
        return True

    def start_all(self) -> None:
        for machine in self.machines.values():
            machine.power_on()

    # ---- what happens to it -------------------------------------------------------------------------------------

    def power_off(self, name: NodeName) -> None:
        self.machines[name].power_off()

    def isolate(self, name: NodeName) -> None:
        for other in self.machines:
            if other != name:
                self.network.cut(name, other)

    def order(self, command: c.AnyCommand) -> c.Outcome | None:
        """An operator's command through any node that answers. None: it was not committed within five seconds."""
        found: list[LogIndex] = []

        def done(result: c.Outcome | c.Unknown) -> None:
            if isinstance(result, c.Outcome):
                found.append(result.index)

        sender = next((n for n, m in self.machines.items() if m.votes and n == self.log.leader), None)
        if sender is None:
            return None
        self.log.propose(sender, command, done)
        self.run_until(lambda: bool(found), 5000)
        return self._outcomes.get(found[0]) if found else None

    def failpoint(self, machine: Machine, effect: fx.Effect) -> None:
        if isinstance(effect, fx.Propose):
            self.checker.proposed(machine, effect.command)
        self.failpoints = [f for f in self.failpoints if not f(machine, effect)]

    def daemon_dies_at(self, node: NodeName, kind: str, back_ms: float) -> None:
        """hamaild on `node` is killed when it is about to propose a command of this kind; the proposal is lost."""

        def strike(machine: Machine, effect: fx.Effect) -> bool:
            if machine.name != node or not isinstance(effect, fx.Propose) or type(effect.command).__name__ != kind:
                return False
            machine.end_daemon()
            machine.after_ms(back_ms, machine.start_daemon)
            return True

        self.failpoints.append(strike)

    # ---- what is seen -------------------------------------------------------------------------------------------

    def active_on(self, group: GroupName) -> NodeName | None:
        """The node on which every resource of the group truly runs, with its start reported and known."""
        for name, machine in self.machines.items():
            held = machine.executor.groups.get(group) if machine.executor is not None else None
            if held is None or machine.paused or held.state != "up" or "failed" in held.resources.values():
                continue
            things = machine.premises.of(group)
            if len(things) == len(held.spec.resources) and all(t.ready for t in things.values()):
                return name
        return None

    def note(self, node: NodeName, level: str, text: str) -> None:
        if self.trace is not None:
            self.trace.add(self.now_ns, node, level, text)
        self._notes.append((self.now_ns, node, level, text))
        del self._notes[:-NOTES_KEPT]

    def remark(self, text: str) -> None:
        if self.trace is not None:
            self.trace.add(self.now_ns, text)
        self.remarks.append((self.now_ns, text))

    def recent(self) -> str:
        """The last things that were said, for a failed check."""
        said = [(at, f"{node} {level}: {text}") for at, node, level, text in self._notes]
        both = sorted([*said, *((at, f"-- {text}") for at, text in self.remarks)], key=lambda x: x[0])[-60:]
        return "\n".join(f"  {at / 1e9:9.3f} s  {text}" for at, text in both)

    # ---- inside -------------------------------------------------------------------------------------------------

    def _life(self, name: NodeName) -> object | None:
        machine = self.machines.get(name)  # a wrong file may name a node that does not exist
        return None if machine is None else machine.daemon

    def _deliver(self, sender: NodeName, receiver: NodeName, message: AnyMessage) -> None:
        if self.trace is not None:
            self.trace.add(self.now_ns, sender, receiver, message)
        daemon = self.machines[receiver].daemon
        if daemon is not None:
            daemon.message(sender, message)

    def committed(self, index: LogIndex, command: c.AnyCommand) -> None:
        before = self.state
        self.state, outcome = apply(before, index, command)
        self._outcomes[index] = outcome
        self.checker.committed(before, command, outcome)
