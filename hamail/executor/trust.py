"""Which files the executor is willing to run or to read secrets from, since it does so as root."""

import os
import stat
from pathlib import Path

SYMLINKS_MAX = 40
SECRET_BYTES_MAX = 4096


class Untrusted(Exception):
    """The file may not be used; the message says which part of its path is at fault. Nothing was run."""


def trusted_path(path: Path) -> os.stat_result:
    """Accept `path` only if root alone can change it or any folder or link on the way to it.

    Returns the stat of what it finally names. Raises Untrusted.
    """
    if not path.is_absolute():
        raise Untrusted(f"{path} is not an absolute path")
    return _walk(path, [SYMLINKS_MAX])


def trusted_executable(path: Path) -> os.stat_result:
    """`trusted_path`, and a regular file that may be executed."""
    found = trusted_path(path)
    if not stat.S_ISREG(found.st_mode):
        raise Untrusted(f"{path} is not a regular file")
    if not found.st_mode & 0o100:
        raise Untrusted(f"{path} is not executable")
    return found


def read_secret(path: Path) -> str:
    """The content of a secret file without its last line feed. Raises Untrusted; the message never has the secret."""
    found = trusted_path(path)
    if not stat.S_ISREG(found.st_mode):
        raise Untrusted(f"{path} is not a regular file")
    if found.st_mode & 0o007:
        raise Untrusted(f"{path} can be read by everybody (mode {found.st_mode & 0o777:03o})")
    if found.st_size > SECRET_BYTES_MAX:
        raise Untrusted(f"{path} has {found.st_size} bytes, more than {SECRET_BYTES_MAX}")
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Untrusted(f"{path} cannot be read: {error}") from error


def _walk(path: Path, links_left: list[int]) -> os.stat_result:
    here = Path("/")
    found = _owned_by_root(here)
    parts = path.parts[1:]
    for position, part in enumerate(parts):
        here = here.parent if part == ".." else here / part
        found = _owned_by_root(here)
        if stat.S_ISLNK(found.st_mode):
            links_left[0] -= 1
            if links_left[0] < 0:
                raise Untrusted(f"{path} has more than {SYMLINKS_MAX} symbolic links")
            target = here.parent / here.readlink()
            return _walk(target.joinpath(*parts[position + 1 :]), links_left)
    return found


def _owned_by_root(here: Path) -> os.stat_result:
    try:
        found = here.lstat()
    except OSError as error:
        raise Untrusted(f"{here}: {error.strerror}") from error
    if found.st_uid != 0:
        raise Untrusted(f"{here} belongs to user {found.st_uid}, not to root")
    # the mode of a symbolic link means nothing; its folder was checked already
    if not stat.S_ISLNK(found.st_mode) and found.st_mode & 0o022:
        raise Untrusted(f"{here} can be written by others than root (mode {found.st_mode & 0o7777:04o})")
    return found
