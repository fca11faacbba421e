"""Bans and maintenance with an end, on real nodes: the group moves in order, and is looked after again by itself."""

from tests.cluster.world import World
from tests.lab.cluster import WITNESS
from tests.lab.instruments import other


def test_a_ban_moves_the_group_and_ends_by_itself(world: World) -> None:
    active = world.active
    standby = other(active)
    refused = world.ctl(active, f"ban mail {active}", code=2)
    assert "--for" in refused.stderr
    world.ctl(standby, f"ban mail {active} --for 8s --reason 'its disk is slow' --yes")
    assert world.active == standby
    refused = world.ctl(standby, f"switchover mail --to {active} --yes", code=3)
    assert "has banned mail from it until" in refused.stdout + refused.stderr
    group = (world.status(WITNESS) or {})["groups"][0]
    assert group["policy"]["bans"][active]["reason"] == "its disk is slow"

    def free() -> bool:
        return not (world.status(standby) or {})["groups"][0]["policy"]["bans"]

    world.until(free, 20, "the end of the ban")
    assert world.active == standby, "nothing moves back by itself"


def test_maintenance_of_a_group_leaves_a_dead_service_alone(world: World) -> None:
    active, epoch = world.active, world.epoch()

    def postfix() -> str:
        return str((world.status(active) or {})["groups"][0]["resources"]["postfix"])

    world.ctl(active, "maintenance on --group mail --for 10m --reason 'new version'")
    world.nodes[active].run("pkill -9 -x master")
    world.until(lambda: postfix() == "failed", 20, "the failure is seen")
    world.never(lambda: postfix() != "failed", 3.0, "repaired in spite of maintenance")
    told = world.ctl(active, "maintenance off --group mail --dry-run")
    assert f"postfix is failed on {active}" in told.stdout
    world.ctl(active, "maintenance off --group mail --yes")
    world.until(lambda: postfix() == "up", 20, "repaired after maintenance")
    assert (world.active, world.epoch()) == (active, epoch)
