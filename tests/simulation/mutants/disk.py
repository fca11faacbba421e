"""Mistakes in how small files are kept. Hunted by crashing the recorded disk at every operation."""

import errno
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hamail import disk as disk_module
from hamail.consensus import journal as journal_module
from hamail.consensus import records
from hamail.consensus.journal import Journal, JournalError
from hamail.daemon import barred as barred_module
from hamail.daemon.barred import BarredError, BarredFile
from tests.consensus import journal_crashes
from tests.consensus.crash_states import Recorder, Trial
from tests.simulation.mutants.mutant import Mutant

SECTOR = 512
BARRED = Path("/var/lib/hamail/barred")


def edited(function: Callable[..., Any], old: str, new: str) -> Callable[..., Any]:
    """The function with one piece of its source replaced: the mistake that somebody could make."""
    source = textwrap.dedent(inspect.getsource(function))
    assert old in source, f"{function.__qualname__} does not say {old!r} any more"
    made: dict[str, Any] = {}
    exec(source.replace(old, new), vars(inspect.getmodule(function)), made)
    result: Callable[..., Any] = made[function.__name__]
    return result


def write_whole_edited(old: str, new: str) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        wrong = edited(disk_module.write_whole, old, new)
        for module in (journal_module, barred_module):
            patch.setattr(module, "write_whole", wrong)

    return plant


def method_edited(owner: type, name: str, old: str, new: str) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(owner, name, edited(getattr(owner, name), old, new))


# ---- hunts --------------------------------------------------------------------------------------------------------


def hunt_journal(seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "GROW_BYTES", 1024)
        journal_crashes.everything(shift=seed * 40 % SECTOR)


def hunt_reopened(seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "GROW_BYTES", 1024)
        journal_crashes.killed_in_a_compaction(entries=4 + seed)


def hunt_barred(seed: int) -> None:
    """Old or new at each crash, new for good afterwards, and the next life never bars less."""
    disk = Recorder()
    rng = Random(seed)
    trial = Trial(lambda after: BarredFile(BARRED, after).load())
    old: dict[str, int] = {}
    for _ in range(3):
        new = {f"group-{i}": rng.randrange(1 << 40) for i in range(rng.randrange(1, 120))}
        trial.crash_in(disk, lambda new=new: BarredFile(BARRED, disk).save(new), old, new)
        old = new


def hunt_failed_sync(seed: int) -> None:
    """One sync fails, once. What is acknowledged afterwards must be there after a power cut."""
    disk = journal_crashes.initialised()
    journal = journal_crashes.opened(disk)
    syncs, failing = 0, Random(seed).randrange(4)

    def may(operation: str) -> None:
        nonlocal syncs
        syncs += operation == "sync"
        if operation == "sync" and syncs == failing + 1:
            raise OSError(errno.EIO, "Input/output error")

    disk.may = may  # type: ignore[method-assign]
    acknowledged = 0
    try:
        for index in range(1, 6):
            journal.add(b"c%d" % index, index, 1)
            journal_crashes.sync(journal)
            acknowledged = index
    except JournalError:
        pass
    for files in disk.moments[-1].after_power_cut():
        try:
            found = Journal(journal_crashes.DIR, "c", "n1", disk=Recorder(files)).last_index
        except JournalError as error:
            raise AssertionError(f"a failed sync made the journal unreadable: {error}") from error
        assert found >= acknowledged, f"entry {acknowledged} was acknowledged, {found} is the last on the disk"


