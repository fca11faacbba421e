"""A service fails: restarted in place, left alone, or the group moves."""

from msgspec.structs import replace

from hamail.core.repairs import PAUSE_MS
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.state import Incarnation
from tests.unit.test_core_engine import LIFE, Bench


def up():
    return Bench().joined().granted().leased().up()


def fails(b, detail="it ended by signal 9", resource="postfix", fatal=False):
    b.notice(a.ResourceFailed(group="mail", epoch=b.epoch, resource=resource, detail=detail, fatal=fatal))


def restarted(b, ok, detail="", resource="postfix"):
    b.notice(a.ResourceRestarted(group="mail", epoch=b.epoch, resource=resource, ok=ok, detail=detail))


def asked(b):
    return [r.resource for r in b.take(a.RestartResource)]


def n2_joins(b):
    life = Incarnation("boot-2", "x2")
    assert b.commit(c.Join(at_ms=0, node="n2", incarnation=life, after=0, cleaned={"mail": b.index})).accepted


def test_restarted_in_place_and_told():
    b = up()
    fails(b)
    assert asked(b) == ["postfix"]
    b.forget()
    fails(b, "told twice")  # it is being restarted: its end will be told
    assert asked(b) == []
    restarted(b, ok=True)
    (told,) = b.take(c.Restarted)
    assert told.detail == "it ended by signal 9" and told.count == 1


def test_a_restart_that_fails_keeps_the_first_cause():
    b = up()
    fails(b)
    b.forget()
    restarted(b, ok=False, detail="it exited with code 1")
    b.tick(PAUSE_MS)
    assert asked(b) == ["postfix"], "nobody else could take the group, so it is tried here again"
    b.forget()
    restarted(b, ok=False, detail="it exited with code 2")
    b.tick(PAUSE_MS)
    assert b.e.local.repairs._why["mail", "postfix"] == "it ended by signal 9; restart failed: it exited with code 2"


def test_it_pauses_between_restarts_when_nobody_else_could_take_the_group():
    b = up()
    for _ in range(3):
        fails(b)
        restarted(b, ok=True)
    b.forget()
    fails(b)
    assert asked(b) == []
    b.tick(PAUSE_MS - 100)
    assert asked(b) == []
    b.tick(200)
    assert asked(b) == ["postfix"]


def test_the_group_moves_after_the_allowed_restarts():
    b = up()
    n2_joins(b)
    for _ in range(3):
        fails(b)
        restarted(b, ok=True)
    b.forget()
    fails(b)
    assert asked(b) == []
    (failed,) = b.take(c.Failed)
    assert failed.node == "n1" and "restarted 3 times" in failed.detail


def test_a_resource_that_is_not_critical_moves_nothing():
    b = Bench()
    mail = b.spec.groups["mail"]
    lesser = tuple(r if r.name != "dovecot" else _not_critical(r) for r in mail.resources)
    _configure(b, lesser)
    b = b.joined().granted().leased().up()
    n2_joins(b)
    fails(b, resource="dovecot", fatal=True)
    assert asked(b) == ["dovecot"] and not b.take(c.Failed)


def _not_critical(resource):
    return replace(resource, critical=False)


def _configure(b, resources):
    spec = replace(b.spec, groups={"mail": replace(b.spec.groups["mail"], resources=resources)})
    assert b.commit(c.ApplyConfig(at_ms=0, spec=spec, source="", expected_revision=1)).accepted
    b.spec = spec


def test_what_works_again_by_itself_is_left_alone():
    b = up()
    b.commit(c.SetMaintenance(at_ms=0, on=True))
    fails(b)
    assert asked(b) == []
    b.notice(a.ResourceUp(group="mail", epoch=b.epoch, resource="postfix", agent="hamail:postfix", at_ms=0, took_ms=1))
    b.commit(c.SetMaintenance(at_ms=0, on=False))
    b.tick()
    assert asked(b) == []


def test_a_failure_of_an_epoch_that_is_over_is_forgotten():
    b = up()
    b.commit(c.SetMaintenance(at_ms=0, on=True))
    fails(b)
    b.notice(a.GroupDown(group="mail", epoch=b.epoch, took_ms=1))
    b.commit(c.SetMaintenance(at_ms=0, on=False))
    b.tick()
    assert asked(b) == [] and not b.e.local.repairs._broken


def test_a_late_word_about_another_epoch_means_nothing():
    b = up()
    b.notice(a.ResourceFailed(group="mail", epoch=b.epoch - 1, resource="postfix", detail="long ago"))
    b.notice(a.ResourceFailed(group="other", epoch=b.epoch, resource="postfix", detail="elsewhere"))
    assert asked(b) == []


def test_a_failure_that_an_earlier_hamaild_was_told_of_is_still_one():
    b = up()
    found = a.GroupStatus(epoch=b.epoch, state="up", resources={"postfix": "failed"}, soft_ns=0, hard_ns=0)
    b.welcome(LIFE, groups={"mail": found})
    assert asked(b) == ["postfix"]
    restarted(b, ok=True)
    assert b.take(c.Restarted)[-1].detail == "it had failed before hamaild was restarted"


def test_a_refused_restart_counts_as_a_failed_one():
    b = up()
    fails(b)
    request = b.take(a.RestartResource)[-1]
    b.forget()
    b.notice(a.Refused(id=request.id, why="the group is being stopped"))
    b.tick(PAUSE_MS)
    assert asked(b) == ["postfix"]
    assert b.e.local.repairs._why["mail", "postfix"].endswith("the group is being stopped")


def test_what_fails_of_a_group_that_has_left_the_configuration_is_not_repaired():
    b = up()
    fails_later = a.ResourceFailed(group="mail", epoch=b.epoch, resource="postfix", detail="x", fatal=False)
    b.e.state = replace(b.e.state, spec=replace(b.e.state.spec, groups={}))
    b.notice(fails_later)
    b.tick(PAUSE_MS)
    assert asked(b) == [] and not b.take(c.Failed)
