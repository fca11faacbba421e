"""What an upgrade and a change of the timings cost while mail flows."""

import re
import time

from tests.cluster.world import World
from tests.lab.cluster import MAIL_NODES
from tests.lab.instruments import other
from tests.lab.probe import outage

PAUSE_S = 15.0  # one stop and one start, on a machine that is busy with much else
WATCHED_S = 8.0  # longer than a lease of the default settings


def test_executor_upgraded_in_maintenance(world: World) -> None:
    """Nothing stops while maintenance is on; when it ends, the group is stopped and started once, and nobody fenced."""
    active, epoch = world.active, world.epoch()
    generations = {node: world.nodes[node].generation for node in MAIL_NODES}
    world.ctl(active, "maintenance on --reason upgrade")
    world.until(lambda: active in world.status()["maintenance"]["acknowledged"], 10, "the active node knows")
    before = world.main_pid(active, "hamail-executor")
    world.nodes[active].run("systemctl restart hamail-executor", timeout_s=60)
    assert world.main_pid(active, "hamail-executor") != before
    world.never(lambda: not world.holds(active), WATCHED_S, "stopped in spite of maintenance")
    assert not world.holds(other(active))
    assert world.epoch() == epoch
    world.ctl(other(active), "maintenance off --yes")
    world.until(lambda: world.active and world.epoch() > epoch, PAUSE_S, "the new executor has the group")
    world.wait_healthy(30)
    assert generations == {node: world.nodes[node].generation for node in generations}, "somebody was fenced"
    assert len(world.moves()) == 1, world.told()


def test_detection_changed_under_load(world: World) -> None:
    """Longer, then short again: leases and promises of both lengths live side by side, and clients notice nothing."""
    active, epoch, source = world.active, world.epoch(), world.source()
    generations = {node: world.nodes[node].generation for node in MAIL_NODES}
    with world.probing("detection") as probe:
        began_ns = time.monotonic_ns()
        for detection in ("4s", "2s"):
            changed, count = re.subn(r"(?m)^detection *=.*$", f'detection = "{detection}"', source)
            assert count == 1, source
            world.apply(changed, active)
            time.sleep(WATCHED_S)
        world.apply(source, other(active))
        time.sleep(WATCHED_S)
        attempts = probe.stop()
    failed = [a for a in attempts if not a.ok]
    assert not failed, f"clients have seen {len(failed)} failures, the first: {failed[0]}"
    assert outage(attempts, "smtp", began_ns).ms < 1000
    assert (world.active, world.epoch()) == (active, epoch)
    assert not world.moves()
    assert generations == {node: world.nodes[node].generation for node in generations}, "somebody was fenced"
