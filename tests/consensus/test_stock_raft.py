"""Faults of PySyncObj's Raft edges. Each script runs on the library as shipped, which must show the fault, and on ours,
which must not.
"""

import pickle

import pytest

from hamail.consensus import seams
from hamail.consensus.codec import (
    Ack,
    Answer,
    Append,
    Chunk,
    CodecError,
    Envelope,
    Known,
    check_logged,
    decode_envelope,
    encode_envelope,
    from_library,
)
from hamail.consensus.journal import JournalError, JournalMissing
from hamail.consensus.records import NUMBER_MAX, Entry
from hamail.model.commands import Outcome
from tests.consensus.puppet import NO_OP, OurPuppet, StockPuppet, ack, append


@pytest.fixture(params=["stock", "ours"])
def make(request, monkeypatch):
    """(is_stock, function that makes a node with `size` voters)"""
    if request.param == "stock":
        return True, lambda size=3, **conf: StockPuppet(size, monkeypatch, **conf)
    return False, lambda size=3, **_: OurPuppet(size)


def test_acknowledgement_from_an_earlier_leadership(make):
    """n1 leads, loses the lead and its entry, leads again; an old acknowledgement by n2 arrives now."""
    is_stock, new = make
    p = new()
    p.campaign(["n2"])
    first_term = p.term
    p.propose("lost")
    index = p.last_index
    # n3 leads the next term and overwrites n1's entries
    p.deliver("n3", append(first_term + 1, (1, 0), [(NO_OP, 2, first_term + 1)], 1))
    p.campaign(["n3"])
    assert p.is_leader and p.term > first_term + 1
    p.propose("only on n1")
    assert p.last_index >= index
    p.deliver("n2", ack(p.last_index + 1), sender_term=first_term)
    p.tick()
    p.tick()
    assert p.acknowledged == (["only on n1"] if is_stock else []), "n2 never had it"


def test_one_vote_counted_twice(make):
    is_stock, new = make
    p = new(5)
    p.campaign(["n2", "n2"])
    assert p.is_leader is is_stock, "two of five voters are no majority"


def test_votes_of_three_make_a_leader(make):
    _, new = make
    p = new(5)
    p.campaign(["n2", "n3"])
    assert p.is_leader


def test_commit_index_of_a_snapshot_message(make):
    """A former leader with an entry nobody else has hears the new leader begin to send a snapshot."""
    is_stock, new = make
    p = new()
    p.campaign(["n2"])
    p.propose("never committed")
    before = list(p.events)
    p.deliver(
        "n3", {"type": "append_entries", "term": p.term + 1, "commit_index": 50, "serialized": (b"part", 0, False)}
    )
    p.tick()
    p.tick()
    assert before == []
    assert p.events == (["never committed"] if is_stock else [])


def test_older_append_makes_a_follower_forget(make):
    """Entries 2..4 are acknowledged; then an append that ends at 3 is handled (a resend after a crossed answer)."""
    is_stock, new = make
    p = new()
    entries = [p.entry(f"e{i}", i, 1) for i in (2, 3, 4)]
    p.deliver("n2", append(1, (1, 0), entries, 1))
    assert p.sent("next_node_idx")[-1][1]["next_node_idx"] == 5
    p.deliver("n2", append(1, (1, 0), entries[:2], 1))
    assert p.last_index == (3 if is_stock else 4)
    assert p.sent("next_node_idx")[-1][1]["next_node_idx"] == 4, "only what this message vouches for is acknowledged"


def test_contradicting_entries_do_go(make):
    _, new = make
    p = new()
    p.deliver("n2", append(1, (1, 0), [p.entry(f"old{i}", i, 1) for i in (2, 3, 4)], 1))
    p.deliver("n3", append(2, (2, 1), [p.entry("new3", 3, 2)], 3))
    p.tick()
    assert p.last_index == 3
    assert p.events == ["old2", "new3"]


def test_unvouched_tail_is_not_committed():
    p = OurPuppet(3)
    p.deliver("n2", append(1, (1, 0), [p.entry(f"e{i}", i, 1) for i in (2, 3, 4)], 1))
    p.deliver("n3", append(2, (2, 1), [], 4))  # n3 vouches up to 2 only, and has committed its own 3 and 4
    p.tick()
    assert p.events == ["e2"]
    assert p.last_index == 4


