"""The simulation is worth nothing unless it finds planted bugs. Here those that are found fast; `make mutants`
hunts them all.
"""

import pytest

from tests.simulation.mutants import NUMBERED, UNPLANTED, every, search
from tests.simulation.mutants.core import DYING, L, durable_yes_and_no_phases, hunted
from tests.simulation.mutants.mutant import Mutant

MUTANTS = every()
QUICK = [m for m in MUTANTS if m.quick]


@pytest.mark.parametrize("mutant", QUICK, ids=lambda m: m.name)
def test_mutant_is_found(mutant):
    assert search(mutant, mutant.quick).seed is not None, mutant.breaks


@pytest.mark.parametrize("mutant", QUICK, ids=lambda m: m.name)
def test_nothing_is_found_in_what_is_right(mutant):
    """The hunts themselves break nothing: only the planted bug does."""
    mutant.hunt(mutant.quick[0])


def test_a_durable_yes_suffices(monkeypatch):
    """What is left of the mutant `yes_not_durable` when the yes is durable."""
    durable_yes_and_no_phases(monkeypatch)
    for seed in range(8):
        hunted(L, **DYING)(seed)


def test_the_numbered_ones_are_there():
    names = {m.name.partition(".")[2] for m in MUTANTS}
    assert {n for planted in NUMBERED.values() for n in planted} - names == set()
    assert all(NUMBERED.values()) and all(UNPLANTED.values())
    assert {f"M{n}" for n in range(1, 27)} == {words.split()[0] for words in (*NUMBERED, *UNPLANTED)}


def test_what_a_mutant_is_made_of_is_looked_at():
    for given in ({"seeds_max": (6,)}, {"seeds_max": 0}, {"quick": 6}, {"hunt": None}):
        with pytest.raises(TypeError, match="mutant x"):
            Mutant(**{"name": "x", "breaks": "a rule", "plant": print, "hunt": print, **given})


def test_a_hunt_that_ends_in_any_exception_has_found_its_mutant():
    def hunt(seed):
        raise KeyError("mail")

    found = search(Mutant("x", "a rule", lambda patch: None, hunt), range(3))
    assert (found.seed, found.what) == (0, "KeyError: 'mail'")
