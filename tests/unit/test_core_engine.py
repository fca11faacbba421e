"""One engine, driven by hand: what it must never do, and what it must not forget to do."""

import pytest
from msgspec.structs import replace

from hamail.core import effects as fx
from hamail.core.apply import empty_state
from hamail.core.engine import Engine
from hamail.core.local import STOP_RETRY_MS
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.messages import Heartbeat, LeaseAnswer, LeaseRequest, Raft, ReleaseAnswer, ReleaseRequest
from hamail.model.spec import Requirement
from hamail.model.state import Evidence, Incarnation
from hamail.simulation.spec import cluster

MS = 1_000_000
LIFE = Incarnation("boot-1", "x1")


class Bench:
    """n1 with its executor; the test plays the log, the peers and the executor."""

    def __init__(self, requires=Requirement.LEASE, levels=0, *, me="n1"):
        self.spec = cluster(requires=requires, levels=levels)
        self.now = 0
        self.index = 0
        self.e = Engine(me=me, bootstrap=self.spec, source="", barred={}, life="a", now_ns=0)
        self.did: list[fx.Effect] = []
        self.commit(c.ApplyConfig(at_ms=0, spec=self.spec, source="", expected_revision=0))
        self.commit(c.Barrier(at_ms=0, node=me, reason="a"))

    def commit(self, command):
        self.index += 1
        outcome = self.e.apply(self.index, command)
        self.did += self.e.react(self.now * MS, 0)
        return outcome

    def tick(self, ms=50):
        self.now += ms
        self.did += self.e.tick(self.now * MS, 0)

    def notice(self, notice):
        self.did += self.e.notice(notice, self.now * MS, 0)

    def hear(self, sender, message):
        self.did += self.e.message(sender, message, self.now * MS, 0)

    def peers_are_there(self):
        for name in ("n2", "n3"):
            self.hear(name, Heartbeat(sequence=1, incarnation=None, silent_ms={}, applied=0, ready=True))

    def welcome(self, life=LIFE, groups=None, clean=True):
        self.notice(a.Welcome(incarnation=life, groups=groups or {}, watchdog=a.WatchdogStatus(), clean=clean))

    def take(self, kind):
        """Effects of this kind since the last look; for requests and commands, what they carry."""
        found = []
        for effect in self.did:
            inner = getattr(effect, "request", None) or getattr(effect, "command", None)
            inner = inner or getattr(effect, "message", None) or effect
            if isinstance(inner, kind):
                found.append(inner)
        self.did = [] if kind is fx.Effect else self.did
        return found

    def forget(self):
        self.did = []

    def joined(self):
        self.peers_are_there()
        self.welcome()
        self.tick()
        join = self.take(c.Join)[-1]
        assert self.commit(join).accepted
        return self

    def granted(self):
        command = c.Grant(at_ms=0, group="mail", node="n1", expected_epoch=0, evidence=Evidence.NEVER_OWNED)
        assert self.commit(command).accepted
        self.epoch = self.index
        return self

    def leased(self):
        """A voter promises what was asked for last."""
        request = self.take(LeaseRequest)[-1]
        self.hear("n2", LeaseAnswer(group="mail", epoch=self.epoch, nonce=request.nonce, promised=True))
        return self

    def up(self):
        self.notice(a.GroupUp(group="mail", epoch=self.epoch, took_ms=1))
        self.commit(self.take(c.Started)[-1])
        self.forget()
        return self


def test_a_group_starts_only_with_a_lease():
    b = Bench().joined().granted()
    assert not b.take(a.StartGroup)
    b.leased()
    start = b.take(a.StartGroup)[-1]
    assert start.epoch == b.epoch
    assert start.soft_ns < start.hard_ns <= (b.now + b.e.timings.lease_ms) * MS


def test_nothing_starts_under_the_grant_of_an_earlier_life():
    b = Bench().joined().granted()
    b.forget()
    b.welcome(replace(LIFE, executor_id="x2"))
    b.tick(1000)
    request = b.take(LeaseRequest)[-1]
    b.hear("n2", LeaseAnswer(group="mail", epoch=b.epoch, nonce=request.nonce, promised=True))
    b.tick()
    assert not b.take(a.StartGroup)
    assert b.take(c.Join), "it joins anew instead"


