"""Notices the death of a process at once, through its pidfd."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable

from hamail.executor.cgroups import describe
from hamail.executor.verify import alive


class PidWatch:
    """Calls `gone(sentence)` once when the process ends. Raises ProcessLookupError when it has already ended."""

    def __init__(self, pid: int, start_ticks: int, gone: Callable[[str], None]) -> None:
        self.pid = pid
        self.start_ticks = start_ticks
        self._gone = gone
        self._fd = os.pidfd_open(pid)
        # asked after the pidfd is open: from here on the number cannot come to mean another process unnoticed
        if not alive(pid, start_ticks):
            os.close(self._fd)
            raise ProcessLookupError(f"process {pid} of that start time has ended")
        self._name = describe(pid)
        asyncio.get_running_loop().add_reader(self._fd, self._ended)

    def kill(self) -> None:
        """SIGKILL this very process."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _ended(self) -> None:
        self.close()
        self._gone(f"process {self._name} has ended")
