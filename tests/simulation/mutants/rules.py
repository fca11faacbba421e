"""Planted bugs in the rules around the lease: fences, joins, orders, configuration. Short plans find them."""

from msgspec.structs import replace

from hamail.core import apply as apply_module
from hamail.core import changes_nodes, changes_orders, coordinator, membership
from hamail.core.cleaning import Cleaning
from hamail.core.draft import Rejected
from hamail.core.engine import Engine
from hamail.core.local import Local
from hamail.core.transitions import What
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.spec import ClusterSpec, Requirement
from hamail.model.state import Evidence, Maintenance, Phase
from hamail.simulation.checkers.violation import Violation
from hamail.simulation.faults import Fault
from hamail.simulation.trial.plan import Plan
from hamail.simulation.trial.run import Run
from hamail.simulation.trial.settings import Settings
from tests.simulation.mutants.hunts import hunted
from tests.simulation.mutants.mutant import Mutant

L, F = Requirement.LEASE, Requirement.FENCING


def start_before_fence_confirmed(monkeypatch):
    """An ordered fence counts as a fence that was confirmed."""
    right = changes_nodes.order_fence

    def order_fence(d, command):
        right(d, command)
        for name, g in d.groups():
            if g.owner == command.target and g.phase is Phase.FENCING:
                d.step(name, What.FENCED, node=command.target)
                changes_nodes.free(d, name, Evidence.FENCED)

    monkeypatch.setitem(apply_module.HANDLERS, c.OrderFence, order_fence)


def one_is_a_majority(monkeypatch):
    """A single voter counts as a majority."""
    monkeypatch.setattr(ClusterSpec, "majority", lambda self: 1)
    monkeypatch.setattr(Engine, "majority", lambda self: 1)


def wrong_plug(monkeypatch):
    """The order to fence one node is carried out against another."""
    right = Local.ask

    def ask(self, request):
        if isinstance(request, a.RunFence):
            other = next(n for n, spec in self.e.state.spec.nodes.items() if n != request.target and not spec.witness)
            request = replace(request, target=other)
        right(self, request)

    monkeypatch.setattr(Local, "ask", ask)


def stop_reported_at_once(monkeypatch):
    """A stop that was only asked for is reported as done."""
    right = Local._stop

    def stop(self, step):
        right(self, step)
        self._down(a.GroupDown(group=step.group, epoch=step.epoch, took_ms=0))

    monkeypatch.setattr(Local, "_stop", stop)


def joins_without_cleaning(monkeypatch):
    """A new life of a node joins although something of an earlier one may still run there."""
    right = Cleaning.notice

    def notice(self, n):
        right(self, replace(n, ok=True, groups=tuple(self.l.e.state.spec.groups)))

    monkeypatch.setattr(Cleaning, "notice", notice)


def maintenance_forgotten(monkeypatch):
    """The cluster takes groups over while it is in maintenance."""
    right = coordinator.decide

    def decide(state, facts, t):
        return right(replace(state, maintenance=Maintenance()), facts, t)

    monkeypatch.setattr(coordinator, "decide", decide)
    right_apply = apply_module.apply

    def apply(state, index, command):
        if not isinstance(command, c.OwnerLost | c.OrderFence | c.FenceDone | c.Grant | c.SetMaintenance):
            return right_apply(state, index, command)
        if isinstance(command, c.SetMaintenance):
            return right_apply(state, index, command)
        after, outcome = right_apply(replace(state, maintenance=Maintenance()), index, command)
        return replace(after, maintenance=state.maintenance), outcome

    monkeypatch.setattr("hamail.core.engine.apply", apply)
    monkeypatch.setattr("hamail.simulation.world.apply", apply)


def half_a_configuration(monkeypatch):
    """Of a configuration that must be refused, the part that could be used is put in force."""
    right = changes_orders.apply_config

    def apply_config(d, command):
        try:
            right(d, command)
        except Rejected:
            d.spec = replace(d.spec, groups=command.spec.groups, detection_ms=command.spec.detection_ms)

    monkeypatch.setitem(apply_module.HANDLERS, c.ApplyConfig, apply_config)


def executor_keeps_the_old_configuration(monkeypatch):
    """A new configuration reaches hamaild, but not its executor."""

    right = Cleaning._configure

    def configure(self):
        if not self.done:
            right(self)

    monkeypatch.setattr(Cleaning, "_configure", configure)


def one_accuser_is_enough(monkeypatch):
    """A node is taken for lost when the coordinator alone does not hear it."""

    def suspected(m, node, now_ns, t):
        return membership.missed(m, node, now_ns, t)

    right = membership.accusers

    def accusers(m, node, now_ns, t):
        found = right(m, node, now_ns, t)
        return tuple(sorted({*found, m.me, *list(m.peers)[:1]})) if membership.missed(m, node, now_ns, t) else found

    monkeypatch.setattr(membership, "suspected", suspected)
    monkeypatch.setattr(membership, "accusers", accusers)


# ---- hunts ----------------------------------------------------------------------------------------------------------


def bad_link(seed):
    """One link between two nodes breaks, both hear the third: nothing may move."""
    pair = [["n1", "n2"], ["n1", "n3"], ["n2", "n3"]][seed % 3]
    faults = tuple(Fault(i * 9000, "break_link", {"pair": pair, "for_ms": 6000}) for i in range(4))
    run = Run(Plan(settings=Settings(seed=seed), faults=faults, chaos_ms=40_000))
    run.go()
    if run.tally.failovers or run.tally.returns:
        raise Violation(f"one bad link between {' and '.join(pair)} has moved the group (L3)")


def _mutant(plant, hunt):
    return Mutant(plant.__name__, plant.__doc__.strip(), plant, hunt, quick=tuple(range(10)))


MUTANTS = [
    _mutant(start_before_fence_confirmed, hunted(F, "isolate", "power_cut", levels=1)),
    _mutant(one_is_a_majority, hunted(L, "isolate", "mail_nodes_apart")),
    _mutant(wrong_plug, hunted(F, "isolate", "power_cut", levels=1)),
    _mutant(stop_reported_at_once, hunted(F, "switchover", "standby", levels=1)),
    _mutant(joins_without_cleaning, hunted(F, "kill_executor", "failing_stop", levels=1)),
    _mutant(maintenance_forgotten, hunted(F, "maintenance", "isolate", "power_cut", levels=1)),
    _mutant(half_a_configuration, hunted(F, "bad_configuration", levels=1)),
    _mutant(executor_keeps_the_old_configuration, hunted(F, "change_device", levels=1)),
    _mutant(one_accuser_is_enough, bad_link),
]