def test_a_reported_end_is_final():
    b = Bench().joined().granted().leased()
    b.notice(a.GroupDown(group="mail", epoch=b.epoch, took_ms=1))
    assert b.take(c.Released)
    b.forget()
    for _ in range(40):
        b.tick()
    assert not b.take(a.StartGroup)


def test_a_refused_start_is_verified_before_it_is_reported():
    b = Bench().joined().granted().leased()
    b.notice(a.Refused(id=b.take(a.StartGroup)[-1].id, why="no such agent"))
    assert not b.take(c.StartFailed)
    assert b.take(a.StopGroup)
    b.notice(a.GroupDown(group="mail", epoch=b.epoch, took_ms=1))
    failed = b.take(c.StartFailed)[-1]
    assert failed.clean
    assert "no such agent" in failed.detail


def test_a_refused_start_with_leftovers_is_not_clean():
    b = Bench().joined().granted().leased()
    b.notice(a.Refused(id=b.take(a.StartGroup)[-1].id, why="held under another epoch"))
    b.notice(a.GroupStopFailed(group="mail", epoch=b.epoch, resource="store", detail="busy"))
    assert not b.take(c.StartFailed)[-1].clean


def test_a_refused_stop_is_asked_for_again():
    b = Bench().joined().granted().leased().up()
    b.commit(c.SetStandby(at_ms=0, node="n1", standby=True))
    b.notice(a.Refused(id=b.take(a.StopGroup)[-1].id, why="maintenance is on"))
    b.forget()
    b.tick(STOP_RETRY_MS - 100)
    assert not b.take(a.StopGroup)
    b.tick(200)
    assert b.take(a.StopGroup)


def test_reports_are_repeated_until_the_log_knows():
    b = Bench().joined().granted().leased()
    b.notice(a.GroupUp(group="mail", epoch=b.epoch, took_ms=1))
    key = f"started mail {b.epoch}"
    b.e.proposed(key, c.Unknown(why="no leader"))
    b.forget()
    b.tick()
    assert b.take(c.Started)
    b.commit(b.take(c.Started)[-1])
    b.e.proposed(key, c.Outcome(index=b.index, accepted=True))
    b.forget()
    b.tick()
    assert not b.take(c.Started)


def test_what_was_refused_is_not_asked_for_at_every_tick():
    b = Bench()
    b.peers_are_there()
    b.welcome()
    b.tick()
    b.e.proposed("join x1 0", c.Outcome(index=5, accepted=False, reasons=("no",)))
    b.forget()
    b.tick()
    assert not b.take(c.Join)
    b.tick(1000)
    assert b.take(c.Join)


def test_a_silent_executor_counts_as_a_failed_stop():
    b = Bench().joined().granted().leased().up()
    b.did += b.e.executor_lost(b.now * MS, 0)
    b.tick(b.e.timings.lease_ms - 100)
    assert not b.take(c.StopFailed)
    b.tick(300)
    assert "executor" in b.take(c.StopFailed)[-1].detail


def test_a_lost_report_of_a_failed_stop_is_made_up_for():
    b = Bench().joined().granted().leased().up()
    b.welcome(groups={"mail": a.GroupStatus(epoch=b.epoch, state="stop_failed")})
    b.tick()
    assert b.take(c.StopFailed)


@pytest.mark.parametrize("how", ["stopping", "stop_failed"])
def test_a_grant_on_top_of_what_cannot_be_stopped_is_reported_and_can_be_cleared(how):
    """It cannot be started before that has gone: to wait without a word would be for ever."""
    b = Bench().joined()
    b.welcome(groups={"mail": a.GroupStatus(epoch=1, state=how)})
    assert b.e.local.why_passive(), "it is no candidate"
    b.granted().leased()
    b.notice(a.GroupStopFailed(group="mail", epoch=1, resource="store", detail="busy"))
    b.tick()
    assert not b.take(a.StartGroup)
    failed = next(f for f in b.take(c.StopFailed) if f.epoch == b.epoch)
    assert b.commit(failed).accepted and b.e.state.group("mail").stuck
    b.forget()
    assert b.commit(c.Clear(at_ms=0, group="mail", actor="anna")).accepted
    b.tick()
    assert b.take(a.StopGroup)[-1].epoch == b.epoch
    b.notice(a.GroupDown(group="mail", epoch=b.epoch, took_ms=1))
    assert b.take(c.Released) and not b.e.local.held


