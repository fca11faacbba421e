"""People: orders at bad moments. An operator here is honest: who vouches that a node is off has switched it off."""

from typing import TYPE_CHECKING

from hamail.model import commands as c
from hamail.model.ids import GroupName, NodeName
from hamail.simulation.faults.dice import Dice
from hamail.simulation.faults.fault import Catalogue, Parameters
from hamail.simulation.faults.places import later, machine, where

if TYPE_CHECKING:
    from hamail.simulation.world import World

operators = Catalogue()


def send(world: "World", command: c.AnyCommand) -> None:
    """Through whoever leads the log; lost when nobody does."""
    leader = world.log.leader
    if leader is not None:
        world.remark(f"order: {type(command).__name__}")
        world.log.propose(leader, command, lambda _result: None)


@operators.kind(41, draw=lambda d: {"group": d.of(*d.groups), "to": d.of(*d.mail, "standby", "standby")}, planned=True)
def switchover(world: "World", group: GroupName, to: NodeName) -> None:
    epoch = world.state.group(group).epoch
    send(world, c.RequestMove(at_ms=world.wall_ms, group=group, target=where(world, to), expected_epoch=epoch))


def _draw_standby(d: Dice) -> Parameters:
    return {"node": d.of(*d.mail), "for_ms": d.spell_ms()}


@operators.kind(41, draw=_draw_standby, planned=True)
def standby(world: "World", node: NodeName, for_ms: float) -> None:
    send(world, c.SetStandby(at_ms=world.wall_ms, node=node, standby=True))

    def back() -> None:
        send(world, c.SetStandby(at_ms=world.wall_ms, node=node, standby=False))

    later(world, for_ms, back)


@operators.kind(51, draw=lambda d: {"for_ms": d.spell_ms()}, planned=True)
def maintenance(world: "World", for_ms: float) -> None:
    send(world, c.SetMaintenance(at_ms=world.wall_ms, on=True))

    def over() -> None:
        send(world, c.SetMaintenance(at_ms=world.wall_ms, on=False))

    later(world, for_ms, over)


@operators.kind(51, draw=lambda d: {"group": d.of(*d.groups)}, planned=True)
def clear(world: "World", group: GroupName) -> None:
    send(world, c.Clear(at_ms=world.wall_ms, group=group))


@operators.kind(35, draw=lambda d: {"node": d.mail_node()})
def fence_by_hand(world: "World", node: NodeName) -> None:
    """hamailctl fence, also against a node that is well."""
    send(world, c.RequestFence(at_ms=world.wall_ms, target=where(world, node)))


@operators.kind(3, draw=lambda d: {"node": d.mail_node(), "back_ms": d.back_ms() + 2000})
def switched_off_and_confirmed(world: "World", node: NodeName, back_ms: float) -> None:
    from hamail.simulation.faults.power import power_cut

    name = where(world, node)
    power_cut(world, name, back_ms)
    life = world.state.node(name).life
    send(world, c.FenceConfirmed(at_ms=world.wall_ms, target=name, life=life))


def _draw_by_hand(d: Dice) -> Parameters:
    return {"node": d.mail_node(), "group": d.of(*d.groups), "resource": d.of("store", "postfix", "dovecot", "address")}


@operators.kind(52, draw=_draw_by_hand, survived=())
def started_by_hand(world: "World", node: NodeName, group: GroupName, resource: str) -> None:
    """A person starts something where it may not be. hamail can only remove it again."""
    m = machine(world, node)
    if m.powered and resource not in m.running.get(group, ()):
        world.remark(f"somebody starts {resource} of {group} on {m.name} by hand")
        m.by_hand(group, resource)
