"""A disk in memory that forgets what was not synced, tears writes, fills up and fails, on demand. For tests and the
simulator; it keeps the contract of `hamail.disk`.
"""

import errno
from pathlib import Path
from random import Random

SECTOR = 512


class _Inode:
    def __init__(self) -> None:
        self.durable = bytearray()
        self.now = bytearray()
        self.unsynced: list[tuple[int, bytes] | int] = []  # writes (offset, data) and truncations (size), in order


class MemoryDisk:
    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self.fail: dict[str, OSError] = {}  # operation -> what it raises from now on
        self.syncs = 0
        self.log: list[str] = []
        self.crash_after: int | None = None  # the power goes after this many more changing operations
        self._names: dict[Path, _Inode] = {}
        self._durable_names: dict[Path, _Inode] = {}
        self._locked: set[Path] = set()
        self._life = 0

    # ------------------------------------------------------------------ faults

    def power_cut(self, rng: Random | None = None) -> None:
        """All that is not synced is lost; with `rng`, each unsynced sector is kept or lost by chance."""
        for inode in {id(i): i for i in (*self._names.values(), *self._durable_names.values())}.values():
            inode.durable = bytearray(_after_cut(inode, rng))
            inode.now = bytearray(inode.durable)
            inode.unsynced.clear()
        if rng is None or rng.random() < 0.5:
            self._names = dict(self._durable_names)
        else:
            self._durable_names = dict(self._names)
        self.process_death()

    def process_death(self) -> None:
        """kill -9: locks go, what was written stays."""
        self._locked.clear()
        self._life += 1
        self.crash_after = None

    def damage(self, path: Path, offset: int, data: bytes) -> None:
        """Overwrite bytes behind the back of the journal."""
        inode = self._names[path]
        inode.now[offset : offset + len(data)] = data
        inode.durable = bytearray(inode.now)
        inode.unsynced.clear()

    def wipe(self) -> None:
        self._names.clear()
        self._durable_names.clear()
        self.process_death()

    def _changing(self, operation: str) -> None:
        if operation in self.fail:
            raise self.fail[operation]
        if self.crash_after is not None:
            if self.crash_after == 0:
                raise PowerCut
            self.crash_after -= 1
        self.log.append(operation)

    # ------------------------------------------------------------------ Disk

    def read(self, path: Path) -> bytes:
        if "read" in self.fail:
            raise self.fail["read"]
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
        return bytes(self._names[path].now)

    def exists(self, path: Path) -> bool:
        return path in self._names

    def open(self, path: Path, *, create: bool = False, mode: int = 0o600) -> "_File":
        if create:
            self._changing("create")
            self._names[path] = _Inode()
        elif path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
        return _File(self, self._names[path], None)

    def replace(self, source: Path, target: Path) -> None:
        self._changing("replace")
        self._names[target] = self._names.pop(source)

    def remove(self, path: Path) -> None:
        if path in self._names:
            self._changing("remove")
            del self._names[path]

    def make_directory(self, path: Path) -> None:
        pass

    def sync_directory(self, path: Path) -> None:
        self._changing("sync_directory")
        self._durable_names = dict(self._names)

    def lock(self, path: Path) -> "_File":
        if path in self._locked:
            raise BlockingIOError(errno.EAGAIN, "locked")
        self._locked.add(path)
        return _File(self, _Inode(), path)

    def _used(self) -> int:
        return sum(len(inode.now) for inode in self._names.values())


class PowerCut(BaseException):
    """Raised where `crash_after` strikes. Nothing may catch it but the test."""


class _File:
    def __init__(self, disk: MemoryDisk, inode: _Inode, locked: Path | None) -> None:
        self._disk = disk
        self._inode = inode
        self._locked = locked
        self._life = disk._life

    def write_at(self, offset: int, data: bytes) -> None:
        self._disk._changing("write")
        growth = max(0, offset + len(data) - len(self._inode.now))
        if self._disk.capacity_bytes is not None and self._disk._used() + growth > self._disk.capacity_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        _write(self._inode.now, offset, data)
        self._inode.unsynced.append((offset, bytes(data)))

    def truncate(self, size: int) -> None:
        self._disk._changing("truncate")
        del self._inode.now[size:]
        self._inode.unsynced.append(size)

    def sync(self) -> None:
        """As with Linux, what a failed sync could not write is not written by a later one either."""
        try:
            self._disk._changing("sync")
        except OSError:
            self._inode.unsynced.clear()
            raise
        self._disk.syncs += 1
        for change in self._inode.unsynced:
            _redo(self._inode.durable, change)
        self._inode.unsynced.clear()

    def close(self) -> None:
        if self._locked is not None and self._life == self._disk._life:
            self._disk._locked.discard(self._locked)


def _write(target: bytearray, offset: int, data: bytes) -> None:
    if offset > len(target):
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(data)] = data


def _redo(target: bytearray, change: tuple[int, bytes] | int) -> None:
    if isinstance(change, int):
        del target[change:]
    else:
        _write(target, *change)


def _after_cut(inode: _Inode, rng: Random | None) -> bytes:
    """The synced bytes, plus by chance any of the unsynced sectors, in any order."""
    result = bytearray(inode.durable)
    if rng is None:
        return bytes(result)
    for change in inode.unsynced:
        if isinstance(change, int):
            if rng.random() < 0.5:
                del result[change:]
            continue
        offset, data = change
        position = 0
        while position < len(data):
            end = min(len(data), (offset + position) // SECTOR * SECTOR + SECTOR - offset)
            if rng.random() < 0.5:
                _write(result, offset + position, data[position:end])
            position = end
    return bytes(result)
