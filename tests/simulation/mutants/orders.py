"""Bugs in the orders of operators: a failover, turning back, a restart in place."""

from hamail.core import changes_moves
from hamail.core.apply import HANDLERS
from hamail.core.changes_groups import free
from hamail.core.restart_duty import RestartDuty
from hamail.core.transitions import What
from hamail.model import commands as c
from hamail.model.spec import Requirement
from hamail.model.state import Evidence, Phase
from tests.simulation.mutants.hunts import hunted
from tests.simulation.mutants.mutant import Mutant

F = Requirement.FENCING


def an_order_is_proof(monkeypatch):
    """After an ordered failover the owner counts as out because an operator said so."""
    right = HANDLERS[c.RequestFailover]

    def request_failover(d, command):
        right(d, command)
        d.step(command.group, What.CONFIRMED, node=d.group(command.group).owner)
        free(d, command.group, Evidence.CONFIRMED)

    monkeypatch.setitem(HANDLERS, c.RequestFailover, request_failover)


def turned_back_without_a_stop(monkeypatch):
    """A move that is turned back leaves the target without a verified stop."""
    right = changes_moves._turn_back

    def turn_back(d, name, move, command):
        starting = d.group(name).phase is Phase.STARTING
        right(d, name, move, command)
        if starting:
            d.step(name, What.RELEASED, node=d.group(name).owner)
            free(d, name, Evidence.RELEASED)

    monkeypatch.setattr(changes_moves, "_turn_back", turn_back)


def restart_never_told(monkeypatch):
    """A restart is carried out, and the log never hears how it ended."""
    monkeypatch.setattr(RestartDuty, "_ended", lambda self, group, running, why: None)


def _mutant(plant, *kinds):
    return Mutant(plant.__name__, plant.__doc__.strip(), plant, hunted(F, *kinds, levels=1), quick=tuple(range(10)))


MUTANTS = [
    _mutant(an_order_is_proof, "failover_by_hand"),
    _mutant(turned_back_without_a_stop, "move_turned_back"),
    _mutant(restart_never_told, "restart_in_place"),
]
