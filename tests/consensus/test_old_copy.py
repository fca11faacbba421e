"""A node whose disk was put back to an older copy: its peers know more of it than it does, and it learns that first."""

import copy

import pytest

from hamail.consensus.codec import Answer, Known, PreVote, RequestVote, Vote, decode_envelope
from hamail.consensus.journal import LIVES_MAX, Journal, initialise
from hamail.consensus.memory_disk import MemoryDisk
from hamail.consensus.records import NONCE_BITS, Ballot, Entry, Identity, Opened, Snapshot, batch
from hamail.consensus.standing import LIVES_LEAP_MAX
from tests.consensus.cluster import STATE_DIR, Cluster
from tests.consensus.puppet import NO_OP, OurPuppet, append


def said(p, kind):
    return [envelope.body for _, envelope in p.out if isinstance(envelope.body, kind)]


def sync(journal):
    work = journal.take()
    assert work is not None
    work()


def opened(disk):
    disk.process_death()
    return Journal(STATE_DIR, "test", "n1", disk=disk)


def asked_to_vote(p, term=7):
    p.out.clear()
    p.deliver("n2", {"type": "request_vote", "term": term, "last_log_index": 9, "last_log_term": 6})
    return bool(said(p, Vote))


@pytest.fixture
def disk():
    made = MemoryDisk()
    initialise(STATE_DIR, "test", "n1", disk=made)
    return made


# ---- who is asked, and for how long


def test_nothing_counts_before_all_have_been_asked(disk):
    p = OurPuppet(3, disk=disk, heard_by="")
    assert {to for to, e in p.out if isinstance(e.body, Known)} == {"n2", "n3"}
    p.meet("n2")
    assert not asked_to_vote(p)
    p.meet("n3")
    assert asked_to_vote(p)


def test_it_does_not_wait_for_ever_for_one_that_is_dead(disk):
    p = OurPuppet(3, disk=disk, heard_by="n2")
    for _ in range(13):
        p.tick(100)
    p.meet("n2")
    assert asked_to_vote(p)
    p.out.clear()
    for _ in range(3):
        p.tick(100)
    assert not said(p, Known), "nor is it asked for ever"


def test_a_life_that_is_new_is_not_listened_to_before_it_has_answered(disk):
    p = OurPuppet(3, disk=disk, heard_by="n3")
    assert not asked_to_vote(p)
    assert Known(0, 0) in said(p, Known)
    p.node.deliver("n2", p.payload(Answer(5, 5)))
    assert not asked_to_vote(p), "it has answered another question"
    p.meet("n2")
    assert asked_to_vote(p)


# ---- what a peer knows


def test_it_answers_what_its_journal_holds_and_is_mute_where_it_does_not(disk):
    p = OurPuppet(3, disk=disk)
    life, position = p.node._journal.incarnation, p.node._journal.position
    p.out.clear()
    p.meet("n2", (life, position))
    assert said(p, Answer) == [Answer(life, position)]
    assert asked_to_vote(p, 7)
    p.meet("n2", (life, position + 100))
    assert "older copy" in p.node.health().hindrance
    assert not asked_to_vote(p, 8)


def test_what_was_said_in_the_moment_before_the_doubt_does_not_leave(disk):
    p = OurPuppet(3, disk=disk)
    p.out.clear()
    p.node.deliver("n2", p.payload(RequestVote(7, 9, 6), 7))
    p.node.deliver("n3", p.payload(Known(p.node._journal.incarnation, 10**6)))
    p.tick()
    assert not said(p, Vote)
    assert [type(e.body) for _, e in p.out] == [Answer]


def test_a_leader_in_doubt_leads_no_longer():
    p = OurPuppet(3)
    p.campaign(["n2"])
    assert p.is_leader
    p.meet("n3", (p.node._journal.incarnation, 10**6))
    assert not p.is_leader
    p.out.clear()
    for _ in range(12):
        p.tick(100)
    assert not said(p, PreVote)


def test_the_doubt_outlives_restarts_and_is_durable_before_the_answer(disk):
    p = OurPuppet(3, disk=disk)
    p.out.clear()
    disk.fail["sync"] = OSError(5, "Input/output error")
    p.meet("n2", (77 << NONCE_BITS, 5))
    assert not said(p, Answer)
    disk.fail.clear()
    disk.power_cut()
    for _ in range(3):
        q = OurPuppet(3, disk=disk)
        q.meet("n2", (77 << NONCE_BITS, 5))
        assert Answer(77 << NONCE_BITS, 5) in said(q, Answer)
        disk.power_cut()
    r = OurPuppet(3, disk=disk)
    assert r.node.health().hindrance and not asked_to_vote(r)
    assert r.node._journal.incarnation >> NONCE_BITS > 77, "no later life can be taken for one that was lost"


