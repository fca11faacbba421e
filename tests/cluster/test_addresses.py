"""The floating address is where the group is, and nowhere else, whatever people do by hand."""

import ipaddress
import json

from tests.cluster.world import World
from tests.lab.instruments import other


def has(world: World, node: str, address: str) -> bool:
    return f" {address}/" in world.nodes[node].run("ip -o addr show dev eth0").stdout


def test_address_removed_by_hand_is_put_back(world: World) -> None:
    active, epoch = world.active, world.epoch()
    for name, bits in ((world.lab.addresses.vip, 24), (world.lab.addresses.vip6, 64)):
        address = str(ipaddress.ip_address(name))
        world.nodes[active].run(f"ip addr del {address}/{bits} dev eth0")
        back_s = world.until(lambda a=address: has(world, active, a), 2, f"{address} is back")
        print(f"{address} back after {back_s:.2f} s")
        world.until(lambda: world.group(active)["resources"]["vip"] == "up", 3, "vip up")
    assert (world.active, world.epoch()) == (active, epoch)
    world.until_told("vip .*restarted in place")


def test_address_added_by_hand_on_the_standby_is_removed(world: World) -> None:
    """For a moment it is on two nodes, by the hand of the one who did it: not a case for this test's evidence."""
    active, vip = world.active, world.lab.addresses.vip
    standby = other(active)
    world.forgive("the second address is put there by this test")
    world.nodes[standby].run(f"ip addr add {vip}/24 dev eth0")
    gone_s = world.until(lambda: not has(world, standby, vip), 2, "removed")
    print(f"removed after {gone_s:.2f} s")
    assert "does not hold it: removing" in world.journal(standby, "hamail-executor")
    assert has(world, active, vip)


def test_another_host_has_the_address(world: World) -> None:
    """It is not taken over from a stranger: two hosts with one address would be worse than none."""
    active, vip = world.active, world.lab.addresses.vip
    standby = other(active)
    mac = json.loads(world.lab.run("client", "ip -j link show eth0").stdout)[0]["address"]
    world.lab.run("client", f"ip addr add {vip}/32 dev eth0")
    try:
        failed = world.ctl(active, f"switchover mail --to {standby} --yes", code=None, timeout_s=40)
        assert failed.returncode != 0
        said = world.told()
        assert vip in said and mac in said, f"says who has it:\n{said}"
        world.until(lambda: world.group()["phase"] == "idle", 10, "the other node has met it as well")
        assert "hamailctl clear mail" in world.told()
    finally:
        world.lab.run("client", f"ip addr del {vip}/32 dev eth0")
        world.ctl(active, "clear mail")
    world.until(lambda: world.active, 20, "active again once the stranger has gone")
