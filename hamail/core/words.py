"""Times in sentences of the core: always UTC, since every node must say the same."""

from datetime import UTC, datetime

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000))


def clock(at_ms: int) -> str:
    """Total: a moment that no calendar has, as a command may carry it, is told as a number."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms since 1970"


def span(duration_ms: int) -> str:
    """The shortest exact way: "15 min", "24 h", "90 s", "1500 ms"."""
    for unit, size_ms in _UNITS[1:]:
        if duration_ms and duration_ms % size_ms == 0:
            return f"{duration_ms // size_ms} {unit}"
    return f"{duration_ms} ms"


def about(duration_ms: int) -> str:
    """The largest unit alone, for how long ago something was."""
    for unit, size_ms in _UNITS:
        if abs(duration_ms) >= size_ms:
            return f"{abs(duration_ms) // size_ms} {unit}"
    return "a moment"
