"""The two clocks of the executor: deadlines live on CLOCK_BOOTTIME, display on the wall clock."""

import asyncio
import ctypes
import os
import struct
import time
from collections.abc import Callable

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1


def boottime_ns() -> int:
    """Nanoseconds since boot, counting the time that the machine was suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_ms() -> int:
    """Milliseconds of the wall clock: for people, never for a decision."""
    return time.time_ns() // NS_PER_MS


class BootTimer:
    """Calls back once at an absolute CLOCK_BOOTTIME.

    asyncio counts on CLOCK_MONOTONIC, which stands still while the machine is suspended, so its own timers could let
    a deadline pass by the whole length of a suspend. A timerfd on CLOCK_BOOTTIME cannot, and costs nothing while idle.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(time.CLOCK_BOOTTIME, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create(CLOCK_BOOTTIME)")
        loop.add_reader(self._fd, self._expired)

    def set(self, at_ns: int | None) -> None:
        """Fire at `at_ns` (at once if that is past); None disarms."""
        # an all-zero it_value means "disarm" to the kernel, hence at least 1 ns
        value = b"\0" * 32 if at_ns is None else struct.pack("=qqqq", 0, 0, *divmod(max(at_ns, 1), NS_PER_S))
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, value, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # re-armed between the wake-up and this call
        self._callback()
