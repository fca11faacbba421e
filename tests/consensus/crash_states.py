"""Every state in which a crash may leave a disk, from the operations that were on their way.

A power cut keeps what was synced. Of the rest it keeps any part, in any order: of each write any of its sectors, of
each truncation and each change of a name either all or nothing; a rename may come before the data, and a name may be
lost although its file was synced. The death of a process keeps everything, but nothing becomes durable by that.
"""

import errno
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

SECTOR = 512
CHOICES_MAX = 9  # parts of one file of which all subsets are tried
RANDOM_SUBSETS = 60  # beyond
# Of a disk that answers with an error: which operation, and what it says.
FAULTS = {
    "full": ("write", errno.ENOSPC),
    "quota": ("write", errno.EDQUOT),
    "write error": ("write", errno.EIO),
    "sync error": ("sync", errno.EIO),
    "read-only": ("create", errno.EROFS),
    "not ours": ("create", errno.EACCES),
    "rename fails": ("replace", errno.EIO),
    "directory sync error": ("sync_directory", errno.EIO),
}

Files: TypeAlias = dict[Path, bytes]
Change: TypeAlias = tuple[int, bytes] | int  # a write at an offset, or a truncation


@dataclass(eq=False)
class Inode:
    durable: bytes = b""
    unsynced: list[Change] = field(default_factory=list)

    def now(self) -> bytes:
        return _made(self.durable, self.unsynced)


@dataclass(frozen=True)
class Renamed:
    """A change of names that is not synced: `source` None for a new file, `target` None for a removed one."""

    source: Path | None
    target: Path | None
    inode: Inode


@dataclass(frozen=True)
class Moment:
    """The disk after one operation."""

    operation: str
    names: dict[Path, Inode]
    renamed: tuple[Renamed, ...]
    contents: dict[Inode, tuple[bytes, tuple[Change, ...]]]

    def after_power_cut(self) -> Iterator[Files]:
        """Each state that a power cut now may leave; some may come twice."""
        for kept in itertools.product((False, True), repeat=len(self.renamed)):
            names = dict(self.names)
            for change in itertools.compress(self.renamed, kept):
                _rename(names, change)
            inodes = list(dict.fromkeys(names.values()))
            for contents in itertools.product(*(_possible(*self.contents[i]) for i in inodes)):
                of = dict(zip(inodes, contents, strict=True))
                yield {path: of[inode] for path, inode in names.items()}

    def after_process_death(self) -> "Recorder":
        """All is there for the next process, and as little of it is durable as before."""
        disk = Recorder()
        twins = {old: Inode(durable, list(unsynced)) for old, (durable, unsynced) in self.contents.items()}
        disk.durable_names = {path: twins[inode] for path, inode in self.names.items()}
        disk.renamed = [Renamed(c.source, c.target, twins[c.inode]) for c in self.renamed]
        disk.names = dict(disk.durable_names)
        for change in disk.renamed:
            _rename(disk.names, change)
        return disk


class Recorder:
    """A disk as `hamail.disk` has it, which remembers each moment."""

    def __init__(self, files: Files | None = None) -> None:
        self.names = {path: Inode(data) for path, data in (files or {}).items()}
        self.durable_names = dict(self.names)
        self.renamed: list[Renamed] = []
        self.moments: list[Moment] = []
        self.fail: dict[str, OSError] = {}  # operation -> what it raises

    def step(self, operation: str) -> None:
        known = {*self.durable_names.values(), *self.names.values(), *(c.inode for c in self.renamed)}
        contents = {inode: (inode.durable, tuple(inode.unsynced)) for inode in known}
        self.moments.append(Moment(operation, dict(self.durable_names), tuple(self.renamed), contents))

    def may(self, operation: str) -> None:
        if operation in self.fail:
            raise self.fail[operation]

    def files(self) -> Files:
        return {path: inode.now() for path, inode in self.names.items()}

    def read(self, path: Path) -> bytes:
        self.may("read")
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return self.names[path].now()

    def exists(self, path: Path) -> bool:
        return path in self.names

    def open(self, path: Path, *, create: bool = False, mode: int = 0o600) -> "RecordedFile":
        self.may("create" if create else "open")
        if create and path in self.names:
            file = RecordedFile(self, self.names[path])
            file.truncate(0)
            return file
        if create:
            self.names[path] = Inode()
            self.renamed.append(Renamed(None, path, self.names[path]))
            self.step("create")
        return RecordedFile(self, self.names[path])

    def replace(self, source: Path, target: Path) -> None:
        self.may("replace")
        self.renamed.append(Renamed(source, target, self.names[source]))
        _rename(self.names, self.renamed[-1])
        self.step("replace")

    def remove(self, path: Path) -> None:
        self.may("remove")
        if path in self.names:
            self.renamed.append(Renamed(path, None, self.names.pop(path)))
            self.step("remove")

    def make_directory(self, path: Path) -> None:
        self.may("make_directory")

    def sync_directory(self, path: Path) -> None:
        self.may("sync_directory")
        self.durable_names = dict(self.names)
        self.renamed.clear()
        self.step("sync_directory")

    def lock(self, path: Path) -> "RecordedFile":
        return RecordedFile(self, Inode())


