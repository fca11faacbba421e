"""The file of barred epochs: old or new, never a third thing; a failed write is an error."""

import os
from pathlib import Path

import pytest

from hamail.daemon.barred import BarredError, BarredFile


def test_nothing_saved_is_empty(tmp_path: Path) -> None:
    assert BarredFile(tmp_path / "barred").load() == {}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    BarredFile(tmp_path / "barred").save({"mail": 7})
    BarredFile(tmp_path / "barred").save({"mail": 9, "web": 3})
    assert BarredFile(tmp_path / "barred").load() == {"mail": 9, "web": 3}


@pytest.mark.parametrize("at", range(0, 30, 3))
def test_any_flipped_bit_is_found(tmp_path: Path, at: int) -> None:
    path = tmp_path / "barred"
    BarredFile(path).save({"mail": 7, "web": 1234567})
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 4
    path.write_bytes(data)
    with pytest.raises(BarredError, match="damaged"):
        BarredFile(path).load()


def test_a_torn_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "barred"
    BarredFile(path).save({"mail": 7})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BarredError):
        BarredFile(path).load()


def test_a_failed_fsync_is_an_error_and_the_old_content_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "barred"
    BarredFile(path).save({"mail": 7})

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(BarredError, match="cannot be written"):
        BarredFile(path).save({"mail": 8})
    monkeypatch.undo()
    assert BarredFile(path).load() == {"mail": 7}
