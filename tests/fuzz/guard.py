"""What must hold for every input: little time, little memory, no file, no program, no connection."""

import resource
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable

CPU_MS_MAX = 50.0
MEMORY_MIB_MAX = 16.0
MEASURES = 3  # a slow input is timed anew: only what is slow every time is its own fault
WRITING = 0o3 | 0o100 | 0o1000 | 0o2000  # O_ACCMODE, O_CREAT, O_TRUNC, O_APPEND
FORBIDDEN = frozenset(
    "subprocess.Popen os.system os.exec os.posix_spawn os.fork os.forkpty os.remove os.rename os.rmdir os.mkdir "
    "os.link os.symlink os.truncate os.chmod os.chown os.utime os.kill os.setxattr os.removexattr shutil.rmtree "
    "socket.connect socket.bind socket.sendto socket.sendmsg socket.getaddrinfo socket.gethostbyname "
    "ctypes.dlopen pty.spawn".split()
)


class Finding(AssertionError):
    """An input has made hamail do what it must not do."""


class Guard:
    """Runs inputs one at a time and keeps the worst that was seen."""

    def __init__(self, one: Callable[[bytes], None]) -> None:
        self._one = one
        self._thread = 0  # the one in which an input is being handled; 0: none
        self._touched = ""
        self.inputs = 0
        self.slowest_ms = 0.0
        self.peak_mib = 0.0  # growth of this process since the first input
        self._peak_kib = 0
        self._base_kib = 0
        sys.addaudithook(self._heard)

    def __call__(self, data: bytes) -> None:
        """Raises Finding, or whatever came out of the target undeclared."""
        if not self.inputs:
            self._base_kib = self._peak_kib = _peak_kib()
        self.inputs += 1
        took_ms = self._run(data)
        if took_ms > CPU_MS_MAX:
            took_ms = min(took_ms, *(self._run(data) for _ in range(MEASURES - 1)))
            if took_ms > CPU_MS_MAX:
                raise Finding(f"one input of {len(data)} bytes took {took_ms:.0f} ms of CPU, over {CPU_MS_MAX:g}")
        self.slowest_ms = max(self.slowest_ms, took_ms)
        peak_kib = _peak_kib()
        if peak_kib - self._peak_kib > MEMORY_MIB_MAX * 1024:
            self._weigh(data)
        self._peak_kib = peak_kib
        self.peak_mib = (peak_kib - self._base_kib) / 1024

    def _run(self, data: bytes) -> float:
        self._touched = ""
        self._thread = threading.get_ident()
        begun_ns = time.thread_time_ns()
        try:
            self._one(data)
        finally:
            took_ms = (time.thread_time_ns() - begun_ns) / 1e6
            self._thread = 0
        if self._touched:
            raise Finding(f"an input has reached outside: {self._touched}")
        return took_ms

    def _weigh(self, data: bytes) -> None:
        """The process has grown by leaps during this input: was it the input's own doing?"""
        tracemalloc.start()
        try:
            self._run(data)
            weight_mib = tracemalloc.get_traced_memory()[1] / 2**20
        finally:
            tracemalloc.stop()
        if weight_mib > MEMORY_MIB_MAX:
            raise Finding(f"one input of {len(data)} bytes took {weight_mib:.0f} MiB, over {MEMORY_MIB_MAX:g}")

    def _heard(self, event: str, arguments: tuple) -> None:
        if not self._thread or threading.get_ident() != self._thread:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = any(c in mode for c in "wax+") if isinstance(mode, str) else bool((flags or 0) & WRITING)
            if writes and path != "/dev/null":
                self._touched = f"open {path!r} for writing"
        elif event in FORBIDDEN and not isinstance(
            arguments[0] if arguments else "", int
        ):  # an open file was seen above
            self._touched = f"{event} {arguments!r:.200}"


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
