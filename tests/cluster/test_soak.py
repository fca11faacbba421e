"""A short soak, as `make soak` does it for hours: nothing violated, no mail lost, nothing in doubt."""

import json
import subprocess
import sys

import pytest

from tests.cluster.conftest import NAME, SAY, missing
from tests.cluster.world import BUILD
from tests.lab.lab import Lab, Missing

SEED = "s2137"  # a lost LUN, a freeze, a kill, losses of power and planned moves come early in it
FAILOVERS = 6
MINUTES = 1.3
ENOUGH = 100  # acknowledged mails: many times as many flow on an idle machine
LIMIT_S = 500.0


@pytest.mark.alone
def test_short_soak() -> None:
    lab = Lab(f"{NAME[:6]}s", **SAY)
    try:
        lab.build()
    except Missing as error:
        missing(error)
    command = [sys.executable, "-m", "tests.soak", "--labs", "1", "--seed", SEED, "--name", lab.name]
    command += ["--failovers", str(FAILOVERS), "--minutes", str(MINUTES)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT_S)
    print(result.stdout)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-3000:]
    found = json.loads((BUILD / "soak.json").read_text())
    assert found["failovers"] >= 2, found
    assert found["mail"]["acknowledged"] >= ENOUGH, found["mail"]
    assert found["canary_writes"] > 0
