"""Power: of one node, of all of them, back at once or late."""

from functools import partial
from typing import TYPE_CHECKING

from hamail.model.ids import NodeName
from hamail.simulation.faults.dice import Dice
from hamail.simulation.faults.fault import Catalogue, Parameters
from hamail.simulation.faults.places import later, where

if TYPE_CHECKING:
    from hamail.simulation.world import World

power = Catalogue()


def _off_for(world: "World", name: NodeName, back_ms: float) -> None:
    world.remark(f"power cut of {name}")
    machine = world.machines[name]
    usual, machine.returns_ms = machine.returns_ms, back_ms
    world.power_off(name)
    machine.returns_ms = usual


@power.kind(3, draw=lambda d: {"node": d.node(), "back_ms": d.back_ms()})
def power_cut(world: "World", node: NodeName, back_ms: float) -> None:
    _off_for(world, where(world, node), back_ms)


def _draw_blackout(d: Dice) -> Parameters:
    """Together or one after the other; back together, or far apart, in any order."""
    order = list(d.nodes)
    d.rng.shuffle(order)
    return {"order": order, "apart_ms": d.of(0, 0, 20, 400), "back_ms": d.back_ms(), "spread_ms": d.of(0, 0, 50, 1500)}


@power.kind(4, 40, draw=_draw_blackout)
def blackout(world: "World", order: list[NodeName], apart_ms: float, back_ms: float, spread_ms: float) -> None:
    """All lose power; those that went first, with the oldest logs, come back first."""
    for number, name in enumerate(order):
        later(world, number * apart_ms, partial(_off_for, world, name, back_ms + number * spread_ms))


@power.kind(40, draw=lambda d: {"missing": d.of(*d.nodes), "back_ms": d.back_ms()})
def cold_start_with_one_missing(world: "World", missing: NodeName, back_ms: float) -> None:
    for name in world.machines:
        _off_for(world, name, 3 * back_ms if name == missing else 100)


@power.kind(2, 3, draw=lambda d: {"node": d.node(), "times": d.of(2, 3, 5), "up_ms": d.of(50, 400, 2000, 6000)})
def boot_loop(world: "World", node: NodeName, times: int, up_ms: float) -> None:
    """It goes down again and again soon after it came up."""
    name = where(world, node)
    for number in range(times):
        later(world, number * (up_ms + 100), partial(_off_for, world, name, 100))


@power.kind(36, draw=lambda d: {"node": d.of(*d.mail), "returns_ms": d.of(20, 100, 500, 1000)})
def back_at_once(world: "World", node: NodeName, returns_ms: float) -> None:
    """From now on it boots within a second of whatever switched it off, a fence too."""
    world.machines[node].returns_ms = returns_ms
