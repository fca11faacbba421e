"""Asking the voters whether their promises have run out."""

from hamail.core.effects import SaveBarred
from hamail.model.spec import Requirement
from hamail.simulation.spec import cluster
from hamail.simulation.world import World


def test_who_has_said_yes_is_not_asked_again():
    """A yes holds for good, and each one is an fsync in the event loop of the voter."""
    spec = cluster(requires=Requirement.WATCHDOG, levels=0)
    world = World(spec, seed=1, watchdogs=frozenset({"n1", "n2"}))
    saved: list[str] = []
    world.failpoints.append(lambda m, effect: isinstance(effect, SaveBarred) and saved.append(m.name) is not None)
    world.start_all()
    assert world.run_until(lambda: world.active_on("mail") == "n1", 5000)
    world.isolate("n1")
    assert world.run_until(lambda: world.active_on("mail") == "n2", 30_000)
    assert sorted(saved) == ["n2", "n3"]
