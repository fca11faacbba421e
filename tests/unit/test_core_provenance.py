"""A node can speak for itself only: what it says about another one does not enter the log."""

import pytest

from hamail.core.apply import apply, empty_state
from hamail.core.engine import Engine
from hamail.core.lease import MS
from hamail.core.provenance import operator_refusal, refusal
from hamail.model import commands as c
from hamail.model.messages import Heartbeat, LeaseRequest, ReleaseAnswer, ReleaseRequest
from hamail.model.practice import DrillRecord, Fault
from hamail.model.state import Evidence, FenceOrder, Incarnation, NodeState
from hamail.simulation.spec import cluster

SPEC = cluster(levels=2)
LIFE = Incarnation("boot", "executor")


def state(**nodes):
    first = c.ApplyConfig(at_ms=0, spec=SPEC, source="", expected_revision=0)
    found, outcome = apply(empty_state(), 1, first)
    assert outcome.accepted
    return found.__class__(**{f: getattr(found, f) for f in found.__struct_fields__} | {"nodes": nodes})


ABOUT_N1 = [
    c.Join(at_ms=0, node="n1", incarnation=LIFE),
    c.CleanedUp(at_ms=0, node="n1", incarnation=LIFE, cleaned={}),
    c.Started(at_ms=0, group="mail", node="n1", epoch=2),
    c.StartFailed(at_ms=0, group="mail", node="n1", epoch=2, resource="store", clean=True, detail=""),
    c.Failed(at_ms=0, group="mail", node="n1", epoch=2, resource="store", detail=""),
    c.Restarted(at_ms=0, group="mail", node="n1", epoch=2, resource="store", detail="", count=1),
    c.Released(at_ms=0, group="mail", node="n1", epoch=2),
    c.StopFailed(at_ms=0, group="mail", node="n1", epoch=2, resource="store", detail=""),
    c.AckMaintenance(at_ms=0, node="n1"),
    c.Barrier(at_ms=0, node="n1"),
    c.Annotate(at_ms=0, node="n1", sentence="x"),
    c.RestartEnded(at_ms=0, group="mail", node="n1", order=7, ok=True),
    c.DrillDone(at_ms=0, node="n1", order=9, result="done"),
    c.ReportAudit(at_ms=0, node="n1", sequence=1, digest="d"),
]
COORDINATORS = [
    c.Grant(at_ms=0, group="mail", node="n2", expected_epoch=0, evidence=Evidence.NEVER_OWNED),
    c.Retry(at_ms=0, group="mail", expected_epoch=0),
    c.OwnerLost(at_ms=0, group="mail", node="n1", epoch=2, silent_ms=1, voters=("n1", "n2", "n3")),
    c.OwnerStuck(at_ms=0, group="mail", node="n1", epoch=2, behind_ms=1),
    c.OwnerBack(at_ms=0, group="mail", node="n1", epoch=2),
    c.OrderFence(at_ms=0, target="n1", device="pdu", by="n2"),
    c.RunScheduled(at_ms=0, order=7, group="mail", target="n2", expected_epoch=0),
]
OF_OPERATORS = [
    c.RequestFence(at_ms=0, target="n1"),
    c.RequestMove(at_ms=0, group="mail", target="n2", expected_epoch=0),
    c.SetStandby(at_ms=0, node="n1", standby=True),
    c.SetMaintenance(at_ms=0, on=True),
    c.Clear(at_ms=0, group="mail"),
    c.RequestFailover(at_ms=0, group="mail", target="n2", expected_epoch=0),
    c.RequestRestart(at_ms=0, group="mail", resource="", expected_epoch=0),
    c.ScheduleMove(at_ms=0, group="mail", target=None, due_ms=1),
    c.Cancel(at_ms=0, order=7),
    c.OrderDrill(at_ms=0, fault=Fault.SERVICE_KILL, group="mail", epoch=2, node="n1", duration_ms=5000),
    c.EndDrill(at_ms=0),
    c.RecordDrill(
        at_ms=0,
        record=DrillRecord(id="d", name="switchover", group="mail", at_ms=0, verdict="passed", rto_ms=1, rpo=0),
    ),
    c.ChangeIncident(at_ms=0, what="open", text="x"),
]
OF_OPERATORS += [
    c.SetBan(at_ms=0, group="mail", node="n1", until_ms=1),
    c.LiftBan(at_ms=0, group="mail", node="n1"),
    c.LiftQuarantine(at_ms=0, node="n1"),
    c.HandsOff(at_ms=0, on=True, node="n1"),
]
COORDINATORS += [
    c.Expire(at_ms=0, lapse=c.Lapse.STANDBY, since=1, node="n1"),
    c.NodeBack(at_ms=0, node="n1", silent_ms=1),
]
ONLY_WHERE_MAIL_RUNS = [
    c.FenceConfirmed(at_ms=0, target="n1"),
    c.ApplyConfig(at_ms=0, spec=SPEC, source="", expected_revision=1),
]


