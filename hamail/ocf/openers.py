"""Who has something open on a file system: descriptors, working directories, mappings, bound sockets."""

import os
from pathlib import Path

from hamail.ocf.process import PROC, Process, all_pids, find

SOCKET = "socket:["


def openers(device: tuple[int, int], point: str) -> list[Process]:
    """Processes that keep the file system busy. Reads /proc and inodes in memory; still, set a deadline."""
    number = os.makedev(*device)
    sockets = _bound_sockets(point)
    found = []
    for pid in all_pids():
        if _holds(PROC / str(pid), number, device, sockets):
            process = find(pid)
            if process is not None:
                found.append(process)
    return found


def _holds(proc: Path, number: int, device: tuple[int, int], sockets: frozenset[str]) -> bool:
    try:
        return (
            any(_on(proc / name, number) for name in ("cwd", "root", "exe"))
            or _has_descriptor(proc / "fd", number, sockets)
            or _has_mapping(proc / "maps", device)
        )
    except OSError:
        return False  # it ended while we looked


def _on(path: Path, number: int) -> bool:
    try:
        return path.stat().st_dev == number
    except OSError:
        return False


def _has_descriptor(folder: Path, number: int, sockets: frozenset[str]) -> bool:
    for entry in folder.iterdir():
        if _on(entry, number):
            return True
        if sockets:
            try:
                target = str(entry.readlink())
            except OSError:
                continue
            if target.startswith(SOCKET) and target[len(SOCKET) : -1] in sockets:
                return True
    return False


def _has_mapping(path: Path, device: tuple[int, int]) -> bool:
    wanted = f"{device[0]:02x}:{device[1]:02x}"
    return any(line.split(maxsplit=4)[3] == wanted for line in path.read_text().splitlines())


def _bound_sockets(point: str) -> frozenset[str]:
    """Inodes of unix sockets whose name lies below the mount point: a bound socket holds its directory."""
    try:
        lines = (PROC / "net" / "unix").read_text().splitlines()[1:]
    except OSError:
        return frozenset()
    fields = [line.split(maxsplit=7) for line in lines]
    return frozenset(f[6] for f in fields if len(f) == 8 and f[7].startswith(point.rstrip("/") + "/"))


def below(path: str, process: Process) -> bool:
    """Does the process have anything open below `path`, by name?"""
    prefix = path.rstrip("/") + "/"
    proc = PROC / str(process.pid)
    try:
        links = [proc / "cwd", *(proc / "fd").iterdir()]
    except OSError:
        return False
    for link in links:
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target == path or target.startswith(prefix):
            return True
    return False
