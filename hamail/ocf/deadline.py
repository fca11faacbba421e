"""Probes that may hang in the kernel run in a child with a hard timeout.

A process that waits for dead storage is in state D and cannot be killed. So the parent never waits for it: it
reports the timeout and leaves the child behind; the child holds none of the caller's pipes.
"""

import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

from hamail.ocf.process import Process, find

ANSWER_BYTES = 64 * 1024
GRACE_S = 0.02
OK = b"+"
ERROR = b"-"


class ProbeFailed(Exception):
    """The probe ended and said why it failed."""


class ProbeHung(Exception):
    """The probe did not end in time. `child` may still be stuck in the kernel."""

    def __init__(self, seconds: float, child: Process | None) -> None:
        super().__init__(f"no answer within {seconds:g} s")
        self.seconds = seconds
        self.child = child


def run_with_deadline(probe: Callable[[], str], seconds: float) -> str:
    """Run `probe` in a child, return its text. Raises ProbeFailed or ProbeHung (then the outcome is unknown)."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(probe, write_end)
    os.close(write_end)
    try:
        answer = _collect(read_end, time.clock_gettime(time.CLOCK_BOOTTIME) + seconds)
    finally:
        os.close(read_end)
    if answer is None:
        os.kill(pid, signal.SIGKILL)
        raise ProbeHung(seconds, _reap_or_leave(pid))
    os.waitpid(pid, 0)
    text = answer[1:].decode(errors="replace")
    if answer[:1] == OK:
        return text
    raise ProbeFailed(text or "the probe died without a word")


def _child(probe: Callable[[], str], write_end: int) -> None:
    """Never returns. Only the answer pipe stays open: a hung child must not keep the caller's pipes open."""
    answer = ERROR
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        high = os.dup(write_end) if write_end <= 2 else write_end
        os.closerange(3, high)
        os.closerange(high + 1, _descriptor_limit())
        write_end = high
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        answer = OK + probe().encode()
    except BaseException as error:  # noqa: BLE001 - whatever it is travels to the parent as text
        answer = ERROR + (str(error) or type(error).__name__).encode()
    finally:
        try:
            os.write(write_end, answer[:ANSWER_BYTES])
        finally:
            os._exit(0)


def _descriptor_limit() -> int:
    try:
        return max(int(entry.name) for entry in Path("/proc/self/fd").iterdir()) + 1
    except (OSError, ValueError):
        return os.sysconf("SC_OPEN_MAX")


def _collect(read_end: int, deadline_s: float) -> bytes | None:
    """Everything up to end of file; None when the deadline passed first."""
    received = bytearray()
    while True:
        rest_s = deadline_s - time.clock_gettime(time.CLOCK_BOOTTIME)
        if rest_s <= 0 or not select.select([read_end], [], [], rest_s)[0]:
            return None
        chunk = os.read(read_end, ANSWER_BYTES)
        if not chunk or len(received) > ANSWER_BYTES:
            return bytes(received)
        received += chunk


def _reap_or_leave(pid: int) -> Process | None:
    """Reap the killed child if it dies at once, else leave it (state D) and name it."""
    end = time.clock_gettime(time.CLOCK_BOOTTIME) + GRACE_S
    while time.clock_gettime(time.CLOCK_BOOTTIME) < end:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return None
        time.sleep(0.002)
    return find(pid)
