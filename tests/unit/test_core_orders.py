"""Failover, restart in place, scheduled moves and cancelling by the core alone: what is accepted, told, left behind."""

import msgspec
import pytest
from msgspec.structs import replace

from hamail.core import outcome, preflight, schedule
from hamail.core.apply import apply
from hamail.core.draft import Draft
from hamail.core.facts import Facts, NodeFacts
from hamail.core.timing import derive
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.machine import MachineFacts, StorageFacts
from hamail.model.preflight import PreflightAsk, Verdict
from hamail.model.report import LinkFacts, NodeReport
from hamail.model.spec import Requirement
from hamail.model.state import ClusterState, Evidence, Failure, GroupState, Move, Phase, Trigger
from hamail.simulation.spec import cluster
from tests.unit.test_core_apply import active, began, grant, run
from tests.unit.test_core_engine import Bench

T = derive(1000, 5)
GOOD = NodeFacts(alive=True, ready=True, fence_ready={"pdu": ""})
SICK = NodeFacts(alive=True, ready=False, detail="its executor is not running")
EPOCH = 10


def facts(at_ms=0, settled=True, **nodes):
    known = {"n1": GOOD, "n2": GOOD, "n3": NodeFacts(alive=True, ready=True), **nodes}
    return Facts(now_ns=0, at_ms=at_ms, me="n3", nodes=known, settled=settled)


def failover(target="n2", epoch=EPOCH):
    return c.RequestFailover(at_ms=5, group="mail", target=target, expected_epoch=epoch, actor="anna")


def refusal(state, command, index=20):
    after, told = apply(state, index, command)
    assert not told.accepted
    assert after.group("mail") == state.group("mail") and after.scheduled == state.scheduled
    return told.reasons[0]


# --- failover ---------------------------------------------------------------------------------------------------------


def test_failover_weakens_no_proof():
    state = run(active(), failover(), start=20)
    g = state.group("mail")
    assert (g.phase, g.owner, g.target, g.trigger) == (Phase.FENCING, "n1", "n2", Trigger.FAILOVER)
    for evidence in Evidence:
        assert "may still hold" in refusal(state, grant("n2", EPOCH, evidence, ("n2", "n3")), 21)
    assert "not trusted" in refusal(state, c.OwnerBack(at_ms=0, group="mail", node="n1", epoch=EPOCH), 21)


def test_failover_without_a_fence_device_waits_or_is_refused():
    lease = active(cluster(levels=0, requires=Requirement.LEASE))
    assert run(lease, failover(), start=20).group("mail").phase is Phase.WAITING
    assert "fence confirm n1" in refusal(active(cluster(levels=0)), failover())


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (failover("n1"), "already owns"),
        (failover("n3"), "may not own"),
        (failover("n9"), "no node n9"),
        (failover(epoch=9), "has moved meanwhile"),
        (c.RequestFailover(at_ms=0, group="news", target="n2", expected_epoch=0), "no group news"),
    ],
)
def test_failover_is_refused(command, why):
    assert why in refusal(active(), command)


def test_failover_of_what_nobody_holds_is_refused():
    assert "hamailctl switchover mail" in refusal(began(), failover(epoch=0))
    assert "in maintenance" in refusal(run(active(), c.SetMaintenance(at_ms=0, on=True), start=20), failover(), 21)
    assert "standby" in refusal(run(active(), c.SetStandby(at_ms=0, node="n2", standby=True), start=20), failover(), 21)


def test_failover_tries_a_failed_fence_again_at_once():
    lost = c.OwnerLost(at_ms=0, group="mail", node="n1", epoch=EPOCH, silent_ms=1000, voters=("n2", "n3"))
    order = c.OrderFence(at_ms=0, target="n1", device="pdu", by="n2")
    state = run(active(), lost, order, c.FenceDone(at_ms=0, target="n1", order=21, ok=False, detail="x"), start=20)
    assert state.node("n1").fence_attempts == 1
    assert run(state, failover(), start=30).node("n1").fence_attempts == 0
    assert state.moves[-1].trigger is Trigger.NODE_LOST
    assert "overtaken" in run(state, failover(), start=30).moves[-2].detail


