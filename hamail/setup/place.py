"""Puts the files of a new node where they belong: all of them, or none.

What is about to be made is written down first. A set-up that was cut off (by a power cut, say) is taken back by the
next one before it begins.
"""

import json
import os
import shutil
from pathlib import Path

from msgspec import Struct

from hamail.disk import RealDisk, write_whole
from hamail.setup.problem import SetupError

RECORD = ".setup-unfinished"


class File(Struct, frozen=True, kw_only=True):
    path: Path
    content: bytes
    mode: int
    group: int = 0


class Placement:
    """`folder`: where the record of an unfinished set-up lies, /etc/hamail."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._record = folder / RECORD
        self._made: list[Path] = []

    def recover(self) -> tuple[str, ...]:
        """Take back what a set-up that was cut off has left; returns its paths. Raises SetupError."""
        try:
            text = self._record.read_text()
        except FileNotFoundError:
            return ()
        try:
            paths = [Path(str(path)) for path in json.loads(text)]
        except ValueError:
            paths = []
        removed = tuple(str(path) for path in paths if path.exists())
        for path in reversed(paths):
            remove(path)
        self._record.unlink()
        return removed

    def begin(self, files: list[File], trees: list[Path]) -> None:
        """Write down what will be made: `files` by `place`, `trees` by the caller. Raises SetupError."""
        paths = [*(file.path for file in files), *trees]
        there = [str(path) for path in paths if path.exists()]
        if there:
            raise SetupError("this machine is set up already", reasons=tuple(f"{path} exists" for path in there))
        try:
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_whole(RealDisk(), self._record, json.dumps([str(path) for path in paths]).encode())
        except OSError as error:
            raise SetupError(f"{self._record}: cannot be written: {error.strerror}") from error
        self._made = paths

    def place(self, files: list[File]) -> None:
        """Raises SetupError; the caller then takes everything back."""
        for file in files:
            try:
                if not file.path.parent.is_dir():
                    file.path.parent.mkdir(mode=0o750, parents=True)
                    os.chown(file.path.parent, os.geteuid(), file.group)
                write_whole(RealDisk(), file.path, file.content, mode=file.mode)
                os.chown(file.path, os.geteuid(), file.group)
            except OSError as error:
                raise SetupError(f"{file.path}: cannot be written: {error.strerror}") from error

    def take_back(self) -> None:
        for path in reversed(self._made):
            remove(path)
        self._record.unlink(missing_ok=True)
        self._made = []

    def finish(self) -> None:
        """From here on it is a node. Before anything of it runs."""
        self._record.unlink()
        RealDisk().sync_directory(self._folder)
        self._made = []


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
        path.with_name(path.name + ".new").unlink(missing_ok=True)
