"""On which line of a TOML text a key stands. The parser of the standard library does not tell.

A scan of headers and of the first key on each line; what it cannot tell is answered with the nearest enclosing table.
"""

import re

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")
_PART = re.compile(_KEY)
_TRIPLE = ('"""', "'''")


class Lines:
    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        inside = ""  # the delimiter of a multi-line string that is open
        for number, line in enumerate(text.splitlines(), start=1):
            if inside:
                inside = "" if inside in line else inside
                continue
            if header := _HEADER.match(line):
                table = _parts(header[1])
                self._lines.setdefault(table, number)
                continue
            if assignment := _ASSIGNMENT.match(line):
                self._lines.setdefault(table + _parts(assignment[1]), number)
            inside = next((mark for mark in _TRIPLE if line.count(mark) % 2), "")

    def of(self, path: tuple[str, ...]) -> int:
        """The line of the key, or of the innermost table around it; 0 when there is none."""
        for length in range(len(path), 0, -1):
            if line := self._lines.get(path[:length]):
                return line
        return 0


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(text))
