"""The disk of a simulated machine: the journal and the file of barred epochs live on it, with everything that can
happen to them. A write takes a while; a power cut or a kill may strike in the middle of one.
"""

import errno
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

from hamail.consensus.journal import JournalError
from hamail.consensus.memory_disk import MemoryDisk, PowerCut
from hamail.daemon.barred import BarredError
from hamail.model.ids import NodeName

if TYPE_CHECKING:
    from hamail.simulation.machine import Machine

LOG_DIR = Path("/var/lib/hamail/log")
BARRED = Path("/var/lib/hamail/barred")
STRIKE_OPERATIONS_MAX = 6  # a kill or a power cut lands after so many operations of a write at most

Work: TypeAlias = Callable[[], None]
Written: TypeAlias = Callable[[Any], None]


class SimulatedDisk(MemoryDisk):
    """What is wrong with it is set by the methods under "faults" and ends with `repair`; what was lost stays lost."""

    def __init__(self, name: NodeName, seed: int) -> None:
        super().__init__()
        self.rng = Random(f"{seed}/disk/{name}")  # noqa: S311 - reproducible on purpose
        self.hung_at_ns: int | None = None  # a write is neither done nor refused since then
        self.write_ms: tuple[float, float] = (0.0, 0.0)  # from to: how long it takes to make something durable
        self._failing_syncs = 0  # so many more; -1: for ever

    def _changing(self, operation: str) -> None:
        if operation == "sync" and self._failing_syncs:
            self._failing_syncs -= self._failing_syncs > 0
            raise OSError(errno.EIO, "Input/output error")
        super()._changing(operation)
        self.log.clear()  # nobody reads it here, and a run is long

    # ---- faults -------------------------------------------------------------------------------------------------

    def fill(self) -> None:
        """No byte more than now."""
        self.capacity_bytes = self._used()
        self.fail["write"] = OSError(errno.ENOSPC, "No space left on device")

    def fail_syncs(self, *, once: bool) -> None:
        self._failing_syncs = 1 if once else -1

    def make_read_only(self) -> None:
        for operation in ("create", "write", "truncate", "replace", "remove", "sync_directory"):
            self.fail[operation] = OSError(errno.EROFS, "Read-only file system")

    def repair(self) -> None:
        """It works again from now on, at its usual speed. A hanging one is woken by its machine."""
        self.capacity_bytes = None
        self.fail.clear()
        self._failing_syncs = 0

    def files(self) -> list[Path]:
        return sorted(self._names)

    def flip_bit(self, path: Path) -> bool:
        """One bit of what stands in the file; zeros behind its content are left alone. False: there is no file."""
        inode = self._names.get(path)
        content = bytes(inode.now).rstrip(b"\0") if inode is not None else b""
        if not content:
            return False
        offset = self.rng.randrange(len(content))
        self.damage(path, offset, bytes([content[offset] ^ 1 << self.rng.randrange(8)]))
        return True

    def copy(self) -> Any:
        """What is durable now, for `put_back`."""
        return {path: bytes(inode.durable) for path, inode in self._durable_names.items()}

    def put_back(self, copy: Any) -> None:
        """The disk is as it was when the copy was taken. hamaild must not run."""
        self.wipe()
        for path, content in copy.items():
            file = self.open(path, create=True)
            file.write_at(0, content)
            file.sync()
        self.sync_directory(LOG_DIR)

    # ---- the end of a process ------------------------------------------------------------------------------------

    def strike(self, work: Work | None, *, power: bool) -> None:
        """kill -9 or a power cut while `work` is under way: it gets as far as chance has it."""
        if work is not None:
            self.crash_after = self.rng.randrange(STRIKE_OPERATIONS_MAX)
            with suppress(PowerCut, JournalError, BarredError):  # nobody is there any more to be told
                work()
            self.crash_after = None
        if power:
            self.power_cut(self.rng)
        else:
            self.process_death()


class Writer:
    """The thread of one hamaild that waits for the disk: one piece of work after another."""

    def __init__(self, machine: "Machine") -> None:
        self._m = machine
        self._queue: deque[tuple[Work, Written]] = deque()
        self._under_way = False
        self.ended = False

    def write(self, work: Work, written: Written) -> None:
        """At once where the disk takes no time; else `written` is called later, unless the process has ended."""
        disk = self._m.disk
        if disk.hung_at_ns is None and disk.write_ms == (0.0, 0.0) and not self._queue:
            _do(work, written)
            return
        self._queue.append((work, written))
        self._next()

    def _next(self) -> None:
        disk = self._m.disk
        if self._under_way or not self._queue or disk.hung_at_ns is not None:
            return
        self._under_way = True
        self._m.after_ms(disk.rng.uniform(*disk.write_ms), self._done)

    def _done(self) -> None:
        if self.ended:
            return
        self._under_way = False
        if self._m.disk.hung_at_ns is None and not self._process_stands_still():
            _do(*self._queue.popleft())
        self._next()

    def _process_stands_still(self) -> bool:
        return self._m.daemon is not None and self._m.daemon.hung

    def resume(self) -> None:
        """The disk or the process runs again."""
        self._next()

    def end(self, *, power: bool) -> None:
        self.ended = True
        self._m.disk.strike(self._queue[0][0] if self._queue else None, power=power)
        self._queue.clear()


def _do(work: Work, written: Written) -> None:
    try:
        work()
    except (JournalError, BarredError) as error:
        written(error)
    else:
        written(None)
