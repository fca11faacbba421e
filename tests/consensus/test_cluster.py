"""Three real nodes in one process: propose, apply, restart."""

import pytest

from hamail.model.commands import Outcome, Unknown
from tests.consensus.cluster import Cluster


def test_elects_proposes_and_applies_the_same_everywhere():
    c = Cluster()
    leader = c.elect()
    result = c.commit(leader, "one")
    assert isinstance(result, Outcome) and result.accepted
    follower = next(n for n in c.names if n != leader)
    forwarded = c.commit(follower, "two")
    assert isinstance(forwarded, Outcome) and forwarded.index == result.index + 1
    c.run(200)
    for machine in c.machines.values():
        assert machine.applied == [(result.index, "one"), (forwarded.index, "two")]


@pytest.mark.parametrize("power", [False, True])
def test_restart_of_all_keeps_state(power):
    c = Cluster()
    leader = c.elect()
    for i in range(5):
        c.commit(leader, f"e{i}")
    c.run(200)
    before = c.machines[leader].applied
    for name in c.names:
        c.kill(name, power=power)
    for name in c.names:
        c.boot(name)
    c.elect()
    c.run(200)
    for machine in c.machines.values():
        assert machine.applied == before


def test_no_majority_ends_as_unknown_exactly_once():
    c = Cluster()
    leader = c.elect()
    c.isolate(leader)
    result = c.commit(leader, "lost?")
    assert isinstance(result, Unknown)
