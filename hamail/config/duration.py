"""Durations as people write them: "300ms", "1.5s", "10m", "2h", "30d"."""

import re
from decimal import Decimal

_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PATTERN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ms|s|m|h|d)")
_RESTARTS = re.compile(r"([0-9]{1,4}) in (.+)")


def parse_duration(text: str) -> int:
    """Milliseconds. Raises ValueError with what is expected."""
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'{text!r} is not a duration; write a number and a unit, as in "300ms", "10s", "5m"')
    exact = Decimal(match[1]) * _MS[match[2]]
    if exact != int(exact):
        raise ValueError(f"{text!r} is finer than a millisecond")
    return int(exact)


def parse_restarts(text: str) -> tuple[int, int]:
    """ "3 in 10m" -> 3 restarts, window of 600000 ms. Raises ValueError."""
    match = _RESTARTS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'{text!r} is not a number of restarts in a time; write it as in "3 in 10m"')
    return int(match[1]), parse_duration(match[2])


def format_duration(duration_ms: int) -> str:
    """The shortest exact way to write it."""
    for unit in ("h", "m", "s"):  # 24h, not 1d: who reads it has written it so
        if duration_ms and duration_ms % _MS[unit] == 0:
            return f"{duration_ms // _MS[unit]}{unit}"
    return f"{duration_ms}ms"
