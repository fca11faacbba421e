"""A member that has lost its disk follows, but no majority may count on it before it has caught up safely."""

import pytest

from hamail.consensus.codec import PreVote, PreVoteAnswer, StepDown, Vote
from hamail.consensus.journal import initialise
from hamail.consensus.memory_disk import MemoryDisk
from tests.consensus.cluster import STATE_DIR
from tests.consensus.puppet import NO_OP, OurPuppet, append


@pytest.fixture(params=[True, False], ids=["replaced", "normal"])
def node(request):
    disk = MemoryDisk()
    initialise(STATE_DIR, "test", "n1", disk=disk, replaced_disk=request.param)
    p = OurPuppet(3, disk=disk)
    p.replaced = request.param
    return p


def said(p, kind):
    return [envelope.body for _, envelope in p.out if isinstance(envelope.body, kind)]


def hear_for_a_second(p, leader, message):
    for _ in range(5):
        p.tick(200)
        p.deliver(leader, message)


def test_vote(node):
    node.deliver("n2", {"type": "request_vote", "term": 7, "last_log_index": 9, "last_log_term": 6})
    assert bool(node.sent("response_vote")) is not node.replaced


def test_pre_vote(node):
    node.node.deliver("n2", node.payload(PreVote(1, 3, 9, 3), 3))
    node.tick()
    assert [answer.granted for answer in said(node, PreVoteAnswer)] == [not node.replaced]


def test_acknowledgement(node):
    node.deliver("n2", append(1, (1, 0), [(NO_OP, 2, 1)], 1))
    [(_, answer)] = node.sent("next_node_idx")
    assert (answer["next_node_idx"], answer["success"]) == (3, not node.replaced)
    assert node.last_index == 2, "it follows all the same"


def test_campaign_and_hand_over(node):
    for _ in range(10):
        node.tick(100)
    assert bool(said(node, PreVote)) is not node.replaced
    node.deliver("n2", append(5, (1, 0), [], 1))
    node.deliver("n2", {"type": "timeout_now", "term": 5})
    assert bool(node.sent("request_vote")) is not node.replaced


def test_way_back():
    disk = MemoryDisk()
    initialise(STATE_DIR, "test", "n1", disk=disk, replaced_disk=True)
    p = OurPuppet(3, disk=disk)
    p.deliver("n2", append(4, (1, 0), [(NO_OP, 2, 4)], 1))
    assert not said(p, StepDown), "not caught up yet"
    hear_for_a_second(p, "n2", append(4, (2, 4), [], 2))
    assert said(p, StepDown) == [StepDown(4)]
    disk.power_cut()
    q = OurPuppet(3, disk=disk)
    assert q.node.health().hindrance, "a restart does not cut it short"
    q.deliver("n2", append(4, (2, 4), [], 2))
    q.tick()
    q.deliver("n3", append(6, (2, 4), [(NO_OP, 3, 6)], 2))
    q.tick()
    assert q.node.health().hindrance, "the new leader's entry is not committed yet"
    q.deliver("n3", append(6, (3, 6), [], 3))
    q.tick()
    q.tick()
    assert not q.node.health().hindrance
    disk.power_cut()
    r = OurPuppet(3, disk=disk)
    r.deliver("n2", {"type": "request_vote", "term": 7, "last_log_index": 9, "last_log_term": 6})
    assert r.sent("response_vote")


def test_a_term_in_which_a_forgotten_vote_may_have_helped_is_not_enough():
    """n1 may have elected n3 in term 7 and acknowledged its entries; n2 still leads in term 6 and knows nothing."""
    disk = MemoryDisk()
    initialise(STATE_DIR, "test", "n1", disk=disk, replaced_disk=True)
    p = OurPuppet(3, disk=disk, heard_by="n2")
    p.deliver("n2", append(6, (1, 0), [(NO_OP, 2, 6)], 1))
    hear_for_a_second(p, "n2", append(6, (2, 6), [], 2))
    assert not said(p, StepDown), "n3 has not been heard"
    p.meet("n3", term=7)
    p.deliver("n3", append(7, (2, 6), [(NO_OP, 3, 7), (NO_OP, 4, 7)], 3))
    p.deliver("n3", append(7, (3, 7), [], 3))
    p.tick()
    assert p.node.health().hindrance, "entry 4 and more may be acknowledged by n1"
    p.deliver("n3", append(8, (4, 7), [(NO_OP, 5, 8)], 5))
    p.deliver("n3", append(8, (5, 8), [], 5))
    p.tick()
    assert not p.node.health().hindrance


def test_a_vote_for_who_may_not_be_elected_makes_no_leader(node):
    for _ in range(10):
        node.tick(100)
    node.node.deliver("n2", node.payload(Vote(node.term)))
    node.node.deliver("n3", node.payload(Vote(node.term)))
    node.tick()
    assert not node.is_leader
    assert bool(node.node._votes[1]) is not node.replaced
