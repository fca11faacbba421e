"""The journal in every state that a crash may leave: what was acknowledged is there, and nothing half."""

import pytest

from hamail.consensus import journal as journal_module
from hamail.consensus.journal import Journal, JournalMissing, initialise
from tests.consensus.crash_states import Recorder, Trial
from tests.consensus.journal_crashes import DIR, everything, initialised, killed_in_a_compaction, opened, recover, sync

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
    for state in torn:
        second = Recorder(dict(state))
        Journal(DIR, "c", "n1", disk=second)
        found = recover(Recorder(dict(state)))
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


def test_an_incarnation_is_never_used_twice() -> None:
    disk = initialised()
    for life in range(1, 4):
        before = len(disk.moments)
        assert opened(disk).incarnation == life
        for state in disk.moments[-1].after_power_cut():
            assert opened(Recorder(state)).incarnation == life + 1
        for moment in disk.moments[before:]:
            for state in moment.after_power_cut():
                assert opened(Recorder(state)).incarnation in (life, life + 1)