def test_every_yes_is_saved_before_it_is_said():
    b = Bench(me="n3")
    b.index = 10
    for node in ("n1", "n2"):
        b.commit(c.Join(at_ms=0, node=node, incarnation=Incarnation(node, "x")))
    b.commit(c.Grant(at_ms=0, group="mail", node="n1", expected_epoch=0, evidence=Evidence.NEVER_OWNED))
    epoch = b.index
    b.commit(c.OwnerLost(at_ms=0, group="mail", node="n1", epoch=epoch, silent_ms=1, voters=("n2", "n3")))
    for _ in range(2):  # also when it is asked for again
        b.now += 20_000
        b.forget()
        b.hear("n2", ReleaseRequest(group="mail", epoch=epoch))
        kinds = [type(getattr(x, "message", x)) for x in b.did]
        assert kinds == [fx.SaveBarred, ReleaseAnswer]
        assert b.did[0].barred == {"mail": epoch}


def test_a_node_with_another_list_of_nodes_is_passive():
    b = Bench()
    other = Engine(me="n1", bootstrap=cluster(("n1",), ("n3",)), source="", barred={}, life="b", now_ns=0)
    assert not other.problem
    other.restore(b.e.state)
    assert "n2" in other.problem
    other.restore(empty_state())
    assert other.problem, "it stays passive"


def test_a_voter_that_has_lost_its_memory_promises_nothing():
    """It may have barred this epoch, and have forgotten that with the rest of its disk."""
    b = Bench().joined().granted().leased().up()
    request = LeaseRequest(group="mail", epoch=b.epoch, nonce=1)
    for rejoining in (True, False):
        b.forget()
        b.e.rejoining = rejoining
        b.hear("n2", request)
        assert any(isinstance(x, fx.Send) and isinstance(x.message, LeaseAnswer) for x in b.did) is not rejoining


def test_a_passive_node_promises_and_says_nothing():
    b = Bench().joined().granted().leased().up()
    b.e.fail("the journal is damaged")
    b.tick()
    assert b.take(a.StopGroup), "it gives up what it holds"
    b.forget()
    b.hear("n2", LeaseRequest(group="mail", epoch=b.epoch, nonce=1))
    b.hear("n2", ReleaseRequest(group="mail", epoch=b.epoch))
    b.tick(5000)
    assert not [x for x in b.did if isinstance(x, fx.Send | fx.SaveBarred)]


def test_a_switch_is_in_force_only_when_nothing_is_left_over():
    b = Bench().joined().granted().leased().up()
    b.commit(c.SetMaintenance(at_ms=0, on=True))
    b.welcome(replace(LIFE, executor_id="x2"), clean=False)  # replaced during maintenance
    b.commit(c.SetMaintenance(at_ms=0, on=False))
    b.forget()
    b.tick(1000)
    assert not b.take(c.AckMaintenance), "its leftovers run under no switch"
    b.notice(a.Cleaned(ok=True))
    b.tick(1000)
    assert b.commit(b.take(c.Join)[-1]).accepted
    assert "n1" not in b.e.state.maintenance.suspended


def test_a_failure_told_in_doubt_is_told_again_when_the_owner_keeps_the_group():
    b = Bench().joined().granted().leased().up()
    b.peers_are_there()
    lost = c.OwnerLost(at_ms=0, group="mail", node="n1", epoch=b.epoch, silent_ms=1, voters=("n2", "n3"))
    assert b.commit(lost).accepted
    failed = c.Failed(at_ms=0, group="mail", node="n1", epoch=b.epoch, resource="postfix", detail="x")
    b.e.local.reports.tell("failed", failed)
    b.e.proposed("failed", b.commit(failed))
    b.forget()
    b.tick(1000)
    assert not b.take(c.Failed), "it would be refused again"
    b.commit(c.OwnerBack(at_ms=0, group="mail", node="n1", epoch=b.epoch))
    b.tick(1000)
    assert b.take(c.Failed)