@pytest.mark.parametrize("command", ABOUT_N1, ids=lambda x: type(x).__name__)
def test_a_report_comes_from_the_node_that_it_is_about(command):
    assert refusal(state(), "n1", command) == ""
    assert "cannot speak for n1" in refusal(state(), "n2", command)
    assert "cannot speak for n1" in refusal(state(), "n3", command)


@pytest.mark.parametrize("command", COORDINATORS, ids=lambda x: type(x).__name__)
def test_nobody_decides_in_the_place_of_the_leader(command):
    assert all("only the leader" in refusal(state(), node, command) for node in ("n1", "n2", "n3"))


@pytest.mark.parametrize("command", OF_OPERATORS, ids=lambda x: type(x).__name__)
def test_an_operator_may_order_anywhere(command):
    assert all(refusal(state(), node, command) == "" for node in ("n1", "n2", "n3"))


@pytest.mark.parametrize("command", ONLY_WHERE_MAIL_RUNS, ids=lambda x: type(x).__name__)
def test_what_could_make_two_active_is_not_taken_from_a_witness(command):
    assert refusal(state(), "n2", command) == operator_refusal(state(), "n2", command) == ""
    assert "is a witness" in refusal(state(), "n3", command)
    assert "is a witness" in operator_refusal(state(), "n3", command)


@pytest.mark.parametrize("ok", [True, False])
def test_a_fence_is_reported_by_the_node_that_was_to_do_it(ok):
    order = FenceOrder(id=9, target="n1", device="pdu", by="n2", attempt=1, reason="", ordered_at_ms=0)
    ordered = state(n1=NodeState(fence=order))
    done = c.FenceDone(at_ms=0, target="n1", order=9, ok=ok, detail="")
    assert refusal(ordered, "n2", done) == ""
    assert "is not n3's" in refusal(ordered, "n3", done)
    assert "is not n2's" in refusal(ordered, "n2", c.FenceDone(at_ms=0, target="n1", order=8, ok=ok, detail=""))
    assert "is not n2's" in refusal(state(), "n2", done)


def test_every_command_is_judged():
    known = {type(x) for x in (*ABOUT_N1, *COORDINATORS, *OF_OPERATORS, *ONLY_WHERE_MAIL_RUNS)} | {c.FenceDone}
    assert known == set(c.AnyCommand.__args__)


@pytest.mark.parametrize("detection_ms", [-1, 0, 2**62])
def test_timings_that_cannot_hold_are_refused_by_the_log_itself(detection_ms):
    """The file is checked where it is given; the log believes no node that it was."""
    spec = cluster(detection_ms=detection_ms)
    before = state()
    after, outcome = apply(before, 2, c.ApplyConfig(at_ms=0, spec=spec, source="", expected_revision=1))
    assert not outcome.accepted
    assert after.spec == before.spec


def test_a_sender_that_is_no_member_is_not_heard():
    """A certificate of this cluster alone makes nobody a voter."""
    engine = Engine(me="n1", bootstrap=SPEC, source="", barred={}, life="x", now_ns=0)
    engine.leadership(True)
    engine.tick(1 * MS, 0)
    said = [
        LeaseRequest(group="mail", epoch=1, nonce=1),
        ReleaseRequest(group="mail", epoch=1),
        ReleaseAnswer(group="mail", epoch=1, yes=True),
        Heartbeat(sequence=1, incarnation=None, silent_ms={}, applied=0, ready=True),
    ]
    assert all(engine.message("n9", message, 2 * MS, 0) == [] for message in said)
    assert engine.message("n2", said[0], 2 * MS, 0), "a member is answered"


@pytest.mark.parametrize("command", OF_OPERATORS, ids=lambda x: type(x).__name__)
def test_every_other_order_is_taken_on_a_witness_as_well(command):
    assert operator_refusal(state(), "n3", command) == ""
