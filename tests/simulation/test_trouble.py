"""Trouble with agents, storage, watchdogs, fence devices and guests by the dozen, with mail all the time.

What breaks where nothing is claimed (`checkers/claims.py`) is counted, not hidden; everything else is a violation.
"""

from collections import Counter

import pytest

from hamail.model.spec import Requirement
from tests.simulation.trouble import Trouble

SEEDS = 10
EXCUSABLE = {"S1", "S2", "S4", "S5", "S6", "S7", "S12", "O2"}


@pytest.mark.parametrize("requires", list(Requirement))
def test_nothing_breaks_that_is_claimed(requires):
    acknowledged, excused = 0, Counter()
    for seed in range(SEEDS):
        trouble = Trouble(seed, requires)
        trouble.run()
        acknowledged += trouble.clients.acknowledged
        excused.update(trouble.world.checker.excused)
    assert acknowledged > 100 * SEEDS, "hardly any mail was taken, so nothing was proven"
    assert set(excused) <= EXCUSABLE


def test_one_seed_is_one_history():
    def history(seed):
        trouble = Trouble(seed)
        trouble.run()
        return trouble.world.recent(), trouble.world.agenda.happened, trouble.clients.ok

    assert history(5) == history(5)
    assert history(5) != history(6)
