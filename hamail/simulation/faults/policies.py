"""People and the cluster itself keep groups away from nodes, for a while: bans, quarantine, maintenance with an end."""

from typing import TYPE_CHECKING

from hamail.model import commands as c
from hamail.model.ids import GroupName, NodeName
from hamail.simulation.faults.dice import Dice
from hamail.simulation.faults.fault import Catalogue, Parameters
from hamail.simulation.faults.operators import send
from hamail.simulation.faults.places import later, where

if TYPE_CHECKING:
    from hamail.simulation.world import World

policies = Catalogue()


def _draw_ban(d: Dice) -> Parameters:
    return {"group": d.of(*d.groups), "node": d.mail_node(), "for_ms": d.spell_ms(), "lifted": d.share(0.2)}


@policies.kind(41, draw=_draw_ban, planned=True)
def ban(world: "World", group: GroupName, node: NodeName, for_ms: int, lifted: bool) -> None:
    """Also of the owner, and of both nodes at once: then nobody may have the group until one of the bans ends."""
    name, at_ms = where(world, node), world.wall_ms
    send(world, c.SetBan(at_ms=at_ms, group=group, node=name, until_ms=at_ms + for_ms))
    if lifted:
        lift = c.LiftBan(at_ms=at_ms, group=group, node=name)
        later(world, for_ms / 2, lambda: send(world, lift))


@policies.kind(41, draw=lambda d: {"node": d.mail_node()}, planned=True)
def quarantine(world: "World", node: NodeName) -> None:
    """The cluster imposes it by itself, on whoever comes back too often; here a person ends it at a bad moment."""
    send(world, c.LiftQuarantine(at_ms=world.wall_ms, node=where(world, node)))


@policies.kind(41, draw=lambda d: {"node": d.of(*d.mail), "for_ms": d.spell_ms()}, planned=True)
def standby_for_a_while(world: "World", node: NodeName, for_ms: int) -> None:
    at_ms = world.wall_ms
    send(world, c.SetStandby(at_ms=at_ms, node=node, standby=True, until_ms=at_ms + for_ms))


@policies.kind(51, draw=lambda d: {"group": d.of(*d.groups), "for_ms": d.spell_ms()}, planned=True)
def group_maintenance(world: "World", group: GroupName, for_ms: int) -> None:
    at_ms = world.wall_ms
    send(world, c.HandsOff(at_ms=at_ms, on=True, group=group, until_ms=at_ms + for_ms))


@policies.kind(51, draw=lambda d: {"node": d.mail_node(), "for_ms": d.spell_ms()}, planned=True)
def node_maintenance(world: "World", node: NodeName, for_ms: int) -> None:
    at_ms = world.wall_ms
    send(world, c.HandsOff(at_ms=at_ms, on=True, node=where(world, node), until_ms=at_ms + for_ms))


@policies.kind(51, draw=lambda d: {"for_ms": d.spell_ms()}, planned=True)
def maintenance_for_a_while(world: "World", for_ms: int) -> None:
    at_ms = world.wall_ms
    send(world, c.SetMaintenance(at_ms=at_ms, on=True, until_ms=at_ms + for_ms))
