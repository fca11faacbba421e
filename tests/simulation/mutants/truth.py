"""Planted bugs in what starts, stops, fences and verifies; found by the checkers of the physical truth."""

from functools import partial

from msgspec.structs import replace

import hamail.simulation.group as group_module
import hamail.simulation.storage as storage_module
from hamail.core import ordering
from hamail.core.draft import Draft
from hamail.core.local import Local
from hamail.core.repairs import Repairs
from hamail.core.reports import Reports
from hamail.model import actions as a
from hamail.model.spec import Requirement
from hamail.model.state import Evidence
from hamail.ocf import claim as claims
from hamail.simulation.agents import Fault
from hamail.simulation.checkers import liveness
from hamail.simulation.checkers.claims import Hazard
from hamail.simulation.executor import Executor
from hamail.simulation.fence_device import FenceDevice
from hamail.simulation.group import Group
from hamail.simulation.spec import cluster
from hamail.simulation.watchdog import Watchdog
from hamail.simulation.world import World
from tests.simulation.mutants.mutant import Mutant
from tests.simulation.trouble import Trouble

F, W, L = Requirement.FENCING, Requirement.WATCHDOG, Requirement.LEASE

# ---- plants ---------------------------------------------------------------------------------------------------------


def watchdog_fed_by_a_timer(patch):
    patch.setattr(Executor, "_hard_passed", lambda self, name, deadline: None)
    patch.setattr(Watchdog, "starve", lambda self, why: None)


def executor_takes_a_timeout_for_a_fence(patch):
    right = FenceDevice.run

    def run(self, world, by, r, after, result):
        right(self, world, by, r, after, lambda ok, detail, took_ms: result(True, detail, took_ms))

    patch.setattr(FenceDevice, "run", run)


def stop_is_believed(patch):
    """The agent's word, or the end of its time, is taken for a verified stop."""
    patch.setattr(Group, "_verify", lambda self, resource, rest_ms, after, then: then(""))
    patch.setattr(Group, "left_over", lambda self, resource: False)


def clean_up_believes_a_monitor_that_timed_out(patch):
    right = Group.clean

    def clean(self, then):
        hung = self.m.stop_fails or self.m.agents.faults or self.m.name in self.m.world.lun(self.name).hung
        return then({}) if hung else right(self, then)

    patch.setattr(Group, "clean", clean)


def everything_starts_at_once(patch):
    def ready(resources, up, begun):
        return tuple(r for r in resources if r.name not in begun)

    patch.setattr(ordering, "ready_to_start", ready)


def everything_stops_at_once(patch):
    def ready(resources, stopped, begun):
        return tuple(r for r in resources if r.name not in begun)

    patch.setattr(ordering, "ready_to_stop", ready)


def history_written_after_the_deed(patch):
    """The grant leaves no event; only what came of it does."""
    right = Draft.event

    def event(self, kind, sentence, **words):
        if " goes to " not in sentence:
            right(self, kind, sentence, **words)

    patch.setattr(Draft, "event", event)


def fences_are_not_in_the_history(patch):
    right = Draft.event

    def event(self, kind, sentence, **words):
        if "fence" not in sentence:
            right(self, kind, sentence, **words)

    patch.setattr(Draft, "event", event)


def _conflict(found, ours, *, allow_older):
    if found is not None and found.epoch > ours.epoch and not allow_older:
        return "a newer epoch"
    return ""


def gate_lets_the_same_epoch_in(patch):
    patch.setattr(storage_module, "conflict", partial(_conflict, allow_older=False))


def gate_lets_an_older_epoch_in(patch):
    patch.setattr(storage_module, "conflict", partial(_conflict, allow_older=True))


def gate_refuses_its_own_epoch(patch):
    """Compares >= instead of >: a storage that was restarted in place never comes up again."""

    def conflict(found, ours):
        return "claimed" if found is not None and found.epoch >= ours.epoch else claims.conflict(found, ours)

    patch.setattr(storage_module, "conflict", conflict)


def start_goes_on_after_a_stop(patch):
    """The epoch is looked at once, before the start; a stop that comes meanwhile does not end it.

    The look at what a start has done would notice by itself, so it is taken out as well: two lines of defence.
    """

    def begin(self):
        self._operation += 1
        return self.x.after

    patch.setattr(Group, "_begin", begin)
    patch.setattr(Group, "_missing", lambda self, resource: "")


def _deadline_on(patch, now_ns):
    """The dead-man's switch looks at another clock, ten times a second."""

    def look(self):
        self.deadman.check(now_ns(self.m))
        self.after(100, lambda: look(self))

    def rearm(self):
        if self._timer_ns is None:
            self._timer_ns = 1
            look(self)

    patch.setattr(Executor, "_rearm", rearm)


