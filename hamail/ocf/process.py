"""Processes told apart by pid and start time, so that a recycled pid is never taken for, or killed as, another."""

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
STAT_STATE = 0  # fields after the command name
STAT_PGRP = 2
STAT_START = 19
POLL_S = 0.005


@dataclass(frozen=True)
class Process:
    pid: int
    start_ticks: int

    def alive(self) -> bool:
        """A zombie has released everything it held: it is not alive."""
        fields = stat_fields(self.pid)
        return fields is not None and fields[STAT_STATE] not in "ZX" and int(fields[STAT_START]) == self.start_ticks

    def exe(self) -> str:
        """Path of the running program ("" when gone or not ours to see), also when the file was replaced."""
        try:
            return str((PROC / str(self.pid) / "exe").readlink()).removesuffix(" (deleted)")
        except OSError:
            return ""

    def group(self) -> int:
        fields = stat_fields(self.pid)
        return 0 if fields is None else int(fields[STAT_PGRP])

    def describe(self) -> str:
        return f"{self.pid} ({self.exe() or name_of(self.pid) or 'unknown'})"


def stat_fields(pid: int) -> list[str] | None:
    """/proc/<pid>/stat after the command name (which may hold blanks and brackets)."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def name_of(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def find(pid: int) -> Process | None:
    fields = stat_fields(pid)
    if fields is None or fields[STAT_STATE] in "ZX":
        return None
    return Process(pid, int(fields[STAT_START]))


def own() -> Process:
    me = find(os.getpid())
    assert me is not None
    return me


def all_pids() -> Iterator[int]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def ancestors() -> frozenset[int]:
    """This process and its parents up to pid 1: never to be killed."""
    found = {1, os.getpid()}
    pid = os.getppid()
    while pid > 1 and pid not in found:
        found.add(pid)
        fields = stat_fields(pid)
        pid = int(fields[1]) if fields is not None else 0
    return frozenset(found)


def from_pid_file(path: Path, exe: str) -> Process | None:
    """The live process of a pid file, if it runs the program `exe`. A stale or foreign pid gives None."""
    try:
        text = path.read_text().split()
    except OSError:
        return None
    if not text or not text[0].isdigit():
        return None
    process = find(int(text[0]))
    if process is None or not same_program(process.exe(), exe):
        return None
    return process


def same_program(running: str, expected: str) -> bool:
    return running == expected or os.path.realpath(running) == os.path.realpath(expected)


def send(processes: Iterable[Process], signum: signal.Signals) -> None:
    """Signal those that are still the same process; through a pidfd, so that a recycled pid is never hit."""
    for process in processes:
        try:
            handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            if process.alive():
                signal.pidfd_send_signal(handle, signum)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)


def wait_gone(processes: Iterable[Process], seconds: float) -> list[Process]:
    """Wait until all have ended, at most `seconds`; returns those that still live."""
    deadline = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds
    left = [p for p in processes if p.alive()]
    for process in left:
        try:
            handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            if process.alive():
                rest_s = max(0.0, deadline - time.clock_gettime(time.CLOCK_BOOTTIME))
                select.select([handle], [], [], rest_s)
        finally:
            os.close(handle)
    return [p for p in left if p.alive()]


def below(folder: str, programs: frozenset[str] = frozenset(), unit: str = "") -> list[Process]:
    """Live processes of this node whose program lies below `folder` or is one of `programs`.

    Containers on this machine may run the same programs. They live in other pid or mount namespaces and are none of
    ours; only a systemd unit of ours may have a mount namespace of its own (PrivateTmp and the like).
    """
    prefix = os.path.realpath(folder) + "/"
    here = {kind: _namespace("self", kind) for kind in ("pid", "mnt")}
    found = []
    for pid in all_pids():
        exe = Process(pid, 0).exe()
        if not exe.startswith(prefix) and exe not in programs:
            continue
        if _namespace(str(pid), "pid") != here["pid"]:
            continue
        if _namespace(str(pid), "mnt") == here["mnt"] or (unit and in_unit(pid, unit)):
            process = find(pid)
            if process is not None:
                found.append(process)
    return found


def in_unit(pid: int, unit: str) -> bool:
    """Is the process in the control group of this systemd unit, or below it?"""
    try:
        lines = (PROC / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return False
    return any(unit in line.split(":", 2)[2].split("/") for line in lines)


def _namespace(pid: str, kind: str) -> str:
    try:
        return str((PROC / pid / "ns" / kind).readlink())
    except OSError:
        return ""


def working_directory(process: Process) -> str:
    """By name, without touching the storage it lies on."""
    try:
        return str((PROC / str(process.pid) / "cwd").readlink())
    except OSError:
        return ""


def boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