def test_stranger_is_heard(make):
    """Not a voter: PySyncObj takes its entries and its term."""
    is_stock, new = make
    p = new()
    stranger = append(1000, (1, 0), [p.entry("mine now", 2, 1000)], 2)
    p.deliver("stranger", stranger)
    p.tick()
    assert (p.term == 1000) is is_stock
    assert p.events == (["mine now"] if is_stock else [])


def test_command_that_raises(make):
    """Stock: the same entry is applied again at every tick, for ever. Ours: once, then this node stops and says so."""
    is_stock, new = make
    p = new()
    calls = []
    if is_stock:
        apply = p.node._idToMethod[0]
        p.node._idToMethod[0] = lambda *a, **k: (calls.append(a), apply(*a, **k))[1]
    else:
        p.machine.raise_on = "raise"
        apply_ours = p.machine.apply
        p.machine.apply = lambda i, c: (calls.append(i), apply_ours(i, c))[1]
    p.deliver("n2", append(1, (1, 0), [p.entry("raise", 2, 1), p.entry("after", 3, 1)], 3))
    for _ in range(5):
        try:
            p.tick(50)
        except RuntimeError:
            assert is_stock
    assert len(calls) == (5 if is_stock else 1)
    assert p.events == []
    if not is_stock:
        health = p.node.health()
        assert "state machine raised RuntimeError('boom') at log index 2" in health.problem
        assert health.applied == 1
        sent = len(p.out)
        p.deliver("n3", {"type": "request_vote", "term": 9, "last_log_index": 99, "last_log_term": 9})
        assert len(p.out) == sent, "a stopped node must not vote"


def test_callback_that_raises(make):
    """Stock: the command is applied twice on that node only."""
    is_stock, new = make
    p = new()
    p.campaign(["n2"])

    def broken(*_):
        raise ValueError("callback")

    if is_stock:
        p.node.put("once", callback=broken)
    else:
        p.node.propose(note_of("once"), broken)
    p.tick()
    p.deliver("n2", ack(p.last_index + 1))
    for _ in range(3):
        try:
            p.tick()
        except ValueError:
            assert is_stock
    assert p.events == (["once", "once"] if is_stock else ["once"])
    if not is_stock:
        assert p.node.health().problem == ""


def note_of(text):
    from tests.consensus.cluster import note

    return note(text)


FIRED = []


def fire():
    FIRED.append("code ran")


class Exploit:
    """What a pickle can do."""

    def __reduce__(self):
        return fire, ()


def test_pickle_in_a_command(make):
    """Stock: what a peer puts into the log is unpickled on every node."""
    is_stock, new = make
    FIRED.clear()
    p = new()
    evil = (b"\x00" + pickle.dumps(Exploit()), 2, 1)
    if is_stock:
        p.deliver("n2", append(1, (1, 0), [evil], 2))
        with pytest.raises(KeyError):  # the "method" it names does not exist; but the code ran
            p.tick()
        assert FIRED == ["code ran"]
    else:
        body = Append(1, 2, 1, 0, [Entry(*evil)])
        p.node.deliver("n2", p.payload(body, 1))
        p.tick()
        assert FIRED == [] and p.last_index == 1 and p.term == 0


def test_pickle_in_a_transmission(make):
    is_stock, new = make
    FIRED.clear()
    p = new()
    evil = {**append(1, (1, 0), [], 1), "transmission": "finish", "data": pickle.dumps(Exploit())}
    if is_stock:
        with pytest.raises(TypeError):
            _transmit(p, evil)
        assert FIRED == ["code ran"]
    else:
        p.deliver("n2", evil)  # there is no such field on our wire
        p.tick()
        with pytest.raises(seams.PickleRefused):
            import pysyncobj.syncobj

            pysyncobj.syncobj.pickle.dumps("anything")
        assert FIRED == []


def _transmit(p, evil):
    p.deliver("n2", evil | {"transmission": "start", "data": b""})
    p.deliver("n2", evil)


