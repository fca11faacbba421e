"""File operations of all that hamail keeps, as a port: the real disk here, a simulated one elsewhere.

All methods may raise OSError. Nothing is durable before `sync` (data) or `sync_directory` (names) has returned.
`write_whole` is the one way in which a small file is written.
"""

import errno
import fcntl
import os
from pathlib import Path
from typing import Protocol


class DiskFile(Protocol):
    def write_at(self, offset: int, data: bytes) -> None:
        """Write all of `data`, or raise."""

    def truncate(self, size: int) -> None: ...

    def sync(self) -> None:
        """fdatasync. After a failure nothing is known about what was written: the caller must not try again."""

    def close(self) -> None: ...


class Disk(Protocol):
    def read(self, path: Path) -> bytes:
        """The whole file. Raises FileNotFoundError."""

    def exists(self, path: Path) -> bool: ...

    def open(self, path: Path, *, create: bool = False, mode: int = 0o600) -> DiskFile:
        """For writing in place. `create` makes an empty file of that mode (or empties an existing one)."""

    def replace(self, source: Path, target: Path) -> None: ...

    def remove(self, path: Path) -> None: ...

    def make_directory(self, path: Path) -> None: ...

    def sync_directory(self, path: Path) -> None: ...

    def lock(self, path: Path) -> DiskFile:
        """Hold the file exclusively until it is closed or this process ends. Raises BlockingIOError."""


def write_whole(disk: Disk, path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace the file: whatever happens meanwhile, the old content is there or the new, whole; on return the new.

    `durable` False: only for what loses its meaning with a crash of the machine. Raises OSError: then the old content
    or the new is there, and it may be lost again. There is no second try at a failed sync.
    """
    new = path.with_name(path.name + ".new")
    file = disk.open(new, create=True, mode=mode)
    try:
        file.write_at(0, data)
        if durable:
            file.sync()
    finally:
        file.close()
    disk.replace(new, path)
    if durable:
        disk.sync_directory(path.parent)


class RealFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write_at(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            if written == 0:
                raise OSError(errno.EIO, "the disk accepted no data")
            offset += written
            view = view[written:]

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def set_mode(self, mode: int) -> None:
        os.fchmod(self._descriptor, mode)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealDisk:
    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def exists(self, path: Path) -> bool:
        return path.exists()

    def open(self, path: Path, *, create: bool = False, mode: int = 0o600) -> RealFile:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT | os.O_TRUNC if create else 0)
        file = RealFile(os.open(path, flags, mode))
        if create:
            file.set_mode(mode)  # whatever the umask is, and whatever a file left over from before had
        return file

    def replace(self, source: Path, target: Path) -> None:
        source.replace(target)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def make_directory(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: Path) -> RealFile:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return RealFile(descriptor)
