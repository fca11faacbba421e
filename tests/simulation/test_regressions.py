"""Plans that once found something; they must find nothing any more."""

from pathlib import Path

import pytest

from hamail.simulation.trial.plan import load
from hamail.simulation.trial.run import Run

PLANS = sorted((Path(__file__).parent / "regressions").glob("*.json"))


@pytest.mark.parametrize("path", PLANS, ids=lambda p: p.stem)
def test_it_stays_mended(path):
    Run(load(path).plan).go()
