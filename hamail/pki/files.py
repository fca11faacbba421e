"""Keys and certificates on disk: written whole or not at all, keys readable by their owner only."""

import os
from pathlib import Path

PUBLIC_MODE = 0o644
SECRET_MODE = 0o600
FOLDER_MODE = 0o700


class PkiError(Exception):
    """The sentence names the file and the reason. Nothing was written."""


def require_absent(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise PkiError(f"{path}: exists already and is not overwritten")


def make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise PkiError(f"{path}: cannot be created: {error.strerror}") from error


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PkiError(f"{path}: cannot be read: {error.strerror}") from error


def write(path: Path, content: bytes, mode: int) -> None:
    """Replace `path` in one rename. The mode is set before the content is there, so a key is never readable."""
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as out:
            os.fchmod(out.fileno(), mode)
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        draft.rename(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise PkiError(f"{path}: cannot be written: {error.strerror}") from error
