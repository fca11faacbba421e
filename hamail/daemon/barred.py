"""The one small state file of hamaild outside the journal: epochs that this voter will never promise again."""

from pathlib import Path
from zlib import crc32

import msgspec

from hamail.disk import Disk, RealDisk, write_whole
from hamail.model.ids import Epoch, GroupName

_MAGIC = b"hamail-barred-1\n"


class BarredError(Exception):
    """The file cannot be trusted or written: the node must not vote. The message is for the operator."""


class BarredFile:
    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self._path = path
        self._disk = disk or RealDisk()

    def load(self) -> dict[GroupName, Epoch]:
        """What was saved last; empty when nothing ever was. Raises BarredError."""
        try:
            data = self._disk.read(self._path)
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
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise BarredError(f"{self._path} is damaged: {e}") from e

    def save(self, barred: dict[GroupName, Epoch]) -> None:
        """Durable when it returns. Raises BarredError: then the node must not vote any more."""
        body = msgspec.msgpack.encode(barred)
        try:
            write_whole(self._disk, self._path, _MAGIC + crc32(body).to_bytes(4, "big") + body)
        except OSError as e:
            raise BarredError(f"{self._path} cannot be written: {e.strerror}") from e
