"""Links between nodes that live: each node tells of a broken one, also of one that is not its own."""

from hamail.core import links, membership
from hamail.core.membership import MS
from hamail.core.timing import derive
from hamail.model.messages import Heartbeat

T = derive(1000, 5)
VOTERS = ("n1", "n2", "n3")
LONG_MS = T.settle_ms + 1000


def told(me: str, upto_ms: int, silent: dict[str, dict[str, int]], restarting: str = ""):
    """What `me` thinks after the heartbeats of those in `silent`: peer -> whom it has not heard since when."""
    m = membership.begin(me, VOTERS, 0)
    for peer in VOTERS:
        if peer != me:
            m = membership.hear(m, peer, beat({}, 60_000 if peer == restarting else 0), 0)
    for ms in range(100, upto_ms + 1, 100):
        for peer, since in silent.items():
            told_ms = {n: ms - since.get(n, ms) for n in VOTERS if n != peer}
            m = membership.hear(m, peer, beat(told_ms, 60_000 if peer == restarting else 0), ms * MS)
        m = membership.tick(m, ms * MS, T)
    return links.broken(m, upto_ms * MS, T)


def beat(silent: dict[str, int], restarting_ms: int = 0) -> Heartbeat:
    return Heartbeat(sequence=1, incarnation=None, silent_ms=silent, applied=0, ready=True, restarting_ms=restarting_ms)


def test_a_third_node_tells_it_too():
    assert told("n3", LONG_MS, {"n1": {"n2": 0}, "n2": {"n1": 0}}) == (("n1", "n2"),)
    assert told("n3", LONG_MS, {"n1": {"n2": 0}, "n2": {}}) == (("n1", "n2"),), "one way is enough"


def test_both_ends_tell_it():
    assert told("n1", LONG_MS, {"n3": {}}) == (("n1", "n2"),)
    assert told("n2", LONG_MS, {"n3": {}}) == (("n1", "n2"),)
    assert told("n1", LONG_MS, {"n3": {}, "n2": {"n1": 0}}) == (("n1", "n2"),), "it hears the one that misses it"


def test_when_all_is_well_there_is_none():
    assert told("n3", LONG_MS, {"n1": {}, "n2": {}}) == ()


def test_a_dead_node_has_no_broken_links():
    for upto_ms in range(100, 20_000, 100):
        assert told("n3", upto_ms, {"n1": {"n2": 0}}) == ()
        assert told("n1", upto_ms, {"n3": {"n2": 0}}) == ()


def test_who_hears_nobody_knows_of_none():
    assert told("n1", LONG_MS, {}) == ()


def test_a_node_that_restarts_has_none():
    assert told("n3", LONG_MS, {"n1": {"n2": 0}, "n2": {}}, restarting="n2") == ()


def test_a_node_that_has_just_begun_is_given_time():
    assert told("n3", T.settle_ms - 500, {"n1": {"n2": 0}, "n2": {}}) == ()
