"""The disk of the simulator: it fails and forgets as a real one does."""

import errno
from pathlib import Path
from random import Random

import pytest

from hamail.consensus.memory_disk import MemoryDisk

A = Path("/a")


def written(data=b"x" * 2000):
    disk = MemoryDisk()
    file = disk.open(A, create=True)
    file.write_at(0, data)
    file.sync()
    disk.sync_directory(A.parent)
    return disk, file


def test_a_read_can_fail_and_what_is_missing_is_missing():
    disk, _file = written()
    disk.fail["read"] = OSError(errno.EIO, "Input/output error")
    with pytest.raises(OSError, match="Input/output"):
        disk.read(A)
    for ask in (MemoryDisk().read, MemoryDisk().open):
        with pytest.raises(FileNotFoundError):
            ask(A)


def test_a_truncation_that_was_not_synced_may_be_lost_or_kept():
    found = set()
    for seed in range(30):
        disk, file = written()
        file.truncate(700)
        assert len(disk.read(A)) == 700
        disk.power_cut(Random(seed))
        found.add(len(disk.read(A)))
    assert found == {700, 2000}
    disk, file = written()
    file.truncate(700)
    file.sync()
    disk.power_cut(Random(1))
    assert len(disk.read(A)) == 700


def test_each_unsynced_sector_is_kept_or_lost_on_its_own():
    found = set()
    for seed in range(40):
        disk, file = written(b"a" * 1024)
        file.write_at(0, b"b" * 1024)
        disk.power_cut(Random(seed))
        data = disk.read(A)
        assert len(data) == 1024 and {data[:512], data[512:]} <= {b"a" * 512, b"b" * 512}
        found.add(data)
    assert len(found) == 4