def status(b):
    return b.e.local.held["mail"]


def test_late_words_about_another_grant_change_nothing():
    b = Bench().joined().granted().leased().up()
    before = status(b)
    old = b.epoch - 1
    b.notice(a.ResourceUp(group="mail", epoch=old, resource="postfix", agent="x", at_ms=0, took_ms=1))
    b.notice(a.GroupUp(group="mail", epoch=old, took_ms=1))
    b.notice(a.GroupUp(group="lists", epoch=b.epoch, took_ms=1))
    b.tick(1000)
    assert status(b) == before and "lists" not in b.e.local.held
    assert not b.take(c.Started)


def test_a_group_that_comes_up_while_it_is_being_stopped_is_still_being_stopped():
    b = Bench().joined().granted().leased()
    b.commit(c.SetStandby(at_ms=0, node="n1", standby=True))
    b.tick()
    assert b.take(a.StopGroup)
    b.notice(a.GroupUp(group="mail", epoch=b.epoch, took_ms=1))
    assert status(b).state == "stopping"


def test_a_start_of_which_nothing_is_known_is_stopped():
    b = Bench().joined().granted().leased()
    assert b.take(a.StartGroup)
    del b.e.local.held["mail"]
    b.forget()
    b.tick()
    assert "nothing is known" in b.take(a.StopGroup)[-1].why
    b.notice(a.GroupDown(group="mail", epoch=b.epoch, took_ms=1))
    assert b.take(c.Released)


def test_a_refused_stop_of_what_is_not_held_is_asked_for_again():
    b = Bench().joined().granted().leased()
    del b.e.local.held["mail"]
    b.tick()
    asked = b.take(a.StopGroup)[-1]
    b.notice(a.Refused(id=asked.id, why="busy"))
    assert "mail" not in b.e.local.held
    b.forget()
    b.tick(STOP_RETRY_MS)
    assert b.take(a.StopGroup)


def test_a_refused_fence_is_a_failed_one():
    b = Bench(Requirement.FENCING, levels=1).joined()
    b.peers_are_there()
    assert b.commit(c.Join(at_ms=0, node="n2", incarnation=Incarnation("boot-2", "x2"))).accepted
    granted = c.Grant(at_ms=0, group="mail", node="n2", expected_epoch=0, evidence=Evidence.NEVER_OWNED)
    assert b.commit(granted).accepted
    lost = c.OwnerLost(at_ms=0, group="mail", node="n2", epoch=b.index, silent_ms=1, voters=("n1", "n3"))
    assert b.commit(lost).accepted
    assert b.commit(c.OrderFence(at_ms=0, target="n2", device="pdu", by="n1")).accepted
    b.tick()
    run = b.take(a.RunFence)[-1]
    b.notice(a.Refused(id=run.id, why="16 fences are running already"))
    told = b.take(c.FenceDone)[-1]
    assert (told.order, told.ok, told.detail) == (run.order, False, "16 fences are running already")


def notes(b):
    return [x.text for x in b.did if isinstance(x, fx.Note)]


@pytest.mark.parametrize(
    ("removed", "said"),
    [(True, "192.0.2.9 of mail was found here"), (False, "192.0.2.9 of mail was found here, and stays")],
)
def test_what_was_found_where_it_should_not_be_is_told(removed, said):
    b = Bench().joined()
    b.notice(a.Stray(group="mail", what="192.0.2.9", removed=removed))
    assert said in notes(b)


def test_why_a_watchdog_is_not_armed_is_told():
    b = Bench()
    b.notice(
        a.Welcome(incarnation=LIFE, groups={}, watchdog=a.WatchdogStatus(detail="/dev/watchdog is busy"), clean=True)
    )
    assert "/dev/watchdog is busy" in notes(b)


def test_messages_of_the_log_are_not_for_the_engine():
    with pytest.raises(AssertionError, match="consensus adapter"):
        Bench().hear("n2", Raft(payload=b""))
