"""The one small state file of hamaild outside the journal: epochs that this voter will never promise again."""

import os
from pathlib import Path
from zlib import crc32

import msgspec

from hamail.model.ids import Epoch, GroupName

_MAGIC = b"hamail-barred-1\n"


class BarredError(Exception):
    """The file cannot be trusted or written: the node must not vote. The message is for the operator."""


class BarredFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[GroupName, Epoch]:
        """What was saved last; empty when nothing ever was. Raises BarredError."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as e:
            raise BarredError(f"{self._path} cannot be read: {e.strerror}") from e
        head = len(_MAGIC) + 4
        body = data[head:]
        if not data.startswith(_MAGIC) or int.from_bytes(data[len(_MAGIC) : head], "big") != crc32(body):
            raise BarredError(f"{self._path} is damaged; this node cannot know what it has promised and must not vote")
        try:
            return msgspec.msgpack.decode(body, type=dict[str, int])
        except msgspec.DecodeError as e:
            raise BarredError(f"{self._path} is damaged: {e}") from e

    def save(self, barred: dict[GroupName, Epoch]) -> None:
        """Durable when it returns: new file, fsync, rename, fsync of the directory. Raises BarredError."""
        body = msgspec.msgpack.encode(barred)
        new = self._path.with_suffix(".new")
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, _MAGIC + crc32(body).to_bytes(4, "big") + body)
                os.fsync(fd)
            finally:
                os.close(fd)
            new.replace(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as e:
            raise BarredError(f"{self._path} cannot be written: {e.strerror}") from e
