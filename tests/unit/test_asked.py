"""The history names an order as a person has typed it."""

import pytest

from hamail.cli.main import cli
from hamail.control import api, moves_api, policies_api, practice_api
from hamail.model import commands as c
from hamail.model.asked import NAMES, asked_for


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (c.SetStandby(at_ms=0, node="n1", standby=False), "unstandby n1"),
        (api.StandbyRequest(node="n1", standby=False), "unstandby n1"),
        (api.StandbyRequest(node="n1", standby=True), "standby n1"),
        (api.MoveRequest(group="mail", to="n2"), "switchover mail --to n2"),
        (c.RequestMove(at_ms=0, group="mail", target="n2", expected_epoch=1), "switchover mail --to n2"),
        (c.LiftBan(at_ms=0, group="mail", node="n2"), "unban mail n2"),
        (c.LiftQuarantine(at_ms=0, node="n2"), "quarantine --clear n2"),
        (c.HandsOff(at_ms=0, on=False, group="mail"), "maintenance off --group mail"),
        (c.SetMaintenance(at_ms=0, on=True), "maintenance on"),
        (c.RequestFence(at_ms=0, target="n1"), "fence n1"),
        (api.ConfigRequest(source="x"), "config apply"),
        (moves_api.CancelRequest(order=7), "cancel 7"),
        (practice_api.IncidentRequest(what="close"), "incident close"),
    ],
)
def test_an_order_in_the_words_of_hamailctl(order, words):
    assert asked_for(order) == words


def test_every_order_has_words_that_are_a_command():
    requests = {
        value.__name__
        for module in (api, moves_api, policies_api, practice_api)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, api.Request) and value is not api.Request
    }
    assert requests <= set(NAMES)
    assert {name.split()[0] for name in NAMES.values()} <= set(cli.commands)
    assert all(hasattr(c, name) for name in NAMES if not name.endswith("Request"))
