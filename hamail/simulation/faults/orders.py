"""Orders about single groups at bad moments: failover, restarts in place, moves for later, and turning back."""

from typing import TYPE_CHECKING

from hamail.model import commands as c
from hamail.model.ids import GroupName, NodeName
from hamail.simulation.faults.dice import Dice
from hamail.simulation.faults.fault import Catalogue, Parameters
from hamail.simulation.faults.operators import send
from hamail.simulation.faults.places import later, where

if TYPE_CHECKING:
    from hamail.simulation.world import World

orders = Catalogue()

AGAIN_MS = 300.0  # between the orders of somebody who is in a hurry


@orders.kind(35, draw=lambda d: {"group": d.of(*d.groups), "to": d.of(*d.mail, "standby", "standby")})
def failover_by_hand(world: "World", group: GroupName, to: NodeName) -> None:
    """Also of an owner that is well: the log leaves that judgement to hamailctl."""
    epoch = world.state.group(group).epoch
    send(world, c.RequestFailover(at_ms=world.wall_ms, group=group, target=where(world, to), expected_epoch=epoch))


def _draw_restart(d: Dice) -> Parameters:
    return {
        "group": d.of(*d.groups),
        "resource": d.of("", "store", "postfix", "dovecot", "address"),
        "times": d.of(1, 3),
    }


@orders.kind(32, 42, draw=_draw_restart, planned=True)
def restart_in_place(world: "World", group: GroupName, resource: str, times: int) -> None:
    def order() -> None:
        epoch = world.state.group(group).epoch
        send(world, c.RequestRestart(at_ms=world.wall_ms, group=group, resource=resource, expected_epoch=epoch))

    for n in range(times):
        later(world, n * AGAIN_MS, order)


def _draw_scheduled(d: Dice) -> Parameters:
    return {"group": d.of(*d.groups), "to": d.of(*d.mail, None), "in_ms": d.spell_ms(), "cancelled": d.share(0.3)}


@orders.kind(41, draw=_draw_scheduled, planned=True)
def scheduled_move(world: "World", group: GroupName, to: NodeName | None, in_ms: int, cancelled: bool) -> None:
    due_ms = world.wall_ms + max(1, in_ms)
    send(world, c.ScheduleMove(at_ms=world.wall_ms, group=group, target=to, due_ms=due_ms))

    def call_off() -> None:
        known = [s.id for s in world.state.scheduled if s.group == group]
        if known:
            send(world, c.Cancel(at_ms=world.wall_ms, order=known[-1]))

    if cancelled:
        later(world, in_ms / 2, call_off)


def _draw_cancelled(d: Dice) -> Parameters:
    return {"group": d.of(*d.groups), "to": d.of(*d.mail, "standby", "standby"), "after_ms": d.of(0, 50, 150, 300, 600)}


@orders.kind(41, draw=_draw_cancelled, planned=True)
def move_turned_back(world: "World", group: GroupName, to: NodeName, after_ms: float) -> None:
    epoch = world.state.group(group).epoch
    send(world, c.RequestMove(at_ms=world.wall_ms, group=group, target=where(world, to), expected_epoch=epoch))

    def turn_back() -> None:
        move = world.state.group(group).move
        if move:
            send(world, c.Cancel(at_ms=world.wall_ms, order=move))

    later(world, after_ms, turn_back)
