"""Random faults by the dozen: never two active, and well again once all is repaired.

A seed that fails here fails again: `Chaos(seed, requires).run()` tells the last sixty things that were said.
"""

import pytest

from hamail.model.spec import Requirement
from hamail.simulation.chaos import Chaos

SEEDS = 16


@pytest.mark.parametrize("requires", list(Requirement))
def test_never_two_active(requires):
    active = 0
    for seed in range(1000, 1000 + SEEDS):
        chaos = Chaos(seed, requires)
        chaos.run()
        active += len(chaos.world.checker.intervals)
    assert active > 2 * SEEDS, "the faults moved nothing, so nothing was proven"


def test_one_seed_is_one_history():
    def history(seed):
        chaos = Chaos(seed, Requirement.FENCING, faults_ms=15_000)
        chaos.run()
        return chaos.world.recent(), chaos.world.agenda.happened, chaos.world.state

    assert history(7) == history(7)
    assert history(7)[0] != history(8)[0]