# --- restart ----------------------------------------------------------------------------------------------------------


def restart(resource="postfix", epoch=EPOCH, at_ms=0):
    return c.RequestRestart(at_ms=at_ms, group="mail", resource=resource, expected_epoch=epoch, actor="anna")


def test_a_restart_is_open_until_its_owner_has_told_and_one_at_a_time():
    state = run(active(), restart(), start=20)
    assert state.group("mail").restart.id == 20
    assert "being restarted already (order 20)" in refusal(state, restart("dovecot"), 21)
    ended = c.RestartEnded(at_ms=0, group="mail", node="n1", order=20, ok=True)
    assert "is not open" in refusal(state, replace(ended, order=19), 21)
    assert "is not open" in refusal(state, replace(ended, node="n2"), 21)
    state = run(state, ended, start=22)
    assert state.group("mail").restart is None
    assert state.events[-1].sentence == "n1 has restarted postfix of mail."
    state = run(state, restart(), replace(ended, order=23, ok=False, detail="it exited with 1"), start=23)
    assert state.events[-1].kind == "restart failed"


def test_an_order_that_nobody_answers_does_not_stay_for_ever():
    state = run(active(), restart(), start=20)
    assert run(state, restart("dovecot", at_ms=16 * 60_000), start=21).group("mail").restart.id == 21


def test_a_restart_is_void_when_the_group_leaves():
    state = run(active(), restart(), c.RequestMove(at_ms=0, group="mail", target="n2", expected_epoch=EPOCH), start=20)
    assert state.group("mail").restart is None
    assert any(e.kind == "restart void" for e in state.events)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (restart("nosuch"), "no resource nosuch"),
        (restart(epoch=9), "has moved meanwhile"),
        (c.RequestRestart(at_ms=0, group="news", resource="", expected_epoch=0), "no group news"),
    ],
)
def test_restart_is_refused(command, why):
    assert why in refusal(active(), command)


def up():
    return Bench().joined().granted().leased().up()


def ordered(b, resource="postfix"):
    command = c.RequestRestart(at_ms=0, group="mail", resource=resource, expected_epoch=b.epoch)
    assert b.commit(command).accepted
    b.order = b.index
    return b


def asked(b):
    found = [r.resource for r in b.take(a.RestartResource)]
    b.forget()
    return found


def restarted(b, resource, ok=True, detail=""):
    b.notice(a.ResourceRestarted(group="mail", epoch=b.epoch, resource=resource, ok=ok, detail=detail))


def test_the_owner_restarts_and_tells():
    b = ordered(up())
    assert asked(b) == ["postfix"]
    b.tick()
    assert asked(b) == []
    restarted(b, "postfix")
    (told,) = b.take(c.RestartEnded)
    assert told.ok and told.order == b.order and not b.take(c.Restarted)
    assert b.commit(told).accepted
    b.forget()
    b.tick()
    assert not b.take(c.RestartEnded)


def test_every_resource_once_also_when_a_storage_has_taken_the_rest_along():
    b = ordered(up(), "")
    assert asked(b) == ["store"]
    for name in ("postfix", "dovecot", "address"):
        b.notice(a.ResourceUp(group="mail", epoch=b.epoch, resource=name, agent="x", at_ms=0, took_ms=1))
    restarted(b, "store")
    (told,) = b.take(c.RestartEnded)
    assert told.ok and asked(b) == []


def test_every_resource_one_after_the_other():
    b = ordered(up(), "")
    for name in ("store", "postfix", "dovecot", "address"):
        assert asked(b) == [name]
        restarted(b, name)
    assert b.take(c.RestartEnded)[0].ok


