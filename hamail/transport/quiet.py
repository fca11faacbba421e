"""Log lines that a stranger can cause, kept to a bounded number."""

from typing import Any

import structlog

LINES_PER_WINDOW = 20
WINDOW_NS = 10 * 1_000_000_000


class QuietLog:
    """At most LINES_PER_WINDOW lines per window; the next window begins with how many were left out."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("hamail.transport")
        self._window_from_ns = -WINDOW_NS
        self._lines = 0

    def warning(self, now_ns: int, event: str, **fields: Any) -> None:
        if now_ns - self._window_from_ns >= WINDOW_NS:
            if (left_out := self._lines - LINES_PER_WINDOW) > 0:
                self._log.warning("similar lines were left out", count=left_out)
            self._window_from_ns, self._lines = now_ns, 0
        self._lines += 1
        if self._lines <= LINES_PER_WINDOW:
            self._log.warning(event, **fields)
