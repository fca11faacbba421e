"""The durable half of Raft: term, vote, entries and the snapshot they stand on, in one append-only file.

Nothing here touches the disk by itself once the journal is open. Changes collect as records; `take` gives them as one
piece of work (write + fdatasync, or a whole new file on compaction), and whoever sends messages runs that work first.
The first error of the disk is the last: the journal fails for good, because after a failed fsync nothing is known.

The object also has the face that PySyncObj wants of a journal (camelCase methods, list access by position).
"""

from collections.abc import Callable
from pathlib import Path
from random import Random, SystemRandom
from typing import TypeAlias, overload

from hamail.consensus.records import (
    FORMAT,
    NONCE_BITS,
    NUMBER_MAX,
    READABLE,
    BadJournal,
    Ballot,
    Doubted,
    Entry,
    Heard,
    Identity,
    Opened,
    Record,
    Rejoining,
    Snapshot,
    Truncated,
    Written,
    batch,
    scan,
)
from hamail.disk import Disk, DiskFile, RealDisk, write_whole
from hamail.model.ids import LogIndex, NodeName

Work: TypeAlias = Callable[[], None]
LogEntry: TypeAlias = tuple[bytes, LogIndex, int]  # command, index, term: the shape that PySyncObj handles
Mark: TypeAlias = tuple[int, int]  # a life of a node, and the position of its journal in it

FILE = "journal"
NEW_FILE = "journal.new"
IDENTITY_FILE = "identity"
LOCK_FILE = "lock"
NOTHING: Mark = (0, 0)
LIVES_MAX = 64  # remembered; whoever has not heard this node for longer cannot tell it from an old copy
GROW_BYTES = 256 * 1024  # the file grows by zeros written ahead, so that a full disk is met before it matters


class JournalError(Exception):
    """This node must not take part. The message is a sentence for the operator."""


class JournalMissing(JournalError):
    """There is no journal where one must be: never set up, or lost."""


def initialise(
    path: Path,
    cluster: str,
    node: NodeName,
    *,
    disk: Disk | None = None,
    replaced_disk: bool = False,
) -> None:
    """Create an empty journal in directory `path`: the first set-up of a node, ordered by an operator.

    `replaced_disk`: the node was a member before and has lost its journal. It then votes only after it has caught up
    with a leader that was elected without it, since it may have forgotten votes and entries it had answered for.
    Raises JournalError if a journal exists, or on a trace of an earlier membership without `replaced_disk`.
    """
    disk = disk or RealDisk()
    try:
        if disk.exists(path / FILE):
            raise JournalError(f"{path / FILE} exists already; nothing was changed")
        if disk.exists(path / IDENTITY_FILE) and not replaced_disk:
            raise JournalError(
                f"{path} belonged to a member of a cluster before and its journal is gone; nothing was changed. "
                "If the disk was lost or wiped, initialise it as a replaced disk"
            )
        disk.make_directory(path)
        records: list[Record] = [Identity(FORMAT, cluster, node), Ballot(0, None)]
        if replaced_disk:
            records.append(Rejoining(pending=True, above_term=0))
        write_whole(disk, path / FILE, batch(1, records))
        write_whole(disk, path / IDENTITY_FILE, f"{cluster}/{node}\n".encode())
    except OSError as error:
        raise JournalError(f"cannot create a journal in {path}: {error}") from error


