"""Where Dovecot keeps the mail of its users, read from its settings: those of 2.4, and the one line of before."""

import re
from collections.abc import Mapping
from typing import NamedTuple

# Parts of the mail that may be kept apart from the rest. Indexes are none: Dovecot makes them again.
APART = ("mail_inbox_path", "mail_control_path")
APART_BEFORE = ("INBOX", "CONTROL")
_LOCATION = re.compile(r"(?:([a-z]+):)?(.*)", re.DOTALL)


class Place(NamedTuple):
    """`path`: the fixed beginning of a path, "" when nothing is known of it. `by_home`: below each user's home, which
    `mail_home` names only where the user database does not."""

    path: str
    by_home: bool = False


def places(settings: Mapping[str, str]) -> tuple[Place, ...]:
    """All that mail is kept below."""
    home = _fixed(settings.get("mail_home", ""))
    found = (Place(fixed) if (fixed := _fixed(path)) else Place(home, by_home=True) for path in _paths(settings))
    return tuple(dict.fromkeys(found))


def location(text: str) -> tuple[str, str, list[str]]:
    """Driver ("": none is named), path and options of a `mail_location`."""
    found = _LOCATION.fullmatch(text)
    driver, rest = (found[1] or "", found[2]) if found else ("", "")
    path, *options = rest.split(":")
    return driver, path, options


def _paths(settings: Mapping[str, str]) -> list[str]:
    if path := settings.get("mail_path", ""):
        return [path, *(settings[key] for key in APART if is_apart(settings.get(key, "")))]
    _, main, options = location(settings.get("mail_location", ""))
    pairs = (option.partition("=") for option in options)
    return [main, *(path for key, _, path in pairs if key in APART_BEFORE and is_apart(path))]


def is_apart(path: str) -> bool:
    """Any other is below the rest of the mail."""
    return path.startswith(("/", "~", "%"))


def _fixed(path: str) -> str:
    fixed = path.partition("%")[0]
    return fixed.rstrip("/") if fixed.startswith("/") else ""
