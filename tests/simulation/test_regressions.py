"""Plans that once found something; they must find nothing any more, or what they find is a declared price."""

from pathlib import Path

import pytest

from hamail.simulation.checkers.claims import Hazard
from hamail.simulation.trial.plan import load
from hamail.simulation.trial.run import Run

PLANS = sorted((Path(__file__).parent / "regressions").glob("*.json"))


@pytest.mark.parametrize("path", PLANS, ids=lambda p: p.stem)
def test_it_stays_mended(path):
    kept = load(path)
    run = Run(kept.plan)
    run.go()
    if kept.price:
        assert Hazard[kept.price] in run.world.checker.hazards and run.world.checker.excused, kept.found
