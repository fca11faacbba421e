"""What is written for hamail, before it becomes text, and the notes for the operator."""

import re
from dataclasses import dataclass, field
from enum import StrEnum

NAME_CHARS_MAX = 32
VALUE_CHARS_MAX = 4096


class Kind(StrEnum):
    LEFT_OUT = "not carried over"  # something that Pacemaker did is not done any more
    TO_DO = "to do"  # the file passes the check, but a value in it must be put right
    CHANGED = "changed"  # done in another way; nothing to do


@dataclass(frozen=True)
class Note:
    kind: Kind
    what: str
    why: str


@dataclass
class Resource:
    name: str
    agent: str
    parameters: dict[str, str] = field(default_factory=dict)
    after: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)  # monitor_interval and such
    plain: dict[str, bool] = field(default_factory=dict)  # critical
    origin: str = ""  # what it was in Pacemaker


@dataclass
class GroupDraft:
    name: str
    nodes: list[str]
    resources: list[Resource]
    settings: dict[str, str] = field(default_factory=dict)
    shared_storage: bool = True
    origin: str = ""


@dataclass
class Device:
    name: str
    agent: str
    targets: dict[str, str]
    parameters: dict[str, str]
    secret_files: dict[str, str]
    level: int = 1
    timeout: str = ""
    origin: str = ""


@dataclass
class Draft:
    cluster: str
    nodes: dict[str, str] = field(default_factory=dict)  # name -> address
    guessed: set[str] = field(default_factory=set)  # nodes whose address is a placeholder
    witness: str = ""
    devices: list[Device] = field(default_factory=list)
    groups: list[GroupDraft] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    taken: dict[str, str] = field(default_factory=dict)  # Pacemaker's id -> name here

    def note(self, kind: Kind, what: str, why: str) -> None:
        note = Note(kind, what, why)
        if note not in self.notes:
            self.notes.append(note)


def unwritable(value: str) -> bool:
    """A value that hamail's configuration takes from nobody."""
    return len(value) > VALUE_CHARS_MAX or not (value.isprintable() or not value)


def plain_name(text: str, used: set[str]) -> str:
    """hamail's names have small letters, digits and dashes; each only once."""
    name = re.sub(r"[^a-z0-9]+", "-", text.partition(".")[0].lower()).strip("-")
    name = re.sub(r"^[^a-z]+", "", name)[:NAME_CHARS_MAX].strip("-") or "x"
    candidate, count = name, 2
    while candidate in used:
        ending = f"-{count}"
        candidate, count = f"{name[: NAME_CHARS_MAX - len(ending)]}{ending}", count + 1
    used.add(candidate)
    return candidate
