"""Puts the parts into one archive: redacted, bounded, with a list of what is in it and what is missing."""

import io
import os
import tarfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hamail.support.redact import Redactor
from hamail.support.sources import PART_BYTES_MAX, Part, Unavailable

TOTAL_BYTES_MAX = 64 << 20  # before compression
CUT = "(the beginning was left out)\n"
MODE = 0o600


@dataclass(frozen=True)
class Taken:
    name: str
    size: int
    note: str = ""  # why it is missing, or what was left out


def write(file: Path, parts: Iterable[Part], redactor: Redactor, say: Callable[[str], None]) -> list[Taken]:
    """Raises OSError; then no archive is left. What is taken is written as it comes."""
    folder = f"hamail-report-{time.strftime('%Y%m%d-%H%M%S')}"
    taken: list[Taken] = []
    left = TOTAL_BYTES_MAX
    # Closed to others from the first moment: whoever had opened it before could read on.
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    try:
        with os.fdopen(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz", compresslevel=6) as tar:
            for part in parts:
                say(part.name)
                one, data = _take(part, redactor, left)
                taken.append(one)
                left -= len(data)
                if data:
                    _add(tar, f"{folder}/{part.name}", data)
            _add(tar, f"{folder}/CONTENTS.txt", _contents(taken))
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return taken


def _take(part: Part, redactor: Redactor, left: int) -> tuple[Taken, bytes]:
    try:
        text = part.read()
    except Unavailable as error:
        return Taken(part.name, 0, f"missing: {redactor.text(str(error))}"), b""
    # Redacted whole, then cut: a cut in the middle of a secret would leave a piece that nobody recognises.
    data = redactor.text(text).encode("utf-8", "replace")
    bound = min(PART_BYTES_MAX, left)
    if len(data) <= bound:
        return Taken(part.name, len(data), "" if data else "empty"), data
    if bound < len(CUT):
        return Taken(part.name, 0, "missing: the archive is full"), b""
    data = CUT.encode() + data[-(bound - len(CUT)) :]
    return Taken(part.name, len(data), "the beginning was left out"), data


def _contents(taken: list[Taken]) -> bytes:
    lines = ["Made by hamailctl report. Secrets and the local parts of mail addresses were taken out.", ""]
    lines += [f"{one.size:>10}  {one.name}" + (f"  ({one.note})" if one.note else "") for one in taken]
    return ("\n".join(lines) + "\n").encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), MODE, int(time.time())
    tar.addfile(info, io.BytesIO(data))
