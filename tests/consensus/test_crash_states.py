"""The journal in every state that a crash may leave: what was acknowledged is there, and nothing half."""

import errno
import os

import pytest

from hamail.consensus import journal as journal_module
from hamail.consensus.journal import Journal, JournalError, JournalMissing, initialise
from hamail.consensus.records import NONCE_BITS, Entry, Snapshot
from tests.consensus.crash_states import FAULTS, Recorder, Trial
from tests.consensus.journal_crashes import (
    DIR,
    everything,
    initialised,
    killed_in_a_compaction,
    opened,
    recover,
    state,
    sync,
)

STATES_MIN = 3000
SHIFT_STEP = 40  # bytes; not a divisor of a sector, so that headers and payloads are cut at many places


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "GROW_BYTES", 1024)


def test_every_crash_of_a_life_of_the_journal_gives_old_or_new(capsys: pytest.CaptureFixture[str]) -> None:
    states = sum(everything(shift) for shift in range(0, 512, SHIFT_STEP))
    assert states >= STATES_MIN
    with capsys.disabled():
        print(f" [{states:,} crash states of the journal] ", end="")


def test_a_process_that_dies_in_a_compaction_and_later_loses_power_has_lost_nothing() -> None:
    assert killed_in_a_compaction() >= 5


def test_every_crash_of_the_recovery_itself() -> None:
    """A torn tail is being dropped when the power goes again."""
    disk = initialised()
    journal = opened(disk)
    journal.add(b"kept", 1, 1)
    sync(journal)
    journal.add(b"t" * 1200, 2, 1)
    before = len(disk.moments)
    old = recover(Recorder(disk.files()))
    sync(journal)
    new = recover(Recorder(disk.files()))
    torn = {tuple(sorted(s.items())) for m in disk.moments[before:] for s in m.after_power_cut()}
    trial = Trial(recover)
    for files in torn:
        second = Recorder(dict(files))
        Journal(DIR, "c", "n1", disk=second)
        found = recover(Recorder(dict(files)))
        assert found in (old, new)
        seen: set = set()
        for moment in second.moments:
            trial.each(moment, (found,), seen)
    assert trial.states > len(torn) > 5


def test_every_crash_of_the_first_set_up() -> None:
    """Not there, so that it is set up again, or whole."""

    def recovered(disk: Recorder) -> object:
        try:
            return recover(disk)
        except JournalMissing:
            return "missing"

    disk = Recorder()
    trial = Trial(recovered)
    trial.crash_in(disk, lambda: initialise(DIR, "c", "n1", disk=disk), "missing", (0, None, (), None))
    assert trial.states > 5


def test_each_life_has_another_number_and_knows_all_that_the_lives_before_it_could_say() -> None:
    disk = initialised()
    said: list[tuple[int, int]] = []
    for life in range(1, 4):
        before = len(disk.moments)
        journal = opened(disk)
        assert journal.incarnation >> NONCE_BITS == life
        assert all(journal.holds(mark) for mark in said)
        journal.setCurrentTerm(life, "n2")
        sync(journal)
        if life == 2:
            journal.add(b"a", 1, 2)
            journal.add(b"b", 2, 2)
            sync(journal)
            journal.compact(Snapshot(Entry(b"a", 1, 2), Entry(b"b", 2, 2), b"state"))
            sync(journal)
        mark = (journal.incarnation, journal.position)
        for files in disk.moments[-1].after_power_cut():
            again = opened(Recorder(files))
            assert again.incarnation >> NONCE_BITS == life + 1
            assert again.holds(mark) and not again.holds((mark[0], mark[1] + 1))
        for moment in disk.moments[before:]:
            for files in moment.after_power_cut():
                again = opened(Recorder(files))
                assert again.incarnation >> NONCE_BITS in (life, life + 1)
                assert all(again.holds(earlier) for earlier in said)
        said.append(mark)


APPEND = ("write", "sync")  # operations of an append; a compaction does them all


@pytest.mark.parametrize(
    ("fault", "compaction"), [*((f, True) for f in FAULTS), *((f, False) for f in FAULTS if FAULTS[f][0] in APPEND)]
)
def test_each_fault_of_the_disk_ends_the_journal_for_good_and_says_why(fault: str, compaction: bool) -> None:
    """Fail-stop: no second try, also when the disk is well again; and what is on it is old or new."""
    operation, number = FAULTS[fault]
    disk = initialised()
    journal = opened(disk)
    for index in range(1, 5):
        journal.add(b"c%d" % index, index, 1)
    sync(journal)
    old = recover(Recorder(disk.files()))
    journal.setCurrentTerm(7, "n2")
    if compaction:
        journal.compact(Snapshot(Entry(b"c2", 2, 1), Entry(b"c3", 3, 1), b"state"))
    new = state(journal)
    disk.fail[operation] = OSError(number, os.strerror(number))
    with pytest.raises(JournalError, match=rf"cannot write the journal in {DIR}: {os.strerror(number)}"):
        sync(journal)
    disk.fail.clear()
    steps = len(disk.moments)
    with pytest.raises(JournalError, match=os.strerror(number)):
        journal.take()
    assert len(disk.moments) == steps, "the disk was written to after its first error"
    for files in [*disk.moments[-1].after_power_cut(), disk.files()]:
        assert recover(Recorder(files)) in (old, new)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EROFS])
def test_a_journal_that_cannot_be_read_or_written_at_the_start_names_place_and_reason(number: int) -> None:
    for operation in ("read", "write", "sync", "sync_directory"):
        disk = initialised()
        disk.fail[operation] = OSError(number, os.strerror(number))
        with pytest.raises(JournalError, match=rf"cannot (open|write) the journal in {DIR}: .*{os.strerror(number)}"):
            opened(disk)


def test_a_journal_that_was_deleted_is_not_begun_anew() -> None:
    disk = initialised()
    disk.remove(DIR / "journal")
    with pytest.raises(JournalMissing, match=f"the journal {DIR}/journal was lost, although this node is a member"):
        opened(disk)
    with pytest.raises(JournalError, match="replaced disk"):
        initialise(DIR, "c", "n1", disk=disk)