def test_a_liar_does_not_use_up_the_numbers(disk):
    p = OurPuppet(3, disk=disk)
    p.meet("n2", (LIVES_LEAP_MAX + 2 << NONCE_BITS, 5))
    assert not p.node.health().hindrance
    p.meet("n2", (2**62, 2**62))
    assert not p.node.health().hindrance


# ---- the journal's part


def test_copies_of_each_age_are_told_from_the_line_that_went_on(disk):
    copies, marks = [], []
    for life in range(1, 5):
        journal = opened(disk)
        for turn in range(3):
            copies.append((copy.deepcopy(disk), len(marks)))
            journal.setCurrentTerm(life * 10 + turn, "n2")
            sync(journal)
            marks.append((journal.incarnation, journal.position))
    assert all(opened(disk).holds(mark) for mark in marks)
    for old, count in copies:
        for _ in range(6):  # a crash loop: its lives are soon more than those that are lost
            journal = opened(old)
            assert [journal.holds(mark) for mark in marks] == [i < count for i in range(len(marks))]


def test_lives_and_marks_survive_compaction_and_are_bounded(disk):
    journal = opened(disk)
    journal.add(b"a", 1, 1)
    journal.add(b"b", 2, 1)
    journal.introduce("n2", (5 << NONCE_BITS, 9))
    sync(journal)
    first = (journal.incarnation, journal.position)
    journal.hear("n2", (5 << NONCE_BITS, 11))
    assert journal.take() is None, "what was heard is no reason to write"
    journal.compact(Snapshot(Entry(b"a", 1, 1), Entry(b"b", 2, 1), b"state"))
    sync(journal)
    assert (journal.incarnation, journal.position) == (first[0], first[1] + 1)
    disk.power_cut()
    journal = opened(disk)
    assert journal.heard == {"n2": (5 << NONCE_BITS, 11)}
    assert journal.holds(first) and not journal.holds((first[0], first[1] + 2))
    for _ in range(LIVES_MAX + 5):
        journal = opened(disk)
    assert len(journal.lives) == LIVES_MAX
    assert not journal.holds(first), "too long ago to tell: safe, and it gets over it"


def test_a_journal_of_the_format_before_is_read():
    disk = MemoryDisk()
    initialise(STATE_DIR, "test", "n1", disk=disk)
    old = batch(1, [Identity(1, "test", "n1"), Opened(0), Ballot(0, None)]) + batch(2, [Opened(1)])
    file = disk.open(STATE_DIR / "journal", create=True)
    file.write_at(0, old + bytes(1024))
    file.sync()
    journal = opened(disk)
    assert journal.incarnation >> NONCE_BITS == 1 and journal.position == 3


# ---- five voters


def test_of_five_an_old_copy_finds_its_way_back_and_the_logs_agree():
    cluster = Cluster(5, seed=3)
    leader = cluster.elect()
    old = next(n for n in cluster.names if n != leader)
    put_back = copy.deepcopy(cluster.disks[old])
    for number in range(4):
        assert cluster.commit(leader, f"event {number}").accepted
    cluster.kill(old, power=True)
    put_back.power_cut()
    cluster.disks[old] = put_back
    cluster.sent = []
    node = cluster.boot(old)
    cluster.run(1200)
    assert any(
        sender == old and isinstance(decode_envelope(payload).body, Answer) for sender, _, payload in cluster.sent
    )
    assert node._journal.overruled
    assert cluster.run(20_000, lambda: not node.health().hindrance), "it votes again"
    assert cluster.commit(cluster.elect(), "afterwards").accepted
    cluster.run(1000)
    assert len({tuple(m.events) for m in cluster.machines.values()}) == 1


def test_a_leader_that_is_known_is_followed_at_once_after_a_restart(disk):
    """Who it listens to was written down; only what it says itself does not count yet."""
    p = OurPuppet(3, disk=disk)
    p.deliver("n2", append(1, (1, 0), [(NO_OP, 2, 1)], 1))
    disk.process_death()
    q = OurPuppet(3, disk=disk, heard_by="")
    q.sequence = 1000
    q.deliver("n2", append(1, (2, 1), [(NO_OP, 3, 1)], 2))
    assert q.last_index == 3
