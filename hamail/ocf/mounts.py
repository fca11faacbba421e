"""What is mounted where, from /proc/<pid>/mountinfo: the kernel's own list, read without touching the storage."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from hamail.ocf.process import PROC, all_pids

ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    id: int
    device: tuple[int, int]  # major, minor of the file system
    root: str  # which directory of the file system is mounted here
    point: str
    options: frozenset[str]
    fstype: str
    source: str
    super_options: frozenset[str]

    @property
    def writable(self) -> bool:
        return "rw" in self.options and "rw" in self.super_options and "emergency_ro" not in self.super_options


def parse_line(line: str) -> Mount | None:
    left, separator, right = line.partition(" - ")
    fields, tail = left.split(), right.split()
    if not separator or len(fields) < 6 or len(tail) < 3:
        return None
    major, _, minor = fields[2].partition(":")
    return Mount(
        id=int(fields[0]),
        device=(int(major), int(minor)),
        root=_plain(fields[3]),
        point=_plain(fields[4]),
        options=frozenset(fields[5].split(",")),
        fstype=tail[0],
        source=_plain(tail[1]),
        super_options=frozenset(tail[2].split(",")),
    )


def _plain(text: str) -> str:
    return ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def mounts(pid: str = "self") -> list[Mount]:
    """In mount order: a later entry hides an earlier one on the same point. Empty when the process has gone."""
    try:
        text = (PROC / pid / "mountinfo").read_text()
    except OSError:
        return []
    return [m for m in map(parse_line, text.splitlines()) if m is not None]


def mounted_at(point: str) -> Mount | None:
    """The file system one sees at `point`, if it is a mount point."""
    found = [m for m in mounts() if m.point == point.rstrip("/")]
    return found[-1] if found else None


def mount_of(path: str) -> Mount | None:
    """The mount that `path` lies on. Symbolic links are resolved, so this may touch the storage of `path`."""
    real = os.path.realpath(path)
    best: Mount | None = None
    for mount in mounts():
        covers = mount.point in {"/", real} or real.startswith(mount.point + "/")
        if covers and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def device_number(path: str) -> tuple[int, int]:
    """Major, minor of the block device at `path`. Raises OSError."""
    status = Path(path).stat()
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def mounted_elsewhere(device: tuple[int, int]) -> dict[str, list[int]]:
    """Mount namespaces (other than ours) that have the device mounted -> their processes that we can see."""
    holders: dict[str, list[int]] = {}
    verdict: dict[str, bool] = {_namespace("self"): False}
    for pid in all_pids():
        namespace = _namespace(str(pid))
        if not namespace:
            continue
        if namespace not in verdict:
            verdict[namespace] = any(m.device == device for m in mounts(str(pid)))
        if verdict[namespace]:
            holders.setdefault(namespace, []).append(pid)
    return holders


def _namespace(pid: str) -> str:
    try:
        return str((PROC / pid / "ns" / "mnt").readlink())
    except OSError:
        return ""