def test_maintenance_that_begins_meanwhile_leaves_the_rest_alone():
    b = ordered(up(), "")
    assert asked(b) == ["store"]
    on = c.HandsOff(at_ms=0, on=True, group="mail", reason="hands off")
    assert b.commit(on).accepted
    restarted(b, "store")
    (told,) = b.take(c.RestartEnded)
    assert asked(b) == [] and not told.ok and "mail is in maintenance" in told.detail


def test_what_cannot_start_again_is_told_and_is_then_a_failure():
    b = ordered(up())
    b.forget()
    restarted(b, "postfix", ok=False, detail="it exited with code 1")
    (told,) = b.take(c.RestartEnded)
    assert not told.ok and told.detail == "it exited with code 1"
    b.tick()
    assert asked(b) == ["postfix"], "nobody else could take the group, so it is repaired here"


def test_a_refused_restart_leaves_things_as_they_were():
    b = ordered(up())
    (request,) = b.take(a.RestartResource)
    b.forget()
    b.notice(a.Refused(id=request.id, why="maintenance is on"))
    (told,) = b.take(c.RestartEnded)
    assert not told.ok and told.detail == "maintenance is on"
    b.tick()
    assert asked(b) == [] and not b.take(c.Failed)


def test_a_failure_that_was_known_is_not_lost_by_a_refusal():
    b = up()
    b.e.local.repairs._broken["mail", "postfix"] = a.ResourceFailed(
        group="mail", epoch=b.epoch, resource="postfix", detail="it ended by signal 9"
    )
    b.e.local.repairs._restarts["mail", "postfix"] = [b.now * 10**6] * 9  # it is in its pause
    ordered(b)
    (request,) = b.take(a.RestartResource)
    b.notice(a.Refused(id=request.id, why="busy"))
    assert ("mail", "postfix") in b.e.local.repairs._broken


def test_orders_of_an_earlier_life_are_not_carried_out_again():
    b = ordered(up())
    b.e.local.restarts._running.clear()
    b.e.local.restarts._before = None  # as in a hamaild that has just started
    b.forget()
    b.tick()
    (told,) = b.take(c.RestartEnded)
    assert not told.ok and "does not know what became of it" in told.detail and asked(b) == []


def test_an_executor_that_was_away_has_forgotten():
    b = ordered(up())
    b.forget()
    held = a.GroupStatus(epoch=b.epoch, state="up", resources={"postfix": "up"})
    b.welcome(groups={"mail": held})
    assert "was not connected" in b.take(c.RestartEnded)[0].detail


def test_what_is_being_repaired_is_not_restarted_beside_that():
    b = up()
    b.notice(a.ResourceFailed(group="mail", epoch=b.epoch, resource="postfix", detail="x"))
    assert asked(b) == ["postfix"]
    ordered(b)
    assert "restarted for that already" in b.take(c.RestartEnded)[0].detail and asked(b) == []


# --- for later --------------------------------------------------------------------------------------------------------


def later(due_ms=60_000, target="n2", **more):
    return c.ScheduleMove(at_ms=0, group="mail", target=target, due_ms=due_ms, actor="anna", **more)


def test_due_when_the_coordinators_clock_says_so():
    state = run(active(), later(), start=20)
    assert schedule.due(state, facts(at_ms=59_999), T) == ()
    (go,) = schedule.due(state, facts(at_ms=60_000), T)
    assert (go.order, go.target, go.refusal) == (20, "n2", "")
    assert "not due before" in refusal(state, replace(go, at_ms=59_999), 21)
    state = run(state, go, start=21)
    g = state.group("mail")
    assert state.scheduled == () and (g.phase, g.target, g.actor) == (Phase.STOPPING, "n2", "anna")
    assert "any more" in refusal(state, go, 22)


def test_a_coordinator_that_has_just_begun_to_listen_waits_but_not_beyond_the_window():
    state = run(active(), later(), start=20)
    assert schedule.due(state, facts(at_ms=61_000, settled=False), T) == ()
    (gone,) = schedule.due(state, facts(at_ms=60_001 + schedule.WINDOW_MS, settled=False), T)
    assert "within 15 min" in gone.refusal
    state = run(state, gone, start=21)
    assert state.scheduled == () and state.group("mail").phase is Phase.ACTIVE
    assert "will not be: nobody could coordinate" in state.events[-1].sentence


