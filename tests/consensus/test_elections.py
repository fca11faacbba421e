"""PreVote, stickiness, check-quorum, hand-over; and what stock does instead."""

from collections import deque

import pysyncobj.syncobj
import pytest
from pysyncobj import SyncObjConf
from pysyncobj.node import Node

from hamail.consensus.codec import PreVote, PreVoteAnswer
from hamail.consensus.journal import initialise
from hamail.model.commands import Outcome
from tests.consensus.cluster import STATE_DIR, TIMINGS, Cluster
from tests.consensus.puppet import NO_OP, OurPuppet, ScriptTransport, StockMachine, append


class StockCluster:
    """Three stock nodes on a virtual clock and wire; stock settings but for an early fallback of a lone leader."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(pysyncobj.syncobj, "monotonicTime", lambda: self.now)
        self.names = ["n1", "n2", "n3"]
        self.wire = deque()
        self.cut = set()
        self.nodes = {}
        self.transports = {}
        for name in self.names:
            transport = ScriptTransport()
            transport.send = lambda node, message, name=name: self.wire.append((name, node.id, message)) or True
            others = [Node(other) for other in self.names if other != name]
            conf = SyncObjConf(
                autoTick=False, appendEntriesUseBatch=False, raftMinTimeout=0.3, raftMaxTimeout=0.6,
                appendEntriesPeriod=0.05, leaderFallbackTimeout=0.3, connectionTimeout=1000,
            )  # fmt: skip
            self.nodes[name] = StockMachine(Node(name), others, conf, transport=transport)
            for other in others:
                transport._onNodeConnected(other)
            self.transports[name] = transport

    def run(self, ms):
        for _ in range(ms // 5):
            self.now += 0.005
            for _ in range(len(self.wire)):
                sender, to, message = self.wire.popleft()
                if (sender, to) not in self.cut:
                    self.transports[to]._onMessageReceived(Node(sender), message)
            for node in self.nodes.values():
                node.doTick(0)

    def leader(self):
        return next((name for name, node in self.nodes.items() if node._isLeader()), None)

    def isolate(self, name):
        self.cut |= {pair for other in self.names for pair in ((name, other), (other, name))}


def test_isolated_follower_comes_back(monkeypatch):
    """Stock: it has raised its term meanwhile and deposes a healthy leader. Ours: nobody notices."""
    stock = StockCluster(monkeypatch)
    stock.run(3000)
    leader = stock.leader()
    term = stock.nodes[leader].raftCurrentTerm
    follower = next(name for name in stock.names if name != leader)
    stock.isolate(follower)
    stock.run(10_000)
    assert stock.nodes[follower].raftCurrentTerm > term + 5
    stock.cut.clear()
    stock.run(2000)
    assert stock.nodes[stock.leader()].raftCurrentTerm > term + 5, "stock: deposed"
    monkeypatch.undo()

    for seed in range(10):
        ours = Cluster(seed=seed)
        leader = ours.elect()
        term = ours.nodes[leader].health().term
        follower = next(name for name in ours.names if name != leader)
        ours.isolate(follower)
        ours.run(10_000)
        assert ours.nodes[follower].health().leader is None
        ours.heal()
        ours.run(1000)
        assert ours.leader() == leader
        assert {node.health().term for node in ours.nodes.values()} == {term}


def test_one_bad_link_moves_nothing():
    """Leader and one follower cannot hear each other; the third hears both and stays with its leader."""
    for seed in range(5):
        c = Cluster(seed=seed)
        leader = c.elect()
        term = c.nodes[leader].health().term
        deaf = next(name for name in c.names if name != leader)
        c.cut |= {(leader, deaf), (deaf, leader)}
        c.run(5000)
        assert c.leader() == leader and c.nodes[leader].health().term == term
        assert c.nodes[deaf].health().leader is None


def test_paused_follower_does_not_depose():
    for seed in range(10):
        c = Cluster(seed=seed)
        leader = c.elect()
        term = c.nodes[leader].health().term
        follower = next(name for name in c.names if name != leader)
        c.frozen.add(follower)
        c.run(3000)
        c.frozen.clear()
        c.run(1000)
        assert c.leader() == leader and c.nodes[leader].health().term == term


def test_isolated_leader_steps_down_and_another_takes_over():
    c = Cluster()
    old = c.elect()
    c.isolate(old)
    started = c.now_ns
    assert c.run(2000, lambda: not c.nodes[old].health().is_leader)
    assert (c.now_ns - started) / 1e6 <= TIMINGS.leader_fallback_ms + 60
    assert c.nodes[old].health().leader is None
    new = c.elect()
    assert new != old
    c.heal()
    c.run(1000)
    assert c.leader() == new and c.nodes[old].health().leader == new


def test_takeover_after_a_crash_is_fast():
    times = []
    for seed in range(20):
        c = Cluster(seed=seed)
        leader = c.elect()
        c.run(500)
        c.kill(leader)
        started = c.now_ns
        c.elect()
        times.append((c.now_ns - started) / 1e6)
    times.sort()
    assert times[10] < 500 and times[-1] < 700, times


def test_term_that_ran_ahead_is_caught_up_with():
    """A node whose campaign failed has a higher term than the leader and is deaf to it; it must not stay out."""
    c = Cluster()
    leader = c.elect()
    c.commit(leader, "before")
    ahead = next(name for name in c.names if name != leader)
    node = c.nodes[ahead]
    node._library._SyncObj__setCurrentTerm(50, ahead)  # as after campaigns that nobody heard
    without = []
    c.run(3000, lambda: without.append(c.leader() is None) is not None)
    assert sum(without) < 200, "in ms: the new election follows at once"
    assert node.health().leader == c.leader() is not None
    assert c.nodes[c.leader()].health().term > 50
    assert isinstance(c.commit(ahead, "after"), Outcome)


def test_transfer_of_leadership():
    c = Cluster()
    leader = c.elect()
    target, third = (name for name in c.names if name != leader)
    assert not c.nodes[target].transfer_leadership(third), "only the leader can"
    assert not c.nodes[leader].transfer_leadership("nobody")
    for i in range(3):
        c.commit(leader, f"e{i}")
    c.run(200)
    started = c.now_ns
    assert c.nodes[leader].transfer_leadership(target)
    c.nodes[leader].tick(c.now_ns)
    assert c.run(1000, lambda: c.leader() == target)
    assert (c.now_ns - started) / 1e6 < 50
    result = c.commit(leader, "through the new one")
    assert isinstance(result, Outcome) and result.accepted


def test_transfer_to_a_lagging_node_is_refused():
    c = Cluster()
    leader = c.elect()
    behind = next(name for name in c.names if name != leader)
    c.isolate(behind)
    c.commit(leader, "it lacks this")
    assert not c.nodes[leader].transfer_leadership(behind)


def test_replaced_disk_votes_only_under_a_leader_elected_without_it():
    c = Cluster()
    leader = c.elect()
    for i in range(5):
        c.commit(leader, f"e{i}")
    c.run(200)
    lost, other = (name for name in c.names if name != leader)
    c.kill(lost, power=True)
    c.disks[lost].wipe()
    initialise(STATE_DIR, "test", lost, disk=c.disks[lost], replaced_disk=True)
    # With the leader gone, the two others are a majority in number, but one of them has forgotten what it promised.
    c.kill(leader)
    c.isolate(other)
    c.boot(lost)
    c.heal()
    c.run(5000)
    assert c.leader() is None
    assert "replaced" in c.nodes[lost].health().hindrance
    c.boot(leader)
    assert c.run(10_000, lambda: c.leader() is not None and not c.nodes[lost].health().hindrance)
    c.run(200)
    assert c.machines[lost].events == [f"e{i}" for i in range(5)]
    c.kill(c.leader())
    assert c.elect(), "and now it counts again"


def test_replaced_disk_is_heard_by_those_that_knew_the_old_one():
    c = Cluster()
    leader = c.elect()
    c.commit(leader, "one")
    lost = next(name for name in c.names if name != leader)
    for _ in range(3):
        c.kill(lost)
        c.boot(lost)
        c.run(500)
    c.kill(lost, power=True)
    c.disks[lost].wipe()
    initialise(STATE_DIR, "test", lost, disk=c.disks[lost], replaced_disk=True)
    c.boot(lost)
    assert c.run(10_000, lambda: not c.nodes[lost].health().hindrance), "no other node was restarted"
    c.kill(next(name for name in c.names if name != lost))
    assert c.elect(), "it counts with whoever is left"


@pytest.mark.parametrize("size", [1, 2])
def test_small_clusters(size):
    c = Cluster(size)
    leader = c.elect()
    result = c.commit(leader, "one")
    assert isinstance(result, Outcome) and result.accepted
    if size == 2:
        c.kill(next(name for name in c.names if name != leader))
        c.run(1000)
        assert c.leader() is None


@pytest.mark.parametrize(
    ("asks", "granted"),
    [
        (PreVote(1, 2, 3, 2), True),
        (PreVote(1, 2, 2, 2), False),  # its log is shorter
        (PreVote(1, 2, 9, 1), False),  # its log is longer, but of an older term
        (PreVote(1, 5, 9, 5), True),
        (PreVote(1, 1, 9, 9), False),  # it would campaign in a term that is over
    ],
)
def test_pre_vote_looks_at_log_and_term(asks, granted):
    p = OurPuppet(3)
    p.deliver("n2", append(2, (1, 0), [(NO_OP, 2, 2), (NO_OP, 3, 2)], 1))
    p.tick(250)
    p.tick(60)  # the leader has not been heard for long enough; not so long that this node stands itself
    p.out.clear()
    p.node.deliver("n3", p.payload(asks, asks.term))
    p.tick()
    answers = [e.body.granted for to, e in p.out if isinstance(e.body, PreVoteAnswer) and to == "n3"]
    assert answers == [granted]


def test_pre_vote_is_refused_while_a_leader_is_heard():
    p = OurPuppet(3)
    p.deliver("n2", append(2, (1, 0), [], 1))
    for peer, granted in (("n3", False), ("n2", True)):  # its own leader may ask: it has lost its lead then
        p.node.deliver(peer, p.payload(PreVote(1, 2, 9, 2), 2))
        p.tick()
        assert p.out[-1][0] == peer and p.out[-1][1].body == PreVoteAnswer(1, granted)


def test_refusal_with_a_higher_term_is_learnt_from():
    """Else a node with the only complete log would need one failed campaign for each term that it lags."""
    p = OurPuppet(3)
    for _ in range(7):
        p.tick(100)
    asked = [e.body for _, e in p.out if isinstance(e.body, PreVote)]
    p.node.deliver("n2", p.payload(PreVoteAnswer(asked[-1].round, False), 40))
    p.tick()
    assert p.term == 40 and not p.sent("request_vote")
