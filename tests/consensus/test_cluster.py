"""Three real nodes in one process: propose, apply, restart."""

import pytest
import structlog

from hamail.consensus import codec
from hamail.consensus.records import Entry, batch
from hamail.model.commands import Outcome, Unknown
from tests.consensus.cluster import STATE_DIR, Cluster


def test_elects_proposes_and_applies_the_same_everywhere():
    c = Cluster()
    leader = c.elect()
    result = c.commit(leader, "one")
    assert isinstance(result, Outcome) and result.accepted
    follower = next(n for n in c.names if n != leader)
    forwarded = c.commit(follower, "two")
    assert isinstance(forwarded, Outcome) and forwarded.index == result.index + 1
    c.run(200)
    for machine in c.machines.values():
        assert machine.applied == [(result.index, "one"), (forwarded.index, "two")]


@pytest.mark.parametrize("power", [False, True])
def test_restart_of_all_keeps_state(power):
    c = Cluster()
    leader = c.elect()
    for i in range(5):
        c.commit(leader, f"e{i}")
    c.run(200)
    before = c.machines[leader].applied
    for name in c.names:
        c.kill(name, power=power)
    for name in c.names:
        c.boot(name)
    c.elect()
    c.run(200)
    for machine in c.machines.values():
        assert machine.applied == before


def test_no_majority_ends_as_unknown_exactly_once():
    c = Cluster()
    leader = c.elect()
    c.isolate(leader)
    result = c.commit(leader, "lost?")
    assert isinstance(result, Unknown)


def test_a_fault_that_nobody_foresaw_stops_its_node_and_only_that(monkeypatch):
    c = Cluster()
    leader = c.elect()

    def bug(*_given):
        raise KeyError("a bug")

    monkeypatch.setattr(c.nodes[leader]._standing, "tick", bug)
    waiting = c.propose(leader, "lost?")
    c.run(50)
    assert "failed unexpectedly: KeyError('a bug')" in c.nodes[leader].health().problem
    assert isinstance(waiting[0], Unknown)
    monkeypatch.undo()
    c.run(3000)
    assert "a bug" in c.nodes[leader].health().problem, "only a restart ends it"
    assert c.leader() not in (None, leader)


def test_the_first_problem_is_the_one_that_is_told():
    c = Cluster()
    leader = c.elect()
    c.nodes[leader]._halt("the first")
    c.nodes[leader]._halt("what came of it")
    assert c.nodes[leader].health().problem == "the first"


def test_a_node_that_was_stopped_does_nothing_more():
    c = Cluster()
    leader = c.elect()
    node = c.nodes[leader]
    results = c.propose(leader, "lost?")
    node.stop()
    node.stop()
    assert len(results) == 1 and isinstance(results[0], Unknown)
    c.sent = []
    for _ in range(100):
        c.now_ns += 50_000_000
        node.tick(c.now_ns)
    assert c.sent == []


def test_a_tick_out_of_a_callback_of_the_tick_does_nothing():
    """Whoever hears a result may well ask for the next thing at once."""
    c = Cluster(size=1)
    leader = c.elect()
    node, heard = c.nodes[leader], []
    apply = c.machines[leader].apply

    def again(index, command):
        node.tick(c.now_ns)
        heard.append(index)
        return apply(index, command)

    c.machines[leader].apply = again
    assert c.commit(leader, "one").accepted
    assert len(heard) == 1 and c.machines[leader].events == ["one"]


def test_what_is_too_large_for_the_wire_is_not_sent_and_told(monkeypatch):
    c = Cluster()
    leader = c.elect()
    c.sent = []
    with monkeypatch.context() as m, structlog.testing.capture_logs() as logs:
        m.setattr(codec, "MAX_PAYLOAD_BYTES", 1000)
        results = c.propose(leader, "x" * 2000)
        c.run(300)
    assert any(line["event"] == "payload too large, not sent" and line["kind"] == "1 entries" for line in logs)
    assert c.sent and all(len(payload) <= 1000 for _, _, payload in c.sent)
    assert results == [] or isinstance(results[0], Unknown)


def test_a_torn_tail_is_told_and_dropped():
    c = Cluster()
    leader = c.elect()
    c.commit(leader, "one")
    c.run(200)
    journal = c.nodes[leader]._journal
    torn = batch(journal._number, [Entry(b"x" * 3000, journal.last_index + 1, journal.term)])
    c.kill(leader)
    c.disks[leader].damage(STATE_DIR / "journal", journal.size_bytes, torn[:1000])  # the sectors after it were lost
    with structlog.testing.capture_logs() as logs:
        c.boot(leader)
    assert any("never completed" in line["event"] for line in logs)
    c.run(3000)
    assert c.machines[leader].events == ["one"]