def test_what_has_changed_meanwhile_is_looked_at_when_it_is_time():
    state = run(active(), later(), start=20)
    (run_,) = schedule.due(state, facts(at_ms=60_000, n2=SICK), T)
    assert "not ready" in run_.refusal
    warned = replace(
        state, groups={"mail": replace(state.group("mail"), failures=(Failure(at_ms=0, node="n2", resource="store"),))}
    )
    assert "failed on n2" in schedule.due(warned, facts(at_ms=60_000), T)[0].refusal
    forced = replace(warned, scheduled=(replace(state.scheduled[0], force=True),))
    assert schedule.due(forced, facts(at_ms=60_000), T)[0].refusal == ""
    gone = replace(state, scheduled=(replace(state.scheduled[0], group="news"),))
    assert "no group news" in schedule.due(gone, facts(at_ms=60_000), T)[0].refusal


def test_the_log_has_the_last_word_about_a_scheduled_move():
    state = run(active(), later(), start=20)
    (go,) = schedule.due(state, facts(at_ms=60_000), T)
    state = run(state, c.SetStandby(at_ms=0, node="n2", standby=True), go, start=21)
    assert state.scheduled == () and state.group("mail").phase is Phase.ACTIVE
    assert "was not made" in state.events[-1].sentence and "standby" in state.events[-1].sentence


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (later(0), "is not within"),
        (later(91 * 86_400_000), "is not within the next 90 days"),
        (later(target="n3"), "may not own"),
        (later(target="n9"), "may not own"),
        (c.ScheduleMove(at_ms=0, group="news", target=None, due_ms=9), "no group news"),
        (c.Cancel(at_ms=0, order=7), "nothing with the number 7"),
    ],
)
def test_scheduling_is_refused(command, why):
    assert why in refusal(active(), command)


def test_not_more_than_a_few_wait():
    state = run(active(), *(later(60_000 + n) for n in range(20)), start=20)
    assert "20 moves are scheduled already" in refusal(state, later(), 50)
    assert len(run(state, c.Cancel(at_ms=0, order=25), start=50).scheduled) == 19


# --- cancelling, and how a move ended ---------------------------------------------------------------------------------

MOVE = c.RequestMove(at_ms=0, group="mail", target="n2", expected_epoch=EPOCH)
CANCEL = c.Cancel(at_ms=0, order=20, actor="anna", reason="wrong night")
RELEASED = c.Released(at_ms=0, group="mail", node="n1", epoch=EPOCH)


def test_cancel_before_the_stop_has_ended_and_after():
    stopping = run(active(), MOVE, CANCEL, start=20)
    assert stopping.group("mail").target == "n1"
    idle = run(active(), MOVE, RELEASED, CANCEL, start=20)
    assert idle.group("mail").target == "n1"
    starting = run(active(), MOVE, RELEASED, grant("n2", EPOCH, Evidence.RELEASED), CANCEL, start=20)
    g = starting.group("mail")
    assert (g.phase, g.owner, g.target) == (Phase.STOPPING, "n2", "n1")


def test_a_cancelled_move_says_so_and_leaves_nothing_behind():
    back = grant("n1", EPOCH, Evidence.RELEASED)
    state = run(active(), MOVE, CANCEL, RELEASED, back, c.Started(at_ms=0, group="mail", node="n1", epoch=23), start=20)
    move, g = state.moves[-1], state.group("mail")
    assert (move.result, move.detail) == (
        "cancelled",
        "mail was turned back to n1: anna cancelled the move (wrong night).",
    )
    assert (g.target, g.failed_on, g.move) == (None, (), 0)


