"""What a voter that lies inside of its own messages cannot do to the log."""

import itertools
from random import Random

import msgspec
import pytest

from hamail.consensus import syncobj
from hamail.consensus.codec import (
    Append,
    Envelope,
    Forward,
    NotLeader,
    PreVoteAnswer,
    Proposal,
    RequestVote,
    decode_envelope,
    encode_command,
    encode_envelope,
)
from tests.consensus.cluster import Cluster, note

LATER = 10**9
LAST_TERM = 2**63 - 1


def follower(cluster):
    leader = cluster.elect()
    return leader, next(n for n in cluster.names if n != leader)


def say(cluster, sender, to, body, *, sequence, term=None):
    term = cluster.nodes[to].health().term if term is None else term
    journal = cluster.nodes[sender]._journal
    envelope = Envelope(journal.incarnation, journal.position, LATER + sequence, term, body)
    cluster.nodes[to].deliver(sender, encode_envelope(envelope))


def test_a_command_in_the_name_of_another_node_does_not_enter_the_log():
    cluster = Cluster()
    leader, liar = follower(cluster)
    other = next(n for n in cluster.names if n not in (leader, liar))
    for number, proposer in enumerate((other, leader, liar), start=1):
        command = encode_command(Proposal(proposer, 1, number, note(f"from {proposer}")))
        say(cluster, liar, leader, Forward(number, command), sequence=number)
    cluster.run(500)
    assert cluster.machines[leader].events == [f"from {liar}"]


def test_what_the_machine_does_not_take_from_a_node_is_answered_as_not_done():
    cluster = Cluster()
    leader, asker = follower(cluster)
    cluster.machines[leader].refusal = lambda sender, _command: f"not from {sender}"
    cluster.sent = []
    cluster.propose(asker, "an order")
    cluster.run(200)
    assert any(isinstance(body, NotLeader) for sender, _, body in cluster.bodies() if sender == leader)
    assert cluster.machines[leader].events == []
    assert cluster.commit(leader, "its own").accepted


@pytest.mark.parametrize(
    "body",
    [lambda t: RequestVote(t, 1, 0), lambda t: Append(t, 0, 1, 0, []), lambda _t: PreVoteAnswer(1, False)],
    ids=["request", "append", "answer"],
)
def test_terms_cannot_be_used_up(body):
    """A term near the last one that can be written down would end all elections, for good."""
    cluster = Cluster()
    _, liar = follower(cluster)
    for node in cluster.names:
        if node != liar:
            say(cluster, liar, node, body(LAST_TERM), sequence=1, term=LAST_TERM)
    cluster.run(3000)
    terms = [node.health().term for node in cluster.nodes.values()]
    assert max(terms) < 100
    assert cluster.commit(cluster.elect(), "still here").accepted


def test_what_a_node_says_before_the_next_tick_is_bounded(monkeypatch):
    monkeypatch.setattr(syncobj, "MAX_INBOX_BYTES", 100_000)
    cluster = Cluster()
    leader, liar = follower(cluster)
    honest = next(n for n in cluster.names if n not in (leader, liar))
    for sequence in range(1, 2001):
        command = encode_command(Proposal(liar, 1, sequence, note("x" * 1000)))
        say(cluster, liar, leader, Forward(sequence, command), sequence=sequence)
    waiting = cluster.nodes[leader]._inbox
    assert sum(len(msgspec.msgpack.encode(envelope)) for _, envelope in waiting) < 110_000
    assert cluster.commit(honest, "heard all the same").accepted


@pytest.mark.parametrize("seed", range(6))
def test_replayed_reordered_and_damaged_traffic_changes_nothing(seed):
    """Real traffic again, in another order, to others, and with flipped bits: the logs stay prefixes of one log."""
    cluster = Cluster(seed=seed)
    rng = Random(seed)
    cluster.sent = []
    cluster.elect()
    for turn in range(12):
        cluster.propose(rng.choice(cluster.names), f"command {turn}")
        cluster.run(rng.choice((20, 120)))
        for _, to, payload in rng.sample(cluster.sent, min(40, len(cluster.sent))):
            sender = rng.choice([n for n in cluster.names if n != to])
            data = bytearray(payload)
            for _ in range(rng.choice((0, 0, 1, 3))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            if sender in _senders(cluster.sent, payload) or data != payload:
                if data != payload and _reads_as_true(data):
                    continue  # not damage any more but a lie, which no checksum can tell
                cluster.nodes[to].deliver(sender, bytes(data))
    cluster.run(4000)
    logs = sorted((m.events for m in cluster.machines.values()), key=len)
    assert all(longer[: len(shorter)] == shorter for shorter, longer in itertools.pairwise(logs))
    assert not any(node.health().problem for node in cluster.nodes.values())
    assert len(logs[-1]) >= 6


def _senders(sent, payload):
    return {sender for sender, _, said in sent if said == payload}


def _reads_as_true(data):
    try:
        decode_envelope(bytes(data))
    except Exception:
        return False
    return True
