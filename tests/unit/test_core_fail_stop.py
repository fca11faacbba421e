"""A node that has failed takes no part; it calls no watchdog armed that is not; maintenance leaves things alone."""

import msgspec

from hamail.core.effects import Ask
from hamail.core.engine import Engine
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.messages import LeaseAnswer, LeaseRequest
from hamail.model.state import Evidence, Incarnation
from hamail.simulation.spec import cluster

MS = 1_000_000
INCARNATION = Incarnation(boot_id="b", executor_id="x")


def ready(watchdog: a.WatchdogStatus = a.WatchdogStatus()) -> Engine:
    """n1, caught up, connected to its executor and joined."""
    spec = cluster()
    engine = Engine(me="n1", bootstrap=spec, source="", barred={}, life="1", now_ns=0)
    engine.apply(1, c.ApplyConfig(at_ms=0, spec=spec, source="", expected_revision=0))
    engine.apply(2, c.Barrier(at_ms=0, node="n1", reason="1"))
    welcome = a.Welcome(incarnation=INCARNATION, groups={}, watchdog=watchdog, clean=True)
    engine.notice(welcome, 10 * MS, 0)
    engine.apply(3, c.Join(at_ms=0, node="n1", incarnation=INCARNATION))
    return engine


def granted(engine: Engine) -> LeaseRequest:
    """mail is n1's; the request for its first lease."""
    engine.apply(4, c.Grant(at_ms=0, group="mail", node="n1", expected_epoch=0, evidence=Evidence.NEVER_OWNED))
    sent = [e.message for e in engine.react(20 * MS, 0) if hasattr(e, "message")]
    return next(m for m in sent if isinstance(m, LeaseRequest))


def starts(effects) -> list[a.StartGroup]:
    return [e.request for e in effects if isinstance(e, Ask) and isinstance(e.request, a.StartGroup)]


def promise(request: LeaseRequest) -> LeaseAnswer:
    return LeaseAnswer(group="mail", epoch=request.epoch, nonce=request.nonce, promised=True)


def test_the_first_lease_starts_the_group():
    engine = ready()
    assert starts(engine.message("n2", promise(granted(engine)), 25 * MS, 0))


def test_a_lease_that_comes_after_a_failure_starts_nothing():
    engine = ready()
    request = granted(engine)
    engine.fail("the journal cannot be written")
    assert not starts(engine.message("n2", promise(request), 25 * MS, 0))


def test_a_watchdog_slower_than_the_others_believe_is_not_armed():
    """Drivers round the time-out to what they can; the others wait for the configured one."""
    exact = a.WatchdogStatus(device="/dev/watchdog", armed=True, timeout_s=5)
    assert ready(exact).facts().node("n1").watchdog_armed
    slow = msgspec.structs.replace(exact, timeout_s=30)
    engine = ready(slow)
    assert not engine.facts().node("n1").watchdog_armed
    joins = [e.command for e in _rejoin(slow) if isinstance(getattr(e, "command", None), c.Join)]
    assert [j.watchdog_armed for j in joins] == [False]


def _rejoin(watchdog: a.WatchdogStatus):
    engine = ready()
    engine.proposed("join", c.Outcome(index=3, accepted=True))
    other = Incarnation(boot_id="b", executor_id="y")
    return engine.notice(a.Welcome(incarnation=other, groups={}, watchdog=watchdog, clean=True), 30 * MS, 0)


def test_an_executor_replaced_during_maintenance_is_not_asked_to_clean_up():
    """It would stop what runs, which maintenance promises not to do; it is asked when maintenance is over."""
    engine = ready()
    engine.apply(4, c.SetMaintenance(at_ms=0, on=True))
    other = Incarnation(boot_id="b", executor_id="y")

    def asked(effects) -> list[type]:
        return [type(e.request) for e in effects if isinstance(e, Ask)]

    fresh = asked(engine.notice(a.Welcome(incarnation=other, groups={}, watchdog=WD, clean=False), 30 * MS, 0))
    assert a.CleanUp not in fresh
    assert a.Maintain in fresh
    engine.notice(a.Accepted(id=_last_maintain(engine)), 31 * MS, 0)
    engine.apply(5, c.SetMaintenance(at_ms=0, on=False))
    ended = asked(engine.react(2000 * MS, 0))
    assert a.Maintain in ended
    assert a.CleanUp not in ended  # the executor would refuse it
    assert a.CleanUp in asked(engine.notice(a.Accepted(id=_last_maintain(engine)), 2001 * MS, 0))


WD = a.WatchdogStatus()


def _last_maintain(engine: Engine) -> int:
    return max(i for i, r in engine.local._pending.items() if isinstance(r, a.Maintain))


def test_what_an_operator_has_repaired_during_maintenance_is_left_alone():
    engine = ready()
    request = granted(engine)
    engine.message("n2", promise(request), 25 * MS, 0)
    engine.notice(a.GroupUp(group="mail", epoch=4, took_ms=1), 26 * MS, 0)
    engine.apply(5, c.Started(at_ms=0, group="mail", node="n1", epoch=4))
    engine.apply(6, c.SetMaintenance(at_ms=0, on=True))
    failed = a.ResourceFailed(group="mail", epoch=4, resource="postfix", detail="an administrator at work")
    engine.notice(failed, 27 * MS, 0)
    up = a.ResourceUp(group="mail", epoch=4, resource="postfix", agent="hamail:postfix", at_ms=0, took_ms=0)
    engine.notice(up, 28 * MS, 0)
    engine.apply(7, c.SetMaintenance(at_ms=0, on=False))
    asked = [e.request for e in engine.react(29 * MS, 0) if isinstance(e, Ask)]
    assert not [r for r in asked if isinstance(r, a.RestartResource)]
    again = [e.request for e in engine.notice(failed, 30 * MS, 0) if isinstance(e, Ask)]
    assert [r.resource for r in again if isinstance(r, a.RestartResource)] == ["postfix"]


def test_an_acknowledgement_of_an_earlier_maintenance_does_not_count():
    """An operator who waits for it would begin to work on a node whose dead-man's switch is in force."""
    engine = ready()
    engine.apply(4, c.SetMaintenance(at_ms=0, on=True))
    engine.apply(5, c.SetMaintenance(at_ms=0, on=False))
    engine.apply(6, c.SetMaintenance(at_ms=0, on=True))
    assert not engine.apply(7, c.AckMaintenance(at_ms=0, node="n1", since=4)).accepted
    assert engine.apply(8, c.AckMaintenance(at_ms=0, node="n1", since=6)).accepted
    assert engine.state.maintenance.acknowledged == ("n1",)


def test_a_late_word_about_an_earlier_epoch_says_nothing_about_the_present_one():
    """Taken for the present one, it would have a healthy owner fenced, or stopped."""
    engine = ready()
    request = granted(engine)
    engine.message("n2", promise(request), 25 * MS, 0)
    engine.notice(a.GroupUp(group="mail", epoch=4, took_ms=1), 26 * MS, 0)
    engine.apply(5, c.Started(at_ms=0, group="mail", node="n1", epoch=4))
    for late in (
        a.GroupStopFailed(group="mail", epoch=3, resource="", detail="late"),
        a.GroupStartFailed(group="mail", epoch=3, resource="", detail="late", clean=True),
        a.DeadlinePassed(group="mail", epoch=3),
    ):
        engine.notice(late, 27 * MS, 0)
        assert engine.local.held["mail"].state == "up"
