"""Who may have a group, and in which order its resources start and stop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hamail.core import ordering, placement
from hamail.core.facts import Facts, NodeFacts
from hamail.model import commands as c
from hamail.model.spec import ResourceSpec
from hamail.simulation.spec import cluster
from tests.unit.test_core_apply import active, began, run

GOOD = NodeFacts(alive=True, ready=True)


def facts(**nodes):
    known = {"n1": GOOD, "n2": GOOD, "n3": GOOD, **nodes}
    return Facts(now_ns=0, at_ms=0, me="n3", nodes=known, settled=True)


def test_the_first_of_the_list_comes_first():
    assert placement.choose(began(), facts(), "mail") == "n1"


def test_an_ordered_target_comes_first():
    state = run(began(), c.RequestMove(at_ms=0, group="mail", target="n2", expected_epoch=0))
    assert placement.choose(state, facts(), "mail") == "n2"


@pytest.mark.parametrize(
    ("heard", "why"),
    [
        (NodeFacts(silent_ms=1500), "not been heard for 1.5 s"),
        (replace(GOOD, suspected=True), "not been heard"),
        (replace(GOOD, restarting=True), "restarting"),
        (NodeFacts(alive=True, detail="its disk is full"), "its disk is full"),
    ],
)
def test_health_is_a_veto_with_a_reason(heard, why):
    found = placement.candidates(began(), facts(n1=heard), "mail")
    assert found[0].node == "n2"
    assert why in next(x.reason for x in found if x.node == "n1")


def test_what_the_log_knows_is_a_veto_with_a_reason():
    state = run(began(), c.SetStandby(at_ms=0, node="n1", standby=True))
    assert "standby" in placement.refusal(state, facts(), "mail", "n1")
    assert "witness" in placement.refusal(state, facts(), "mail", "n3")
    assert "not a node" in placement.refusal(state, facts(), "mail", "n9")
    failed = c.Failed(at_ms=0, group="mail", node="n1", epoch=10, resource="postfix", detail="x")
    assert "failed there" in placement.refusal(run(active(), failed, start=20), facts(), "mail", "n1")


def test_every_node_has_a_reason():
    found = placement.candidates(active(), facts(n2=NodeFacts()), "mail")
    assert {x.node for x in found} == {"n1", "n2", "n3"}
    assert all(x.reason for x in found)


@st.composite
def resources(draw):
    """A random set of resources without cycles."""
    names = [f"r{i}" for i in range(draw(st.integers(1, 7)))]
    return tuple(
        ResourceSpec(name=n, agent="hamail:x", after=tuple(draw(st.sets(st.sampled_from(names[:i]))) if i else ()))
        for i, n in enumerate(names)
    )


@given(resources())
def test_everything_starts_after_what_it_needs_and_stops_before_it(found):
    started = [n for wave in ordering.waves(found) for n in wave]
    assert sorted(started) == sorted(r.name for r in found)
    for r in found:
        assert all(started.index(need) < started.index(r.name) for need in r.after)
    stopped: frozenset[str] = frozenset()
    while len(stopped) < len(found):
        ready = ordering.ready_to_stop(found, stopped, stopped)
        assert ready, "stuck"
        for r in ready:
            assert all(d.name in stopped for d in ordering.standing_on(found, r.name))
        stopped |= {r.name for r in ready}


def test_a_cycle_is_named():
    a = ResourceSpec(name="a", agent="x", after=("b",))
    b = ResourceSpec(name="b", agent="x", after=("a",))
    with pytest.raises(ValueError, match="a, b"):
        ordering.waves((a, b, ResourceSpec(name="free", agent="x")))


def test_a_mail_node_that_is_not_listed_for_the_group_may_not_have_it():
    spec = cluster(("n1", "n2", "n4"))
    state = began(replace(spec, groups={"mail": replace(spec.groups["mail"], nodes=("n1", "n2"))}))
    assert placement.refusal(state, facts(n4=GOOD), "mail", "n4") == "it is not listed in the nodes of mail"
    assert placement.refusal(state, facts(), "mail", "n2") == ""
