"""Fence devices that fail, hang, come late, or cannot be reached from one side."""

from typing import TYPE_CHECKING

from hamail.model.ids import DeviceName, NodeName
from hamail.simulation.faults.dice import Dice
from hamail.simulation.faults.fault import FENCED, Catalogue, Parameters
from hamail.simulation.faults.network import isolate
from hamail.simulation.faults.places import later
from hamail.simulation.fence_device import Mood

if TYPE_CHECKING:
    from hamail.simulation.world import World

fencing = Catalogue()
LIARS = (Mood.LIES, Mood.WRONG)
HONEST = (Mood.WORKS, Mood.FAILS, Mood.SLOW, Mood.SILENT)


def _draw_device(d: Dice) -> Parameters:
    return {
        "device": d.of(*d.devices),
        "mood": str(d.of(*HONEST)),
        "takes_ms": d.of(50, 500, 3000),
        "for_ms": 3 * d.spell_ms(),
    }


@fencing.kind(33, draw=_draw_device, survived=FENCED)
def device(world: "World", device: DeviceName, mood: str, takes_ms: int, for_ms: float) -> None:
    it = world.devices[device]
    it.mood, it.takes_ms = Mood(mood), takes_ms
    world.remark(f"the device {device} {mood}")

    def repaired() -> None:
        it.mood, it.takes_ms = Mood.WORKS, 200

    later(world, for_ms, repaired)


def _draw_side(d: Dice) -> Parameters:
    return {"device": d.of(*d.devices), "node": d.of(*d.mail), "for_ms": 3 * d.spell_ms()}


@fencing.kind(35, draw=_draw_side, survived=FENCED)
def device_out_of_reach(world: "World", device: DeviceName, node: NodeName, for_ms: float) -> None:
    """From one of the nodes that may use it."""
    world.remark(f"{node} cannot reach the device {device}")
    world.devices[device].unreachable_from.add(node)
    later(world, for_ms, lambda: world.devices[device].unreachable_from.discard(node))


def _draw_bad_fence(d: Dice) -> Parameters:
    return {"mood": str(d.of(Mood.FAILS, Mood.SLOW, Mood.SILENT)), "fails_for_ms": d.spell_ms(), "for_ms": d.spell_ms()}


@fencing.kind(33, draw=_draw_bad_fence, survived=FENCED)
def needed_fence_fails(world: "World", mood: str, fails_for_ms: float, for_ms: float) -> None:
    """The owner is lost just when no device works; they do later."""
    for name in world.devices:
        device(world, name, mood, 200, fails_for_ms)
    isolate(world, "owner", for_ms)


@fencing.kind(
    34, draw=lambda d: {"device": d.of(*d.devices), "mood": str(d.of(*LIARS)), "for_ms": 3 * d.spell_ms()}, survived=()
)
def lying_device(world: "World", device: DeviceName, mood: str, for_ms: float) -> None:
    """It says off and is not, or hits another node. Nothing survives that but the claim on the storage."""
    it = world.devices[device]
    it.mood = Mood(mood)
    world.remark(f"the device {device} {mood}")

    def replaced() -> None:
        it.mood = Mood.WORKS

    later(world, for_ms, replaced)
