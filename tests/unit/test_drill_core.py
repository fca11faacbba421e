"""Drills in the core: what may be ordered, that it is done once and told, and that an old order does nothing."""

import msgspec
import pytest
from msgspec.structs import replace

from hamail.core.apply import apply
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.practice import (
    DRILL_MS_MAX,
    DRILLS_KEPT,
    INCIDENTS_KEPT,
    NOTES_KEPT,
    ORDER_FRESH_MS,
    DrillRecord,
    Fault,
)
from hamail.model.state import ClusterState, Incarnation, Phase
from tests.unit.test_core_engine import Bench


def up() -> Bench:
    return Bench(levels=1).joined().granted().leased().up()


def order(b: Bench, fault: Fault = Fault.SERVICE_KILL, **given: object) -> c.OrderDrill:
    fields = {"group": "mail", "epoch": b.epoch, "node": "n1", "duration_ms": 5000, "at_ms": b.e.at_ms, **given}
    return c.OrderDrill(fault=fault, **fields)


def refused(b: Bench, command: c.AnyCommand) -> str:
    outcome = b.commit(command)
    assert not outcome.accepted
    return "; ".join(outcome.reasons)


def test_the_owner_does_what_is_ordered_once_and_tells() -> None:
    b = up()
    assert b.commit(order(b, Fault.NETWORK_LOSS)).accepted
    b.tick()
    (asked,) = b.take(a.Practise)
    assert (asked.fault, asked.epoch, asked.duration_ms) == (Fault.NETWORK_LOSS, b.epoch, 5000)
    b.forget()
    b.tick()
    assert not b.take(a.Practise), "once"
    b.notice(a.Practised(order=asked.order, result="done"))
    b.tick()
    told = b.take(c.DrillDone)[-1]
    assert b.commit(told).accepted
    assert b.e.state.drill.result == "done"
    b.notice(a.Practised(order=asked.order, result="undone"))
    b.tick()
    assert b.commit(b.take(c.DrillDone)[-1]).accepted
    assert b.e.state.drill.result == "undone"
    assert not b.commit(told).accepted


def test_ending_a_drill_undoes_it() -> None:
    b = up()
    b.commit(order(b, Fault.NETWORK_LOSS))
    b.tick()
    b.forget()
    b.commit(c.EndDrill(at_ms=b.e.at_ms))
    assert b.take(a.EndPractice)
    b.forget()
    b.tick()
    assert not b.take(a.EndPractice)
    assert refused(b, c.EndDrill(at_ms=0)) == "no drill is under way"


def test_a_refusal_of_the_executor_is_told() -> None:
    b = up()
    b.commit(order(b))
    b.tick()
    b.notice(a.Refused(id=b.take(a.Practise)[-1].id, why="drills are not allowed"))
    b.tick()
    told = b.take(c.DrillDone)[-1]
    assert (told.result, told.detail) == ("refused", "drills are not allowed")


def test_an_order_that_comes_late_does_nothing() -> None:
    """A node that was away applies the log of the time when it was."""
    b = up()
    b.commit(order(b, at_ms=b.e.at_ms - ORDER_FRESH_MS - 1000))
    b.tick()
    assert not b.take(a.Practise)
    assert b.take(c.DrillDone)[-1].result == "refused"


def test_an_order_for_an_earlier_grant_does_nothing() -> None:
    b = up()
    assert "epoch" in refused(b, order(b, epoch=b.epoch - 1))
    b.index += 1
    b.e.apply(b.index, order(b))
    b.e.state = replace(b.e.state, groups={"mail": replace(b.e.state.group("mail"), epoch=b.epoch + 1)})
    b.tick()
    assert not b.take(a.Practise)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"group": "none"}, "there is no group"),
        ({"node": "n2"}, "n2 does not run mail"),
        ({"node": "n9"}, "n9"),
        ({"duration_ms": DRILL_MS_MAX + 1}, "a fault lasts"),
        ({"fault": Fault.POWER_OFF, "node": "n2", "target": "n1", "device": "none"}, "cannot switch n1"),
        ({"fault": Fault.POWER_OFF, "node": "n1", "target": "n1", "device": "pdu"}, "may not run"),
        ({"fault": Fault.POWER_OFF, "node": "n1", "target": "n2", "device": "pdu"}, "does not own"),
        ({"fault": Fault.POWER_ON, "node": "n2", "target": "n1", "device": "pdu"}, "may still hold"),
    ],
)
def test_what_is_refused(given: dict[str, object], says: str) -> None:
    b = up()
    before = b.e.state
    assert says in refused(b, order(b, **given))
    assert replace(b.e.state, applied=0) == replace(before, applied=0)


def test_one_order_at_a_time_and_none_in_maintenance() -> None:
    b = up()
    assert b.commit(order(b)).accepted
    assert "has not answered" in refused(b, order(b))
    b.commit(c.EndDrill(at_ms=0))
    b.commit(c.SetMaintenance(at_ms=0, on=True))
    assert "maintenance" in refused(b, order(b))