class RecordedFile:
    def __init__(self, disk: Recorder, inode: Inode) -> None:
        self.disk, self.inode = disk, inode

    def write_at(self, offset: int, data: bytes) -> None:
        self.disk.may("write")
        self.inode.unsynced.append((offset, bytes(data)))
        self.disk.step("write")

    def truncate(self, size: int) -> None:
        self.disk.may("truncate")
        self.inode.unsynced.append(size)
        self.disk.step("truncate")

    def sync(self) -> None:
        """As with Linux, what a failed sync could not write is not written by a later one either."""
        try:
            self.disk.may("sync")
        except OSError:
            self.inode.unsynced.clear()
            raise
        self.inode.durable = self.inode.now()
        self.inode.unsynced.clear()
        self.disk.step("sync")

    def close(self) -> None:
        pass


def _rename(names: dict[Path, Inode], change: Renamed) -> None:
    if change.source is not None:
        names.pop(change.source, None)
    if change.target is not None:
        names[change.target] = change.inode


def _possible(durable: bytes, unsynced: tuple[Change, ...]) -> list[bytes]:
    """What may be in a file: the synced bytes and any part of what was changed since."""
    parts = list(_parts(unsynced))
    keeps = itertools.product((False, True), repeat=len(parts)) if len(parts) <= CHOICES_MAX else _many(len(parts))
    return list(dict.fromkeys(_made(durable, itertools.compress(parts, keep)) for keep in keeps))


def _many(count: int) -> Iterator[tuple[bool, ...]]:
    """Too many parts for all subsets: each prefix, each suffix, each one missing or alone, and some at random."""
    for i in range(count + 1):
        yield tuple(j < i for j in range(count))
        yield tuple(j >= i for j in range(count))
        yield tuple(j != i for j in range(count))
        yield tuple(j == i for j in range(count))
    rng = Random(count)
    for _ in range(RANDOM_SUBSETS):
        yield tuple(rng.random() < 0.5 for _ in range(count))


def _parts(unsynced: tuple[Change, ...]) -> Iterator[Change]:
    """What reaches the disk whole or not at all: a sector of a write, a truncation, a stretch of zeros."""
    for change in unsynced:
        if isinstance(change, int):
            yield change
            continue
        offset, data = change
        position, used = 0, len(data.rstrip(b"\0"))
        while position < used:
            end = min(used, (offset + position) // SECTOR * SECTOR + SECTOR - offset)
            yield offset + position, data[position:end]
            position = end
        if used < len(data):  # zeros ahead, in space that is zero already: only the length of the file can differ
            yield offset + used, data[used:]


def _made(durable: bytes, changes: Iterable[Change]) -> bytes:
    result = bytearray(durable)
    for change in changes:
        if isinstance(change, int):
            del result[change:]
            continue
        offset, data = change
        result.extend(bytes(max(0, offset - len(result))))
        result[offset : offset + len(data)] = data
    return bytes(result)


class Trial:
    """Runs actions on a disk, crashes it everywhere, and counts the states that recovery was tried on."""

    def __init__(self, recover: Callable[[Any], object]) -> None:
        self.recover = recover  # from a Recorder to what it found
        self.states = 0

    def crash_in(self, disk: Recorder, action: Callable[[], object], old: object, new: object) -> None:
        """Old or new at each moment of the action; new for good when it has returned."""
        before = len(disk.moments)
        action()
        moments = disk.moments[before:]
        assert moments, "the action did nothing"
        seen: set[tuple[tuple[Path, bytes], ...]] = set()
        for moment in moments[:-1]:
            self.each(moment, (old, new), seen)
        self.each(moments[-1], (new,), set())

    def each(self, moment: Moment, allowed: tuple[object, ...], seen: set[tuple[tuple[Path, bytes], ...]]) -> None:
        for state in moment.after_power_cut():
            key = tuple(sorted(state.items()))
            if key in seen:
                continue
            seen.add(key)
            self.states += 1
            try:
                found = self.recover(Recorder(state))
            except Exception as error:
                raise AssertionError(f"after {moment.operation}: {error!r}; disk: {told(state)}") from error
            assert found in allowed, f"after {moment.operation}: {found!r} is none of {allowed}; disk: {told(state)}"


def told(state: Files) -> str:
    return ", ".join(f"{path.name} {len(data)} B {data.rstrip(bytes(1))[:99]!r}" for path, data in state.items())
