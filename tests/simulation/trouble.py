"""Trouble with what hamail starts and stops: agents, storage, watchdogs, fence devices, guests; mail runs all the time.

A small chaos of its own, for the checkers of the physical truth. Each seed draws which kinds it uses.
"""

import random
from functools import partial

from hamail.model import commands as c
from hamail.model.spec import Requirement
from hamail.simulation.agents import Fault
from hamail.simulation.checkers import liveness
from hamail.simulation.checkers.claims import Hazard
from hamail.simulation.checkers.mail import audit
from hamail.simulation.fence_device import Mood
from hamail.simulation.spec import cluster
from hamail.simulation.watchdog import Dog
from hamail.simulation.world import World

RESOURCES = ("store", "postfix", "dovecot", "address")
SURVIVED = tuple(f for f in Fault if f not in (Fault.BLIND, Fault.UNKILLABLE))
HEALED_MS = 400_000  # a node that was blocked or a group that failed everywhere is tried again after up to 300 s


class Trouble:
    """`only`: names of kinds instead of a random mixture. After `run` the hazards say what was given up."""

    def __init__(self, seed, requires=Requirement.FENCING, *, only=(), steps=12, dogs=None):
        self.rng = random.Random(f"trouble {seed}")
        levels = 2 if requires is Requirement.FENCING else 0
        dogs = dogs if dogs is not None else ("n1", "n2") if requires is Requirement.WATCHDOG else ()
        self.world = World(cluster(requires=requires, levels=levels), seed=seed, watchdogs=frozenset(dogs))
        self.steps = steps
        kinds = [getattr(self, n) for n in dir(self) if n.startswith("do_")]
        self.kinds = [k for k in kinds if k.__name__.removeprefix("do_") in only] if only else self._drawn(kinds)
        for machine in self.world.machines.values():
            machine.reboot_ms = 2000.0
            machine.returns_ms = self.rng.choice((800.0, 5000.0))
            machine.start_ms = self.rng.choice((20.0, 100.0, 300.0))
            machine.stop_ms = self.rng.choice((20.0, 300.0, 900.0))

    def _drawn(self, kinds):
        risky = ("do_guest", "do_liar", "do_dog", "do_unkillable", "do_blind")
        mild = [k for k in kinds if k.__name__ not in risky]
        chosen = mild if self.rng.random() < 0.7 else kinds
        return self.rng.sample(chosen, max(2, len(chosen) // 2))

    def run(self):
        """Raises Violation."""
        world = self.world
        world.start_all()
        liveness.comes_up(world, "mail")
        self.clients = world.begin_mail("mail")
        for _ in range(self.steps):
            self.rng.choice(self.kinds)()
            world.run_ms(self.rng.choice((50, 500, 2000, 6000)))
        self.heal()
        liveness.comes_up(world, "mail", HEALED_MS)
        world.run_ms(3000)
        liveness.comes_up(world, "mail", HEALED_MS)
        liveness.stays(world, "mail", 30_000)
        self.clients.stop()
        world.run_ms(2000)
        audit(world, self.clients)
        world.checker.audit.all_told()
        world.checker.look()

    def heal(self):
        world = self.world
        world.network.heal()
        for device in world.devices.values():
            device.mood, device.takes_ms = Mood.WORKS, 200.0
        lun = world.lun("mail")
        for group in (lun.hung, lun.cut_off, lun.mounted_read_only):
            group.clear()
        for machine in world.machines.values():
            machine.agents.heal()
            machine.start_fails.clear()
            machine.stop_fails = False
            machine.dog.mood = Dog.WORKS
            machine.resume()
            machine.power_on()
        world.run_ms(15_000)
        at_ms = world.wall_ms
        for order in (c.SetMaintenance(at_ms=at_ms, on=False), c.Clear(at_ms=at_ms, group="mail")):
            world.order(order)

    # ---- kinds ------------------------------------------------------------------------------------------------------

    def mail(self):
        return self.world.machines[self.rng.choice(("n1", "n2"))]

    def owner(self):
        name = self.world.active_on("mail")
        return self.world.machines[name] if name else self.mail()

    def later(self, deed):
        self.world.agenda.after_ms(self.rng.choice((1000, 5000, 20_000)), deed)

    def do_agent(self):
        machine, name, fault = self.mail(), self.rng.choice(RESOURCES), self.rng.choice(SURVIVED)
        self.world.remark(f"on {machine.name}: {name}: {fault}")
        machine.agents.add(name, fault)
        self.later(lambda: machine.agents.faults.get(name, set()).discard(fault))

    def do_blind(self):
        machine, name = self.mail(), self.rng.choice(RESOURCES)
        self.world.checker.hazard(Hazard.MONITOR_LIES)
        machine.agents.add(name, Fault.BLIND)
        self.later(lambda: machine.agents.faults.get(name, set()).discard(Fault.BLIND))

    def do_unkillable(self):
        machine = self.owner()
        self.world.checker.hazard(Hazard.UNSTOPPABLE)
        name = self.rng.choice(RESOURCES)
        machine.agents.add(name, Fault.UNKILLABLE)
        self.later(lambda: machine.agents.faults.get(name, set()).discard(Fault.UNKILLABLE))

    def do_crash(self):
        executor = self.owner().executor
        if executor is not None:
            executor.crash_resource("mail", self.rng.choice(RESOURCES))

    def do_storage(self):
        lun, machine = self.world.lun("mail"), self.mail()
        trouble = self.rng.choice((lun.hung, lun.cut_off, lun.mounted_read_only))
        self.world.remark(f"trouble with the storage on {machine.name}")
        trouble.add(machine.name)
        self.later(lambda: trouble.discard(machine.name))

    def do_arp(self):
        self.world.switch.deaf = True
        self.later(lambda: setattr(self.world.switch, "deaf", False))

    def do_move(self):
        epoch = self.world.state.group("mail").epoch
        leader = self.world.log.leader
        if leader is not None:
            order = c.RequestMove(at_ms=self.world.wall_ms, group="mail", target=self.mail().name, expected_epoch=epoch)
            self.world.log.propose(leader, order, lambda _: None)

    def do_maintenance(self):
        leader = self.world.log.leader
        if leader is not None:
            on = self.rng.random() < 0.5
            self.world.log.propose(leader, c.SetMaintenance(at_ms=self.world.wall_ms, on=on), lambda _: None)

    def do_power(self):
        self.world.remark("a power cut")
        self.owner().power_off()

    def do_isolate(self):
        self.world.isolate(self.owner().name)
        self.later(self.world.network.heal)

    def do_executor(self):
        machine = self.owner()
        self.world.remark(f"the executor on {machine.name} dies")
        machine.end_executor()
        machine.after_ms(self.rng.choice((100, 3000)), machine.start_executor)

    def do_pause(self):
        machine = self.mail()
        self.world.remark(f"{machine.name} stands still")
        machine.pause()
        self.later(machine.resume)

    def do_guest(self):
        machine = self.mail()
        self.world.remark(f"the guest {machine.name} is paused")
        machine.pause_guest()
        self.later(machine.resume)

    def do_dog(self):
        machine = self.mail()
        machine.dog.mood = self.rng.choice(tuple(Dog))
        self.later(lambda: setattr(machine.dog, "mood", Dog.WORKS))

    def do_device(self):
        device = self.world.devices.get(self.rng.choice(("pdu", "ipmi")))
        if device is not None:
            device.mood = self.rng.choice((Mood.FAILS, Mood.SLOW, Mood.SILENT, Mood.WORKS))
            device.takes_ms = self.rng.choice((50.0, 3000.0))
            self.later(partial(setattr, device, "mood", Mood.WORKS))

    def do_liar(self):
        device = self.world.devices.get(self.rng.choice(("pdu", "ipmi")))
        if device is not None:
            device.mood = self.rng.choice((Mood.LIES, Mood.WRONG))
            self.later(partial(setattr, device, "mood", Mood.WORKS))