def test_what_cannot_be_cancelled():
    assert "turned back already" in refusal(run(active(), MOVE, CANCEL, start=20), CANCEL, 30)
    away = c.SetStandby(at_ms=0, node="n1", standby=True)
    assert "standby" in refusal(run(active(), away, start=20), CANCEL, 30)
    assert "cannot be called back" in refusal(run(active(), failover(), start=20), CANCEL, 30)
    assert "cannot be turned back" in refusal(run(active(), restart(), start=20), CANCEL, 30)
    lost = c.OwnerLost(at_ms=0, group="mail", node="n1", epoch=EPOCH, silent_ms=1000, voters=("n2", "n3"))
    assert "was not ordered" in refusal(run(active(), lost, start=20), CANCEL, 30)
    back = (MOVE, RELEASED, grant("n1", EPOCH, Evidence.RELEASED))
    assert "on its way back to n1 already" in refusal(run(active(), *back, start=20), CANCEL, 30)


def test_after_every_way_a_switchover_may_end_nothing_would_steer_later_placement():
    """The state differs from one where nobody ever ordered anything only by its history."""
    fails = c.StartFailed(at_ms=0, group="mail", node="n2", epoch=22, resource="postfix", clean=True, detail="x")
    for ways in (
        (MOVE, RELEASED, grant("n2", EPOCH, Evidence.RELEASED), started("n2", 22)),
        (
            MOVE,
            RELEASED,
            grant("n2", EPOCH, Evidence.RELEASED),
            fails,
            grant("n1", 22, Evidence.RELEASED),
            started("n1", 24),
        ),
        (MOVE, CANCEL, RELEASED, grant("n1", EPOCH, Evidence.RELEASED), started("n1", 23)),
    ):
        state = run(active(), *ways, start=20)
        g, fresh = state.group("mail"), GroupState()
        steering = ("target", "failed_on", "bans", "restart", "move", "stuck", "maintenance", "pardoned")
        assert [getattr(g, name) for name in steering] == [getattr(fresh, name) for name in steering]
        assert state.scheduled == () and not any(n.standby or n.quarantine for n in state.nodes.values())


def started(node, epoch):
    return c.Started(at_ms=0, group="mail", node=node, epoch=epoch)


def move(**changes):
    base = Move(
        id=1, group="mail", source="n1", target="n2", trigger=Trigger.SWITCHOVER, actor="", reason="",
        started_at_ms=0, asked="n2",
    )  # fmt: skip
    return replace(base, **changes)


FAILED = {"n2": "could not start it (postfix: x)"}


@pytest.mark.parametrize(
    ("changes", "node", "result", "words"),
    [
        ({}, "n2", "done", ""),
        ({"failures": FAILED}, "n1", "rolled back", "mail was rolled back to n1 because n2 could not start it"),
        ({"failures": FAILED}, "n4", "done", "mail runs on n4 and not on n2, because n2 could not start it"),
        ({"cancelled": "anna cancelled the move."}, "n1", "cancelled", "turned back to n1: anna cancelled"),
        ({"cancelled": "anna cancelled the move."}, "n2", "done", ""),
        ({"trigger": Trigger.STANDBY, "asked": None}, "n1", "done", "No other node could take mail"),
        ({"trigger": Trigger.STANDBY, "asked": None, "failures": FAILED}, "n1", "rolled back", "because n2"),
        ({"trigger": Trigger.NODE_LOST, "failures": FAILED}, "n1", "done", ""),
    ],
)
def test_how_a_move_ended(changes, node, result, words):
    found, detail = outcome.ended(move(**changes), "mail", node)
    assert found == result and words in detail and bool(words) == bool(detail)


def test_status_does_not_say_that_a_group_is_where_it_is_since_it_was_ordered_away():
    state = replace(active(), moves=(move(id=7, source="n1", target="n2", failures=FAILED),))
    d = Draft(state, 9, c.Barrier(at_ms=0, node="n1"))
    d.set_group("mail", move=7, reason="kernel")
    d.close_move("mail", "n1")
    assert d.group("mail").reason.startswith("mail was rolled back to n1 because n2 could not start it")