class Journal:
    def __init__(
        self, path: Path, cluster: str, node: NodeName, *, disk: Disk | None = None, rng: Random | None = None
    ) -> None:
        """Open an existing journal: a new life. Raises JournalMissing, or JournalError with the reason."""
        self.path = path
        self.term = 0
        self.vote: NodeName | None = None
        self.lives: list[Mark] = []  # of this node, the newest last, each with the position at which it began
        self.heard: dict[NodeName, Mark] = {}  # of each peer, the newest
        self.overruled = 0  # what lives up to this count promised was, or will be, overruled by others
        self.snapshot: Snapshot | None = None
        self.rejoining = Rejoining(pending=False, above_term=0)
        self.dropped_torn_tail = False
        self._disk = disk or RealDisk()
        self._identity = Identity(FORMAT, cluster, node)
        self._entries: list[LogEntry] = []
        self._pending: list[Record] = []
        self._heard_more: set[NodeName] = set()  # goes with the next batch, but is no reason for one
        self._before = 0  # batches in the files that this one has replaced
        self._replace_file = False
        self._expected: list[LogEntry] = []
        self._failure = ""
        self._file: DiskFile | None = None
        self._lock: DiskFile | None = None
        self._number = 1
        self._offset = 0
        self._size = 0
        try:
            self._open(rng or SystemRandom())
        except BaseException:
            self._destroy()
            raise

    # ------------------------------------------------------------------ opening

    def _open(self, rng: Random) -> None:
        try:
            data = self._read()
            self._lock = self._disk.lock(self.path / LOCK_FILE)
            data = self._disk.read(self.path / FILE)  # again: only now is it surely ours
            self._disk.remove(self.path / NEW_FILE)  # an interrupted compaction; the old file is the valid one
            records, self._offset, self._number, torn = scan(data)
            self._replay_all(records)
            count = max(self.incarnation >> NONCE_BITS, self.overruled) + 1
            life = Opened((count << NONCE_BITS) + rng.getrandbits(NONCE_BITS), self.position + 1)
            self._replay(life)
            self._file = self._disk.open(self.path / FILE)
            self._size = len(data)
            if torn:
                self.dropped_torn_tail = True
                self._file.truncate(self._offset)
                self._size = self._offset
            # What was read may stand in the page cache alone: after a failed sync Linux keeps the pages, forgets that
            # they were never written, and the next sync succeeds. So nothing is relied on before it is written anew.
            self._file.write_at(0, data[: self._offset])
            self._file.sync()
            # So it is with the name: the life before may have ended between the rename of a compaction and the sync of
            # the directory. Without this one, a power cut would bring the old file back, long after.
            self._disk.sync_directory(self.path)
            self._note(life)
            work = self.take()
            assert work is not None
            work()
        except BlockingIOError:
            raise JournalError(f"{self.path} is in use by another process") from None
        except BadJournal as error:
            raise JournalError(
                f"the journal {self.path / FILE} is damaged: {error}. This node must not vote; "
                "replace its disk and initialise it as a replaced disk"
            ) from None
        except OSError as error:
            raise JournalError(f"cannot open the journal in {self.path}: {error}") from error

    def _read(self) -> bytes:
        try:
            return self._disk.read(self.path / FILE)
        except FileNotFoundError:
            known = self._disk.exists(self.path / IDENTITY_FILE)
            state = "was lost, although this node is a member of a cluster" if known else "does not exist"
            raise JournalMissing(
                f"the journal {self.path / FILE} {state}. This node takes no part until an operator "
                "initialises it (as a replaced disk, if it was a member before)"
            ) from None

    def _replay_all(self, records: list[Record]) -> None:
        if not records or not isinstance(records[0], Identity):
            raise BadJournal("it does not begin with the name of a cluster and a node")
        for record in records:
            self._replay(record)

    def _replay(self, record: Record) -> None:
        match record:
            case Identity():
                self._check_identity(record)
            case Opened(incarnation, position):
                self.lives = [*self.lives, _sane(incarnation, position)][-LIVES_MAX:]
            case Written(batches):
                self._before = _sane(0, batches)[1]
            case Heard(peer, incarnation, position):
                self.heard[peer] = _sane(incarnation, position)
            case Doubted(count):
                _sane(count << NONCE_BITS, 0)
                self.overruled = count
                self.lives = self.lives[-1:]
                self.rejoining = Rejoining(pending=True, above_term=0)
            case Ballot(term, vote):
                if term < self.term:
                    raise BadJournal(f"term {term} is recorded after term {self.term}")
                self.term, self.vote = term, vote
            case Entry(command, index, term):
                if self._entries and index != self._entries[-1][1] + 1:
                    raise BadJournal(f"entry {index} is recorded after entry {self._entries[-1][1]}")
                self._entries.append((command, index, term))
            case Truncated(index):
                del self._entries[self._position(index) :]
            case Rejoining():
                self.rejoining = record
            case Snapshot():
                self.snapshot = record

    def _check_identity(self, found: Identity) -> None:
        if found.format not in READABLE:
            raise JournalError(f"{self.path / FILE} has format {found.format}; this version reads {READABLE}")
        if (found.cluster, found.node) != (self._identity.cluster, self._identity.node):
            raise JournalError(
                f"{self.path / FILE} belongs to node {found.node!r} of cluster {found.cluster!r}, "
                f"not to node {self._identity.node!r} of cluster {self._identity.cluster!r}"
            )

    # ------------------------------------------------------------------ what hamail asks

    @property
    def failure(self) -> str:
        return self._failure

    @property
    def first_index(self) -> LogIndex:
        return self._entries[0][1] if self._entries else 0

    @property
    def last_index(self) -> LogIndex:
        return self._entries[-1][1] if self._entries else 0

    @property
    def last_term(self) -> int:
        return self._entries[-1][2] if self._entries else 0

    @property
    def incarnation(self) -> int:
        """This life; 0 before the first."""
        return self.lives[-1][0] if self.lives else 0

    @property
    def position(self) -> int:
        """How many batches were made durable since the journal was created; compaction does not reset it."""
        return self._before + self._number - 1

    def holds(self, mark: Mark) -> bool:
        """Whether this journal stands on all that a peer knows of it. No: it went back to an older copy, or began anew.

        What was said before a doubt needs no proof: this node has not voted since, or others have overruled it.
        """
        life, position = mark
        ends = [began - 1 for _, began in self.lives[1:]] + [self.position]
        known = {incarnation: end for (incarnation, _), end in zip(self.lives, ends, strict=True)}
        if life in known:
            return position <= known[life]
        return life >> NONCE_BITS <= self.overruled

    def doubt(self, mark: Mark) -> None:
        """A peer has proof that this journal has lost something: from here on as after a replaced disk."""
        doubted = Doubted(max(mark[0] >> NONCE_BITS, self.incarnation >> NONCE_BITS, self.overruled))
        self._replay(doubted)
        self._note(doubted)

    def hear(self, peer: NodeName, mark: Mark) -> None:
        """A peer has spoken again. Written with the next batch: a write for each message would be too dear."""
        if mark > self.heard.get(peer, NOTHING):
            self.heard[peer] = mark
            self._heard_more.add(peer)

    def introduce(self, peer: NodeName, mark: Mark) -> None:
        """A new life of a peer, which has shown that it follows the one known so far. Written at once."""
        self.heard[peer] = mark
        self._heard_more.discard(peer)
        self._note(Heard(peer, *mark))

    @property
    def size_bytes(self) -> int:
        return self._offset

    def term_at(self, index: LogIndex) -> int | None:
        """Term of the entry, or None if the log does not (any longer, or yet) hold it."""
        position = index - self.first_index
        return self._entries[position][2] if 0 <= position < len(self._entries) else None

    def end_rejoining(self) -> None:
        self._set_rejoining(Rejoining(pending=False, above_term=0))

    def note_rejoining(self, above_term: int) -> None:
        self._set_rejoining(Rejoining(pending=True, above_term=above_term))

    def _set_rejoining(self, record: Rejoining) -> None:
        self.rejoining = record
        self._note(record)

    def compact(self, snapshot: Snapshot) -> None:
        """Forget what the snapshot covers. File and snapshot change together, in one rename, with the next `take`."""
        position = self._position(snapshot.previous.index)
        assert self._entries[position] == _log_entry(snapshot.previous), "the snapshot does not fit the log"
        self._entries = self._entries[position:]
        self.snapshot = snapshot
        self._replace_file = True

    def install(self, snapshot: Snapshot) -> None:
        """Another node's snapshot takes the place of the whole log."""
        self._entries = [_log_entry(snapshot.previous), _log_entry(snapshot.last)]
        self.snapshot = snapshot
        self._replace_file = True

    def take(self) -> Work | None:
        """What must be done, once, to make all changes so far durable; None if they are.

        The work may run in another thread. Until it has returned, nothing that depends on the changes may be sent and
        no method may be called. It raises JournalError, and then the journal has failed.
        """
        if self._failure:
            raise JournalError(self._failure)
        if self._replace_file:
            data = batch(1, self._whole())
            self._replace_file = False
            self._pending.clear()
            self._heard_more.clear()
            return lambda: self._guard(lambda: self._rewrite(data))
        if not self._pending:
            return None
        self._pending += [Heard(peer, *self.heard[peer]) for peer in sorted(self._heard_more)]
        self._heard_more.clear()
        data = batch(self._number, self._pending)
        self._pending.clear()
        return lambda: self._guard(lambda: self._append(data))

    def _whole(self) -> list[Record]:
        records: list[Record] = [self._identity, Written(self.position), Ballot(self.term, self.vote)]
        if self.overruled:
            records.append(Doubted(self.overruled))
        records.append(self.rejoining)
        records.extend(Opened(*life) for life in self.lives)
        records.extend(Heard(peer, *mark) for peer, mark in sorted(self.heard.items()))
        if self.snapshot is not None:
            records.append(self.snapshot)
        records.extend(Entry(*entry) for entry in self._entries)
        return records

    def _guard(self, work: Work) -> None:
        try:
            work()
        except OSError as error:
            self._failure = (
                f"cannot write the journal in {self.path}: {error.strerror or error}. This node no longer votes "
                "or coordinates; repair the disk (is it full?) and restart hamaild"
            )
            raise JournalError(self._failure) from error
        except Exception as error:
            self._failure = f"writing the journal in {self.path} failed unexpectedly: {error!r}"
            raise JournalError(self._failure) from error

    def _append(self, data: bytes) -> None:
        assert self._file is not None
        if self._offset + len(data) > self._size:
            grow = max(GROW_BYTES, len(data))
            self._file.write_at(self._size, bytes(grow))
            self._size += grow
        self._file.write_at(self._offset, data)
        self._file.sync()
        self._offset += len(data)
        self._number += 1

    def _rewrite(self, data: bytes) -> None:
        whole = data + bytes(GROW_BYTES)
        write_whole(self._disk, self.path / FILE, whole)
        assert self._file is not None
        self._file.close()
        self._file = self._disk.open(self.path / FILE)
        self._before, self._number = self.position, 2
        self._offset, self._size = len(data), len(whole)

    def _note(self, record: Record) -> None:
        if not self._replace_file:  # else the new file is made from what is in memory
            self._pending.append(record)

    def _position(self, index: LogIndex) -> int:
        position = index - self.first_index
        if not 0 <= position <= len(self._entries):
            raise BadJournal(f"index {index} is outside of the log ({self.first_index} to {self.last_index})")
        return position

    # ------------------------------------------------------------------ what PySyncObj asks

    def add(self, command: bytes, idx: LogIndex, term: int) -> None:
        entry = (command, idx, term)
        assert not self._entries or idx == self._entries[-1][1] + 1, "the log must not have gaps"
        if self._expected:
            assert self._expected.pop(0) == entry, "only what the installed snapshot holds may follow `clear`"
        else:
            self._note(Entry(command, idx, term))
        self._entries.append(entry)

    def clear(self) -> None:
        """Called only right after `install`; what follows is the same two entries again, so nothing is forgotten."""
        self._expected = self._entries
        self._entries = []

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803
        if entryFrom < len(self._entries):
            self._note(Truncated(self._entries[entryFrom][1]))
            del self._entries[entryFrom:]

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N802, N803
        """PySyncObj trims after its serialiser says done; `compact` has trimmed already."""
        assert entryTo == 0, "the log is compacted only together with a snapshot"

    @overload
    def __getitem__(self, item: int) -> LogEntry: ...
    @overload
    def __getitem__(self, item: slice) -> list[LogEntry]: ...
    def __getitem__(self, item: int | slice) -> LogEntry | list[LogEntry]:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def setCurrentTerm(self, term: int, votedForNodeId: NodeName | None) -> None:  # noqa: N802, N803
        if (term, votedForNodeId) != (self.term, self.vote):
            self.term, self.vote = term, votedForNodeId
            self._note(Ballot(term, votedForNodeId))

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self.term

    def getVotedForNodeId(self) -> NodeName | None:  # noqa: N802
        return self.vote

    def setRaftCommitIndex(self, raftCommitIndex: LogIndex) -> None:  # noqa: N802, N803
        """Not kept: it is learnt again from the next leader, and a wrong one on disk could do harm."""

    def getRaftCommitIndex(self) -> LogIndex:  # noqa: N802
        return self.snapshot.last.index if self.snapshot is not None else 1

    def onOneSecondTimer(self) -> None:  # noqa: N802
        pass

    def _destroy(self) -> None:
        for file in (self._file, self._lock):
            if file is not None:
                file.close()
        self._file = self._lock = None


def _sane(life: int, position: int) -> Mark:
    if not (0 <= life <= NUMBER_MAX and 0 <= position <= NUMBER_MAX):
        raise BadJournal(f"a life {life} at position {position} is out of range")
    return life, position


def _log_entry(entry: Entry) -> LogEntry:
    return (entry.command, entry.index, entry.term)
