"""The journal alone: what survives, what is dropped, what is refused."""

import errno
import itertools
from pathlib import Path
from random import Random

import pytest

from hamail.consensus import records as consensus_records
from hamail.consensus.journal import GROW_BYTES, Journal, JournalError, JournalMissing, initialise
from hamail.consensus.memory_disk import MemoryDisk, PowerCut
from hamail.consensus.records import (
    FORMAT,
    NONCE_BITS,
    BadJournal,
    Ballot,
    Entry,
    Heard,
    Identity,
    Opened,
    Snapshot,
    Truncated,
    Written,
    batch,
    scan,
)
from hamail.disk import RealDisk

DIR = Path("/state")
FILE = DIR / "journal"


def fresh(disk=None, **kwargs):
    disk = disk or MemoryDisk(**kwargs)
    initialise(DIR, "c", "n1", disk=disk)
    return disk


def reopen(disk):
    disk.process_death()
    return Journal(DIR, "c", "n1", disk=disk)


def sync(journal):
    work = journal.take()
    if work is not None:
        work()


def state(journal):
    return (journal.term, journal.vote, journal[:], journal.snapshot)


def filled(disk, count=5):
    journal = reopen(disk)
    for index in range(1, count + 1):
        journal.add(b"c%d" % index, index, 1)
        journal.setCurrentTerm(index, "n2")
        sync(journal)
    return journal


def test_everything_synced_is_there_after_a_power_cut():
    disk = fresh()
    journal = filled(disk)
    journal.deleteEntriesFrom(3)
    journal.add(b"new", 4, 9)
    sync(journal)
    before = state(journal)
    disk.power_cut()
    assert state(reopen(disk)) == before
    assert before[2][-1] == (b"new", 4, 9)


def test_nothing_is_written_before_the_work_is_done_and_one_sync_covers_all():
    disk = fresh()
    journal = filled(disk)
    syncs = disk.syncs
    journal.setCurrentTerm(9, None)
    journal.add(b"x", 6, 9)
    journal.add(b"y", 7, 9)
    assert disk.syncs == syncs
    sync(journal)
    assert disk.syncs == syncs + 1
    assert journal.take() is None


def test_incarnation_grows_with_each_life():
    disk = fresh()
    assert [reopen(disk).incarnation >> NONCE_BITS for _ in range(3)] == [1, 2, 3]


def test_missing_journal():
    with pytest.raises(JournalMissing, match="does not exist"):
        Journal(DIR, "c", "n1", disk=MemoryDisk())
    disk = fresh()
    disk.remove(FILE)
    with pytest.raises(JournalMissing, match="was lost, although this node is a member"):
        reopen(disk)
    with pytest.raises(JournalError, match="replaced disk"):
        initialise(DIR, "c", "n1", disk=disk)
    initialise(DIR, "c", "n1", disk=disk, replaced_disk=True)
    assert reopen(disk).rejoining.pending


def test_initialise_never_overwrites():
    disk = fresh()
    before = disk.read(FILE)
    with pytest.raises(JournalError, match="exists already"):
        initialise(DIR, "c", "n1", disk=disk)
    assert disk.read(FILE) == before


@pytest.mark.parametrize(("cluster", "node"), [("other", "n1"), ("c", "n2")])
def test_journal_of_another_node_is_refused(cluster, node):
    disk = fresh()
    with pytest.raises(JournalError, match="belongs to node 'n1' of cluster 'c'"):
        Journal(DIR, cluster, node, disk=disk)


def test_second_process_is_refused():
    disk = fresh()
    _first = reopen(disk)
    with pytest.raises(JournalError, match="in use by another process"):
        Journal(DIR, "c", "n1", disk=disk)