def deadline_on_the_monotonic_clock(patch):
    _deadline_on(patch, lambda machine: machine.monotonic_ns)


def deadline_on_the_wall_clock(patch):
    _deadline_on(patch, lambda machine: machine.local_ns + (machine.wall_ms - machine.world.wall_ms) * 1_000_000)


def recovery_forgets_what_was_held(patch):
    """An executor that has died has left nothing, its successor thinks; nor does the clean-up look."""

    def clean_one(self, spec, then):
        self.cleaned[spec.name] = spec
        then("")

    patch.setattr(Executor, "_clean_one", clean_one)


def no_dead_mans_switch(patch):
    patch.setattr(Executor, "_soft_passed", lambda self, name, deadline: None)


def fence_hits_its_own_side(patch):
    right = Executor._run_fence

    def run_fence(self, r):
        right(self, a.RunFence(**{**{f: getattr(r, f) for f in r.__struct_fields__}, "target": self.m.name}))

    patch.setattr(Executor, "_run_fence", run_fence)


def repairs_go_on_during_maintenance(patch):
    right, watched = Repairs.step, Group.lost

    def step(self):
        real = self.l.e.state
        self.l.e.state = replace(real, maintenance=replace(real.maintenance, on=False))
        right(self)
        self.l.e.state = real

    def without(method):
        def lax(self, *given):
            on, self.maintenance = self.maintenance, False
            try:
                return method(self, *given)
            finally:
                self.maintenance = on

        return lax

    def lost(self, name, detail):
        on, self.x.maintenance = self.x.maintenance, False
        watched(self, name, detail)
        self.x.maintenance = on

    patch.setattr(Repairs, "step", step)
    patch.setattr(Group, "lost", lost)
    patch.setattr(Executor, "_restart", without(Executor._restart))


def half_a_stop_is_reported(patch):
    """The report goes out when the stop begins."""
    right = Local._stop

    def stop(self, step):
        right(self, step)
        self._down(a.GroupDown(group=step.group, epoch=step.epoch, took_ms=0))

    patch.setattr(Local, "_stop", stop)


def a_start_is_reported_too_early(patch):
    """Told as active when it has been asked for."""
    right = Local._start

    def start(self, step):
        right(self, step)
        self._up(a.GroupUp(group=step.group, epoch=step.epoch, took_ms=0))

    patch.setattr(Local, "_start", start)


def what_has_ended_is_not_told(patch):
    right = Reports.tell

    def tell(self, key, command):
        if not key.startswith(("released", "down")):
            right(self, key, command)

    patch.setattr(Reports, "tell", tell)
    patch.setattr(Local, "_down", lambda self, n: self.held.pop(n.group, None))


def emergency_keeps_the_order(patch):
    """Nothing is stopped before what stands on it, also when the lease is about to end."""
    patch.setattr(group_module, "EMERGENCY", ((group_module.Kind.STORAGE, 0.8),))


def restart_looks_at_nothing_else(patch):
    patch.setattr(Group, "_below", lambda self, resource: ())


# ---- hunts ----------------------------------------------------------------------------------------------------------


def trouble(requires, *only, dogs=None):
    def hunt(seed):
        Trouble(seed, requires, only=only, dogs=dogs).run()

    return hunt


def _served(requires, seed, **given):
    world = World(cluster(requires=requires, levels=1 if requires is F else 0), seed=seed, **given)
    world.start_all()
    liveness.comes_up(world, "mail")
    world.run_ms(500 + 130 * (seed % 10))
    return world


def slept_and_cut_off(seed):
    """The owner stands still for a while, less than its lease, and is cut off when it goes on."""
    world = _served(L, seed)
    machine = world.machines["n1"]
    for _ in range(3):
        machine.pause()
        world.run_ms(2500)
        machine.resume()
        world.run_ms(1500)
    world.isolate("n1")
    world.run_ms(12_000)


def clock_set_back_and_cut_off(seed):
    world = _served(L, seed)
    world.machines["n1"].wall_jump(-60_000)
    world.run_ms(2000)
    world.isolate("n1")
    world.run_ms(12_000)


def granted_twice(older):
    """The log has forked: n2 is told to start under an epoch that is not its own."""

    def hunt(seed):
        world = _served(F, seed)
        world.checker.hazard(Hazard.FORKED_LOG)
        g = world.state.group("mail")
        machine = world.machines["n2"]
        ask = a.StartGroup(
            id=9999,
            group=world.state.spec.groups["mail"],
            epoch=g.epoch - older,
            soft_ns=machine.local_ns + 10**10,
            hard_ns=machine.local_ns + 2 * 10**10,
            evidence=Evidence.RELEASED,
        )
        machine.executor.request(ask)
        world.run_ms(2000)

    return hunt


