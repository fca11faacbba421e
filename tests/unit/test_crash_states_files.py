"""Every small state file in every state that a crash may leave, and each fault of its disk: old or new, never a third
thing; and an error names the file and the reason.
"""

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hamail.daemon.barred import BarredError, BarredFile
from hamail.disk import RealDisk, write_whole
from hamail.executor.ledger import Ledger, Page
from hamail.ocf import claim as claims
from hamail.pki import files as pki
from tests.consensus.crash_states import FAULTS, Recorder, Trial, told

STATE = Path("/var/lib/hamail/barred")
HELD = Path("/run/hamail-executor/executor.held")
NAME_LONGEST = 32  # characters (hamail.model.ids.NAME_PATTERN)


def error(name: str) -> tuple[str, OSError]:
    operation, number = FAULTS[name]
    return operation, OSError(number, os.strerror(number))


# ---- barred epochs ------------------------------------------------------------------------------------------------


def barred_found(disk: Recorder) -> object:
    return BarredFile(STATE, disk).load()


@pytest.mark.parametrize("groups", [1, 40, 200], ids="{} groups".format)
def test_barred_is_old_or_new_after_every_crash(groups: int, capsys: pytest.CaptureFixture[str]) -> None:
    """200 groups fill several sectors."""
    disk = Recorder()
    file = BarredFile(STATE, disk)
    trial = Trial(barred_found)
    old: dict[str, int] = {}
    for epoch in (7, 8, 1 << 40):
        new = {f"group-{i}": epoch + i for i in range(groups)}
        trial.crash_in(disk, lambda new=new: file.save(new), old, new)
        old = new
    assert trial.states > 15
    with capsys.disabled():
        print(f" [{trial.states:,} crash states of barred, {groups} groups] ", end="")


def test_barred_saved_by_a_life_that_died_in_the_middle_is_old_or_new() -> None:
    """The next life saves again, whatever the one before left behind, and loses power."""
    disk = Recorder()
    BarredFile(STATE, disk).save({"mail": 7})
    before = len(disk.moments)
    BarredFile(STATE, disk).save({"mail": 8})
    for moment in disk.moments[before:]:
        second = moment.after_process_death()
        found = barred_found(second)
        assert found in ({"mail": 7}, {"mail": 8})
        trial = Trial(barred_found)
        again = BarredFile(STATE, second)
        began = len(second.moments)
        again.save({"mail": 9})
        for later in second.moments[began:-1]:
            trial.each(later, ({"mail": 7}, {"mail": 8}, {"mail": 9}), set())
        trial.each(second.moments[-1], ({"mail": 9},), set())


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_the_disk_of_barred_names_the_file_and_the_reason(fault: str) -> None:
    disk = Recorder()
    file = BarredFile(STATE, disk)
    file.save({"mail": 7})
    operation, what = error(fault)
    disk.fail[operation] = what
    with pytest.raises(BarredError, match=rf"^{STATE} cannot be written: {what.strerror}"):
        file.save({"mail": 8})
    disk.fail.clear()
    for state in (disk.moments[-1].after_power_cut(), [disk.files()]):
        for files in state:
            assert barred_found(Recorder(files)) in ({"mail": 7}, {"mail": 8}), told(files)


def test_a_failed_sync_of_barred_is_not_tried_again() -> None:
    disk = Recorder()
    syncs = []
    disk.may = lambda operation: failing(operation, syncs)  # type: ignore[method-assign]
    with pytest.raises(BarredError):
        BarredFile(STATE, disk).save({"mail": 8})
    assert syncs == ["sync"]


def failing(operation: str, syncs: list[str]) -> None:
    if operation == "sync":
        syncs.append(operation)
        raise OSError(errno.EIO, "Input/output error")


def test_barred_that_cannot_be_read_names_the_file_and_the_reason() -> None:
    disk = Recorder()
    BarredFile(STATE, disk).save({"mail": 7})
    disk.fail["read"] = OSError(errno.EACCES, "Permission denied")
    with pytest.raises(BarredError, match=f"{STATE} cannot be read: Permission denied"):
        BarredFile(STATE, disk).load()


# ---- what the executor holds --------------------------------------------------------------------------------------


def ledger_found(disk: Recorder) -> object:
    return Ledger(HELD, "boot", disk).page


def test_the_ledger_is_old_or_new_after_every_death_of_the_executor() -> None:
    """It does not outlive a boot, so nothing of it need be durable."""
    disk = Recorder()
    ledger = Ledger(HELD, "boot", disk)
    pages = [Page(boot_id="boot"), Page(boot_id="boot", cluster="c"), Page(boot_id="boot", doomed="x" * 3000)]
    for old, new in itertools.pairwise(pages):
        before = len(disk.moments)
        ledger.write(new)
        for moment in disk.moments[before:-1]:
            assert ledger_found(moment.after_process_death()) in (old, new)
        assert ledger_found(disk.moments[-1].after_process_death()) == new


@pytest.mark.parametrize("fault", [f for f in FAULTS if "sync" not in f])
def test_each_fault_under_the_ledger_leaves_the_page_before(fault: str) -> None:
    disk = Recorder()
    ledger = Ledger(HELD, "boot", disk)
    page = Page(boot_id="boot", cluster="c")
    ledger.write(page)
    operation, what = error(fault)
    disk.fail[operation] = what
    with pytest.raises(OSError, match=os.strerror(what.errno or 0)):
        ledger.write(Page(boot_id="boot", doomed="why"))
    disk.fail.clear()
    assert ledger.page == page
    assert ledger_found(disk) == page