def test_each_cut_of_the_last_write_gives_old_or_new():
    """The last batch is torn at each byte, and with each of its sectors missing: it is dropped whole, never more."""
    disk = fresh()
    journal = filled(disk)
    old = state(journal)
    start = journal.size_bytes
    for index in range(6, 10):
        journal.add(bytes([index]) * 250, index, 5)
    sync(journal)
    new, end = state(journal), journal.size_bytes
    image = disk.read(FILE)[: end + 1024]  # less of the space taken ahead, to be quick
    cuts = [image[:at] + bytes(len(image) - at) for at in range(start, end)]
    boundaries = [start, *range((start // 512 + 1) * 512, end, 512), end]
    for first, last in itertools.combinations(range(len(boundaries)), 2):
        a, b = boundaries[first], boundaries[last]
        cuts.append(image[:a] + bytes(b - a) + image[b:])
    for cut in cuts:
        disk = fresh()
        disk.open(FILE, create=True).write_at(0, cut)
        found = reopen(disk)
        assert found.dropped_torn_tail == any(cut[start:])
        assert state(found) == old
        found.add(b"next", 6, 5)
        sync(found)
        assert reopen(disk)[-1] == (b"next", 6, 5)
    disk.open(FILE, create=True).write_at(0, image)
    assert state(reopen(disk)) == new


def test_large_torn_batch_leaves_nothing_behind():
    disk = fresh()
    journal = filled(disk)
    start = journal.size_bytes
    for index in range(6, 10):
        journal.add(b"x" * 120_000, index, 5)
    sync(journal)
    disk.damage(FILE, start, bytes(512))  # only its end was written
    found = reopen(disk)
    assert found.dropped_torn_tail and found.last_index == 5
    found.add(b"next", 6, 5)
    sync(found)
    assert reopen(disk)[-1] == (b"next", 6, 5)


def test_each_bit_flip_is_refused():
    """Also in the last batch: it was synced, so somebody may rely on it."""
    disk = fresh()
    journal = filled(disk, 3)
    image = disk.read(FILE)
    for bit in range(journal.size_bytes * 8):
        bad = bytearray(image[: journal.size_bytes + 1024])
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadJournal):
            scan(bytes(bad))


def test_damage_is_an_error_that_names_the_place():
    disk = fresh()
    journal = filled(disk, 50)
    for damage in (bytes(512), b"\xff" * 512, b"x"):
        image = disk.read(FILE)
        disk.damage(FILE, journal.size_bytes // 2, damage)
        with pytest.raises(JournalError, match=r"is damaged: .* at byte \d+.* must not vote"):
            reopen(disk)
        disk.damage(FILE, 0, image)


def test_swapped_and_lost_batches_are_refused():
    one, two = batch(1, [Ballot(1, None)]), batch(2, [Ballot(2, None)])
    three = batch(3, [Ballot(3, None)])
    assert len(scan(one + two + three)[0]) == 3
    for bad in (one + three, one + three + two, two + one, one + two + two):
        with pytest.raises(BadJournal):
            scan(bad + bytes(512))


def test_not_a_journal():
    disk = fresh()
    for content in (b"", b"\0" * 4096, b"PYSYNCOBJ" + bytes(4000), b"#!/bin/sh\n"):
        image = disk.read(FILE)
        disk.damage(FILE, 0, content.ljust(len(image), b"\0"))
        with pytest.raises(JournalError):
            reopen(disk)
        disk.damage(FILE, 0, image)


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_first_error_of_the_disk_is_the_last(operation):
    disk = fresh()
    journal = filled(disk)
    disk.fail[operation] = OSError(errno.EIO, "Input/output error")
    journal.add(b"x", 6, 1)
    with pytest.raises(JournalError, match=r"Input/output error.*no longer votes"):
        sync(journal)
    disk.fail.clear()
    with pytest.raises(JournalError, match="Input/output error"):
        journal.take()  # the disk works again, but nobody knows what it kept


def test_what_a_failed_sync_left_in_the_page_cache_is_not_relied_on_before_it_is_durable():
    """Linux keeps pages that it could not write, as if it had written them: the next life of hamaild reads them."""
    disk = fresh()
    journal = filled(disk)
    journal.add(b"x", 6, 9)
    journal.setCurrentTerm(9, "n3")
    disk.fail["sync"] = OSError(errno.EIO, "Input/output error")
    with pytest.raises(JournalError):
        sync(journal)
    disk.fail.clear()
    again = reopen(disk)
    known = (again.last_index, again.term, again.vote)  # from here on this node answers for it
    disk.power_cut()
    after = reopen(disk)
    assert (after.last_index, after.term, after.vote) == known


def test_full_disk():
    disk = fresh()
    journal = filled(disk)
    disk.capacity_bytes = disk._used() + 1000
    with pytest.raises(JournalError, match=r"No space left.*is it full"):
        for index in range(6, 10_000):
            journal.add(b"x" * 500, index, 1)
            sync(journal)
    disk.power_cut()
    disk.capacity_bytes = None
    survivor = reopen(disk)
    assert survivor.last_index >= 6
    assert [entry[1] for entry in survivor[:]] == list(range(1, survivor.last_index + 1))


def compacted(disk):
    journal = filled(disk, 40)
    journal.compact(Snapshot(Entry(b"c29", 29, 1), Entry(b"c30", 30, 1), b"state at 30" * 200))
    journal.add(b"c41", 41, 40)
    journal.setCurrentTerm(41, None)
    return journal


def test_compaction():
    disk = fresh()
    journal = compacted(disk)
    sync(journal)
    expected = state(journal)
    assert journal.first_index == 29 and journal.last_index == 41 and len(journal) == 13
    assert journal.size_bytes < GROW_BYTES
    disk.power_cut()
    found = reopen(disk)
    assert state(found) == expected and found.snapshot.data == b"state at 30" * 200
    assert found.getRaftCommitIndex() == 30
    found.add(b"c42", 42, 41)
    sync(found)
    assert reopen(disk).last_index == 42


def test_power_cut_at_each_operation_of_a_compaction_gives_old_or_new():
    """Every operation, and for each many ways in which unsynced sectors and names may have survived."""
    seen = set()
    for operation in range(12):
        for seed in range(12):
            disk = fresh()
            journal = compacted(disk)
            old = (40, "n2", 40, None)
            work = journal.take()
            assert work is not None
            disk.crash_after = operation
            try:
                work()
                finished = True
            except PowerCut:
                finished = False
            disk.power_cut(Random(seed))
            found = reopen(disk)
            now = (found.term, found.vote, found.last_index, found.snapshot and found.snapshot.last.index)
            assert now in {old, (41, None, 41, 30)}
            assert not finished or now != old
            assert not disk.exists(DIR / "journal.new")
            seen.add(now)
    assert len(seen) == 2


def test_power_cut_at_each_operation_of_appending_keeps_a_prefix():
    for operation in range(60):
        for seed in range(8):
            disk = fresh()
            journal = reopen(disk)
            disk.crash_after = operation
            durable = 0
            try:
                for index in range(1, 12):
                    journal.add(bytes([index]) * 700, index, 1)
                    journal.add(bytes([index]) * 700, index + 1, 1)
                    journal.deleteEntriesFrom(index)
                    sync(journal)
                    durable = index
            except PowerCut:
                pass
            disk.power_cut(Random(seed))
            found = reopen(disk)
            assert durable <= found.last_index <= durable + 1
            assert [e[1] for e in found[:]] == list(range(1, found.last_index + 1))


def test_installed_snapshot_replaces_the_log_in_one_step():
    disk = fresh()
    journal = filled(disk)
    snapshot = Snapshot(Entry(b"\x01", 99, 3), Entry(b"\x01", 100, 3), b"s")
    journal.install(snapshot)
    journal.clear()
    journal.add(b"\x01", 99, 3)
    journal.add(b"\x01", 100, 3)
    assert len(disk.read(FILE)) > 0 and reopen_copy(disk).last_index == 5, "nothing changes on disk before the work"
    sync(journal)
    journal.add(b"next", 101, 3)
    sync(journal)
    found = reopen(disk)
    assert (found.first_index, found.last_index, found.snapshot) == (99, 101, snapshot)


def reopen_copy(disk):
    copy = fresh()
    copy.damage(FILE, 0, disk.read(FILE))
    return reopen(copy)


def test_real_disk(tmp_path):
    path = tmp_path / "consensus"
    initialise(path, "c", "n1")
    journal = Journal(path, "c", "n1")
    assert (path / "journal").stat().st_size >= GROW_BYTES, "space is taken ahead"
    for index in range(1, 30):
        journal.add(b"c%d" % index, index, 1)
        sync(journal)
    with pytest.raises(JournalError, match="in use"):
        Journal(path, "c", "n1", disk=RealDisk())
    journal.compact(Snapshot(Entry(b"c19", 19, 1), Entry(b"c20", 20, 1), b"s"))
    sync(journal)
    journal._destroy()
    found = Journal(path, "c", "n1")
    assert (found.first_index, found.last_index) == (19, 29)
    found._destroy()


def test_a_disk_that_takes_nothing_gets_no_journal():
    disk = MemoryDisk()
    disk.fail["create"] = OSError(errno.EROFS, "Read-only file system")
    with pytest.raises(JournalError, match=r"cannot create a journal in /state: .*Read-only"):
        initialise(DIR, "c", "n1", disk=disk)
    assert not disk.exists(FILE)


ME = Identity(FORMAT, "c", "n1")


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([ME, Ballot(5, "n2"), Ballot(4, "n2")], "damaged: term 4 is recorded after term 5"),
        ([ME, Entry(b"a", 1, 1), Entry(b"b", 3, 1)], "damaged: entry 3 is recorded after entry 1"),
        ([ME, Entry(b"a", 1, 1), Truncated(4)], r"damaged: index 4 is outside of the log \(1 to 1\)"),
        ([ME, Entry(b"a", 2, 1), Truncated(1)], r"damaged: index 1 is outside of the log \(2 to 2\)"),
        ([ME, Opened(-1, 0)], "damaged: a life -1 at position 0 is out of range"),
        ([ME, Written(-1)], "damaged: a life 0 at position -1 is out of range"),
        ([ME, Heard("n2", 1 << 63, 1)], "is out of range"),
        ([Identity(99, "c", "n1")], "has format 99; this version reads"),
        ([Ballot(1, None)], "damaged: it does not begin with the name"),
    ],
)
def test_whole_records_that_cannot_be_true_are_refused(records, said):
    """Their checksums are right: written by a fault of hamail, or by another version of it."""
    disk = fresh()
    disk.damage(FILE, 0, batch(1, records))
    with pytest.raises(JournalError, match=said):
        reopen(disk)


def test_a_batch_over_the_limit_is_not_written(monkeypatch):
    monkeypatch.setattr(consensus_records, "MAX_BATCH_BYTES", 1000)
    journal = filled(fresh())
    before = journal.size_bytes
    journal.add(b"x" * 1000, 6, 1)
    with pytest.raises(BadJournal, match="over the limit of 1000"):
        journal.take()
    assert journal.size_bytes == before


def test_an_error_that_nobody_foresaw_is_the_last_as_well(monkeypatch):
    disk = fresh()
    journal = filled(disk)

    def bug(_data):
        raise ValueError("a bug")

    monkeypatch.setattr(journal, "_append", bug)
    journal.add(b"c6", 6, 1)
    with pytest.raises(JournalError, match="failed unexpectedly: ValueError"):
        sync(journal)
    monkeypatch.undo()
    with pytest.raises(JournalError, match="failed unexpectedly"):
        sync(journal)
    assert len(reopen(disk)) == 5


def test_what_changes_nothing_is_not_written():
    journal = filled(fresh())
    journal.setCurrentTerm(journal.term, journal.vote)
    journal.deleteEntriesFrom(len(journal))
    assert journal.take() is None and len(journal) == 5
    journal.setCurrentTerm(journal.term, "n3")
    assert journal.take() is not None, "another vote in the same term is one"