def hunt_flipped_bit(seed: int) -> None:
    """A flipped bit is refused: it never becomes another vote or another command."""
    disk = journal_crashes.initialised()
    journal = journal_crashes.opened(disk)
    for index in range(1, 6):
        journal.add(b"command %d" % index, index, 1)
        journal_crashes.sync(journal)
    right = journal_crashes.state(journal)
    files = disk.files()
    path = journal_crashes.DIR / journal_module.FILE
    data = bytearray(files[path])
    at = Random(seed).randrange(journal.size_bytes * 8)
    data[at // 8] ^= 1 << at % 8
    try:
        found = journal_crashes.state(journal_crashes.opened(Recorder({**files, path: bytes(data)})))
    except JournalError:
        return
    raise AssertionError(
        f"a flipped bit at byte {at // 8} was accepted; found {'the same' if found == right else found}"
    )


def hunt_damaged_barred(seed: int) -> None:
    disk = Recorder()
    BarredFile(BARRED, disk).save({"mail": 1_234_567, "web": 7_654_321})
    data = bytearray(disk.files()[BARRED])
    at = Random(seed).randrange(len(data) * 8)
    data[at // 8] ^= 1 << at % 8
    try:
        found = BarredFile(BARRED, Recorder({BARRED: bytes(data)})).load()
    except BarredError:
        return
    raise AssertionError(f"a flipped bit at byte {at // 8} was accepted: {found}")


IN_PLACE = "self._file.write_at(0, whole); self._file.sync()"
RETRIED = "\n    try:\n        self._file.sync()\n    except OSError:\n        self._file.sync()"

MUTANTS = [
    Mutant(
        name="barred_not_written",
        breaks="A yes bars the epoch for good, also across a restart.",
        plant=lambda patch: patch.setattr(BarredFile, "save", lambda self, barred: self._disk.sync_directory(BARRED)),
        hunt=hunt_barred,
        seeds_max=3,
        quick=(1,),
    ),
    Mutant(
        name="vote_not_written",
        breaks="Term and vote are durable before anything that depends on them is sent.",
        plant=method_edited(
            Journal, "setCurrentTerm", "self._note(Ballot(term, votedForNodeId))", "self._note(Ballot(term, None))"
        ),
        hunt=hunt_journal,
        seeds_max=3,
        quick=(1,),
    ),
    Mutant(
        name="no_sync_of_a_batch",
        breaks="What is acknowledged has been synced.",
        plant=method_edited(Journal, "_append", "self._file.sync()", "pass"),
        hunt=hunt_journal,
        seeds_max=3,
        quick=(1,),
    ),
    Mutant(
        name="no_sync_of_a_new_file",
        breaks="The data of a new file is durable before its name.",
        plant=write_whole_edited("file.sync()", "pass"),
        hunt=hunt_barred,
        seeds_max=3,
        quick=(1,),
    ),
    Mutant(
        name="no_sync_of_the_directory",
        breaks="A name is durable only after a sync of its directory.",
        plant=write_whole_edited("disk.sync_directory(path.parent)", "pass"),
        hunt=hunt_barred,
        seeds_max=3,
        quick=(1,),
    ),
    Mutant(
        name="no_sync_of_the_directory_at_opening",
        breaks="What a life before has renamed is made durable before anything is added to it.",
        plant=method_edited(Journal, "_open", "self._disk.sync_directory(self.path)", "pass"),
        hunt=hunt_reopened,
        seeds_max=3,
        quick=(1,),
    ),
    Mutant(
        name="failed_sync_tried_again",
        breaks="After a failed sync nothing is known about what was written: the journal has failed for good.",
        plant=method_edited(Journal, "_append", "\n    self._file.sync()", RETRIED),
        hunt=hunt_failed_sync,
        seeds_max=10,
        quick=(0, 1),
    ),
    Mutant(
        name="failed_sync_forgotten",
        breaks="An error of the disk is never taken for success.",
        plant=method_edited(
            Journal, "_append", "\n    self._file.sync()", RETRIED.replace("        self._file.sync()", "        pass")
        ),
        hunt=hunt_failed_sync,
        seeds_max=10,
        quick=(0, 1),
    ),
    Mutant(
        name="checksum_of_the_journal_not_verified",
        breaks="A damaged record is refused.",
        plant=lambda patch: patch.setattr(
            records, "_batch_at", edited(records._batch_at, "or _checksum(number, payload) != checksum", "")
        ),
        hunt=hunt_flipped_bit,
        quick=tuple(range(9)),
    ),
    Mutant(
        name="checksum_of_barred_not_verified",
        breaks="A damaged file of barred epochs is refused.",
        plant=lambda patch: patch.setattr(
            BarredFile,
            "load",
            edited(BarredFile.load, 'or int.from_bytes(data[len(_MAGIC) : head], "big") != crc32(body)', ""),
        ),
        hunt=hunt_damaged_barred,
        quick=tuple(range(8)),
    ),
    Mutant(
        name="rename_before_data",
        breaks="A new file takes the place of the old one only when its content is durable.",
        plant=write_whole_edited(
            "        if durable:\n            file.sync()\n",
            "        disk.replace(new, path)\n        if durable:\n            file.sync()\n        return\n",
        ),
        hunt=hunt_barred,
        seeds_max=3,
        quick=(1,),
    ),
    Mutant(
        name="compaction_in_place",
        breaks="Snapshot and log change together, in one rename.",
        plant=method_edited(Journal, "_rewrite", "write_whole(self._disk, self.path / FILE, whole)", IN_PLACE),
        hunt=hunt_journal,
        seeds_max=3,
        quick=(1,),
    ),
    Mutant(
        name="next_batch_before_the_last_is_durable",
        breaks="A batch is written only after the one before it is durable.",
        plant=method_edited(
            Journal, "_append", "\n    self._file.sync()", "\n    if self._number % 2:\n        self._file.sync()"
        ),
        hunt=hunt_journal,
        seeds_max=3,
        quick=(1,),
    ),
]
