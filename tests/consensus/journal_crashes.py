"""A life of the journal with everything that it writes, crashed at each operation."""

from pathlib import Path
from typing import Any

from hamail.consensus.journal import Journal, initialise
from hamail.consensus.records import Entry, Snapshot
from tests.consensus.crash_states import Recorder, Trial

DIR = Path("/state")


def initialised() -> Recorder:
    disk = Recorder()
    initialise(DIR, "c", "n1", disk=disk)
    return disk


def opened(disk: Recorder) -> Journal:
    return Journal(DIR, "c", "n1", disk=disk)


def sync(journal: Journal) -> None:
    work = journal.take()
    assert work is not None
    work()


def state(journal: Journal) -> tuple[Any, ...]:
    return (journal.term, journal.vote, tuple(journal[:]), journal.snapshot)


def recover(disk: Recorder) -> tuple[Any, ...]:
    """What the next life finds. It must also be able to write, and find that in turn."""
    journal = opened(disk)
    found = state(journal)
    journal.setCurrentTerm(journal.term + 1, "n3")
    sync(journal)
    again = opened(Recorder(disk.files()))
    assert state(again) == (found[0] + 1, "n3", *found[2:]), "what was found could not be written on"
    return found


def everything(shift: int = 0) -> int:
    """Append, vote, truncate, grow, write much at once, compact, append, install a snapshot. Returns the states.

    `shift`: bytes by which the batches stand elsewhere in their sectors.
    """
    disk = initialised()
    journal = opened(disk)
    trial = Trial(recover)

    def done(change: Any) -> None:
        old = state(journal)
        change()
        new = state(journal)
        trial.crash_in(disk, lambda: sync(journal), old, new)

    def truncate() -> None:
        journal.deleteEntriesFrom(3)
        journal.add(b"other", 4, 3)

    done(lambda: journal.add(b"s" * (1 + shift), 1, 1))
    for index in range(2, 5):
        done(lambda index=index: journal.add(b"c%d" % index, index, 1))
    done(lambda: journal.setCurrentTerm(3, "n2"))
    done(truncate)
    done(lambda: journal.add(b"x" * 2600, 5, 3))
    done(lambda: [journal.add(b"y%d" % i, i, 3) for i in range(6, 9)])
    done(lambda: journal.compact(Snapshot(Entry(b"x" * 2600, 5, 3), Entry(b"y6", 6, 3), b"s" * 900)))
    done(lambda: journal.add(b"after", 9, 4))
    done(lambda: journal.install(Snapshot(Entry(b"a", 20, 5), Entry(b"b", 21, 5), b"installed")))
    done(lambda: journal.add(b"z" * 700, 22, 5))
    return trial.states


def killed_in_a_compaction(entries: int = 4) -> int:
    """The next life runs on with a new file whose name may not be durable yet; what it acknowledges must stay."""
    disk = initialised()
    journal = opened(disk)
    for index in range(1, entries + 1):
        journal.add(b"c%d" % index, index, 1)
    sync(journal)
    journal.compact(Snapshot(Entry(b"c2", 2, 1), Entry(b"c3", 3, 1), b"state"))
    before = len(disk.moments)
    sync(journal)
    tried = 0
    for moment in disk.moments[before:]:
        again = moment.after_process_death()
        second = opened(again)
        second.setCurrentTerm(9, "n2")
        sync(second)
        for files in again.moments[-1].after_power_cut():
            term, vote, *_ = recover(Recorder(files))
            assert (term, vote) == (9, "n2"), f"a vote was lost after {moment.operation}"
            tried += 1
    return tried