def test_a_ledger_of_an_earlier_boot_is_empty_and_a_damaged_one_dooms() -> None:
    disk = Recorder()
    Ledger(HELD, "earlier", disk).write(Page(boot_id="earlier", doomed="why"))
    assert ledger_found(disk) == Page(boot_id="boot")
    disk = Recorder({HELD: b'{"boot_id": "boot", "doo'})
    assert f"{HELD} cannot be read" in Ledger(HELD, "boot", disk).page.doomed


# ---- the claim on the storage -------------------------------------------------------------------------------------


def longest(epoch: int) -> claims.Claim:
    """Names as long as the configuration allows, and any epoch."""
    return claims.Claim(cluster="c" * NAME_LONGEST, group="g" * NAME_LONGEST, epoch=epoch, node="n" * NAME_LONGEST)


@pytest.mark.parametrize("old", [None, longest(7)], ids=["first claim", "next claim"])
def test_a_claim_is_old_or_new_after_every_crash(old: claims.Claim | None) -> None:
    """It is written in place: all that changes lies in one sector, and a sector is written whole or not at all."""
    where = Path("/mail/.hamail-claim")
    new = longest(2**53)
    disk = Recorder({where: claims.encode(old)} if old else {})

    def write() -> None:
        file = disk.open(where, create=not disk.exists(where))
        file.write_at(0, claims.encode(new))
        file.sync()
        disk.sync_directory(where.parent)

    def found(after: Recorder) -> object:
        return claims.decode(after.read(where)) if after.exists(where) else None

    trial = Trial(found)
    trial.crash_in(disk, write, old, new)
    assert trial.states > 2
    assert len(claims.encode(new).rstrip()) < 512
    assert len(claims.encode(new)) == claims.CLAIM_BYTES


@pytest.mark.parametrize("fault", ["pwrite", "fsync", "checkpoint", "short"])
def test_a_claim_that_is_not_durable_is_an_error(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount ends in an error, since nobody can know which claim is on the storage."""

    def broken(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(claims, "checkpoint", broken if fault == "checkpoint" else lambda _handle: None)
    if fault == "short":
        monkeypatch.setattr(os, "pwrite", lambda _handle, data, _offset: len(data) - 1)
    elif fault != "checkpoint":
        monkeypatch.setattr(os, fault, broken)
    with pytest.raises(OSError, match=r"claim|Input/output"):
        claims.store(str(tmp_path), longest(7))


def test_a_damaged_claim_names_the_file(tmp_path: Path) -> None:
    (tmp_path / claims.NAME).write_bytes(b'{"cluster": "c", "epo' + b"\0" * 99)
    with pytest.raises(claims.ClaimError, match=rf"{claims.NAME}.*damaged"):
        claims.load(str(tmp_path))


# ---- keys, certificates, and the one function -----------------------------------------------------------------------


def test_any_file_written_whole_is_old_or_new_after_every_crash(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("/etc/hamail/node.key")
    disk = Recorder({path: b"old" * 300})

    def found(after: Recorder) -> object:
        return after.read(path)

    trial = Trial(found)
    for old, new in ((b"old" * 300, b"new" * 900), (b"new" * 900, b"x"), (b"x", b"")):
        trial.crash_in(disk, lambda new=new: write_whole(disk, path, new), old, new)
    with capsys.disabled():
        print(f" [{trial.states:,} crash states of a file written whole] ", end="")


def breaking(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    def broken(*_: Any, **__: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, broken)


@pytest.mark.parametrize(
    ("call", "number"),
    [("pwrite", errno.ENOSPC), ("fdatasync", errno.EIO), ("fsync", errno.EIO), ("open", errno.EROFS)],
)
def test_a_key_that_cannot_be_written_names_the_file_and_the_reason(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.key"
    pki.write(path, b"old", pki.SECRET_MODE)
    breaking(monkeypatch, call, number)
    with pytest.raises(pki.PkiError, match=f"{path}: cannot be written: {os.strerror(number)}"):
        pki.write(path, b"new", pki.SECRET_MODE)
    monkeypatch.undo()
    assert path.read_bytes() in (b"old", b"new")


def test_a_key_is_never_readable_by_others_also_over_an_older_draft(tmp_path: Path) -> None:
    draft = tmp_path / "node.key.new"
    draft.write_bytes(b"left over")
    draft.chmod(0o644)
    pki.write(tmp_path / "node.key", b"secret", pki.SECRET_MODE)
    assert (tmp_path / "node.key").stat().st_mode & 0o777 == 0o600
    assert not draft.exists()


def test_a_draft_is_never_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "file.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        write_whole(RealDisk(), tmp_path / "file", b"data")
    assert victim.read_bytes() == b"precious"


def test_short_writes_are_carried_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Callable[[int, Any, int], int] = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: whole(fd, bytes(data)[:3], offset))
    BarredFile(tmp_path / "barred").save({"mail": 7, "web": 9})
    monkeypatch.undo()
    assert BarredFile(tmp_path / "barred").load() == {"mail": 7, "web": 9}