@pytest.mark.parametrize("part", [{"group": "mail"}, {"node": "n1"}])
def test_none_in_the_maintenance_of_a_part_either(part: dict[str, str]) -> None:
    """Its power would be cut, and nobody would take over."""
    b = up()
    assert b.commit(c.HandsOff(at_ms=0, on=True, **part)).accepted
    for fault, more in ((Fault.NETWORK_LOSS, {}), (Fault.POWER_OFF, {"node": "n2", "target": "n1", "device": "pdu"})):
        assert "nothing would be taken over" in refused(b, order(b, fault, **more))
    assert b.commit(c.HandsOff(at_ms=0, on=False, **part)).accepted
    assert b.commit(order(b)).accepted


def test_power_of_a_node_that_is_out_may_be_given_back() -> None:
    b = up()
    life = Incarnation("boot-2", "x2")
    assert b.commit(c.Join(at_ms=0, node="n2", incarnation=life, after=0, cleaned={"mail": b.index})).accepted
    state = b.e.state
    b.e.state = replace(state, nodes={**state.nodes, "n2": replace(state.node("n2"), incarnation=None)})
    on = order(b, Fault.POWER_ON, node="n1", target="n2", device="pdu")
    assert b.commit(on).accepted
    b.tick()
    (asked,) = b.take(a.SwitchPower)
    assert asked.on and asked.target == "n2" and asked.plug


def test_power_is_given_back_only_to_a_node_that_is_known_to_be_out() -> None:
    """One that has joined may be given a group, and be fenced while it is switched on."""
    b = up()
    life = Incarnation("boot-2", "x2")
    assert b.commit(c.Join(at_ms=0, node="n2", incarnation=life, after=0, cleaned={"mail": b.index})).accepted
    on = order(b, Fault.POWER_ON, node="n1", target="n2", device="pdu")
    assert "not known to be out" in refused(b, on)
    state = b.e.state
    b.e.state = replace(state, nodes={**state.nodes, "n2": replace(state.node("n2"), incarnation=None)})
    assert b.commit(on).accepted
    b.forget()
    again = replace(b.e.state.drill, id=b.e.state.drill.id + 1)  # applied while this node caught up with what came next
    b.e.state = replace(b.e.state, nodes={**b.e.state.nodes, "n2": state.node("n2")}, drill=again)
    b.tick()
    assert not b.take(a.SwitchPower), "it has joined since"
    assert b.take(c.DrillDone)[-1].result == "refused"


def test_records_are_bounded_and_old_states_load() -> None:
    b = up()
    for number in range(DRILLS_KEPT + 5):
        record = DrillRecord(
            id=str(number), name="switchover", group="mail", at_ms=0, verdict="passed", rto_ms=1, rpo=0
        )
        b.commit(c.RecordDrill(at_ms=0, record=record, actor="root"))
    assert len(b.e.state.drills) == DRILLS_KEPT
    assert b.e.state.drills[-1].actor == "root"
    for _ in range(INCIDENTS_KEPT + 3):
        b.commit(c.ChangeIncident(at_ms=1, what="open", text="x"))
    assert len(b.e.state.incidents) == INCIDENTS_KEPT
    old = msgspec.to_builtins(b.e.state)
    for name in ("drill", "drills", "incidents", "audit"):
        del old[name]
    assert msgspec.convert(old, ClusterState).drills == ()


def test_incidents() -> None:
    b = up()
    assert b.commit(c.ChangeIncident(at_ms=5, what="open", text="mail is slow", actor="root", since=3)).accepted
    number = b.index
    for _ in range(NOTES_KEPT):
        assert b.commit(c.ChangeIncident(at_ms=6, what="note", incident=number, text="looked", actor="eve")).accepted
    assert "notes already" in refused(b, c.ChangeIncident(at_ms=6, what="note", incident=number, text="more"))
    assert "there is no incident" in refused(b, c.ChangeIncident(at_ms=6, what="close", incident=number + 99))
    assert b.commit(c.ChangeIncident(at_ms=9, what="close", incident=number)).accepted
    (kept,) = b.e.state.incidents
    assert (kept.title, kept.since, kept.closed_ms, kept.until) == ("mail is slow", 3, 9, b.index)
    assert "is closed" in refused(b, c.ChangeIncident(at_ms=9, what="note", incident=number, text="x"))


def test_an_audit_trail_only_grows() -> None:
    b = up()
    assert b.commit(c.ReportAudit(at_ms=0, node="n1", sequence=9, digest="a")).accepted
    assert "had 9 entries, now 8" in refused(b, c.ReportAudit(at_ms=0, node="n1", sequence=8, digest="b"))
    assert b.commit(c.ReportAudit(at_ms=0, node="n1", sequence=1, digest="b", anew=True)).accepted
    assert "begins anew" in b.e.state.events[-1].sentence


def test_nothing_of_it_touches_who_owns_what() -> None:
    b = up()
    before = b.e.state.group("mail")
    b.commit(order(b))
    b.commit(c.DrillDone(at_ms=0, node="n1", order=b.index, result="done"))
    b.commit(c.EndDrill(at_ms=0))
    assert b.e.state.group("mail") == before and before.phase is Phase.ACTIVE
    _, outcome = apply(b.e.state, b.index + 1, c.DrillDone(at_ms=0, node="n1", order=1, result="done"))
    assert not outcome.accepted
