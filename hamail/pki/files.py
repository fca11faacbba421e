"""Keys and certificates on disk: written whole or not at all, keys readable by their owner only."""

from pathlib import Path

from hamail.disk import RealDisk, write_whole

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
    try:
        write_whole(RealDisk(), path, content, mode=mode)
    except OSError as error:
        raise PkiError(f"{path}: cannot be written: {error.strerror}") from error
