"""Snapshots: made in process, kept in the journal, sent to a node that lags."""

import msgspec
import pytest

from hamail.consensus import snapshots as snapshots_module
from hamail.consensus.codec import SNAPSHOT_CHUNK_BYTES, CodecError, decode_snapshot, encode_snapshot
from hamail.consensus.records import Entry, Snapshot
from hamail.consensus.snapshots import MachineFailed, Snapshots
from tests.consensus.cluster import Cluster, ListMachine
from tests.consensus.puppet import NO_OP, OurPuppet, append


def grown(c, count, size=10):
    leader = c.elect()
    for i in range(count):
        c.commit(leader, f"e{i}-" + "x" * size)
    c.run(200)
    return leader


def test_lagging_node_gets_a_snapshot_in_chunks():
    c = Cluster(compact_entries=10)
    leader = c.elect()
    behind = next(name for name in c.names if name != leader)
    c.kill(behind, power=True)
    grown(c, 40, size=SNAPSHOT_CHUNK_BYTES // 15)
    c.sent = []
    c.boot(behind)
    c.run(1000)
    chunks = [body for _, to, body in c.bodies() if type(body).__name__ == "Chunk" and to == behind and body.data]
    assert len(chunks) > 2, "it must have been more than one chunk"
    assert c.nodes[behind]._snapshots.installed == 1
    assert c.machines[behind].applied == c.machines[leader].applied
    c.kill(behind, power=True)
    c.boot(behind)
    c.commit(leader, "after")
    c.run(200)
    assert c.machines[behind].applied == c.machines[leader].applied


def test_lost_chunk_only_delays():
    c = Cluster(compact_entries=10)
    leader = c.elect()
    behind = next(name for name in c.names if name != leader)
    c.kill(behind)
    grown(c, 40, size=SNAPSHOT_CHUNK_BYTES // 15)
    c.boot(behind)
    dropped = 0
    for _ in range(500):
        c.run(1)
        if dropped < 2 and any(to == behind and len(p) > SNAPSHOT_CHUNK_BYTES // 2 for _, _, to, p in c.wire):
            position = next(i for i, (_, _, to, p) in enumerate(c.wire) if to == behind and len(p) > 50_000)
            del c.wire[position]
            dropped += 1
    assert dropped == 2
    c.run(2000)
    assert c.machines[behind].applied == c.machines[leader].applied


def test_old_snapshot_does_not_throw_newer_entries_away():
    p = OurPuppet(3)
    p.deliver("n2", append(1, (1, 0), [p.entry(f"e{i}", i, 1) for i in range(2, 9)], 2))
    assert p.sent("next_node_idx")[-1][1]["next_node_idx"] == 9
    last, previous = p.entry("e5", 5, 1), p.entry("e4", 4, 1)
    state = msgspec.msgpack.encode([(i, f"e{i}") for i in range(2, 6)])
    blob = encode_snapshot(Snapshot(Entry(*previous), Entry(*last), state))
    p.deliver("n2", {"type": "append_entries", "term": 1, "commit_index": 8, "serialized": (blob, 0, True)})
    p.tick()
    assert p.last_index == 8, "all of these are acknowledged"
    assert p.events == ["e2"]


def test_snapshot_that_cannot_be_restored_stops_the_node():
    """Stock says "installed" all the same."""
    p = OurPuppet(3)
    blob = encode_snapshot(Snapshot(Entry(NO_OP, 49, 1), Entry(NO_OP, 50, 1), b"\xc1 not a state"))
    p.deliver("n2", {"type": "append_entries", "term": 1, "commit_index": 50, "serialized": (blob, 0, True)})
    assert "restoring a snapshot at log index 50" in p.node.health().problem
    assert not [m for _, m in p.sent("next_node_idx") if m["success"]]


@pytest.mark.parametrize(
    "bad",
    [
        Snapshot(Entry(NO_OP, 49, 1), Entry(NO_OP, 51, 1), b""),
        Snapshot(Entry(NO_OP, 49, 2), Entry(NO_OP, 50, 1), b""),
        Snapshot(Entry(b"\x02evil", 49, 1), Entry(NO_OP, 50, 1), b""),
        Snapshot(Entry(NO_OP, 0, 1), Entry(NO_OP, 1, 1), b""),
    ],
)
def test_impossible_snapshots_are_refused(bad):
    with pytest.raises(CodecError):
        decode_snapshot(encode_snapshot(bad))
    p = OurPuppet(3)
    p.deliver(
        "n2", {"type": "append_entries", "term": 1, "commit_index": 50, "serialized": (encode_snapshot(bad), 0, True)}
    )
    assert p.node.health().problem == "" and p.last_index == 1


def test_machine_that_raises_making_a_snapshot_stops_the_node():
    class Broken(ListMachine):
        def snapshot(self):
            raise MemoryError("too big")

    snapshots = Snapshots(OurPuppet(3).node._journal, Broken())
    with pytest.raises(MachineFailed, match=r"raised MemoryError.* making a snapshot"):
        snapshots.serialize((None, (NO_OP, 2, 1), (NO_OP, 1, 0), ()), 1)


def test_large_commands_compact_early(monkeypatch):
    from hamail.consensus import syncobj

    monkeypatch.setattr(syncobj, "MAX_JOURNAL_BYTES", 100_000)
    c = Cluster()
    leader = grown(c, 30, size=20_000)
    assert c.nodes[leader]._journal.snapshot is not None


def snapshots():
    c = Cluster(compact_entries=10)
    leader = grown(c, 40, size=SNAPSHOT_CHUNK_BYTES // 15)
    return c.nodes[leader]._snapshots


def test_a_transfer_that_was_called_off_begins_anew():
    s = snapshots()
    _, first, last = s.getTransmissionData("n9")
    assert first == 0 and not last
    assert s.getTransmissionData("n9")[1] == SNAPSHOT_CHUNK_BYTES
    s.cancelTransmisstion("n9")
    assert s.getTransmissionData("n9")[1] == 0
    s.cancelTransmisstion("nobody")


def test_without_a_snapshot_there_is_nothing_to_send_and_nothing_said_is_nothing_received():
    c = Cluster()
    s = c.nodes[c.elect()]._snapshots
    assert s.getTransmissionData("n9") is None
    assert s.setTransmissionData(None) is False


def test_a_state_that_has_grown_over_the_limit_stops_its_node(monkeypatch):
    monkeypatch.setattr(snapshots_module, "MAX_SNAPSHOT_BYTES", 1000)
    c = Cluster(compact_entries=10)
    leader = c.elect()
    for i in range(40):
        c.propose(leader, f"e{i}-" + "x" * 100)
        c.run(20)
    problems = [node.health().problem for node in c.nodes.values()]
    assert any("over the limit of a snapshot" in problem for problem in problems)


def test_a_snapshot_of_its_own_that_cannot_be_restored_stops_the_node(monkeypatch):
    def restore(_self, _data):
        raise ValueError("not a state")

    c = Cluster(compact_entries=10)
    leader = grown(c, 40)
    c.kill(leader)
    with monkeypatch.context() as m:
        m.setattr(ListMachine, "restore", restore)
        node = c.boot(leader)
    assert "restoring its snapshot at log index" in node.health().problem
    c.run(1000)
    assert c.leader() != leader and node.health().leader is None