def test_membership_and_version_commands_in_the_log(make):
    is_stock, new = make
    p = new()
    change = b"\x02" + pickle.dumps(["add", "evil:1", None], 2)
    if is_stock:
        version = (b"\x03" + pickle.dumps(7, 2), 2, 1)
        p.deliver("n2", append(1, (1, 0), [version, p.entry("next", 3, 1)], 3))
        p.tick()
        p.tick()
        assert p.events == ["next", "next"], "an unknown version shifts the log: what follows is applied twice"
    else:
        for command in (change, b"\x03\x07", b"", b"\x00"):
            p.deliver("n2", append(1, (1, 0), [(command, 2, 1)], 2))
        assert p.last_index == 1
        with pytest.raises(CodecError, match="type 02"):
            check_logged(change)


GARBAGE = [b"", b"\x00", b"\xc1" * 50, b"\x80\x02]q\x00.", b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000, b"x" * 600_000]


@pytest.mark.parametrize("payload", GARBAGE, ids=lambda p: f"{len(p)}-{p[:4].hex()}")
def test_garbage_is_dropped(payload):
    p = OurPuppet(3)
    before = p.node.health()
    p.node.deliver("n2", payload)
    p.tick()
    assert p.node.health() == before


def test_each_bit_flip_of_a_payload_is_harmless():
    """Whatever arrives, the node neither stops nor applies something that was not said."""
    p = OurPuppet(3)
    good = p.payload(Append(1, 2, 1, 0, [Entry(*p.entry("e2", 2, 1))]), 1)
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        p.node.deliver("n2", bytes(bad))
    p.tick()
    assert p.node.health().problem == ""


@pytest.mark.parametrize(
    "entries",
    [
        [Entry(NO_OP, 3, 1)],  # a gap
        [Entry(NO_OP, 2, 1), Entry(NO_OP, 2, 1)],
        [Entry(NO_OP, 2, 5)],  # of a later term than the message
        [Entry(NO_OP, 2, 1)] * 5000,
        [Entry(b"\x00" * 200_000, 2, 1)],
        [Entry(NO_OP, -2, 1)],
    ],
)
def test_impossible_entries_are_refused(entries):
    with pytest.raises(CodecError):
        decode_envelope(encode_envelope(Envelope(1, 1, 1, 1, Append(1, 1, 1, 0, entries))))


def test_oversize_snapshot_chunk_is_refused():
    with pytest.raises(CodecError, match="chunk"):
        decode_envelope(encode_envelope(Envelope(1, 1, 1, 1, Chunk(1, b"x" * 200_000, 0, False))))


def test_late_and_doubled_payloads_are_dropped():
    p = OurPuppet(3)
    first = p.payload(Append(1, 1, 1, 0, [Entry(*p.entry("a", 2, 1))]), 1)
    second = p.payload(Append(1, 1, 2, 1, [Entry(*p.entry("b", 3, 1))]), 1)
    for payload in (second, first, second):
        p.node.deliver("n2", payload)
    p.tick()
    assert len(p.sent("next_node_idx")) == 1


def test_oversize_command_is_surely_not_done():
    p = OurPuppet(3)
    p.propose("x" * 200_000)
    p.tick()
    [(_, result)] = p.results
    assert isinstance(result, Outcome) and not result.accepted and result.index == 0
    assert "over the limit" in result.reasons[0]


def test_two_leaders_in_a_term_stop_the_node():
    p = OurPuppet(3)
    p.deliver("n2", append(4, (1, 0), [], 1))
    p.deliver("n3", append(4, (1, 0), [], 1))
    assert "both lead in term 4" in p.node.health().problem


def test_leader_that_would_replace_what_is_applied_stops_the_node():
    p = OurPuppet(3)
    p.deliver("n2", append(1, (1, 0), [p.entry("a", 2, 1)], 2))
    p.tick()
    assert p.events == ["a"]
    p.deliver("n3", append(2, (1, 0), [p.entry("b", 2, 2)], 2))
    p.tick()
    assert "applied here" in p.node.health().problem
    assert p.events == ["a"]


