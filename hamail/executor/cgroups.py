"""Sets of processes that the executor can list and kill as one: a cgroup, or marked processes where there is none.

Every resource has two sets: `service` (what its start left running) and `action` (whatever else an agent runs).
"""

import contextlib
import errno
import logging
import os
import signal
import time
import zlib
from pathlib import Path
from typing import Protocol

import psutil

from hamail.executor import hostmounts

MARKER = "HAMAIL_PROCESS_SET"
KILL_ROUNDS_MAX = 10  # a v1 cgroup is killed by reading and signalling until it is empty
_ROUND_PAUSE_S = 0.002

log = logging.getLogger("hamail.executor.cgroups")


class ProcessSet(Protocol):
    """A named set of processes; membership is inherited by children, however often they fork."""

    name: str

    # `pids` raises OSError when they cannot be seen (e.g. no free descriptor): that is not "there are none".

    def join_files(self) -> tuple[str, ...]:
        """Files to which a new process writes "0" to become a member."""

    def environment(self) -> dict[str, str]:
        """Variables that a new process must have to become a member."""

    def pids(self) -> list[int]: ...

    def signal(self, number: int) -> None: ...

    def remove(self) -> None:
        """Forget the set; it must be empty."""


class CgroupSet:
    """Members are the processes of a cgroup and of those below it."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.path = path

    def make(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def join_files(self) -> tuple[str, ...]:
        self.make()
        return (str(self.path / "cgroup.procs"),)

    def environment(self) -> dict[str, str]:
        return {}

    def pids(self) -> list[int]:
        return pids_below(self.path)

    def signal(self, number: int) -> None:
        if number == signal.SIGKILL and _kill_at_once(self.path):
            return
        _signal_each(self, number)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.rmdir()


class MarkedSet:
    """Members carry a variable in their environment. Weaker than a cgroup: a process can shed it by an exec."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._needle = f"{MARKER}={name}".encode()

    def join_files(self) -> tuple[str, ...]:
        return ()

    def environment(self) -> dict[str, str]:
        return {MARKER: self.name}

    def pids(self) -> list[int]:
        return [pid for pid in psutil.pids() if self._needle in _environment_of(pid).split(b"\0")]

    def signal(self, number: int) -> None:
        _signal_each(self, number)

    def remove(self) -> None:
        return


class ProcessSets:
    """Hands out process sets below one place that stays the same when the executor is restarted."""

    def __init__(self, root: Path | None, detail: str, salt: str = "") -> None:
        self._root = root
        self._salt = salt
        self.detail = detail

    @property
    def by_cgroup(self) -> bool:
        return self._root is not None

    def get(self, name: str) -> ProcessSet:
        if self._root is None:
            return MarkedSet(f"{self._salt}/{name}")
        return CgroupSet(self._root / name, name)

    def remove(self) -> None:
        """Leave no empty cgroups behind; what still has processes in it stays."""
        if self._root is None:
            return
        for folder in (*self._root.glob("*/"), self._root):
            with contextlib.suppress(OSError):
                folder.rmdir()


def detect(run_dir: Path) -> ProcessSets:
    """Find a hierarchy in which cgroups can be made: v2 (also that of a hybrid host), else v1 name=systemd."""
    salt = f"hamail-{_identity(run_dir)}"
    refused = []
    for label, base in _candidates():
        root = base / salt
        try:
            root.mkdir(parents=True, exist_ok=True)
            probe = root / "probe"
            probe.mkdir(exist_ok=True)
            usable = (probe / "cgroup.procs").exists()
            probe.rmdir()
        except OSError as error:
            refused.append(f"{label}: {error.strerror}")
            continue
        if usable:
            return ProcessSets(root, f"processes are tracked in {label} cgroups below {root}", salt)
        refused.append(f"{label}: {root} is no cgroup")
    why = "; ".join(refused) or "no cgroup hierarchy is mounted"
    return ProcessSets(None, f"no cgroup can be made ({why}): processes are tracked by an environment mark only", salt)


def cgroup_dirs(name: str) -> list[Path]:
    """Existing folders of the cgroup `name`: a path in any hierarchy, or the name of a systemd unit.

    A name that is not below a cgroup mount gives nothing, nor does one that holds the executor itself: what is found
    here may be killed.
    """
    mounts = [mount for _kind, mount, _root, _own in _hierarchies()]
    return [found for found in _named(name, mounts) if os.getpid() not in pids_below(found)]


