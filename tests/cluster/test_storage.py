"""The shared storage goes away under the active node, or answers no more."""

import pytest

from tests.cluster.world import World
from tests.lab.instruments import other

SEEN_S = 12.0  # a monitor every second, its write limited to two, then the stop of services that hang on the disk


@pytest.fixture
def watched(world: World) -> World:
    """With checks of the storage often enough for a test; they are in force from the next start of the group."""
    source = world.source()
    if "probe_timeout" not in source:
        quick = 'fstype = "ext4", probe_timeout = "2" }\nmonitor_interval = "1s"'
        world.apply(source.replace('fstype = "ext4" }', quick))
        active = world.active
        world.ctl(active, f"switchover mail --to {other(active)} --yes")
    return world


def test_lost_lun(watched: World) -> None:
    world, active = watched, watched.active
    world.lab.san_off(active)
    world.until_active(other(active), SEEN_S)
    assert "storage" in world.told()
    assert "Input/output error" in world.told() or "Read-only file system" in world.told(), world.told()


def test_hung_lun(watched: World) -> None:
    """What hangs in the kernel cannot be stopped by anybody: the node is fenced."""
    world, active = watched, watched.active
    world.lab.san_hang(active)
    world.until_active(other(active), SEEN_S)
    world.until_told("a synced write on /srv/mail did not end within 2 s: storage hangs")
    assert not world.nodes[active].powered