def test_wiped_disk(make):
    """n1 votes for n2, loses its disk and comes back: stock votes again in the same term, for n3."""
    is_stock, new = make
    vote = {"type": "request_vote", "term": 7, "last_log_index": 1, "last_log_term": 0}
    p = new()
    p.deliver("n2", vote)
    assert [to for to, _ in p.sent("response_vote")] == ["n2"]
    if is_stock:
        q = new()
        q.deliver("n3", vote)
        assert [to for to, _ in q.sent("response_vote")] == ["n3"]
        return
    p.node.stop()
    p.disk.wipe()
    with pytest.raises(JournalMissing, match="operator"):
        _start_without_journal(p.disk)
    p.disk.process_death()


def _start_without_journal(disk):
    from random import Random

    from hamail.consensus.syncobj import SyncObjConsensus
    from tests.consensus.cluster import STATE_DIR, TIMINGS, ListMachine

    node = SyncObjConsensus(
        node="n1", voters=["n1", "n2", "n3"], cluster="test", path=STATE_DIR, machine=ListMachine(), timings=TIMINGS,
        send=lambda *_: pytest.fail("must not say anything"), now_ns=lambda: 1, rng=Random(1), disk=disk,
    )  # fmt: skip
    try:
        node.start()
    except JournalError:
        assert "operator" in node.health().problem and not node.health().journal_ok
        node.tick(10**12)
        raise


def test_journal_survives_a_vote_and_a_power_cut():
    p = OurPuppet(3)
    p.deliver("n2", {"type": "request_vote", "term": 7, "last_log_index": 1, "last_log_term": 0})
    assert p.sent("response_vote")
    p.disk.power_cut()
    q = OurPuppet(3, disk=p.disk)
    q.deliver("n3", {"type": "request_vote", "term": 7, "last_log_index": 1, "last_log_term": 0})
    assert q.term == 7 and not q.sent("response_vote"), "it has voted for n2 in this term"


def test_follower_with_a_longer_log_sends_the_leader_beyond_its_end(make):
    """A follower that has compacted, and holds more than the leader, asks to go on after its own end."""
    is_stock, new = make
    p = new()
    p.campaign(["n2"])
    p.deliver("n3", ack(99, success=False, reset=True))
    before = len(p.sent("append_entries"))
    p.tick(200)
    [previous] = [m["prevLogIdx"] for to, m in p.sent("append_entries")[before:] if to == "n3"]
    assert previous == (None if is_stock else p.last_index), "stock: there is no such entry, and no way back from here"


def test_answer_of_zero_does_not_hang_the_leader():
    p = OurPuppet(3)
    p.campaign(["n2"])
    p.deliver("n3", ack(0, success=False, reset=True))
    p.tick(200)
    assert [m["prevLogIdx"] for to, m in p.sent("append_entries") if to == "n3"][-1] >= 1
    assert p.node.health().problem == ""


def test_acknowledgement_of_what_does_not_exist_stops_the_leader():
    p = OurPuppet(3)
    p.campaign(["n2"])
    p.deliver("n3", ack(99))
    assert "acknowledges log entry 98" in p.node.health().problem


def test_what_is_out_of_range_or_unknown_is_refused():
    for envelope in (
        Envelope(NUMBER_MAX + 1, 1, 1, 1, Ack(2, False, True)),
        Envelope(1, NUMBER_MAX + 1, 1, 1, Ack(2, False, True)),
        Envelope(1, 1, 1, 1, Known(NUMBER_MAX + 1, 1)),
        Envelope(1, 1, 1, 1, Answer(1, NUMBER_MAX + 1)),
    ):
        with pytest.raises(CodecError, match="out of range"):
            decode_envelope(encode_envelope(envelope))
    last = Envelope(NUMBER_MAX, NUMBER_MAX, 1, 1, Known(NUMBER_MAX, 1))
    assert decode_envelope(encode_envelope(last)) == last
    for message in ({"type": "apply_command", "command": b"x"}, {"type": "append_entries", "term": 1}):
        with pytest.raises(CodecError, match="not part of hamail's protocol"):
            from_library(message)
