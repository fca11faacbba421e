"""Bars in the terminal: what took how long, and when. Unicode where the terminal can, else plain ASCII."""

import os
from collections.abc import Sequence

from msgspec import Struct

EIGHTHS = " ▏▎▍▌▋▊▉█"
LIMITED_TERMINALS = ("linux", "dumb", "vt100")


class Span(Struct, frozen=True, kw_only=True):
    """From `begin_ms` to `end_ms`, both since the same zero."""

    name: str
    begin_ms: int
    end_ms: int
    style: str = ""
    open: bool = False  # it still goes on


def unicode_works(encoding: str | None) -> bool:
    """`HAMAIL_ASCII=1` says no."""
    if os.environ.get("HAMAIL_ASCII") or os.environ.get("TERM", "") in LIMITED_TERMINALS:
        return False
    return "utf" in (encoding or "").lower()


def bar(span: Span, whole_ms: int, columns: int, fancy: bool) -> str:
    """One row, `columns` wide; something that happened is always seen, however short it was."""
    scale = columns / max(whole_ms, 1)
    begin = min(int(span.begin_ms * scale), columns - 1)
    if not fancy:
        length = max(1, round((span.end_ms - span.begin_ms) * scale))
        row = " " * begin + "#" * min(length, columns - begin)
        return (row[:-1] + ">" if span.open else row).ljust(columns)
    eighths = max(1, round((span.end_ms - span.begin_ms) * scale * 8))
    whole, rest = divmod(min(eighths, (columns - begin) * 8), 8)
    row = " " * begin + EIGHTHS[8] * whole + (EIGHTHS[rest] if rest else "")
    return (row + ("…" if span.open and len(row) < columns else "")).ljust(columns)


def rows(spans: Sequence[Span], columns: int, fancy: bool) -> list[str]:
    whole_ms = max((s.end_ms for s in spans), default=0)
    return [bar(s, whole_ms, columns, fancy) for s in spans]
