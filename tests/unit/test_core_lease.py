"""The lease protocol, one rule a test."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
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


def test_a_lease_needs_a_majority_of_answers():
    first, request = lease.ask(Ownership(group="mail", epoch=10), 0, T)
    good = LeaseAnswer(group="mail", epoch=10, nonce=request.nonce, promised=True)
    once = lease.receive(first, "n1", good, 2, T)
    assert lease.receive(once, "n1", good, 2, T).until_ns == 0, "the same voter twice"
    for wrong in (replace(good, epoch=9), replace(good, nonce=7), replace(good, promised=False)):
        assert lease.receive(once, "n2", wrong, 2, T).until_ns == 0, wrong


def answered(o, voter, request, majority=2, timings=T):
    answer = LeaseAnswer(group="mail", epoch=10, nonce=request.nonce, promised=True)
    return lease.receive(o, voter, answer, majority, timings)


def test_answers_that_are_slower_than_the_next_request_still_count():
    """On a slow link every answer is late; the lease then counts from before the request that it answers."""
    o = Ownership(group="mail", epoch=10)
    requests = []
    for number in range(1, 30):
        o, request = lease.ask(o, number * T.renew_ms * MS, T)
        o = answered(o, "n1", request)
        requests.append(request)
        if number > 3:
            o = answered(o, "n2", requests[number - 4])
            assert o.until_ns == ((number - 3) * T.renew_ms + T.lease_ms) * MS


def test_a_lease_counts_from_the_request_that_a_majority_upholds():
    o, first = lease.ask(Ownership(group="mail", epoch=10), 10 * MS, T)
    o, second = lease.ask(o, 20 * MS, T)
    o, third = lease.ask(o, 30 * MS, T)
    o = answered(answered(o, "n1", third), "n2", first)
    assert o.until_ns == (10 + T.lease_ms) * MS, "n1 has promised a later one, and so no less"
    o = answered(o, "n3", second)
    assert o.until_ns == (20 + T.lease_ms) * MS
    assert answered(o, "n2", first).until_ns == o.until_ns, "an old answer takes nothing away"


def test_a_lease_is_no_longer_than_the_shortest_asked_for_since():
    """`detection` was lowered in between: the later promise lasts for the shorter time only."""
    long, short = derive(10_000, 5), derive(1000, 5)
    o, first = lease.ask(Ownership(group="mail", epoch=10), 10 * MS, long)
    o, second = lease.ask(o, 20 * MS, short)
    o = answered(answered(o, "n1", first, timings=long), "n2", second, timings=long)
    assert o.until_ns == (10 + short.lease_ms) * MS


def test_an_answer_to_a_request_that_is_forgotten_says_nothing():
    o, first = lease.ask(Ownership(group="mail", epoch=10), 10 * MS, T)
    o = answered(o, "n1", first)
    for number in range(lease.REQUESTS_KEPT):
        o, _ = lease.ask(o, (20 + number) * MS, T)
    assert len(o.asked) == lease.REQUESTS_KEPT
    assert answered(o, "n2", first).until_ns == 0


@given(data=st.data())
def test_no_lease_outlives_the_promises_of_a_majority(data):
    """Answers in any order and lost, detection changed in between: while a lease lives, a majority is bound to it."""
    o, now, bound, sent = Ownership(group="mail", epoch=10), 0, dict.fromkeys(("n1", "n2", "n3"), 0), []
    for _ in range(data.draw(st.integers(1, 25))):
        now += data.draw(st.integers(1, 3000)) * MS
        t = derive(data.draw(st.sampled_from((300, 1000, 4000))), 5)
        match data.draw(st.sampled_from(("ask", "promise", "hear", "hear"))):
            case "ask":
                o, request = lease.ask(o, now, t)
                sent += [("to", voter, request) for voter in bound]
            case "promise" if to := [x for x in sent if x[0] == "to"]:
                _, voter, request = said = data.draw(st.sampled_from(to))
                sent.remove(said)
                bound[voter] = max(bound[voter], now + request.wait_ms * MS)
                sent.append(("from", voter, request))
            case "hear" if back := [x for x in sent if x[0] == "from"]:
                _, voter, request = said = data.draw(st.sampled_from(back))
                o = answered(o, voter, request, timings=t)
                if data.draw(st.booleans()):
                    sent.remove(said)
            case _:
                pass
        assert sum(until >= o.until_ns for until in bound.values()) >= 2


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
