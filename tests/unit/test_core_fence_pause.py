"""After a failed round of fencing there is a pause; a later case is fenced at once all the same."""

import pytest
from msgspec.structs import replace

from hamail.core import coordinator
from hamail.core.apply import apply, empty_state
from hamail.core.facts import Facts, NodeFacts
from hamail.core.timing import derive
from hamail.model import commands as c
from hamail.model.state import ClusterState, Evidence, Incarnation, Phase
from hamail.simulation.spec import cluster

TIMINGS = derive(1000, 5)
PAUSED = Facts(
    now_ns=10**9,
    at_ms=0,
    me="n3",
    nodes={
        "n1": NodeFacts(alive=False, suspected=True, accusers=("n2", "n3"), silent_ms=1100),
        "n2": NodeFacts(alive=True, ready=True),
        "n3": NodeFacts(alive=True, ready=True),
    },
    settled=True,
    fence_retry_at_ns={"n1": 20 * 10**9},
)


def run(state: ClusterState, *commands: c.AnyCommand) -> ClusterState:
    for command in commands:
        epoch = state.group("mail").epoch
        fitted = replace(command, epoch=epoch) if hasattr(command, "epoch") else command
        state, outcome = apply(state, state.applied + 1, fitted)
        assert outcome.accepted, (command, outcome.reasons)
    return state


def granted(state: ClusterState, evidence: Evidence) -> ClusterState:
    epoch = state.group("mail").epoch
    return run(
        state,
        c.Grant(at_ms=0, group="mail", node="n1", expected_epoch=epoch, evidence=evidence),
        c.Started(at_ms=0, group="mail", node="n1", epoch=0),
    )


LOST = c.OwnerLost(at_ms=0, group="mail", node="n1", epoch=0, silent_ms=1100, voters=("n2", "n3"))


@pytest.fixture
def failed() -> ClusterState:
    """n1 was lost, and its fence has failed."""
    state = run(empty_state(), c.ApplyConfig(at_ms=0, spec=cluster(), source="", expected_revision=0))
    for node in ("n1", "n2"):
        state = run(state, c.Join(at_ms=0, node=node, incarnation=Incarnation(f"boot-{node}", "x")))
    state = run(granted(state, Evidence.NEVER_OWNED), LOST)
    state = run(state, c.OrderFence(at_ms=0, target="n1", device="pdu", by="n2"))
    order = state.node("n1").fence
    assert order is not None
    return run(state, c.FenceDone(at_ms=0, target="n1", order=order.id, ok=False, detail="it refuses"))


def orders(state: ClusterState) -> list[c.AnyCommand]:
    return [x for x in coordinator.decide(state, PAUSED, TIMINGS) if isinstance(x, c.OrderFence)]


def test_the_same_case_waits(failed: ClusterState) -> None:
    assert failed.group("mail").phase is Phase.FENCING
    assert not orders(failed)


@pytest.mark.parametrize("end", ["released", "back"])
def test_the_next_case_does_not(failed: ClusterState, end: str) -> None:
    if end == "released":
        state = run(failed, c.Released(at_ms=0, group="mail", node="n1", epoch=0))
        state = granted(state, Evidence.RELEASED)
    else:
        state = run(failed, c.OwnerBack(at_ms=0, group="mail", node="n1", epoch=0))
        state = run(state, c.Started(at_ms=0, group="mail", node="n1", epoch=0))
    assert orders(state)
    assert orders(run(state, LOST))


def test_who_is_being_fenced_fences_nobody() -> None:
    """n1 came back while n2 is cutting its power; then n2 is to be fenced by hand. Both at once would leave nobody."""
    state = run(empty_state(), c.ApplyConfig(at_ms=0, spec=cluster(), source="", expected_revision=0))
    for node in ("n1", "n2"):
        state = run(state, c.Join(at_ms=0, node=node, incarnation=Incarnation(f"boot-{node}", "x")))
    state = run(granted(state, Evidence.NEVER_OWNED), LOST, c.OrderFence(at_ms=0, target="n1", device="pdu", by="n2"))
    order, after = state.node("n1").fence, state.node("n1").joined_at
    assert order is not None
    state = run(state, c.Join(at_ms=0, node="n1", incarnation=Incarnation("boot-n1", "y"), after=after))
    epoch = state.group("mail").epoch
    state = run(state, c.Grant(at_ms=0, group="mail", node="n2", expected_epoch=epoch, evidence=Evidence.REJOINED))
    state = run(state, c.RequestFence(at_ms=0, target="n2"))
    assert state.group("mail").phase is Phase.FENCING
    by_n1 = c.OrderFence(at_ms=0, target="n2", device="pdu", by="n1")
    well = replace(PAUSED, nodes={n: NodeFacts(alive=True, ready=True) for n in ("n1", "n2", "n3")})

    def ordered() -> list[c.AnyCommand]:
        return [x for x in coordinator.decide(state, well, TIMINGS) if isinstance(x, c.OrderFence)]

    assert not ordered() and not apply(state, state.applied + 1, by_n1)[1].accepted
    state = run(state, c.FenceDone(at_ms=0, target="n1", order=order.id, ok=False, detail="it refuses"))
    assert [x.target for x in ordered()] == ["n2"]
