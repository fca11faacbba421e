"""What arrives at the LUN by one node's path, in the order in which it arrives: the storage's own witness.

Two things are recorded: every canary record (a block that begins with MAGIC; see `files/canary`), and when the node
wrote anything at all. The server of a path is killed with its node, so nothing may wait in a buffer: a run of writes
that has not ended yet is kept in a small mapped file.
"""

import json
import mmap
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

MAGIC = b"HAMAIL-CANARY "
RECORD_BYTES = 512
BLOCK_BYTES = 1024  # of the file system on the LUN: a record begins on such a boundary
RUN_GAP_NS = 50_000_000  # writes further apart are two runs
RUN = struct.Struct("<QQQ")  # first, last, number of writes
LOG, CURRENT = "arrivals.jsonl", "arrivals.run"


class Arrivals:
    """One node's path writes into `folder`; the next server of that path goes on with the same files."""

    def __init__(self, folder: Path) -> None:
        self._log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        file = os.open(folder / CURRENT, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.ftruncate(file, RUN.size)
        self._run = mmap.mmap(file, RUN.size)
        os.close(file)
        self._end_run()

    def note(self, data: memoryview) -> None:
        """One write has just been made."""
        now = time.monotonic_ns()
        first, last, count = RUN.unpack(self._run)
        if count and now - last > RUN_GAP_NS:
            self._end_run()
            count = 0
        self._run[:] = RUN.pack(first if count else now, now, count + 1)
        for start in range(0, len(data), BLOCK_BYTES):
            if data[start : start + len(MAGIC)] == MAGIC:
                text = bytes(data[start + len(MAGIC) : start + RECORD_BYTES]).decode(errors="replace")
                self._write(now, "canary", dict(word.partition("=")[::2] for word in text.split()))

    def _end_run(self) -> None:
        first, last, count = RUN.unpack(self._run)
        if count:
            self._write(last, "wrote", {"from": first, "count": count})
        self._run[:] = RUN.pack(0, 0, 0)

    def _write(self, t: int, kind: str, data: dict[str, object]) -> None:
        record = {"t": t, "src": "storage", "kind": kind, "data": data}
        os.write(self._log, json.dumps(record, separators=(",", ":")).encode() + b"\n")


def read(folder: Path) -> Iterator[dict]:
    """All records of a path, the run that has not ended included."""
    if (folder / LOG).exists():
        with open(folder / LOG) as lines:
            yield from (json.loads(line) for line in lines if line.endswith("\n"))
    if (folder / CURRENT).exists():
        first, last, count = RUN.unpack((folder / CURRENT).read_bytes())
        if count:
            yield {"t": last, "src": "storage", "kind": "wrote", "data": {"from": first, "count": count}}
