"""The real executor under seeded faults in virtual time: `python -m tests.simulation.executor --seeds N` runs more.

A seed that fails here fails again, alone: `python -m tests.simulation.executor --first SEED --seeds 1 --stop`.
"""

import logging

import pytest

from hamail.executor.executor import Executor
from tests.simulation.executor.__main__ import agent_folder
from tests.simulation.executor.world import World
from tests.simulation.mutants import executor as mutants
from tests.simulation.mutants import search
from tests.simulation.mutants.mutant import Mutant

pytestmark = pytest.mark.root
SEEDS = 70


@pytest.fixture
def folder():
    logging.disable(logging.CRITICAL)
    try:
        with agent_folder() as made:
            yield made
    finally:
        logging.disable(logging.NOTSET)


def test_no_seed_breaks_a_rule(folder):
    up = passed = resets = 0
    for seed in range(5000, 5000 + SEEDS):
        figures = World(seed, folder).run().figures()
        up, passed, resets = up + figures["up"], passed + figures["passed"], resets + figures["resets"]
    assert up > 3 * SEEDS and passed > SEEDS / 5 and resets > SEEDS / 10, "too little happened to prove anything"


def test_one_seed_is_one_history(folder):
    def trace(seed):
        return World(seed, folder).run().trace()

    assert trace(3) == trace(3)
    assert trace(3) != trace(4)


def test_groups_without_faults_are_not_held_up_by_others(folder):
    for seed in range(6000, 6010):
        World(seed, folder, isolation=True).run()


def test_a_planted_bug_that_makes_the_executor_raise_is_found():
    """It must not end the hunt, which would leave the mutants after it unhunted."""

    def raises(monkeypatch):
        def extend(_self, _request):
            raise KeyError("planted")

        monkeypatch.setattr(Executor, "_extend", extend)

    found = search(Mutant("raises", "Every request is answered.", raises, mutants.hunt), range(5))
    assert found.seed is not None, "the executor's own failure goes unseen"
