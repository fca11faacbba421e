"""Plans: the same seed is the same trial, and what fails is cut down to what it needs."""

import itertools
import random

import msgspec
import pytest

from hamail.model.spec import Requirement
from hamail.simulation.checkers.violation import Violation
from hamail.simulation.faults import KINDS, Fault
from hamail.simulation.trial.command import Choice, simulate
from hamail.simulation.trial.draw import CORE, SWEEP_EVERY, draw
from hamail.simulation.trial.plan import Plan, Regression, load
from hamail.simulation.trial.run import Run
from hamail.simulation.trial.settings import Settings
from hamail.simulation.trial.shrink import shrink, timeline
from tests.simulation.mutants.core import no_fence_at_all

FIXED = range(1, 5)
FRESH = 2
SIMULATED_ROWS = (*range(1, 28), *range(29, 31), *range(32, 51), 52, 55, 56, 57, 58)
NOT_IN_THE_WORLD = {  # rows of the fault table which this simulator has nothing for
    16: "the simulated transport carries whole messages; frames are tested on real sockets",
    44: "the address agent's probe is tested against a real other host",
    46: "interfaces are tested in network namespaces",
    47: "nothing on the path of a decision asks a name server",
    50: "limits of processes are tested on real ones",
    55: "locks of processes are tested on real ones",
    58: "the sweep of ordered pairs, below",
}


@pytest.mark.parametrize("seed", FIXED)
def test_fixed_seed(seed):
    tally = Run(draw(seed, log="perfect")).go()
    assert tally.failovers + tally.returns > 0, "the faults moved nothing, so nothing was proven"


def test_fresh_seeds():
    """New ones at each run. A failing one: `python -m hamail.simulation --from SEED --seeds 1`."""
    for _ in range(FRESH):
        seed = random.randrange(10**6, 10**9)
        print(f"fresh seed {seed}")
        try:
            Run(draw(seed)).go()
        except Violation as violation:
            pytest.fail(f"seed {seed}: {violation}")


def test_one_seed_is_one_history():
    def history(seed):
        plan = msgspec.structs.replace(draw(seed), chaos_ms=60_000)
        run = Run(plan)
        run.go()
        return run.world.recent(), run.world.agenda.happened, run.world.state

    assert history(12) == history(12)


def test_the_number_of_processes_changes_nothing(monkeypatch):
    monkeypatch.setattr("hamail.simulation.trial.draw.FAULTS", (5,))
    choice = Choice(only=("power_cut", "isolate"), log="perfect")

    def counted(jobs):
        total, failed = simulate(choice, 1, 3, 0.0, jobs)
        return msgspec.structs.replace(total, cpu_s=0.0), failed

    assert counted(1) == counted(2)


def test_every_simulated_row_has_a_kind():
    covered = {row for kind in KINDS.values() for row in kind.rows}
    assert [row for row in SIMULATED_ROWS if row not in covered and row not in NOT_IN_THE_WORLD] == []


def test_parameters_are_plain_data():
    for seed in range(20):
        plan = draw(seed)
        assert msgspec.json.decode(plan.to_json(), type=Plan) == plan


def test_the_sweep_has_every_ordered_pair():
    pairs = set()
    row_of = {name: row for row, names in CORE.items() for name in names}
    for number in range(1, 13):
        faults = draw(number * SWEEP_EVERY, requires=Requirement.FENCING).faults
        rows = [row_of[f.kind] for f in faults]
        pairs |= {(a, b) for a, b in itertools.pairwise(rows) if a != b}
    assert pairs == {(a, b) for a in CORE for b in CORE if a != b}


# ---- shrinking ------------------------------------------------------------------------------------------------------


def long_plan():
    dull = [Fault(i * 1000, "wall_jump", {"node": "n1", "by_ms": 1000}) for i in range(12)]
    cut = Fault(7200, "isolate", {"node": "owner", "for_ms": 9000})
    faults = tuple(sorted([*dull, cut], key=lambda f: f.at_ms))
    return Plan(settings=Settings(seed=3, groups=("lists", "mail"), late_share=0.1), faults=faults, chaos_ms=15_000)


def test_a_planted_bug_is_cut_down_to_the_one_fault_that_shows_it(monkeypatch, tmp_path):
    no_fence_at_all(monkeypatch)
    shrunk, found = shrink(long_plan())
    assert [f.kind for f in shrunk.faults] == ["isolate"]
    assert len(shrunk.settings.groups) == 1 and shrunk.settings.late_share == 0.0
    found.save(tmp_path / "it.json")
    again = load(tmp_path / "it.json")
    assert again == found
    with pytest.raises(Violation):
        Run(again.plan).go()
    told = timeline(shrunk, found)
    assert "is isolated" in told and "S2" in told


def test_what_does_not_fail_cannot_be_cut_down():
    with pytest.raises(ValueError, match="violates nothing"):
        shrink(Plan(settings=Settings(seed=1), faults=(), chaos_ms=1000))


def test_a_regression_names_what_it_found(tmp_path):
    Regression(found="x", plan=long_plan()).save(tmp_path / "a.json")
    assert load(tmp_path / "a.json").plan == long_plan()
