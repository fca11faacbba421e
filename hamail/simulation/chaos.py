"""Random faults from a seed, then a healing after which the cluster must be well again.

Each seed draws which kinds of faults it uses ("swarm"), so that rare mixtures happen too. Kinds that a weaker
`requires` does not claim to survive are left out for it: that is its declared price.
"""

import random
from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from hamail.core.effects import Effect, Send
from hamail.model import commands as c
from hamail.model.ids import NodeName
from hamail.model.messages import ReleaseAnswer
from hamail.model.spec import Requirement
from hamail.model.state import Phase
from hamail.simulation.agenda import MS
from hamail.simulation.checkers.violation import Violation
from hamail.simulation.fence_device import Mood
from hamail.simulation.machine import Machine
from hamail.simulation.spec import cluster
from hamail.simulation.world import World

RATE_PPM_MAX = 49_000  # just under the error that the timings allow for
HEAL_MS = 90_000  # longest wait for a device that was tried in vain, plus a takeover
QUIET_MS = 10_000


class Chaos:
    """`only`: names of the kinds of faults to use instead of a random mixture."""

    def __init__(
        self,
        seed: int,
        requires: Requirement,
        *,
        faults_ms: int = 40_000,
        only: tuple[str, ...] = (),
        late_share: float | None = None,
        rates_ppm: dict[NodeName, int] | None = None,
    ) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - reproducible on purpose
        rates = rates_ppm or {n: self._rng.choice((-RATE_PPM_MAX, 0, RATE_PPM_MAX)) for n in ("n1", "n2", "n3")}
        levels = {Requirement.FENCING: 2, Requirement.WATCHDOG: 0, Requirement.LEASE: 0}[requires]
        dogs = frozenset({"n1", "n2"}) if requires is Requirement.WATCHDOG else frozenset[NodeName]()
        self.requires = requires
        self.faults_ms = faults_ms
        self.world = World(cluster(requires=requires, levels=levels), seed=seed, watchdogs=dogs, rates_ppm=rates)
        drawn = self._rng.choice((0.0, 0.0, 0.1, 0.3))
        self.world.log.late_share = drawn if late_share is None else late_share
        kinds = self._kinds()
        share = self._rng.uniform(0.3, 1.0)
        self._kinds_used = [k for k in kinds if self._rng.random() < share] or kinds
        if only:
            self._kinds_used = [k for k in kinds if k.__name__.removeprefix("_") in only]
            assert {k.__name__.removeprefix("_") for k in self._kinds_used} == set(only), f"unknown kinds in {only}"
        for machine in self.world.machines.values():
            machine.reboot_ms = self._rng.choice((2000, 8000))
            machine.start_ms = self._rng.choice((20, 100, 300))
            machine.stop_ms = self._rng.choice((20, 300, 1000))  # inside the stop budget, also on a slow clock

    def run(self) -> None:
        """Raises Violation."""
        self.world.start_all()
        self.world.run_until(lambda: self.world.active_on("mail") is not None, 10_000)
        end_ns = self.world.now_ns + self.faults_ms * MS
        while self.world.now_ns < end_ns:
            self._rng.choice(self._kinds_used)()
            self.world.run_ms(self._rng.choice((50, 300, 1000, 2500, 6000)))
        self._heal()

    # ---- faults -------------------------------------------------------------------------------------------------

    def _kinds(self) -> list[Callable[[], None]]:
        kinds = [
            self._cut_power,
            self._isolate,
            self._isolate_owner,
            self._break_link,
            self._one_way,
            self._slow,
            self._slow_answers,
            self._die_after_yes,
            self._reconnect,
            self._kill_daemon,
            self._restart_daemon,
            self._hang_daemon,
            self._crash_service,
            self._switchover,
            self._standby,
            self._failing_start,
            self._maintenance,
            self._hang_disk,
            self._change_device,
        ]
        if self.requires is not Requirement.LEASE:
            kinds += [self._kill_executor, self._failing_stop, self._pause]
        if self.requires is Requirement.FENCING:
            kinds += [self._device, self._device]
        return kinds

    def _any(self) -> NodeName:
        return self._rng.choice(("n1", "n2", "n3"))

    def _mail(self) -> NodeName:
        return self._rng.choice(("n1", "n2"))

    def _owner(self) -> NodeName:
        return self.world.active_on("mail") or self._mail()

    def _remark(self, words: str) -> None:
        self.world.remark(words)

    def _cut_power(self) -> None:
        name = self._any()
        self._remark(f"power cut of {name}")
        self.world.power_off(name)
        self.world.agenda.after_ms(self._rng.choice((200, 1500, 9000)), self.world.machines[name].power_on)

    def _isolate(self) -> None:
        name = self._any()
        self._remark(f"{name} is isolated")
        self.world.isolate(name)

    def _isolate_owner(self) -> None:
        name = self._owner()
        self._remark(f"{name} is isolated")
        self.world.isolate(name)
        self.world.agenda.after_ms(self._rng.uniform(1500, 9000), self._reconnect)

    def _break_link(self) -> None:
        a, b = self._rng.sample(("n1", "n2", "n3"), 2)
        self._remark(f"the link {a} - {b} breaks")
        self.world.network.cut(a, b)

    def _one_way(self) -> None:
        a, b = self._rng.sample(("n1", "n2", "n3"), 2)
        self._remark(f"nothing from {a} reaches {b}")
        self.world.network.block(a, b)

    def _slow(self) -> None:
        a, b = self._rng.sample(("n1", "n2", "n3"), 2)
        delay_ms = self._rng.choice((100, 400, 800))
        self._remark(f"from {a} to {b} it takes {delay_ms} ms longer")
        self.world.network.slow_ms[a, b] = delay_ms

    def _slow_answers(self) -> None:
        """Everything that is sent to one node arrives late."""
        name, delay_ms = self._owner(), self._rng.choice((100, 400))
        self._remark(f"to {name} everything takes {delay_ms} ms longer")
        for other in self.world.machines:
            self.world.network.slow_ms[other, name] = delay_ms

    def _die_after_yes(self) -> None:
        """hamaild on the next voter that says that its promise has run out dies, and hears the owner again."""

        def strike(machine: Machine, effect: Effect) -> bool:
            said_yes = isinstance(effect, Send) and isinstance(effect.message, ReleaseAnswer) and effect.message.yes
            if said_yes:
                self.world.agenda.after_ms(0, partial(self._die, machine.name))
            return said_yes

        self.world.failpoints.append(strike)

    def _die(self, name: NodeName) -> None:
        machine = self.world.machines[name]
        self._remark(f"hamaild on {name} dies after its yes")
        machine.end_daemon()
        machine.after_ms(50, machine.start_daemon)
        for owner in ("n1", "n2"):
            self.world.network.mend(name, owner)

    def _reconnect(self) -> None:
        self._remark("all links are well")
        self.world.network.heal()

    def _kill_daemon(self) -> None:
        self._end_daemon(self._any(), say_goodbye=False)

    def _restart_daemon(self) -> None:
        self._end_daemon(self._any(), say_goodbye=True)

    def _end_daemon(self, name: NodeName, *, say_goodbye: bool) -> None:
        machine = self.world.machines[name]
        if machine.daemon is None:
            return
        self._remark(f"hamaild on {name} {'is restarted' if say_goodbye else 'is killed'}")
        if say_goodbye:
            machine.daemon.leave()
        machine.end_daemon()
        machine.after_ms(self._rng.choice((100, 600, 1500, 4000)), machine.start_daemon)

    def _hang_daemon(self) -> None:
        name = self._any()
        daemon = self.world.machines[name].daemon
        if daemon is not None:
            self._remark(f"hamaild on {name} hangs")
            daemon.hung = True
            self.world.machines[name].after_ms(self._rng.choice((400, 2000, 8000)), daemon.wake)

    def _kill_executor(self) -> None:
        name = self._mail()
        machine = self.world.machines[name]
        if machine.executor is not None:
            self._remark(f"the executor on {name} is killed")
            machine.end_executor()
            machine.after_ms(self._rng.choice((100, 1000, 8000)), machine.start_executor)

    def _pause(self) -> None:
        name = self._mail()
        self._remark(f"{name} stands still")
        machine = self.world.machines[name]
        machine.pause()
        self.world.agenda.after_ms(self._rng.choice((500, 3000, 20_000)), machine.resume)

    def _hang_disk(self) -> None:
        """Long enough, at times, that its node must lose what it owns."""
        name = self._owner()
        machine = self.world.machines[name]
        self._remark(f"the disk of {name} hangs")
        machine.hang_disk(True)
        self.world.agenda.after_ms(self._rng.choice((1000, 4000, 25_000)), partial(machine.hang_disk, False))

    def _crash_service(self) -> None:
        executor = self.world.machines[self._owner()].executor
        if executor is not None:
            executor.crash_resource("mail", self._rng.choice(("postfix", "dovecot")))

    def _failing_start(self) -> None:
        machine = self.world.machines[self._mail()]
        machine.start_fails.add("postfix")
        self.world.agenda.after_ms(self._rng.choice((500, 3000)), machine.start_fails.clear)

    def _failing_stop(self) -> None:
        machine = self.world.machines[self._owner()]
        machine.stop_fails = True
        self._remark(f"stops fail on {machine.name}")
        self.world.agenda.after_ms(self._rng.choice((3000, 15_000)), partial(setattr, machine, "stop_fails", False))

    def _device(self) -> None:
        device = self.world.devices[self._rng.choice(("pdu", "ipmi"))]
        device.mood = self._rng.choice(tuple(Mood))
        device.takes_ms = self._rng.choice((50, 500, 3000))
        self._remark(f"the device {device.name} {device.mood}")

    # ---- orders -------------------------------------------------------------------------------------------------

    def _send(self, command: c.AnyCommand) -> None:
        leader = self.world.log.leader
        if leader is not None:
            self._remark(f"order: {type(command).__name__}")
            self.world.log.propose(leader, command, lambda _result: None)

    def _switchover(self) -> None:
        epoch = self.world.state.group("mail").epoch
        self._send(c.RequestMove(at_ms=self.world.wall_ms, group="mail", target=self._mail(), expected_epoch=epoch))

    def _standby(self) -> None:
        self._send(c.SetStandby(at_ms=self.world.wall_ms, node=self._mail(), standby=self._rng.random() < 0.4))

    def _maintenance(self) -> None:
        self._send(c.SetMaintenance(at_ms=self.world.wall_ms, on=self._rng.random() < 0.3))

    def _change_device(self) -> None:
        """The group gets another device, so that every node must look once more what is left over."""
        state = self.world.state
        if "mail" not in state.spec.groups:
            return
        mail = state.spec.groups["mail"]
        store, *rest = mail.resources
        store = replace(store, parameters={"device": f"/dev/{self._rng.randrange(100)}"})
        spec = replace(state.spec, groups={**state.spec.groups, "mail": replace(mail, resources=(store, *rest))})
        revision = state.config.revision
        self._send(c.ApplyConfig(at_ms=self.world.wall_ms, spec=spec, source="", expected_revision=revision))

    # ---- afterwards ---------------------------------------------------------------------------------------------

    def _heal(self) -> None:
        """All is repaired, operators do what the cluster asks them for: then mail must run, and stay where it is."""
        world = self.world
        self._remark("everything is repaired")
        world.network.heal()
        world.log.late_share = 0.0
        for device in world.devices.values():
            device.mood, device.takes_ms = Mood.WORKS, 200
        for machine in world.machines.values():
            machine.start_fails.clear()
            machine.stop_fails = False
            machine.hang_disk(False)
            machine.resume()
            machine.power_on()
        world.run_ms(15_000)
        self._operators()
        if not world.run_until(self._well, HEAL_MS):
            raise Violation(f"mail is {world.state.group('mail').phase} after the repair\n{world.recent()}")
        place = world.active_on("mail")
        if world.run_until(lambda: world.active_on("mail") != place, QUIET_MS):
            raise Violation(f"mail left {place} although nothing was wrong\n{world.recent()}")

    def _operators(self) -> None:
        at_ms = self.world.wall_ms
        self._send(c.SetMaintenance(at_ms=at_ms, on=False))
        for name in ("n1", "n2"):
            self._send(c.SetStandby(at_ms=at_ms, node=name, standby=False))
        self._send(c.Clear(at_ms=at_ms, group="mail"))

    def _well(self) -> bool:
        g = self.world.state.group("mail")
        return g.phase is Phase.ACTIVE and self.world.active_on("mail") == g.owner
