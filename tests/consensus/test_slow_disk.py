"""The disk works in another thread: nothing else waits for it, and nothing is said before it is done."""

from hamail.consensus.journal import JournalError
from hamail.consensus.syncobj import SyncObjConsensus
from hamail.model.commands import Outcome
from tests.consensus.cluster import MS, Cluster


class LateDisk:
    """Holds each piece of work until `finish`."""

    def __init__(self, node: SyncObjConsensus) -> None:
        self.waiting = []
        node._background = lambda work, written: self.waiting.append((work, written))

    def finish(self) -> None:
        waiting, self.waiting = self.waiting, []
        for work, written in waiting:
            try:
                work()
            except JournalError as error:
                written(error)
            else:
                written(None)


def test_nothing_is_said_while_the_disk_works_and_nothing_is_lost():
    c = Cluster()
    leader = c.elect()
    follower = next(name for name in c.names if name != leader)
    disk = LateDisk(c.nodes[follower])
    result = c.commit(leader, "with the other one")
    assert isinstance(result, Outcome)
    assert len(disk.waiting) == 1
    c.sent = []
    c.run(200)
    assert not [s for s, _, _ in c.sent if s == follower]
    assert c.machines[follower].events == []
    disk.finish()
    c.run(50)
    disk.finish()
    c.run(100)
    assert [s for s, _, _ in c.sent if s == follower]
    assert c.machines[follower].events == ["with the other one"]


def test_disk_that_hangs_is_named():
    c = Cluster()
    leader = c.elect()
    follower = next(name for name in c.names if name != leader)
    disk = LateDisk(c.nodes[follower])
    c.commit(leader, "x")
    c.run(3000)
    health = c.nodes[follower].health()
    assert "has not answered" in health.hindrance and health.problem == ""
    assert 2000 < health.stalled_ms < 4000
    disk.finish()
    c.run(50)
    assert (c.nodes[follower].health().hindrance, c.nodes[follower].health().stalled_ms) == ("", 0)


def test_leader_with_a_hanging_disk_is_replaced():
    c = Cluster()
    leader = c.elect()
    disk = LateDisk(c.nodes[leader])
    results = c.propose(leader, "stuck")
    c.run(3000)
    others = {n: x for n, x in c.nodes.items() if n != leader}
    assert [n for n, x in others.items() if x.health().is_leader]
    assert len(results) == 1, "its deadline does not need the disk"
    for _ in range(20):
        disk.finish()
        c.run(50)
    assert c.leader() in others
    assert c.nodes[leader].health().leader == c.leader()


def test_stop_while_the_disk_works():
    c = Cluster()
    leader = c.elect()
    disk = LateDisk(c.nodes[leader])
    c.propose(leader, "x")
    c.nodes[leader].stop()
    disk.finish()
    assert c.nodes[leader]._journal._file is None
    assert not c.nodes[leader].health().is_leader


def test_wake_asks_for_a_tick():
    c = Cluster()
    woken = []
    leader = c.elect()
    c.nodes[leader]._wake = lambda: woken.append(1)
    c.nodes[leader].propose(c.command("x"), lambda _: None)
    assert woken
    woken.clear()
    c.run(100)
    assert woken, "deliveries do as well"


def test_stall_gives_the_leader_time_to_be_heard():
    """A process that did not run for 2 s finds a timer long past due, and the leader's messages still in the socket."""
    c = Cluster()
    leader = c.elect()
    c.run(500)
    follower = next(name for name in c.names if name != leader)
    c.now_ns += 2000 * MS
    c.sent = []
    c.nodes[follower].tick(c.now_ns)
    assert "PreVote" not in {type(body).__name__ for _, _, body in c.bodies()}
