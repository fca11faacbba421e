"""Times and names in words."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

MOMENT_FORMAT = "%Y-%m-%d %H:%M:%S"
UTC_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")


def took(ms: int) -> str:
    """A duration for people: "95 ms", "1.31 s", "2 min 5 s", "3 d 4 h"."""
    if abs(ms) < 1000:
        return f"{ms} ms"
    if abs(ms) < 60_000:
        return f"{ms / 1000:.2f} s"
    seconds = abs(ms) // 1000
    for unit, next_unit, size, part in (("d", "h", 86_400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {unit}" + (f" {rest} {next_unit}" if rest else "")
    raise AssertionError(ms)


def ago(ms: int) -> str:
    """How long something has lasted; coarse, since nobody wants the hundredths."""
    return f"{ms // 1000} s" if 1000 <= ms < 60_000 else took(ms)


def roughly(ms: int) -> str:
    """The same with one unit only: "12 min"."""
    words = ago(ms).split()
    return " ".join(words[:2])


def moment(at_ms: int) -> str:
    """Local time, to the second."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime(MOMENT_FORMAT)


def in_local_time(sentence: str) -> str:
    """hamaild's sentences tell times in UTC; everything else that a person is shown is local."""

    def local(found: re.Match[str]) -> str:
        return datetime.strptime(found[1], MOMENT_FORMAT).replace(tzinfo=UTC).astimezone().strftime(MOMENT_FORMAT)

    return UTC_MOMENT.sub(local, sentence)


def clock(at_ms: int) -> str:
    """Local time of day, to the millisecond."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%H:%M:%S.%f")[:-3]


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
