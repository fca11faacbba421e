"""What a proposer may rely on."""

import errno

import pytest

from hamail.consensus.journal import Journal
from hamail.consensus.memory_disk import MemoryDisk
from hamail.consensus.proposals import MAX_WAITING
from hamail.model.commands import Outcome, Unknown
from tests.consensus.cluster import MS, STATE_DIR, TIMINGS, Cluster, note


def test_result_means_applied_here_with_everything_before():
    """The barrier: whoever sees its own command applied has applied all that was committed before it proposed."""
    c = Cluster()
    leader = c.elect()
    followers = [name for name in c.names if name != leader]
    for i in range(10):
        c.commit(leader, f"e{i}")
        results = []
        seen = []
        c.nodes[followers[i % 2]].propose(
            note(f"barrier{i}"),
            lambda r, name=followers[i % 2]: (results.append(r), seen.extend(c.machines[name].events)),
        )
        assert c.run(1000, lambda: bool(results))
        assert f"e{i}" in seen and seen[-1] == f"barrier{i}"
        assert c.machines[followers[i % 2]].applied[-1][0] == results[0].index


def test_rejection_by_the_state_machine_is_a_result():
    c = Cluster()
    follower = next(name for name in c.names if name != c.elect())
    result = c.commit(follower, "reject me")
    assert isinstance(result, Outcome) and not result.accepted and result.reasons == ("no",) and result.index > 0


def test_without_a_leader_it_waits_and_then_goes():
    """Nothing was sent, so trying later is safe."""
    c = Cluster()
    results = c.propose("n1", "early")
    assert results == []
    c.elect()
    assert c.run(1000, lambda: bool(results))
    assert isinstance(results[0], Outcome) and results[0].accepted


def test_deadline_without_a_leader():
    c = Cluster()
    c.elect()
    c.isolate("n1")
    c.run(2000)
    started = c.now_ns
    result = c.commit("n1", "nobody hears")
    assert isinstance(result, Unknown) and "not sent" in result.why
    assert abs((c.now_ns - started) / MS - TIMINGS.propose_ms) <= 50


def test_leader_lost_with_the_command_is_unknown_soon():
    c = Cluster()
    leader = c.elect()
    follower = next(name for name in c.names if name != leader)
    c.cut |= {(leader, other) for other in c.names}
    results = c.propose(follower, "sent to the dead")
    started = c.now_ns
    assert c.run(3000, lambda: bool(results))
    assert isinstance(results[0], Unknown) and "leader changed" in results[0].why
    assert (c.now_ns - started) / MS < 1500


def test_command_that_could_not_be_sent_is_tried_again():
    """The transport says that it dropped it: surely not done, so the next leader gets it."""
    c = Cluster()
    leader = c.elect()
    follower = next(name for name in c.names if name != leader)
    c.kill(leader)
    results = c.propose(follower, "to whoever leads")
    assert c.run(1500, lambda: bool(results))
    assert isinstance(results[0], Outcome) and results[0].accepted


def test_stale_leader_answers_that_it_is_none():
    c = Cluster()
    leader = c.elect()
    follower = next(name for name in c.names if name != leader)
    c.run(100)
    assert c.nodes[leader].transfer_leadership(follower)
    other = next(name for name in c.names if name not in (leader, follower))
    results = c.propose(other, "follows the lead")
    assert c.run(1500, lambda: bool(results))
    c.run(500)
    applied = [e for e in c.machines[other].events if e == "follows the lead"]
    assert len(applied) == (1 if isinstance(results[0], Outcome) else len(applied)) <= 1


def test_callbacks_come_from_the_tick_once_and_may_propose():
    c = Cluster()
    leader = c.elect()
    order = []

    def again(result):
        order.append(result)
        if len(order) < 3:
            c.nodes[leader].propose(note(f"again{len(order)}"), again)
            c.nodes[leader].tick(c.now_ns)  # must not recurse into the library

    c.nodes[leader].propose(note("first"), again)
    assert order == []
    c.run(1000)
    assert len(order) == 3 and all(isinstance(r, Outcome) for r in order)
    assert c.machines[leader].events == ["first", "again1", "again2"]


def test_too_many_are_refused_not_queued():
    c = Cluster()
    results = []
    for i in range(MAX_WAITING + 5):
        c.nodes["n1"].propose(note(f"e{i}"), results.append)
    c.nodes["n1"].tick(c.now_ns)
    assert len(results) == 5 and all(r.index == 0 and not r.accepted for r in results)