def test_the_reason_of_a_move_stands_by_itself():
    """History said "lease lost: Why: its lease was not renewed in time."."""
    lost = c.Released(at_ms=0, group="mail", node="n1", epoch=10, reason="Why: its lease was not renewed in time.")
    d = Draft(active(), 9, lost)
    d.open_move("mail", Trigger.LEASE_LOST, lost)
    assert d.group("mail").reason == d.finish().moves[-1].reason == "its lease was not renewed in time."


def test_a_state_of_before_can_be_read():
    raw = msgspec.msgpack.decode(msgspec.msgpack.encode(active()))
    del raw["scheduled"]
    for g in raw["groups"].values():
        del g["restart"]
    for m in raw["moves"]:
        for name in ("detail", "asked", "failures", "cancelled"):
            del m[name]
    assert msgspec.convert(raw, ClusterState, strict=False).scheduled == ()


# --- preflight --------------------------------------------------------------------------------------------------------


def look(order, state=None, known=None, report=None, **fields):
    subject = {"node": "n1"} if order == "standby" else {"group": "mail"}
    ask = PreflightAsk(order=order, **{**subject, **fields})
    return preflight.look(state or active(), known or facts(), T, ask, report)


def verdict(found, name):
    return {x.name: x.verdict for x in found.checks}[name]


def test_all_is_well():
    found = look("switchover")
    assert (found.source, found.target, found.refusals, found.warnings) == ("n1", "n2", (), ())
    assert {x.verdict for x in found.checks} == {Verdict.GOOD, Verdict.UNKNOWN}
    assert look("restart", resource="postfix").refusals == ()
    assert look("standby").refusals == look("standby").warnings == ()


def test_a_healthy_owner_is_not_failed_over():
    assert "switchover mail" in look("failover").refusals[0]
    sick = look("failover", known=facts(n1=SICK))
    assert sick.refusals == () and "a confirmed fence of n1 (pdu)" in sick.proof
    assert any("acknowledged" in words for words in sick.loss)
    assert [x.phase for x in sick.budget] == ["fence", "start"]
    hung = replace(facts(), behind_ms={"n1": 60_000})
    assert look("failover", known=hung).refusals == ()
    assert "failover mail" in look("switchover", known=hung).refusals[0]


def test_failover_that_nothing_can_prove_names_the_next_step():
    bare = active(cluster(levels=0))
    (why,) = look("failover", bare, facts(n1=SICK)).refusals
    assert "nothing can prove" in why and "hamailctl fence confirm n1" in why
    nobody = replace(GOOD, fence_ready={})
    alone = look("failover", known=facts(n1=SICK, n2=replace(nobody, ready=False)))
    assert any("no node that is heard could fence it" in x for x in alone.refusals)
    broken = look("failover", known=facts(n1=SICK, n2=replace(GOOD, fence_ready={"pdu": "timed out"})))
    assert broken.refusals == () and "timed out" in broken.warnings[0]
    lease = active(cluster(levels=0, requires=Requirement.LEASE))
    waits = look("failover", lease, facts(n1=SICK))
    assert waits.refusals == () and [x.phase for x in waits.budget] == ["wait", "start"]
    assert waits.budget[0].limit_ms == T.wait_ms


def test_failover_elsewhere_in_its_life():
    assert "nobody holds" in look("failover", began()).refusals[0]
    stopping = run(active(), MOVE, start=20)
    assert "is stopping mail" in look("failover", stopping).refusals[0]
    fencing = run(active(), failover(), start=20)
    assert verdict(look("failover", fencing), "source") is Verdict.GOOD
    assert "failover mail" in look("switchover", fencing).refusals[0]
    assert "hamailctl cancel 20" in look("switchover", stopping).refusals[0]


def test_without_shared_storage_a_failover_says_what_is_lost():
    spec = cluster()
    spec = replace(spec, groups={"mail": replace(spec.groups["mail"], shared_storage=False)})
    assert any("WITHOUT shared storage" in words for words in look("failover", active(spec), facts(n1=SICK)).loss)


