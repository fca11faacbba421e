"""Honest unmounting: done means that nothing on this machine can write to the device any more."""

import ctypes
import errno
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from hamail.ocf.claim import thaw
from hamail.ocf.codes import Code, Failure
from hamail.ocf.deadline import ProbeFailed, ProbeHung, run_with_deadline
from hamail.ocf.mounts import Mount, mounted_elsewhere, mounts
from hamail.ocf.openers import openers
from hamail.ocf.process import Process, ancestors, boottime_s, send, wait_gone

UMOUNT_NOFOLLOW = 8
QUICK_TRIES = 4  # what has just been stopped may need a moment to let go
QUICK_PAUSE_S = 0.02
LIST_TIMEOUT_S = 5.0
TERM_WAIT_S = 5.0
KILL_WAIT_S = 2.0
KILL_ROUNDS = 5  # one that forks between the look and the kill leaves a child behind, which the next round finds
RELEASE_WAIT_S = 5.0
RELEASE_POLL_S = 0.01
LAYERS_MAX = 8
SHOWN_MAX = 10

Warn = Callable[[str], None]


def unmount(mount: Mount, device: str, seconds: float, warn: Warn) -> None:
    """Unmount, if need be after ending the processes that have files open on this very file system.

    Raises Failure with the list of those that keep it busy. Never lazy: a lazily unmounted file system is still
    written to by whoever has it open.
    """
    if not _settled(mount, seconds, warn):
        _evict(mount, seconds, warn)
    _verify_released(mount, device)


def _settled(mount: Mount, seconds: float, warn: Warn) -> bool:
    """Try a few times at once."""
    for attempt in range(QUICK_TRIES):
        if attempt:
            time.sleep(QUICK_PAUSE_S)
        if _try_unmount(mount, seconds, warn):
            return True
    return False


def _try_unmount(mount: Mount, seconds: float, warn: Warn) -> bool:
    """True when unmounted, False when busy. Raises Failure when it hangs or fails otherwise."""
    try:
        answer = run_with_deadline(lambda: _umount2(mount.point), seconds)
    except ProbeHung as hung:
        raise Failure(
            Code.GENERIC,
            f"unmounting {mount.point} hangs since {hung.seconds:g} s: the storage does not answer; still mounted",
        ) from None
    except ProbeFailed as failed:
        raise Failure(Code.GENERIC, f"unmounting {mount.point} failed: {failed}; treat it as mounted") from None
    done, _, trouble = answer.partition(" ")
    if trouble:
        warn(trouble)
    return done == "done"


def _umount2(point: str) -> str:
    frozen = thaw(point)  # left frozen by somebody who was killed, it would outlive its own unmounting
    libc = ctypes.CDLL(None, use_errno=True)
    for _ in range(LAYERS_MAX):
        if libc.umount2(point.encode(), UMOUNT_NOFOLLOW) == 0:
            return f"done {frozen}"
        number = ctypes.get_errno()
        if number == errno.EINVAL:  # not a mount point any more
            return f"done {frozen}"
        if number == errno.EBUSY:
            return "busy"
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
    return "busy"


def _evict(mount: Mount, seconds: float, warn: Warn) -> None:
    deadline_s = boottime_s() + seconds
    killed: set[Process] = set()
    for signum, wait_s in ((signal.SIGTERM, TERM_WAIT_S), *[(signal.SIGKILL, KILL_WAIT_S)] * KILL_ROUNDS):
        busy = list_openers(mount)
        spared = ancestors()
        victims = [p for p in busy if p.pid not in spared]
        if killed and killed.issuperset(victims):
            break  # what a kill does not end, another will not
        if victims:
            warn(f"{mount.point} is busy: {describe(victims)}; sending {signum.name}")
            send(victims, signum)
            wait_gone(victims, min(wait_s, max(0.1, deadline_s - boottime_s())))
            killed.update(victims if signum is signal.SIGKILL else ())
        if _settled(mount, max(0.1, deadline_s - boottime_s()), warn):
            return
    nested = [m.point for m in mounts() if m.point.startswith(mount.point.rstrip("/") + "/")]
    why = f"other file systems are mounted below it: {', '.join(nested)}" if nested else describe(list_openers(mount))
    raise Failure(Code.GENERIC, f"cannot unmount {mount.point}: still in use by {why}; it stays mounted on this node")


def list_openers(mount: Mount) -> list[Process]:
    """In a child: looking at an inode of dead storage can hang. Raises Failure when nobody can be named."""

    def look() -> str:
        return json.dumps([(p.pid, p.start_ticks) for p in openers(mount.device, mount.point)])

    try:
        found = json.loads(run_with_deadline(look, LIST_TIMEOUT_S))
    except (ProbeHung, ProbeFailed) as error:
        raise Failure(
            Code.GENERIC, f"{mount.point} is busy and cannot be searched for its users ({error}); it stays mounted"
        ) from None
    me = os.getpid()
    return [Process(pid, start) for pid, start in found if pid != me]


def describe(processes: list[Process]) -> str:
    if not processes:
        return "nobody visible from here (another mount namespace, a swap file, a loop device or the kernel)"
    shown = ", ".join(p.describe() for p in processes[:SHOWN_MAX])
    more = len(processes) - SHOWN_MAX
    return f"{shown} and {more} more" if more > 0 else shown


def in_use(device: str) -> bool:
    """Does this kernel hold the device for itself (mounted in whatever namespace)? The kernel's own exclusive open
    answers it in one call, also for lazily detached mounts that no list shows any more."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _verify_released(mount: Mount, device: str) -> None:
    """Wait until this kernel has let the device go.

    A process that made itself a mount namespace while the file system was mounted has a copy of the mount, and may
    need seconds to drop it. Until then the device counts as held: waiting is cheaper than the fence of a failed stop.
    """
    end_s = boottime_s() + RELEASE_WAIT_S
    seen: set[str] = set()
    while in_use(device) or any(m.device == mount.device for m in mounts()):
        for pids in mounted_elsewhere(mount.device).values():
            seen.update(Process(pid, 0).describe() for pid in pids[:SHOWN_MAX])
        if boottime_s() > end_s:
            by = f" (seen meanwhile with a copy of the mount: {', '.join(sorted(seen)[:SHOWN_MAX])})" if seen else ""
            where = whereabouts(device, mount.device)
            raise Failure(Code.GENERIC, f"{mount.point} was unmounted, but {where}{by}")
        time.sleep(RELEASE_POLL_S)


def whereabouts(device: str, number: tuple[int, int]) -> str:
    """Why the device still counts as in use here, in words."""
    here = [m.point for m in mounts() if m.device == number]
    if here:
        return f"{device} is still mounted on this node at {', '.join(here)}"
    others = sorted({pid for pids in mounted_elsewhere(number).values() for pid in pids})
    if others:
        names = ", ".join(Process(pid, 0).describe() for pid in others[:SHOWN_MAX])
        return f"{device} is still mounted in the mount namespace of: {names}"
    return f"{device} is still held by the kernel (lazily unmounted with files open, or used by another driver)"


def still_mounted(device: str, number: tuple[int, int]) -> str:
    """ "" when no mount table that we can see lists the device, else where it is."""
    if any(m.device == number for m in mounts()) or (in_use(device) and mounted_elsewhere(number)):
        return whereabouts(device, number)
    return ""


def exists(path: str) -> bool:
    return Path(path).exists()