def test_stop_ends_everything_as_unknown():
    c = Cluster()
    leader = c.elect()
    c.isolate(leader)
    results = c.propose(leader, "open")
    c.nodes[leader].stop()
    assert len(results) == 1 and isinstance(results[0], Unknown)
    c.nodes[leader].propose(note("late"), results.append)
    assert results[1].accepted is False and results[1].index == 0


def test_failing_disk_stops_only_that_node():
    c = Cluster()
    leader = c.elect()
    c.disks[leader].fail["sync"] = OSError(errno.EIO, "Input/output error")
    results = c.propose(leader, "cannot be written")
    c.run(100)
    assert isinstance(results[0], Unknown)
    health = c.nodes[leader].health()
    assert not health.journal_ok and not health.is_leader and "Input/output error" in health.problem
    c.sent = []
    new = c.elect()
    assert new != leader
    assert not [s for s, _, _ in c.sent if s == leader], "it says nothing any more"
    result = c.commit(new, "goes on")
    assert isinstance(result, Outcome) and result.accepted
    late = []
    c.nodes[leader].propose(note("x"), late.append)
    c.nodes[leader].tick(c.now_ns)
    assert late[0].index == 0 and "Input/output" in late[0].reasons[0]


def test_full_disk_stops_only_that_node():
    c = Cluster()
    leader = c.elect()
    follower = next(name for name in c.names if name != leader)
    c.disks[follower].capacity_bytes = c.disks[follower]._used()
    for i in range(300):
        assert c.commit(leader, f"e{i}-" + "x" * 2000).accepted
    assert "No space left" in c.nodes[follower].health().problem
    assert c.nodes[leader].health().problem == ""


@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_nothing_is_said_before_it_is_durable(victim):
    """At each payload, what the sender has noted so far is on its disk."""
    c = Cluster()
    send = c._send
    checks = []

    def checked(sender, to, payload):
        node = c.nodes.get(sender)
        if node is not None and node._library is not None:
            assert durable(c.disks[sender]) == (
                node._journal.term,
                node._journal.vote,
                node._journal.last_index,
                node._journal.last_term,
            )
            checks.append(sender)
        return send(sender, to, payload)

    c._send = checked
    leader = c.elect()
    for i in range(20):
        name = leader if victim == "leader" else next(n for n in c.names if n != leader)
        c.commit(name, f"e{i}")
    assert len(checks) > 100


def durable(disk):
    """Term, vote, last index and its term, as a power cut at this moment would leave them."""
    copy = MemoryDisk()
    copy.open(STATE_DIR / "journal", create=True).write_at(0, disk._durable_names[STATE_DIR / "journal"].durable)
    journal = Journal(STATE_DIR, "test", disk_owner(disk), disk=copy)
    return journal.term, journal.vote, journal.last_index, journal.last_term


def disk_owner(disk):
    return disk.read(STATE_DIR / "identity").decode().strip().split("/")[1]


def test_one_sync_for_a_batch_and_none_while_idle():
    c = Cluster()
    leader = c.elect()
    c.run(500)
    before = {name: disk.syncs for name, disk in c.disks.items()}
    c.run(5000)
    assert {name: disk.syncs for name, disk in c.disks.items()} == before
    results = []
    for i in range(50):
        c.nodes[leader].propose(note(f"e{i}"), results.append)
    c.run(200)
    assert len(results) == 50
    assert all(disk.syncs - before[name] <= 3 for name, disk in c.disks.items())


@pytest.mark.parametrize("seed", range(6))
def test_a_voter_that_has_just_started_is_heard_at_its_first_word(seed):
    """Its peers listen to a new life only after it has answered for its journal: what it proposes waits for that.

    A proposal that they drop is unknown for the whole time limit, and a node that does not catch up loses its lease.
    """
    c = Cluster(seed=seed, delay_ms=40)  # the leader is heard before it has answered
    leader = c.elect()
    follower = next(name for name in c.names if name != leader)
    for i in range(5):
        c.kill(follower)
        c.boot(follower)
        results = []
        c.nodes[follower].propose(note(f"barrier{i}"), results.append)
        assert c.run(TIMINGS.propose_ms // 2, lambda: bool(results)), "it was not heard"
        assert isinstance(results[0], Outcome) and results[0].accepted
