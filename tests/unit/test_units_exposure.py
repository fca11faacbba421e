"""What systemd itself thinks of the units, without installing them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "systemd"
# The agents' must be able to do what agents do; its figure is here so that it cannot grow unseen.
EXPOSURE_MAX = {
    "hamaild": 1.5,
    "hamail-executor": 4.0,
    "hamail-agents": 6.0,
    "hamail-issuer": 1.3,
    "hamail-renew": 1.7,
    "hamail-metrics": 1.0,
}

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def exposure(unit: Path) -> float:
    words = ["systemd-analyze", "security", "--no-pager", "--offline=true", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    assert found, done.stdout[-500:]
    return float(found[1])


@pytest.mark.parametrize("name", EXPOSURE_MAX)
def test_exposure(name: str) -> None:
    assert exposure(UNITS / f"{name}.service") <= EXPOSURE_MAX[name]


def test_a_unit_that_lost_its_protection_is_noticed(tmp_path: Path) -> None:
    lines = (UNITS / "hamail-executor.service").read_text().splitlines()
    bare = [line for line in lines if not line.startswith(("Capability", "Protect", "SystemCall", "Restrict"))]
    (tmp_path / "hamail-executor.service").write_text("\n".join(bare))
    assert exposure(tmp_path / "hamail-executor.service") > EXPOSURE_MAX["hamail-executor"]


def test_what_the_executor_may_not_have() -> None:
    """The figure alone could be bought with options that mean little."""
    text = (UNITS / "hamail-executor.service").read_text()
    assert "CapabilityBoundingSet=CAP_KILL CAP_SYS_PTRACE CAP_DAC_READ_SEARCH\n" in text
    assert text.count("CapabilityBoundingSet=") == 1 and text.count("RestrictAddressFamilies=AF_UNIX AF_NETLINK\n") == 1
    assert "ReadWritePaths=/run/hamail-executor\n" in text and text.count("ReadWritePaths=") == 1


@pytest.mark.parametrize("name", EXPOSURE_MAX)
def test_no_core_file_is_written(name: str) -> None:
    assert "\nLimitCORE=0\n" in (UNITS / f"{name}.service").read_text()
