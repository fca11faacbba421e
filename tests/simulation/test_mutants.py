"""The simulation is worth nothing unless it finds planted bugs: each of these must be found within a few seeds."""

import pytest

from hamail.simulation.chaos import Chaos
from hamail.simulation.checker import Violation
from tests.simulation.mutants import MUTANTS, durable_yes_and_no_phases, yes_not_durable

SEEDS_MAX = 60


def found_at(requires, how, seeds):
    for seed in range(seeds):
        try:
            Chaos(seed, requires, **how).run()
        except Violation as e:
            assert "active for" in str(e) or "still has a lease" in str(e), e
            return seed
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_mutant_is_found(mutant, monkeypatch):
    mutant(monkeypatch)
    assert found_at(*MUTANTS[mutant], SEEDS_MAX) is not None


def test_nothing_is_found_in_what_is_right(monkeypatch):
    """The hunts themselves break nothing: only the planted bug does."""
    for requires, how in MUTANTS.values():
        assert found_at(requires, how, 2) is None
    durable_yes_and_no_phases(monkeypatch)
    assert found_at(*MUTANTS[yes_not_durable], 15) is None
