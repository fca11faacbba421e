"""Planted bugs. The simulation is worth nothing unless it finds every one: `make mutants`."""

import importlib
import pkgutil
import time
from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.simulation.mutants.mutant import Mutant, Search

# The faults that every harness for such a cluster should find, as the reliability plan numbers them.
NUMBERED: dict[str, tuple[str, ...]] = {
    "M1 no wait before a takeover": ("no_wait", "restarted_voter_does_not_hold"),
    "M2 lease counted from receipt": ("lease_from_receipt",),
    "M3 margin 0": ("no_margin",),
    "M4 watchdog fed by a timer": ("watchdog_fed_by_a_timer",),
    "M5 start before the fence is confirmed": ("start_before_fence_confirmed", "no_fence_at_all"),
    "M6 fence assumed on a time-out": ("executor_takes_a_timeout_for_a_fence", "fence_assumed_on_failure"),
    "M7 epoch not durable": ("yes_not_durable", "barred_not_written"),
    "M8 epoch checked only once before a start": ("start_goes_on_after_a_stop",),
    "M9 a new leader forgets the last promise": ("leader_forgets",),
    "M10 monotonic clock": ("deadline_on_the_monotonic_clock",),
    "M11 wall clock": ("deadline_on_the_wall_clock",),
    "M12 file not synced": ("no_sync_of_a_batch", "no_sync_of_a_new_file"),
    "M13 directory not synced": ("no_sync_of_the_directory",),
    "M14 failed sync tried again": ("failed_sync_tried_again",),
    "M15 failed stop taken for a stop": ("failed_stop_taken_for_stopped", "stop_is_believed"),
    "M16 monitor believed after a time-out": ("clean_up_believes_a_monitor_that_timed_out",),
    "M17 address before the mount": ("everything_starts_at_once",),
    "M19 checksum not verified": ("checksum_of_the_journal_not_verified",),
    "M20 history written after the deed": ("history_written_after_the_deed",),
    "M21 a log library that keeps term and vote in memory": ("term_not_durable", "vote_not_durable"),
    "M22 the log's idea of a leader is believed": ("leader_is_believed",),
    "M23 gate compares wrongly": ("gate_lets_the_same_epoch_in", "gate_refuses_its_own_epoch"),
    "M24 a command of unknown fate tried again": ("unknown_is_tried_again",),
    "M25 half a configuration": ("half_a_configuration", "configuration_half_applied"),
    "M26 commit index of a snapshot message": ("commit_index_of_a_snapshot",),
}

# Those of the list that cannot be planted here, and why.
UNPLANTED: dict[str, str] = {
    "M18 a cloned identity": "No code derives a node's name from its host: it is in its certificate. Two machines "
    "with one certificate are two processes behind one name, which a simulated cluster does not have; the transport "
    "supersedes one by the other (tests/unit/test_transport_links.py), and a copied disk is looked at by test_logs.py.",
}

MACHINERY = frozenset({"mutant", "hunts", "__main__"})


def every() -> list[Mutant]:
    """Of all modules of this package, in their order by name."""
    modules = sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in MACHINERY)
    return [
        replace(x, name=f"{m}.{x.name}") for m in modules for x in importlib.import_module(f"{__name__}.{m}").MUTANTS
    ]


def said(found: Exception) -> str:
    """Its first line; by name when it is not a checker that has spoken."""
    words = str(found).splitlines()[0] if str(found) else ""
    return words if words and isinstance(found, AssertionError) else f"{type(found).__name__}: {words}".strip(": ")


def search(mutant: Mutant, seeds: Iterable[int]) -> Search:
    """Plant it, and hunt it seed by seed until one finds it."""
    began, tried = time.process_time(), 0
    with pytest.MonkeyPatch.context() as patch:
        mutant.plant(patch)
        for seed in seeds:
            tried += 1
            try:
                mutant.hunt(seed)
            except Exception as found:
                return Search(mutant.name, mutant.breaks, seed, tried, time.process_time() - began, said(found))
    return Search(mutant.name, mutant.breaks, None, tried, time.process_time() - began)
