"""What an operator is told: why a group is where it is, and what is one failure away from an outage."""

import pytest
from msgspec.structs import replace

from hamail.core import explain, placement
from hamail.core.facts import Facts, NodeFacts
from hamail.model import commands as c
from hamail.model.spec import Requirement
from hamail.model.state import Failure
from hamail.simulation.spec import cluster
from tests.unit.test_core_apply import EXPIRED, LOST, active, began, grant, run

GOOD = NodeFacts(alive=True, ready=True, watchdog_armed=True)
SILENT = NodeFacts(silent_ms=2500)


def facts(retry_in_ms=None, **nodes):
    known = {"n1": GOOD, "n2": GOOD, "n3": GOOD, **nodes}
    return Facts(now_ns=0, at_ms=0, me="n3", nodes=known, settled=True, retry_in_ms=retry_in_ms or {})


def failed_everywhere():
    """Neither node could start it: it is idle, and waits for the next try."""
    first = {"at_ms": 0, "group": "mail", "resource": "store", "clean": True, "detail": "no device"}
    state = run(began(), grant(), c.StartFailed(**first, node="n1", epoch=10))
    released = state.group("mail").evidence
    return run(state, grant("n2", 10, released), c.StartFailed(**first, node="n2", epoch=12), start=12)


# ---- why


def test_an_unknown_group_is_answered_with_those_that_there_are():
    assert explain.why(began(), facts(), "post") == ("There is no group post. Groups: mail.",)
    empty = replace(began(), spec=replace(cluster(), groups={}))
    assert explain.why(empty, facts(), "mail") == ("There is no group mail. Groups: none.",)


def test_a_running_group_tells_who_could_take_over():
    lines = explain.why(active(), facts(n2=SILENT), "mail")
    assert lines[0] == "mail runs on n1 since 1970-01-01 00:00:00 UTC (epoch 10)."
    assert "n2 could not take over: it has not been heard for 2.5 s." in lines
    assert not any(line.startswith("n3") for line in lines), "a witness is not in the list of the group"
    assert any(line.startswith("n2 could take over") for line in explain.why(active(), facts(), "mail"))


def test_a_group_that_nobody_may_have_tells_why_of_each_node():
    lines = explain.why(failed_everywhere(), facts(retry_in_ms={"mail": 1000}), "mail")
    assert lines[0] == "mail is not running: nobody owns it."
    assert any(line.startswith("  n1: mail failed there") for line in lines)
    assert "mail could not be started anywhere; next try in 1 s; hamailctl clear mail tries at once." in lines


def test_a_group_that_will_be_granted_in_a_moment_gives_no_reasons_against_it():
    lines = explain.why(began(), facts(), "mail")
    assert not any("may have" in line or "take over" in line for line in lines)


def test_a_lost_owner_that_could_not_be_fenced_is_told():
    order = c.OrderFence(at_ms=0, target="n1", device="pdu", by="n2")
    done = c.FenceDone(at_ms=0, target="n1", order=21, ok=False, detail="no answer")
    lines = explain.why(run(active(), LOST, order, done, start=20), facts(n1=SILENT), "mail")
    assert "Fencing has not succeeded yet: Fencing n1 with pdu failed: no answer." in lines
    assert lines[0] == "mail is not available: n1 must be fenced before another node may start it."


def test_the_last_move_is_told_with_who_ordered_it():
    order = c.RequestMove(at_ms=0, actor="eve", reason="new disks", group="mail", target="n2", expected_epoch=10)
    lines = explain.why(run(active(), order, start=20), facts(), "mail")
    assert any("switchover, ordered by eve: new disks" in line for line in lines)


def test_maintenance_is_told():
    state = run(active(), c.SetMaintenance(at_ms=0, on=True), start=20)
    assert explain.why(state, facts(), "mail")[-1].startswith("The cluster is in maintenance")


@pytest.mark.parametrize(
    ("requires", "levels", "words"),
    [
        (Requirement.FENCING, 2, "fencing (ipmi, pdu), leases, and the epoch on the storage"),
        (Requirement.FENCING, 0, "leases and the epoch on the storage; no fence device is configured, so after a loss"),
        (Requirement.WATCHDOG, 0, "leases and each node's watchdog"),
        (Requirement.LEASE, 0, "leases only"),
    ],
)
def test_what_protects_a_group(requires, levels, words):
    assert explain.protection(cluster(requires=requires, levels=levels), "mail").startswith(words)


def test_an_owner_whose_lease_ran_out_is_not_the_owner_any_more():
    state = run(active(cluster(requires=Requirement.LEASE, levels=0)), LOST, EXPIRED, start=20)
    assert explain.why(state, facts(n1=SILENT), "mail")[0] == "mail is being started on n2 (epoch 21)."


def test_a_standby_that_could_not_start_it_lately_is_not_told_of_as_if_nothing_had_been():
    """After a switchover that came back status said "n2 could take over: it is up, joined and ready"."""
    state, now = active(), replace(facts(), at_ms=61_000)
    assert placement.told(state, now, "mail") == placement.candidates(state, now, "mail")
    failures = tuple(Failure(at_ms=1000, node=node, resource="postfix") for node in ("n1", "n2"))
    state = replace(state, groups={"mail": replace(state.group("mail"), failures=failures)})
    told = {c.node: c for c in placement.told(state, now, "mail")}
    assert told["n2"].eligible and told["n2"].reason.endswith("but postfix of mail failed on n2 1 min ago")
    assert "failed" not in told["n1"].reason, "it runs there"
    assert any("n2 could take over: " in line and "failed on n2" in line for line in explain.why(state, now, "mail"))
    later = replace(now, at_ms=1000 + placement.RECENT_MS)
    assert placement.told(state, later, "mail") == placement.candidates(state, later, "mail")
