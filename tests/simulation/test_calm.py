"""Ticks that the simulator leaves out would have done nothing."""

import pytest

from hamail.model.spec import Requirement
from hamail.simulation import daemon
from hamail.simulation.chaos import Chaos

KINDS = ("cut_power", "isolate", "break_link", "crash_service", "switchover", "restart_daemon", "device")


def history(seed, dense, monkeypatch):
    monkeypatch.setattr(daemon.Daemon, "dense", dense)
    chaos = Chaos(seed, Requirement.FENCING, faults_ms=20_000, only=KINDS)
    chaos.run()
    return chaos.world.recent(), chaos.world.state, chaos.world.checker.intervals


@pytest.mark.parametrize("seed", range(3))
def test_the_same_history_with_every_tick(seed, monkeypatch):
    """While every tick is made, one that was predicted to do nothing and does something is an error, too."""
    assert history(seed, True, monkeypatch) == history(seed, False, monkeypatch)


def test_a_wrong_prediction_is_noticed(monkeypatch):
    monkeypatch.setattr(daemon, "calm_until_ns", lambda engine: engine.now_ns + 3_000_000_000)
    with pytest.raises(AssertionError, match="predicted to do nothing"):
        history(0, True, monkeypatch)
