"""A program of the lab that writes a record from its start until it is told to end."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

START_LIMIT_S = 10.0
END_LIMIT_S = 10.0
POLL_S = 0.01


class Background:
    """`module` runs as a child and writes `path`; it has started when there is something in it."""

    abort = signal.SIGTERM  # how it ends when nobody wants its record any more

    def __init__(self, name: str, module: str, arguments: Sequence[str], path: Path) -> None:
        self.path = path
        self._name = name
        self._argv = [sys.executable, "-m", module, *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Raises RuntimeError when it does not start."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
        end_s = time.monotonic() + START_LIMIT_S
        while not (self.path.exists() and self.path.stat().st_size):
            if self._process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(f"the {self._name} did not start: {' '.join(self._argv)}")
            time.sleep(POLL_S)
        return self

    def require_sound(self) -> None:
        """Raises RuntimeError unless it runs or has ended well."""
        if self._process is None or self._process.poll() not in (None, 0):
            raise RuntimeError(f"the {self._name} is not running")

    def end(self, limit_s: float = END_LIMIT_S) -> None:
        """Let it finish its record. Raises RuntimeError when it died."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        if self._process.wait(limit_s) != 0:
            raise RuntimeError(f"the {self._name} died with {self._process.returncode}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(self.abort)
            self._process.wait(END_LIMIT_S)
