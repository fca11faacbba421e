"""Bugs in the failure policy: budgets, quarantine, what is no better. The stories of tests/scenario hunt them.

A story has no chance in it, so one seed says all.
"""

from pathlib import Path

from msgspec.structs import replace

from hamail.core import changes_orders, coordinator, expiry, placement, policy, policy_notes
from hamail.core.apply import HANDLERS
from hamail.model import commands as c
from hamail.model.commands import Lapse
from hamail.model.state import Trigger
from hamail.simulation.script import Script
from tests.simulation.mutants.mutant import Mutant

STORIES = Path(__file__).parents[2] / "scenario"

ORDERS_DO_NOT_COUNT = """\
cluster nodes=n1,n2 witness=n3 restarts=0 failovers=1/1h
start
run until mail active on n1
switchover mail to n2
expect mail active on n2 within 2s
postfix of mail dies on n2
expect mail active on n1 within 2s
"""

CLEARED = """\
cluster nodes=n1,n2 witness=n3 restarts=0 failovers=1/1h
start
run until mail active on n1
postfix of mail dies on n1
expect mail active on n2 within 2s
clear mail
wait 1s
dovecot of mail dies on n2
expect mail active on n1 within 2s
"""


def failovers_never_used_up(monkeypatch):
    """A group may be moved by failures as often as they come."""
    monkeypatch.setattr(policy, "used_up", lambda spec, g, at_ms: None)


def a_bouncing_group_never_waits(monkeypatch):
    """A group whose nodes die of it in turn is started on the next one at once, for ever."""
    monkeypatch.setattr(policy, "held_back", lambda state, group, node, at_ms: "")


def any_failure_holds_back(monkeypatch):
    """A lost owner's group waits for the last node because something else failed there once."""
    monkeypatch.setattr(policy, "_cause", lambda g: None)


def a_worse_node_is_as_good(monkeypatch):
    """A failed service moves the group to a node where the same service has failed."""
    monkeypatch.setattr(policy, "no_better", lambda spec, g, node, resource, at_ms: "")


def orders_use_failovers_up(monkeypatch):
    """What an operator orders counts as a failover."""
    monkeypatch.setattr(policy, "BY_FAILURE", policy.BY_FAILURE | {Trigger.SWITCHOVER})


def quarantine_keeps_from_nothing(monkeypatch):
    """A node that comes and goes is as good a target as any."""
    monkeypatch.setattr(placement, "refusal", placement._able)


def quarantine_is_a_veto(monkeypatch):
    """A group stays down rather than run on a node in quarantine."""
    monkeypatch.setattr(placement, "_last_resort", lambda state, facts, group, node: False)


def quarantine_never_ends(monkeypatch):
    """Nobody proposes the end of a quarantine."""
    right = expiry.due

    def due(state, at_ms):
        return [x for x in right(state, at_ms) if not (isinstance(x, c.Expire) and x.lapse is Lapse.QUARANTINE)]

    monkeypatch.setattr(coordinator.expiry, "due", due)


def returns_are_not_counted(monkeypatch):
    """However often a node is lost and comes back, it is never in quarantine."""
    monkeypatch.setattr(policy_notes, "ONE_RETURN_MS", 10**9)


def clear_forgets_no_failovers(monkeypatch):
    """After `hamailctl clear` the budget is as used up as before."""
    right = changes_orders.clear

    def clear(d, command):
        kept = {name: (g.failovers, g.failures) for name, g in d.groups()}
        right(d, command)
        for name, (failovers, failures) in kept.items():
            d.set_group(name, failovers=failovers, failures=failures)

    monkeypatch.setitem(HANDLERS, c.Clear, clear)


def tried_once_and_never_again(monkeypatch):
    """A group that waits for its next try waits for ever."""
    right = coordinator._grant

    def grant(state, facts, name, g):
        return right(state, replace(facts, retry_in_ms={}), name, g)

    monkeypatch.setattr(coordinator, "_grant", grant)


# ---- hunts ----------------------------------------------------------------------------------------------------------


def told(story):
    """The story must go as it says."""

    def hunt(_seed):
        text = (STORIES / f"{story}.txt").read_text()
        printed = Script().run(text)
        odd = [(a, b) for a, b in zip(text.splitlines(), printed.splitlines(), strict=False) if a != b]
        assert printed == text, f"{story} goes otherwise: {odd[0] if odd else 'it is longer or shorter'}"

    return hunt


def within(story):
    """What it expects must come."""
    return lambda _seed: Script().run(story)


def _mutant(plant, hunt, quick=(0,)):
    return Mutant(plant.__name__, plant.__doc__.strip(), plant, hunt, seeds_max=1, quick=quick)


MUTANTS = [
    _mutant(failovers_never_used_up, told("budget_used_up")),
    _mutant(a_bouncing_group_never_waits, told("budget_used_up")),
    _mutant(any_failure_holds_back, told("budget_other_cause")),
    _mutant(a_worse_node_is_as_good, told("shared_cause")),
    _mutant(orders_use_failovers_up, within(ORDERS_DO_NOT_COUNT)),
    _mutant(quarantine_keeps_from_nothing, told("quarantine")),
    _mutant(quarantine_is_a_veto, told("quarantine")),
    _mutant(quarantine_never_ends, told("quarantine_ends"), quick=()),
    _mutant(returns_are_not_counted, told("quarantine")),
    _mutant(clear_forgets_no_failovers, within(CLEARED)),
    _mutant(tried_once_and_never_again, told("budget_other_cause")),
]
