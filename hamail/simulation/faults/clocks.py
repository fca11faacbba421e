"""Clocks: the wall clock, which must not matter, and the rate of the clock that counts."""

from functools import partial
from typing import TYPE_CHECKING

from hamail.model.ids import NodeName
from hamail.simulation.checkers.claims import Hazard
from hamail.simulation.faults.dice import Dice
from hamail.simulation.faults.fault import FENCED, Catalogue, Parameters
from hamail.simulation.faults.places import later

if TYPE_CHECKING:
    from hamail.simulation.world import World

clocks = Catalogue()
RATE_PPM_MAX = 49_000  # just under the error that the timings allow for
SECOND_MS, YEAR_MS = 1000, 31_557_600_000
EPOCH_MS = 1_767_261_600_000  # the simulated wall clock starts here; back by more than this is before 1970
JUMPS_MS: tuple[int, ...] = (
    *(-SECOND_MS, SECOND_MS, -3600 * SECOND_MS, 3600 * SECOND_MS, -10 * YEAR_MS, 10 * YEAR_MS),
    *(-EPOCH_MS - SECOND_MS, 13 * YEAR_MS),  # before 1970, after 2038
)


@clocks.kind(18, draw=lambda d: {"node": d.of(*d.nodes), "by_ms": d.of(*JUMPS_MS)})
def wall_jump(world: "World", node: NodeName, by_ms: int) -> None:
    world.remark(f"the wall clock of {node} jumps by {by_ms / SECOND_MS:g} s")
    world.machines[node].wall_jump(by_ms)


def _draw_rate(d: Dice) -> Parameters:
    return {"node": d.of(*d.nodes), "ppm": d.of(-RATE_PPM_MAX, -500, 0, 500, RATE_PPM_MAX)}


@clocks.kind(19, draw=_draw_rate)
def clock_rate(world: "World", node: NodeName, ppm: int) -> None:
    """Within what the timings allow for."""
    world.remark(f"the clock of {node} now runs wrong by {ppm} ppm")
    world.machines[node].set_rate(ppm)


def _draw_strobe(d: Dice) -> Parameters:
    return {"node": d.of(*d.nodes), "times": d.of(4, 10), "period_ms": d.brief_ms()}


@clocks.kind(20, draw=_draw_strobe)
def clock_strobe(world: "World", node: NodeName, times: int, period_ms: float) -> None:
    """Fast and slow by turns."""
    for number in range(times):
        ppm = RATE_PPM_MAX if number % 2 else -RATE_PPM_MAX
        later(world, number * period_ms, partial(world.machines[node].set_rate, ppm))


def _draw_wild(d: Dice) -> Parameters:
    return {"node": d.of(*d.nodes), "ppm": d.of(-500_000, -200_000, 200_000, 1_000_000), "for_ms": d.spell_ms()}


@clocks.kind(19, draw=_draw_wild, survived=FENCED)
def wild_clock_rate(world: "World", node: NodeName, ppm: int, for_ms: float) -> None:
    """Far beyond what the timings allow for: only a fence keeps the group safe from that."""
    world.remark(f"the clock of {node} runs wrong by {ppm} ppm")
    machine = world.machines[node]
    usual = machine.clock.rate_ppm
    world.checker.hazard(Hazard.WILD_CLOCK)
    machine.set_rate(ppm)
    later(world, for_ms, lambda: machine.set_rate(usual))