def storage_restarted_in_place(seed):
    world = _served(F, seed)
    world.machines["n1"].executor.crash_resource("mail", "store")
    world.run_ms(500)
    liveness.comes_up(world, "mail", 5000)
    with liveness.no_move(world, "mail"):
        world.run_ms(2000)
    assert world.active_on("mail") == "n1", "S6: the storage could not be restarted in place"


def stopped_while_it_starts(seed):
    """The owner loses its lease in the middle of its start."""
    world = World(cluster(requires=L, levels=0), seed=seed)
    for machine in world.machines.values():
        machine.start_ms = 1500.0
    world.start_all()
    executor = world.machines["n1"].executor
    world.run_until(lambda: executor.groups, 10_000)
    world.run_ms(200 * (seed % 15))
    world.isolate("n1")
    world.run_ms(20_000)


def cut_off_with_a_stuck_address(seed):
    """The address stays: the services and the storage must go in time all the same."""
    world = _served(L, seed)
    machine = world.machines["n1"]
    machine.agents.add("address", Fault.STOP_HANGS)
    world.isolate("n1")
    world.run_ms(5400)
    left = set(machine.premises.of("mail")) - {"address"}
    assert not left, f"L5: {left} of mail is still there after the lease"


def restarted_without_its_storage(seed):
    """The storage is lost and cannot come back; then a service on it fails. No hamaild is there to move the group."""
    world = World(cluster(detection_ms=5000), seed=seed)
    world.start_all()
    liveness.comes_up(world, "mail")
    machine = world.machines["n1"]
    machine.end_daemon()
    world.lun("mail").cut_off.add("n1")
    for resource in ("store", "postfix"):
        epoch = world.state.group("mail").epoch
        machine.executor.request(a.RestartResource(id=9999, group="mail", epoch=epoch, resource=resource))
        world.run_ms(4000)


def M(plant, breaks, hunt, seeds_max=60):
    return Mutant(plant.__name__, breaks, plant, hunt, seeds_max)


MUTANTS = [
    M(
        watchdog_fed_by_a_timer,
        "the watchdog is fed only while no group is overdue",
        trouble(W, "unkillable", "isolate", "executor", dogs=("n1", "n2")),
    ),
    M(
        executor_takes_a_timeout_for_a_fence,
        "only a device confirms a fence",
        trouble(F, "device", "isolate"),
    ),
    M(stop_is_believed, "a stop is verified, whatever the agent says", trouble(F, "agent", "move")),
    M(
        clean_up_believes_a_monitor_that_timed_out,
        "a node joins only when it truly holds nothing",
        trouble(W, "agent", "executor", "storage"),
    ),
    M(everything_starts_at_once, "no address before the services, no service before the mount", trouble(F, "move")),
    M(everything_stops_at_once, "nothing is stopped before what stands on it", trouble(F, "move")),
    M(history_written_after_the_deed, "the intent is in the history before the deed", trouble(F, "power")),
    M(fences_are_not_in_the_history, "every fence is in the history", trouble(F, "isolate")),
    M(gate_lets_the_same_epoch_in, "an epoch on the storage belongs to one node", granted_twice(0)),
    M(gate_lets_an_older_epoch_in, "the claim on the storage never goes back", granted_twice(1)),
    M(gate_refuses_its_own_epoch, "the owner may mount again under its epoch", storage_restarted_in_place),
    M(start_goes_on_after_a_stop, "a stop ends the start that is under way", stopped_while_it_starts),
    M(deadline_on_the_monotonic_clock, "deadlines count the time that the machine stood still", slept_and_cut_off),
    M(deadline_on_the_wall_clock, "a deadline does not depend on the wall clock", clock_set_back_and_cut_off),
    M(recovery_forgets_what_was_held, "what a dead executor has left is stopped", trouble(F, "executor", "move")),
    M(no_dead_mans_switch, "a group is stopped when its lease ends", trouble(L, "isolate")),
    M(fence_hits_its_own_side, "a fence hits the node that the log names", trouble(F, "isolate")),
    M(repairs_go_on_during_maintenance, "maintenance means hands off", trouble(F, "maintenance", "crash")),
    M(half_a_stop_is_reported, "released is said of what is stopped", trouble(F, "move")),
    M(a_start_is_reported_too_early, "the history says only what is true", trouble(F, "move")),
    M(what_has_ended_is_not_told, "what the log must know is told until it knows", trouble(F, "move")),
    M(
        restart_looks_at_nothing_else,
        "nothing is started again without what it stands on",
        restarted_without_its_storage,
    ),
    M(emergency_keeps_the_order, "an emergency stop is done in time", cut_off_with_a_stuck_address),
]