def _named(name: str, mounts: list[Path]) -> list[Path]:
    if name.startswith("/"):
        wanted = Path(os.path.normpath(name))
        direct = [wanted] if any(wanted != m and wanted.is_relative_to(m) for m in mounts) else []
        inside = [m / str(wanted).lstrip("/") for m in mounts]
        return [d for d in direct + inside if d not in mounts and (d / "cgroup.procs").exists()]
    if "/" in name or not name:
        return []
    found = []
    for mount in mounts:
        slice_dir = mount / "system.slice"
        found += [d for d in (slice_dir / name, *slice_dir.glob(f"*.slice/{name}")) if (d / "cgroup.procs").exists()]
    return found


def pids_below(path: Path) -> list[int]:
    """Live processes in a cgroup and all below it; zombies do not count. Raises OSError when they cannot be seen."""
    pids: set[int] = set()
    # not glob: that raises when a cgroup goes away between its listing and its turn
    for folder, _, _ in os.walk(path, onerror=_unless_gone):
        try:
            # 0 stands for a process of another pid namespace
            pids.update(int(line) for line in Path(folder, "cgroup.procs").read_text().split() if line != "0")
        except OSError as error:
            _unless_gone(error)
    return sorted(pid for pid in pids if not is_zombie(pid))


def _unless_gone(error: OSError) -> None:
    """Raises it unless it says that the cgroup has gone away, or that its processes are listed one level up."""
    if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ENOTDIR, errno.EOPNOTSUPP):
        raise error


def kill_cgroup(path: Path) -> None:
    """SIGKILL everything in a cgroup and below it."""
    if not _kill_at_once(path):
        for _round in range(KILL_ROUNDS_MAX):
            pids = pids_below(path)
            if not pids:
                return
            for pid in pids:
                _send(pid, signal.SIGKILL)
            time.sleep(_ROUND_PAUSE_S)


def describe(pid: int) -> str:
    """ "1234 (/usr/sbin/dovecot)": who a process is, for a sentence."""
    try:
        name = str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            name = "gone"
    return f"{pid} ({name})"


def is_zombie(pid: int) -> bool:
    """Raises OSError when it cannot be seen."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return True  # gone altogether


def _kill_at_once(path: Path) -> bool:
    try:
        (path / "cgroup.kill").write_text("1")  # v2 only; leaves no race with a fork
    except OSError:
        return not path.exists()
    return True


def _signal_each(processes: ProcessSet, number: int) -> None:
    for _round in range(KILL_ROUNDS_MAX):
        try:
            pids = processes.pids()
        except OSError as error:
            log.warning("processes of %s cannot be seen, so not signalled: %s", processes.name, error)
            return
        for pid in pids:
            _send(pid, number)
        if number != signal.SIGKILL or not pids:
            return
        time.sleep(_ROUND_PAUSE_S)


def _send(pid: int, number: int) -> None:
    if pid in (0, 1, os.getpid()):
        return  # never init, never oneself, whatever a cgroup says
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def _identity(run_dir: Path) -> str:
    # Nodes without their own cgroup namespace share one tree: the mount namespace tells them apart.
    # That of the agents: where the executor has one of its own, each start gets another.
    namespace = Path(f"/proc/{hostmounts.owner()}/ns/mnt").stat().st_ino
    return f"{zlib.crc32(f'{namespace} {run_dir}'.encode()):08x}"


def _candidates() -> list[tuple[str, Path]]:
    found = []
    for kind, mount, root, own in _hierarchies():
        base = mount if own.startswith("/..") else mount / os.path.relpath(own, root)
        found.append((kind, Path(os.path.normpath(base))))
    return sorted(found)[::-1]  # "v2" before "v1 name=systemd"


def _hierarchies() -> list[tuple[str, Path, str, str]]:
    """(kind, mount point, root of the mount, own cgroup) of the v2 and the v1 name=systemd hierarchy."""
    own_v2, own_v1 = _own_cgroups()
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        fields, kinds = head.split(), tail.split()
        if kinds[0] == "cgroup2":
            found.append(("v2", Path(fields[4]), fields[3], own_v2))
        elif kinds[0] == "cgroup" and "name=systemd" in kinds[-1].split(","):
            found.append(("v1 name=systemd", Path(fields[4]), fields[3], own_v1))
    return found


def _own_cgroups() -> tuple[str, str]:
    v2, v1 = "/", "/"
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers == "":
            v2 = path
        elif controllers == "name=systemd":
            v1 = path
    return v2, v1
