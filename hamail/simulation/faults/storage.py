"""The shared storage, and the clients' side of the network."""

from typing import TYPE_CHECKING

from hamail.model.ids import GroupName, NodeName
from hamail.simulation.faults.dice import Dice
from hamail.simulation.faults.fault import STRONG, Catalogue, Parameters
from hamail.simulation.faults.places import later, where

if TYPE_CHECKING:
    from hamail.simulation.world import World

storage = Catalogue()


def _draw_lun(d: Dice) -> Parameters:
    return {"node": d.mail_node(), "group": d.of(*d.groups), "for_ms": d.spell_ms()}


@storage.kind(14, draw=_draw_lun)
def storage_cut(world: "World", node: NodeName, group: GroupName, for_ms: float) -> None:
    """Every access of one node fails while the cluster network is well."""
    name, lun = where(world, node), world.lun(group)
    world.remark(f"{name} loses the storage of {group}")
    lun.cut_off.add(name)
    later(world, for_ms, lambda: lun.cut_off.discard(name))


@storage.kind(14, 24, draw=_draw_lun, survived=STRONG)
def storage_hangs(world: "World", node: NodeName, group: GroupName, for_ms: float) -> None:
    """No access of one node ends: nothing there can be unmounted."""
    name, lun = where(world, node), world.lun(group)
    world.remark(f"the storage of {group} hangs for {name}")
    lun.hung.add(name)
    later(world, for_ms, lambda: lun.hung.discard(name))


@storage.kind(31, draw=_draw_lun)
def storage_read_only(world: "World", node: NodeName, group: GroupName, for_ms: float) -> None:
    name, lun = where(world, node), world.lun(group)
    lun.mounted_read_only.add(name)
    later(world, for_ms, lambda: lun.mounted_read_only.discard(name))


@storage.kind(15, draw=lambda d: {"node": d.mail_node(), "for_ms": d.spell_ms()})
def clients_cut(world: "World", node: NodeName, for_ms: float) -> None:
    """Clients do not reach a node that is well for hamail."""
    name = where(world, node)
    world.remark(f"clients do not reach {name}")
    world.switch.cut_off.add(name)
    later(world, for_ms, lambda: world.switch.cut_off.discard(name))


@storage.kind(45, draw=lambda d: {"for_ms": d.spell_ms()})
def announcements_lost(world: "World", for_ms: float) -> None:
    world.switch.deaf = True

    def heard() -> None:
        world.switch.deaf = False

    later(world, for_ms, heard)
