"""Digests of the mail programs' configuration, to find where two nodes differ without showing what is in it.

A file that not everybody may read may hold a password. Of its digest only two bytes are told: enough to see a
difference, too little to try out guesses of the password.
"""

import hashlib
import os
import stat
from pathlib import Path

from hamail.machine.programs import configured
from hamail.model.machine import FILES_MAX
from hamail.model.spec import GroupSpec

FILE_BYTES_MAX = 8 << 20
DEPTH_MAX = 4
DIGEST_CHARS, PRIVATE_DIGEST_CHARS = 16, 4
SKIPPED_ENDINGS = ("~", ".bak", ".dpkg-old", ".dpkg-dist", ".ucf-old", ".swp", ".db", ".lmdb", ".cdb", ".lock")
SKIPPED_NAMES = ("private", "makedefs.out", "postfix-files", "README")


def digests(groups: tuple[GroupSpec, ...]) -> tuple[dict[str, str], int]:
    """File -> digest, and how many were left out. Compiled tables differ on every machine: their text counts."""
    roots = (
        configured(groups, "hamail:postfix", "config_dir", "/etc/postfix"),
        os.path.dirname(configured(groups, "hamail:dovecot", "config_file", "/etc/dovecot/dovecot.conf")),  # noqa: PTH120
    )
    paths = sorted(path for root in roots for path in walk(Path(root), DEPTH_MAX))
    found = {}
    for path in paths[:FILES_MAX]:
        value = digest(path)
        if value:
            found[str(path)] = value
    return found, max(0, len(paths) - FILES_MAX)


def walk(folder: Path, depth: int) -> list[Path]:
    if depth < 0:
        return []
    found: list[Path] = []
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    for entry in entries:
        if entry.name.endswith(SKIPPED_ENDINGS) or entry.name in SKIPPED_NAMES or entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            found += walk(entry, depth - 1)
        elif entry.is_file():
            found.append(entry)
    return found


def digest(path: Path) -> str:
    """ "" for what is too large or cannot be read."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_size > FILE_BYTES_MAX or not stat.S_ISREG(found.st_mode):
                return ""
            value = hashlib.sha256(file.read(FILE_BYTES_MAX)).hexdigest()
    except OSError:
        return ""
    return value[: DIGEST_CHARS if found.st_mode & stat.S_IROTH else PRIVATE_DIGEST_CHARS]
