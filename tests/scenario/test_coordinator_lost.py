"""The coordinator is lost at every step of a failover: somebody else finishes it, and never are two nodes active."""

import pytest

from hamail.model.spec import Requirement
from hamail.simulation.spec import cluster
from hamail.simulation.world import World

FENCING, LEASE = (Requirement.FENCING, 1), (Requirement.LEASE, 0)
ENTRIES = {FENCING: 5, LEASE: 3}  # that a failover brings into the log
STEPS = [(way, step) for way, entries in ENTRIES.items() for step in range(entries + 1)]


def failing_over(requires, levels):
    """Five voters, so that a majority is left when the owner and the coordinator are lost."""
    world = World(cluster(("n1", "n2", "n4"), ("n3", "n5"), requires=requires, levels=levels))
    world.start_all()
    assert world.run_until(lambda: world.active_on("mail") == "n1", 10_000)
    world.run_ms(3000)
    world.power_off("n1")
    return world, len(world.log.entries)


@pytest.mark.parametrize(
    ("way", "step"), STEPS, ids=lambda x: str(getattr(x[0], "value", x)) if isinstance(x, tuple) else x
)
@pytest.mark.parametrize("how", ["power", "kill", "hang", "isolate"])
def test_somebody_else_finishes(way, step, how):
    world, before = failing_over(*way)
    assert world.run_until(lambda: len(world.log.entries) >= before + step, 15_000)
    coordinator = world.log.leader
    machine = world.machines[coordinator]
    if how == "power":
        machine.power_off()
    elif how == "kill":
        machine.end_daemon()
        machine.after_ms(2000, machine.start_daemon)
    elif how == "hang":
        machine.daemon.hung = True
    else:
        world.isolate(coordinator)
    well = world.run_until(lambda: world.active_on("mail") not in (None, coordinator), 40_000)
    assert well or world.active_on("mail") == coordinator, world.recent()
    place = world.active_on("mail")
    assert not world.run_until(lambda: world.active_on("mail") != place, 10_000), world.recent()


@pytest.mark.parametrize("way", ENTRIES)
def test_steps_cover_the_failover(way):
    world, before = failing_over(*way)
    assert world.run_until(lambda: world.active_on("mail") == "n2", 15_000)
    world.run_ms(200)
    assert len(world.log.entries) == before + ENTRIES[way]
