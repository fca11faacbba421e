"""The lease protocol, one rule a test."""

import pytest
from msgspec.structs import replace

from hamail.core import lease
from hamail.core.lease import MS, Ownership, Voter
from hamail.core.timing import derive
from hamail.model import commands as c
from hamail.model.messages import LeaseAnswer, LeaseRequest, ReleaseRequest
from hamail.model.spec import Requirement
from hamail.simulation.spec import cluster
from tests.unit.test_core_apply import LOST, active, run

T = derive(1000, 5)
HELD = active(cluster(requires=Requirement.LEASE, levels=0))
WAITING = run(HELD, LOST, start=20)
ASK = LeaseRequest(group="mail", epoch=10, nonce=1, wait_ms=T.wait_ms)
RELEASE = ReleaseRequest(group="mail", epoch=10)
READY = Voter(started_ns=0, past_barrier=True)
LATER = T.wait_ms * MS  # the hold after a start is over


def promised(voter=READY, now_ns=LATER, request=ASK):
    after, answer = lease.consider(voter, HELD, "n1", request, now_ns, T)
    assert answer.promised, answer.why
    return after


def yes(voter, now_ns, state=WAITING):
    return lease.release(voter, state, RELEASE, now_ns, T.wait_ms)[1].yes


def test_a_lease_counts_from_before_the_request():
    o, request = lease.ask(Ownership(group="mail", epoch=10), 5 * MS, T)
    for voter in ("n1", "n2"):
        answer = LeaseAnswer(group="mail", epoch=10, nonce=request.nonce, promised=True)
        o = lease.receive(o, voter, answer, 2, T)
    assert o.until_ns == 5 * MS + T.lease_ms * MS


def test_a_lease_needs_a_majority_of_answers_to_one_request():
    first, request = lease.ask(Ownership(group="mail", epoch=10), 0, T)
    good = LeaseAnswer(group="mail", epoch=10, nonce=request.nonce, promised=True)
    once = lease.receive(first, "n1", good, 2, T)
    assert lease.receive(once, "n1", good, 2, T).until_ns == 0, "the same voter twice"
    for wrong in (replace(good, epoch=9), replace(good, nonce=7), replace(good, promised=False)):
        assert lease.receive(once, "n2", wrong, 2, T).until_ns == 0, wrong
    second, _ = lease.ask(once, 10 * MS, T)
    assert lease.receive(second, "n2", good, 2, T).until_ns == 0, "an answer to the request before"


def test_the_first_lease_is_asked_for_more_often():
    asked, _ = lease.ask(Ownership(group="mail", epoch=10), 0, T)
    assert lease.due(asked, lease.FIRST_RETRY_MS * MS, T)
    assert not lease.due(replace(asked, until_ns=1), lease.FIRST_RETRY_MS * MS, T)
    assert not lease.due(replace(asked, tries=20), (T.renew_ms - 1) * MS, T)


@pytest.mark.parametrize(
    ("voter", "state", "sender", "request_", "why"),
    [
        (replace(READY, past_barrier=False), HELD, "n1", ASK, "just started"),
        (READY, HELD, "n2", ASK, "not n2's"),
        (READY, HELD, "n1", replace(ASK, epoch=9), "not n1's"),
        (READY, HELD, "n1", replace(ASK, group="none"), "not n1's"),
        (READY, WAITING, "n1", ASK, "being taken"),
        (replace(READY, barred={"mail": 10}), HELD, "n1", ASK, "over"),
    ],
)
def test_when_a_voter_promises_nothing(voter, state, sender, request_, why):
    after, answer = lease.consider(voter, state, sender, request_, LATER, T)
    assert not answer.promised
    assert why in answer.why
    assert after == voter


def test_a_promise_must_run_out_before_a_yes():
    voter = promised()
    assert not yes(voter, LATER + T.wait_ms * MS - 1)
    assert yes(voter, LATER + T.wait_ms * MS)


def test_a_promise_lasts_as_long_as_an_owner_with_older_timings_needs():
    voter = promised(request=replace(ASK, wait_ms=3 * T.wait_ms))
    assert not yes(voter, LATER + 3 * T.wait_ms * MS - 1)
    shorter = promised(voter, LATER + 1)
    assert not yes(shorter, LATER + 3 * T.wait_ms * MS - 1), "a promise is never shortened"


def test_a_restarted_voter_holds():
    fresh = Voter(started_ns=LATER, past_barrier=True)
    assert not yes(fresh, LATER + T.wait_ms * MS - 1)
    assert yes(fresh, LATER + T.wait_ms * MS)
    assert not lease.release(fresh, WAITING, RELEASE, LATER + T.wait_ms * MS, 2 * T.wait_ms)[1].yes


def test_a_yes_bars_the_epoch_for_good():
    after, answer = lease.release(READY, WAITING, RELEASE, LATER, T.wait_ms)
    assert answer.yes
    assert after.barred == {"mail": 10}
    assert not lease.consider(after, HELD, "n1", ASK, LATER, T)[1].promised
    newer = replace(after, barred={"mail": 12})
    assert lease.release(newer, WAITING, RELEASE, LATER, T.wait_ms)[0].barred == {"mail": 12}


def test_no_yes_where_it_would_prove_nothing():
    assert not yes(READY, LATER, state=HELD)
    assert not yes(replace(READY, past_barrier=False), LATER)
    assert not yes(READY, LATER, state=run(active(), LOST, start=20)), "it requires a fence"
    stuck = c.StopFailed(at_ms=0, group="mail", node="n1", epoch=10, resource="store", detail="busy")
    assert not yes(READY, LATER, state=run(HELD, stuck, start=20))


def test_any_renewal_majority_and_any_release_majority_share_a_voter():
    """Three voters in every order of renewal and release: never a majority for both."""
    for released in range(8):
        voters = {}
        for i, name in enumerate(("n1", "n2", "n3")):
            said, _ = lease.release(READY, WAITING, RELEASE, LATER, T.wait_ms)
            voters[name] = said if released >> i & 1 else READY
        renewals = sum(lease.consider(v, HELD, "n1", ASK, LATER, T)[1].promised for v in voters.values())
        releases = released.bit_count()
        assert not (renewals >= 2 and releases >= 2)
