"""One table of a TOML file, read strictly: every key is asked for once, and what nobody asked for is a problem.

A reading method never raises: it notes the problem and returns a harmless stand-in, so that one reading finds all
problems. The result is used only when there were none.
"""

import difflib
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from hamail.config.duration import parse_duration
from hamail.config.problem import Path, Problems
from hamail.model.ids import NAME_PATTERN

NAME_RULE = "only a-z, 0-9 and - (not at either end), at most 32 characters"
TEXT_CHARACTERS_MAX = 4096
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_TYPES = {bool: "true or false", int: "a number", float: "a number with a fraction", str: "a text", list: "a list"}


class Section:
    def __init__(self, data: dict[str, Any], path: Path, problems: Problems) -> None:
        self._data = data
        self.path = path
        self._problems = problems
        self._asked: list[str] = []

    def problem(self, key: str, reason: str) -> None:
        self._problems.add((*self.path, key) if key else self.path, reason)

    def has(self, key: str) -> bool:
        return key in self._data

    def text(self, key: str, default: str | None = None) -> str:
        """Required when there is no default. The stand-in is empty."""
        value = self._take(key, str, default)
        if value is None:
            return default or ""
        if not value.strip() or len(value) > TEXT_CHARACTERS_MAX or not value.isprintable():
            self.problem(key, f"is empty, has control characters, or is over {TEXT_CHARACTERS_MAX} characters")
            return default or ""
        return str(value)

    def optional_text(self, key: str) -> str | None:
        self._ask(key)
        return (self.text(key) or None) if self.has(key) else None

    def name(self, key: str) -> str:
        value = self.text(key)
        if value and not re.fullmatch(NAME_PATTERN, value):
            self.problem(key, f"{value!r} is not a name: {NAME_RULE}")
            return ""
        return value

    def one_of(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.text(key, default)
        if value not in allowed:
            self.problem(key, f"is {value!r}; expected one of {', '.join(allowed)}{nearest(value, allowed)}")
            return default
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value = self._take(key, bool, default)
        return default if value is None else bool(value)

    def integer(self, key: str, default: int, lowest: int, highest: int) -> int:
        value = self._take(key, int, default)
        if value is None:
            return default
        if not lowest <= value <= highest:
            self.problem(key, f"is {value}; it must be between {lowest} and {highest}")
            return default
        return int(value)

    def duration_ms(self, key: str, default: str, lowest: str, highest: str) -> int:
        found = self.optional_duration_ms(key, lowest, highest)
        return parse_duration(default) if found is None else found

    def optional_duration_ms(self, key: str, lowest: str, highest: str) -> int | None:
        self._ask(key)
        if not self.has(key):
            return None
        value = self._data[key]
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.problem(key, f'is the number {value} without a unit; write it as in "{value}s"')
            return None
        text = self.text(key)
        if not text:
            return None
        try:
            found = parse_duration(text)
        except ValueError as error:
            self.problem(key, str(error))
            return None
        if not parse_duration(lowest) <= found <= parse_duration(highest):
            self.problem(key, f"is {text}; it must be between {lowest} and {highest}")
            return None
        return found

    def optional_path(self, key: str, default: str | None = None) -> str | None:
        """An absolute path in its plain form."""
        if not self.has(key):
            self._ask(key)
            return default
        value = self.text(key)
        if value and (why := wrong_path(value)):
            self.problem(key, why)
            return default
        return value or default

    def names(self, key: str, *, required: bool = False) -> tuple[str, ...]:
        """A list of texts without repetitions."""
        value = self._take(key, list, None if required else [])
        if value is None:
            return ()
        if not all(isinstance(entry, str) and entry for entry in value):
            self.problem(key, "must be a list of texts")
            return ()
        for entry in {entry for entry in value if value.count(entry) > 1}:
            self.problem(key, f"names {entry!r} twice")
        return tuple(dict.fromkeys(value))

    def texts(self, key: str) -> dict[str, str]:
        """A table of texts, e.g. `{ n1 = "1" }`."""
        return {name: str(value) for name, value in self._entries(key) if self._is_text(key, name, value)}

    def parameters(self, key: str) -> dict[str, str]:
        """A table for an agent: texts, whole numbers, true or false; all become texts."""
        found = {}
        for name, value in self._entries(key):
            if not _PARAMETER.fullmatch(name):
                self.problem(key, f"{name!r} cannot be the name of a parameter")
            elif isinstance(value, bool):
                found[name] = "true" if value else "false"
            elif isinstance(value, int):
                found[name] = str(value)
            elif self._is_text(key, name, value):
                found[name] = value
        return found

    def tables(self, key: str, *, required: bool = False) -> Iterator[tuple[str, "Section"]]:
        """Named sub-tables, e.g. `[nodes.n1]`. Those with odd names are noted and left out."""
        for name, value in self._entries(key, required=required):
            if not re.fullmatch(NAME_PATTERN, name):
                self._problems.add((*self.path, key, name), f"{name!r} is not a name: {NAME_RULE}")
            elif not isinstance(value, dict):
                self._problems.add(
                    (*self.path, key, name), f"must be a table, as in [{'.'.join((*self.path, key, name))}]"
                )
            else:
                yield name, Section(value, (*self.path, key, name), self._problems)

    def table(self, key: str, *, required: bool = True) -> "Section":
        return Section(dict(self._entries(key, required=required)), (*self.path, key), self._problems)

    def finish(self) -> None:
        """Call when everything was asked for: the rest is unknown."""
        for key in self._data:
            if key not in self._asked:
                self.problem(key, f"is not known here{nearest(key, tuple(self._asked))}")

    def _ask(self, key: str) -> None:
        self._asked.append(key)

    def _take(self, key: str, kind: type, default: Any) -> Any:
        self._ask(key)
        if key not in self._data:
            if default is None:
                self.problem(key, "is missing")
            return default
        value = self._data[key]
        if type(value) is not kind:
            self.problem(key, f"is {described(value)}; expected {_TYPES[kind]}")
            return None
        return value

    def _entries(self, key: str, *, required: bool = False) -> list[tuple[str, Any]]:
        self._ask(key)
        value = self._data.get(key)
        if value is None:
            if required:
                self.problem(key, "is missing")
            return []
        if not isinstance(value, dict):
            example = f"[{'.'.join((*self.path, key))}.NAME]"
            self.problem(key, f"is {described(value)}; expected a table, or tables as in {example}")
            return []
        return list(value.items())

    def _is_text(self, key: str, name: str, value: Any) -> bool:
        path = (*self.path, key, name)
        if not isinstance(value, str):
            self._problems.add(path, f"is {described(value)}; expected a text")
            return False
        if len(value) > TEXT_CHARACTERS_MAX or not (value.isprintable() or not value):
            self._problems.add(path, f"has control characters, or is over {TEXT_CHARACTERS_MAX} characters")
            return False
        return True


def described(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    return _TYPES.get(type(value), "a date or time")


def nearest(word: str, known: tuple[str, ...]) -> str:
    """ " (did you mean ...?)" when something like it is known."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean {str(found[0])!r}?)" if found else ""


def wrong_path(text: str) -> str:
    path = PurePosixPath(text)
    if not path.is_absolute():
        return f"{text!r} is a relative path; write it in full, from /"
    if ".." in path.parts:
        return f"{text!r} goes back with '..'; write the path without"
    return ""
