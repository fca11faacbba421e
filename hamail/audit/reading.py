"""Reads a trail, all its files in order, and finds what was changed, left out or cut off."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from hamail.audit.entry import GENESIS, Entry, digest_of

FILES_KEPT = 10  # besides the one that is written
NAME = "audit.jsonl"
LINE_BYTES_MAX = 64 << 10

_DECODER = msgspec.json.Decoder(Entry)


class Damaged(Exception):
    """The trail is not what was written; the sentence says where."""


def files(path: Path) -> list[Path]:
    """Oldest first. `path` is the file that is written."""
    older = [path.with_name(f"{path.name}.{number}") for number in range(FILES_KEPT, 0, -1)]
    return [file for file in (*older, path) if file.exists()]


def raw(path: Path, *, alone: bool = False) -> Iterator[tuple[str, Entry]]:
    """(place, entry) of every line, unchecked but for its form; `alone`: of this file. Raises Damaged, OSError."""
    for file in [path] if alone else files(path):
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                place = f"{file}:{number}"
                if len(line) > LINE_BYTES_MAX or not line.endswith(b"\n"):
                    raise Damaged(f"{place}: the line is cut off, or no line of a trail")
                try:
                    yield place, _DECODER.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise Damaged(f"{place}: this is no entry of a trail ({error})") from error


def entries(path: Path) -> Iterator[Entry]:
    """Every entry, each checked against the one before. Raises Damaged, OSError."""
    before: Entry | None = None
    for place, entry in raw(path):
        _follows(place, before, entry)
        yield entry
        before = entry


def _follows(place: str, before: Entry | None, entry: Entry) -> None:
    if entry.digest != digest_of(entry):
        raise Damaged(f"{place}: entry {entry.sequence} was changed after it was written")
    if before is None:
        if entry.sequence == 1 and entry.previous != GENESIS:
            raise Damaged(f"{place}: the first entry follows another that is not there")
        return  # older files are dropped in time: a trail may begin later
    if entry.sequence != before.sequence + 1:
        raise Damaged(f"{place}: entry {entry.sequence} follows entry {before.sequence}: some are missing")
    if entry.previous != before.digest:
        raise Damaged(f"{place}: entry {entry.sequence} is not behind the entry {before.sequence} that it followed")


def goes_on_from(path: Path, sequence: int, digest: str) -> bool:
    """Does the trail have the entry that the cluster knows? Stops there: what follows may just be written.

    Raises OSError.
    """
    try:
        return any(entry.digest == digest for _, entry in raw(path) if entry.sequence == sequence)
    except Damaged:
        return False


def verify(path: Path, sequence: int = 0, digest: str = "", *, live: bool = False) -> Entry | None:
    """The last entry of a trail that is whole. `sequence` and `digest`: what the cluster knows of it; without them
    lines that were cut off from its end cannot be missed. `live`: it is the node's own, which lets go of its beginning
    only when all older files are there; elsewhere a part of it may have been kept. Raises Damaged, OSError.
    """
    last: Entry | None = None
    first = 0
    for entry in entries(path):
        first = first or entry.sequence
        if entry.sequence == sequence and entry.digest != digest:
            raise Damaged(f"{path}: entry {sequence} is not the one that the cluster knows: the trail was rewritten")
        last = entry
    if live and first > 1 and len(files(path)) <= FILES_KEPT:
        raise Damaged(f"{path}: it begins with entry {first}: what was before was cut off")
    reached = last.sequence if last is not None else 0
    if sequence > reached:
        raise Damaged(f"{path}: it ends with entry {reached}, but the cluster knows of {sequence}: its end was cut off")
    if 0 < sequence < first:
        raise Damaged(f"{path}: it begins with entry {first}, and the cluster knew it up to {sequence} only")
    return last
