"""A named top-level cgroup: what runs in a node, or serves it, is exactly what its cgroup holds.

So nothing is remembered by process id, and `kill` reaches everything at once however it forked. Killing and freezing
use the v2 hierarchy, which is there on hybrid hosts as well; a hybrid host also gets the group in the hierarchies in
which systemd-nspawn and the memory counter look.
"""

import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PURE = (ROOT / "cgroup.controllers").exists()
V2 = ROOT if PURE else ROOT / "unified"
HIERARCHIES = (V2,) if PURE else tuple(p for p in (V2, ROOT / "systemd", ROOT / "memory") if p.is_dir())
EMPTY_TIMEOUT_S = 10.0
POLL_S = 0.002
GONE = (errno.ENOENT, errno.ENODEV)  # no such group; the latter when it was removed after its file was opened


class CgroupError(Exception):
    """The processes of a cgroup could not be brought into the wanted state."""


class Cgroup:
    def __init__(self, name: str) -> None:
        self.name = name

    def create(self) -> None:
        for root in HIERARCHIES:
            (root / self.name).mkdir(exist_ok=True)

    def enter(self) -> None:
        """Move the calling process in."""
        _move(self.name)

    def processes(self) -> Iterator[int]:
        for folder, _, _ in os.walk(V2 / self.name):
            try:
                yield from (int(line) for line in Path(folder, "cgroup.procs").read_text().split())
            except OSError:
                continue  # removed meanwhile

    def populated(self) -> bool:
        return "populated 1" in self._events()

    def kill(self, wait: bool = True) -> None:
        """SIGKILL everything in it at one stroke, frozen or not; raises CgroupError if something outlives that."""
        self._write("cgroup.kill", "1")
        self._write("cgroup.freeze", "0")
        if wait:
            self.wait_empty()

    def wait_empty(self) -> None:
        deadline_s = time.monotonic() + EMPTY_TIMEOUT_S
        while self.populated():
            if time.monotonic() > deadline_s:
                raise CgroupError(
                    f"{self.name}: still alive {EMPTY_TIMEOUT_S:.0f} s after the kill: {[*self.processes()]}"
                )
            time.sleep(POLL_S)

    def freeze(self, frozen: bool) -> None:
        self._write("cgroup.freeze", "1" if frozen else "0")
        deadline_s = time.monotonic() + EMPTY_TIMEOUT_S
        while frozen and "frozen 1" not in self._events():
            if time.monotonic() > deadline_s:
                raise CgroupError(f"{self.name}: not frozen after {EMPTY_TIMEOUT_S:.0f} s")
            time.sleep(POLL_S)

    def send(self, number: signal.Signals) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def remove(self) -> None:
        """Remove the empty group in all hierarchies; one that is still populated stays."""
        for root in HIERARCHIES:
            for folder, _, _ in os.walk(root / self.name, topdown=False):
                try:
                    Path(folder).rmdir()
                except OSError:
                    continue

    def _events(self) -> str:
        try:
            return (V2 / self.name / "cgroup.events").read_text()
        except OSError as error:
            if error.errno in GONE:
                return ""
            raise

    def _write(self, file: str, value: str) -> None:
        try:
            (V2 / self.name / file).write_text(value)
        except OSError as error:
            if error.errno not in GONE:
                raise
            # no such group: nothing runs in it


def leave() -> None:
    """Move the calling process to the root group, so that the kill of the one in which it was born spares it."""
    _move(".")


def _move(name: str) -> None:
    for root in HIERARCHIES:
        (root / name / "cgroup.procs").write_text(str(os.getpid()))


def named(prefix: str) -> list[Cgroup]:
    """All top-level groups whose name begins with `prefix`."""
    names = {folder.name for root in HIERARCHIES for folder in root.glob(f"{prefix}*") if folder.is_dir()}
    return [Cgroup(name) for name in sorted(names)]