def report(present=True, offset_us=0, problem=""):
    storage = {"mail/store": StorageFacts(directory="/srv", device="/dev/lun", present=present)}
    return NodeReport(
        at_ms=0,
        links={"n1": LinkFacts(silent_ms=0, offset_us=offset_us)},
        machine=None if problem else MachineFacts(storage=storage),
        machine_problem=problem,
    )


@pytest.mark.parametrize(
    ("told", "name", "expected"),
    [
        (report(), "storage", Verdict.GOOD),
        (report(present=False), "storage", Verdict.BAD),
        (report(problem="busy"), "storage", Verdict.UNKNOWN),
        (report(), "clock", Verdict.GOOD),
        (report(offset_us=2_000_000), "clock", Verdict.NOTE),
        (report(offset_us=-40_000_000), "clock", Verdict.WARNING),
        (None, "clock", Verdict.UNKNOWN),
    ],
)
def test_what_the_target_tells_of_its_machine(told, name, expected):
    assert verdict(look("switchover", report=told), name) is expected


def test_a_recent_failure_on_the_target_is_a_warning_and_an_old_one_is_none():
    state = active()
    failed = replace(state.group("mail"), failures=(Failure(at_ms=1000, node="n2", resource="postfix"),))
    state = replace(state, groups={"mail": failed})
    (why,) = look("switchover", state, facts(at_ms=60_000)).warnings
    assert "postfix of mail failed on n2" in why and "--force" in why
    assert look("switchover", state, facts(at_ms=2 * 3_600_000)).warnings == ()


def test_a_node_that_was_lost_and_is_back_may_have_the_group():
    """After a power cut and a failover the way back is an ordinary switchover."""
    state = active()
    lost = replace(state.group("mail"), failures=(Failure(at_ms=1000, node="n2"),))
    found = look("switchover", state=replace(state, groups={"mail": lost}))
    assert not found.warnings and not found.refusals


def test_the_fence_device_of_the_target():
    blind = facts(n1=replace(GOOD, fence_ready={"pdu": "timed out"}))
    assert "could not be fenced once it is active" in look("switchover", known=blind).warnings[0]
    assert verdict(look("switchover", known=facts(n1=replace(GOOD, fence_ready={}))), "fence device") is Verdict.UNKNOWN
    assert verdict(look("switchover", active(cluster(levels=0))), "fence device") is Verdict.NOTE


def test_targets_that_cannot():
    assert "already owns mail (name n2; hamailctl status tells who could" in look("switchover", to="n1").refusals[0]
    assert "n2: it is not ready" in look("switchover", known=facts(n2=SICK)).refusals[0]
    refused = look("switchover", to="n3").refusals[0]
    assert "witness" in refused and "(name n1 or n2; hamailctl status tells who could take mail)" in refused
    off = run(active(), c.SetMaintenance(at_ms=0, on=True), start=20)
    for order in ("switchover", "failover", "restart"):
        assert "in maintenance" in look(order, off).refusals[0]
    starting = run(began(), grant())
    assert "still being started" in look("switchover", starting).warnings[0]
    assert "only what is active" in look("restart", starting).refusals[0]


def test_standby_of_the_only_node_that_can_needs_force():
    found = look("standby", known=facts(n2=SICK))
    assert found.refusals == () and "mail would stop" in found.warnings[0]
    assert "witness" in look("standby", node="n3").refusals[0]
    assert any("owns no group" in x.reason for x in look("standby", node="n2").checks)
    assert any("nobody could take mail over from n1" in x.reason for x in look("standby", node="n2").checks)


def test_restart_tells_what_else_is_interrupted():
    assert "postfix, dovecot, address stand on store" in look("restart", resource="store").checks[-1].reason
    assert "nothing stands on address" in look("restart", resource="address").checks[-1].reason
    assert "no resource nosuch" in look("restart", resource="nosuch").refusals[0]
    assert "being restarted already" in look("restart", run(active(), restart(), start=20)).refusals[0]
