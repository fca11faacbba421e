"""Writes the trail. A thread of its own waits for the disk: neither leases nor heartbeats must.

What cannot be written is counted, and the count is written as soon as that is possible again.
"""

import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hamail.audit.entry import GENESIS, Entry, Fact, chain, line_of
from hamail.audit.reading import FILES_KEPT, Damaged, files, raw

FILE_BYTES_MAX = 8 << 20
QUEUE_MAX = 10_000
BATCH_MAX = 500
MODE = 0o600
RETRY_S = 5.0


class Trail:
    """`note` never blocks and never raises. `head`: the last entry that is on the disk."""

    def __init__(self, path: Path, node: str, warn: Callable[[str], None]) -> None:
        self.path = path
        self._node = node
        self._warn = warn
        self._queue: queue.Queue[Fact | None] = queue.Queue(QUEUE_MAX)
        self._lost = 0
        self._problem = ""
        self.head: tuple[int, str] = (0, GENESIS)
        self.last_index = 0  # of the log: what was applied before a restart is not written twice
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def take_up(self) -> None:
        """Find where it ends. Before anything is noted."""
        try:
            self._take_up()
        except (OSError, Damaged) as error:
            self._warn(f"the audit trail cannot be taken up, so a new one is begun: {error}")
            try:
                self._begin_anew()
            except OSError as failure:
                self._warn(f"the damaged audit trail cannot be put aside: {failure}")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def note(self, fact: Fact) -> None:
        try:
            self._queue.put_nowait(fact)
        except queue.Full:
            self._lost += 1

    # -- the beginning ---------------------------------------------------------------------------------------------

    def _take_up(self) -> None:
        self._cut_unfinished()
        for newest in reversed(files(self.path)):
            last: Entry | None = None
            for _, last in raw(newest, alone=True):
                self.last_index = max(self.last_index, last.index)
            if last is not None:
                self.head = (last.sequence, last.digest)
                return

    def _cut_unfinished(self) -> None:
        """A line that a power cut has left half written was never acknowledged to anybody."""
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            data = file.read()
            whole = data.rfind(b"\n") + 1
            if whole != len(data):
                file.truncate(whole)
                self.note(_about(f"{len(data) - whole} bytes of a line that was not finished were cut off"))

    def _begin_anew(self) -> None:
        """What is there stays, under another name, for whoever wants to know what happened to it."""
        if self.path.exists():
            self.path.replace(self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}"))
        for number in range(1, FILES_KEPT + 1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            if older.exists():
                older.replace(self.path.with_name(f"{older.name}.damaged-{int(time.time())}"))
        self.head = (0, GENESIS)
        self.note(_about("the trail before this one was damaged"))

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        ending = False
        while not ending:
            batch = [self._queue.get()]
            while len(batch) < BATCH_MAX and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            ending = None in batch
            self._write([fact for fact in batch if fact is not None])

    def _write(self, facts: list[Fact]) -> None:
        if self._lost:
            facts.append(_about(f"{self._lost} entries could not be written"))
        try:
            self._append(facts)
        except OSError as error:
            self._lost += len(facts)
            why = f"the audit trail cannot be written: {error.strerror or error}"
            if why != self._problem:
                self._warn(why)
            self._problem = why
            time.sleep(RETRY_S)
            return
        self._lost, self._problem = 0, ""

    def _append(self, facts: list[Fact]) -> None:
        """All of them durable, or none of them counts. Raises OSError."""
        if not facts:
            return
        self._rotate()
        sequence, previous = self.head
        lines = []
        for fact in facts:
            sequence += 1
            entry = chain(fact, self._node, sequence, previous)
            previous = entry.digest
            lines.append(line_of(entry))
        self._durable(b"".join(lines))
        self.head = (sequence, previous)

    def _durable(self, data: bytes) -> None:
        """All of it, or nothing stays. Raises OSError."""
        with open(self.path, "ab", buffering=0, opener=_only_ours) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                written = file.write(data)
                os.fdatasync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
            if written != len(data):
                file.truncate(size)
                raise OSError(0, "the disk took a part only")

    def _rotate(self) -> None:
        if not self.path.exists() or self.path.stat().st_size < FILE_BYTES_MAX:
            return
        for number in range(FILES_KEPT, 0, -1):
            source = self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
            if source.exists():
                source.replace(self.path.with_name(f"{self.path.name}.{number}"))


def _only_ours(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, MODE)


def _about(text: str) -> Fact:
    return Fact(at_ms=time.time_ns() // 1_000_000, kind="trail", actor="hamail", what=text)
