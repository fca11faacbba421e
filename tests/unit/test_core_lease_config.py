"""A lease is as long as the promises it rests on, also when `detection` changes between question and answer."""

from hamail.core import lease
from hamail.core.timing import derive
from hamail.model.messages import LeaseAnswer

MS = 1_000_000
SENT_NS = 1_000_000 * MS


def test_a_lease_is_counted_with_the_timings_under_which_it_was_asked_for():
    short, long = derive(1000, 5), derive(30_000, 5)
    asked, request = lease.ask(lease.Ownership(group="mail", epoch=7), SENT_NS, short)
    assert request.wait_ms == short.wait_ms  # the voters promise for so long, and no longer
    answer = LeaseAnswer(group="mail", epoch=7, nonce=request.nonce, promised=True)
    for timings in (short, long):
        held = asked
        for voter in ("n1", "n2"):
            held = lease.receive(held, voter, answer, 2, timings)
        assert held.until_ns == SENT_NS + short.lease_ms * MS
        assert lease.due(held, SENT_NS + short.renew_ms * MS, timings)


def test_a_shorter_lease_counts_at_once():
    short, long = derive(1000, 5), derive(30_000, 5)
    asked, request = lease.ask(lease.Ownership(group="mail", epoch=7), SENT_NS, long)
    answer = LeaseAnswer(group="mail", epoch=7, nonce=request.nonce, promised=True)
    for voter in ("n1", "n2"):
        asked = lease.receive(asked, voter, answer, 2, short)
    assert asked.until_ns == SENT_NS + short.lease_ms * MS
