"""Runs a program that only tells something, with a time limit, and reads a file with a size limit."""

import shutil
import subprocess
from pathlib import Path

TIMEOUT_S = 4.0
FILE_BYTES_MAX = 1 << 20


class Failed(Exception):
    """The message says which program, and why."""


def has(program: str) -> bool:
    return shutil.which(program) is not None


def output(program: str, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    """Raises Failed."""
    path = shutil.which(program)
    if path is None:
        raise Failed(f"{program} is not installed")
    try:
        done = subprocess.run(
            [path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{program} did not end within {TIMEOUT_S:g} s") from None
    except OSError as error:
        raise Failed(f"{program}: {error.strerror}") from error
    if done.returncode not in codes:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise Failed(f"{program} ended with {done.returncode}: {said[-1][:200] if said else 'no word'}")
    return done.stdout.decode(errors="replace")


def text(path: Path) -> str:
    """The beginning of a text file; "" when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX).decode(errors="replace")
    except OSError:
        return ""
