"""Faults of PySyncObj's journal on real files: shown on the journal as shipped, closed in ours."""

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pysyncobj.journal import FileJournal

from hamail.consensus import seams
from hamail.consensus.journal import Journal, JournalError, initialise
from hamail.consensus.records import Entry, Snapshot

COUNT = 100


def write_stock(path: Path) -> bytes:
    journal = FileJournal(str(path))
    for index in range(1, COUNT + 1):
        journal.add(b"command %03d" % index, index, 1)
    journal.setCurrentTerm(7, "n2")
    journal._destroy()
    return path.read_bytes()


def write_ours(path: Path, count: int = COUNT) -> Journal:
    initialise(path, "c", "n1")
    journal = Journal(path, "c", "n1")
    for index in range(1, count + 1):
        journal.add(b"command %03d" % index, index, 1)
        if index % 10 == 0:
            sync(journal)
    journal.setCurrentTerm(7, "n2")
    sync(journal)
    return journal


def sync(journal: Journal) -> None:
    work = journal.take()
    if work is not None:
        work()


def test_flipped_bit_in_a_command(tmp_path):
    image = bytearray(write_stock(tmp_path / "stock"))
    at = image.index(b"command 050")
    image[at + 8] ^= 1
    (tmp_path / "stock").write_bytes(image)
    assert FileJournal(str(tmp_path / "stock"))[49][0] == b"command 150", "stock takes the wrong command without a word"

    write_ours(tmp_path / "ours")._destroy()
    file = tmp_path / "ours" / "journal"
    image = bytearray(file.read_bytes())
    image[image.index(b"command 050") + 8] ^= 1
    file.write_bytes(image)
    with pytest.raises(JournalError, match=r"damaged.*must not vote"):
        Journal(tmp_path / "ours", "c", "n1")


def test_stale_header_page(tmp_path):
    """The page with the length was not written back before the power went."""
    early = FileJournal(str(tmp_path / "early"))
    for index in range(1, 11):
        early.add(b"command %03d" % index, index, 1)
    early._destroy()
    image = bytearray(write_stock(tmp_path / "stock"))
    image[:40] = (tmp_path / "early").read_bytes()[:40]
    (tmp_path / "stock").write_bytes(image)
    assert len(FileJournal(str(tmp_path / "stock"))) == 10, "stock loses 90 of 100 entries without a word"

    write_ours(tmp_path / "ours")._destroy()
    file = tmp_path / "ours" / "journal"
    image = bytearray(file.read_bytes())
    image[512:1024] = bytes(512)  # there is no length to lose; a lost page in the middle is noticed
    file.write_bytes(image)
    with pytest.raises(JournalError, match="good batch follows"):
        Journal(tmp_path / "ours", "c", "n1")


def test_torn_tail(tmp_path):
    """Power is lost during the last write: stock cannot be opened any more, ours goes on with what was synced."""
    image = write_stock(tmp_path / "stock")
    end = struct.unpack("<I", image[36:40])[0]
    (tmp_path / "stock").write_bytes(image[: end - 20])
    with pytest.raises(struct.error):
        FileJournal(str(tmp_path / "stock"))

    journal = write_ours(tmp_path / "ours")
    synced = journal.size_bytes
    journal.add(b"x" * 3000, COUNT + 1, 7)
    sync(journal)
    journal._destroy()
    file = tmp_path / "ours" / "journal"
    image = file.read_bytes()
    file.write_bytes(image[: synced + 1500].ljust(len(image), b"\0"))
    found = Journal(tmp_path / "ours", "c", "n1")
    assert found.dropped_torn_tail and found.last_index == COUNT and (found.term, found.vote) == (7, "n2")
    found._destroy()


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_term_and_vote(tmp_path, damage):
    """Stock forgets term and vote without a word, and so votes twice."""
    write_stock(tmp_path / "stock")
    meta = tmp_path / "stock.meta"
    meta.unlink() if damage is None else meta.write_bytes(damage)
    stock = FileJournal(str(tmp_path / "stock"))
    assert (stock.getCurrentTerm(), stock.getVotedForNodeId()) == (0, None)

    write_ours(tmp_path / "ours")._destroy()
    file = tmp_path / "ours" / "journal"
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    with pytest.raises(JournalError):
        Journal(tmp_path / "ours", "c", "n1")


def test_nothing_is_synced(tmp_path, monkeypatch):
    synced = []
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda fd, name=name, real=real: (synced.append(name), real(fd))[1])
    write_stock(tmp_path / "stock")
    assert synced == [], "stock: an acknowledged entry or a vote is gone with the power"
    write_ours(tmp_path / "ours", 10)._destroy()
    assert "fdatasync" in synced and "fsync" in synced


KILLED_STOCK = """
import sys
from pysyncobj.journal import FileJournal
journal = FileJournal(sys.argv[1])
for index in range(1, 6001):
    journal.add(b"x" * 50, index, 1)
print("compacting", flush=True)
journal.deleteEntriesTo(1000)
print("done", flush=True)
sys.stdin.read()
"""

KILLED_OURS = """
import sys
from pathlib import Path
from hamail.consensus.journal import Journal, initialise
from hamail.consensus.records import Entry, Snapshot
path = Path(sys.argv[1])
initialise(path, "c", "n1")
journal = Journal(path, "c", "n1")
for index in range(1, 6001):
    journal.add(b"x" * 50, index, 1)
journal.take()()
print("compacting", flush=True)
for first in range(1000, 1100):  # again and again, so that the kill hits one
    journal.compact(Snapshot(Entry(b"x" * 50, first, 1), Entry(b"x" * 50, first + 1, 1), b"s" * 200_000))
    journal.take()()
print("done", flush=True)
sys.stdin.read()
"""


def kill_while_compacting(script: str, path: Path, delay_ms: float) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, cwd=Path.cwd()
    )
    assert child.stdout.readline() == b"compacting\n"
    time.sleep(delay_ms / 1000)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    child.stdin.close()


def test_kill_during_compaction(tmp_path):
    lost = []
    for attempt, delay_ms in enumerate((0, 2, 4, 6)):
        path = tmp_path / f"stock{attempt}"
        kill_while_compacting(KILLED_STOCK, path, delay_ms)
        lost.append(5001 - len(FileJournal(str(path))))
    assert max(lost) > 0, "stock: acknowledged entries are gone without a word"
    for attempt, delay_ms in enumerate((0, 3, 9, 27)):
        path = tmp_path / f"ours{attempt}"
        kill_while_compacting(KILLED_OURS, path, delay_ms)
        journal = Journal(path, "c", "n1")
        assert journal.last_index == 6000
        assert journal.first_index == (journal.snapshot.previous.index if journal.snapshot else 1)
        assert len(journal) == 6001 - journal.first_index
        journal._destroy()


FILL_STOCK = """
import sys
from pysyncobj.journal import FileJournal
journal = FileJournal(sys.argv[1])
for index in range(1, 2000):
    journal.add(b"x" * 200, index, 1)
"""


@pytest.fixture
def small_disk(tmp_path):
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=640k", "hamail-test", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.root
def test_full_disk(small_disk):
    filler = small_disk / "filler"
    filler.write_bytes(bytes(560 * 1024))
    child = subprocess.run(
        [sys.executable, "-c", FILL_STOCK, str(small_disk / "stock")], check=False, capture_output=True
    )
    assert child.returncode == -signal.SIGBUS, "stock: the process dies in the middle of a write"
    (small_disk / "stock").unlink()
    filler.unlink()

    initialise(small_disk / "ours", "c", "n1")
    journal = Journal(small_disk / "ours", "c", "n1")
    with pytest.raises(JournalError, match=r"No space left on device.*no longer votes"):
        for index in range(1, 10_000):
            journal.add(b"x" * 500, index, 1)
            sync(journal)
    durable = journal.last_index - 1
    journal._destroy()
    again = Journal(small_disk / "ours", "c", "n1")
    assert again.last_index >= durable, "what was synced before is there"
    with pytest.raises(JournalError, match="No space left"):
        for index in range(again.last_index + 1, 10_000):
            again.add(b"x" * 500, index, 1)
            sync(again)
    again._destroy()


def test_journal_file_alone_loses_the_state(tmp_path, monkeypatch):
    """Stock with `journalFile` only: compaction trims the journal, the snapshot lives in memory, a restart loses it."""
    from pysyncobj import SyncObjConf
    from pysyncobj.node import Node

    from tests.consensus.puppet import ScriptTransport, StockMachine

    seams.remove()

    def start():
        conf = SyncObjConf(
            autoTick=False, journalFile=str(tmp_path / "stock"), logCompactionMinEntries=10, useFork=False
        )
        return StockMachine(Node("n1"), [], conf, transport=ScriptTransport())

    node = start()
    node._SyncObj__raftElectionDeadline = 0
    for i in range(30):
        node.put(f"e{i}")
        node.doTick(0)
    for _ in range(5):
        node.doTick(0)
    assert len(node.events) == 30
    node.destroy()
    again = start()
    again._SyncObj__raftElectionDeadline = 0
    for _ in range(5):
        again.doTick(0)
    assert len(again.events) < 30, "stock: what was compacted is gone"
    again.destroy()


def test_ours_keeps_state_over_compaction_and_restart():
    from tests.consensus.cluster import Cluster

    c = Cluster(compact_entries=10)
    leader = c.elect()
    for i in range(60):
        c.commit(leader, f"e{i}")
    c.run(200)
    assert all(len(node._journal) < 25 for node in c.nodes.values())
    for name in c.names:
        c.kill(name, power=True)
    for name in c.names:
        c.boot(name)
    c.elect()
    c.run(200)
    assert all(machine.events == [f"e{i}" for i in range(60)] for machine in c.machines.values())


def test_snapshot_reference_is_part_of_the_journal(tmp_path):
    """Stock keeps the dump in a second file; a crash between the two lost entries. Ours has one file to lose."""
    journal = write_ours(tmp_path / "ours")
    journal.compact(Snapshot(Entry(b"command 049", 49, 1), Entry(b"command 050", 50, 1), b"state"))
    sync(journal)
    journal._destroy()
    assert sorted(p.name for p in (tmp_path / "ours").iterdir()) == ["identity", "journal", "lock"]
