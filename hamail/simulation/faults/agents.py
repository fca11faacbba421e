"""Services, and the agents that start, stop and watch them."""

from functools import partial
from typing import TYPE_CHECKING

from hamail.model.ids import GroupName, NodeName, ResourceName
from hamail.simulation.agents import Fault
from hamail.simulation.checkers.claims import Hazard
from hamail.simulation.faults.dice import Dice
from hamail.simulation.faults.fault import STRONG, Catalogue, Draw, Parameters
from hamail.simulation.faults.places import later, machine

if TYPE_CHECKING:
    from hamail.simulation.world import World

agents = Catalogue()
RESOURCES = ("store", "postfix", "dovecot", "address")


def _draw_crash(d: Dice) -> Parameters:
    return {"group": d.of(*d.groups), "resource": d.of(*RESOURCES), "times": d.of(1, 1, 4), "apart_ms": d.of(300, 3000)}


@agents.kind(32, 48, draw=_draw_crash)
def crash_service(world: "World", group: GroupName, resource: ResourceName, times: int, apart_ms: float) -> None:
    """Or its monitor says so although it runs: for hamail it is the same."""

    def crash() -> None:
        executor = machine(world, "owner").executor
        if executor is not None:
            executor.crash_resource(group, resource)

    for number in range(times):
        later(world, number * apart_ms, crash)


@agents.kind(26, 31, draw=lambda d: {"node": d.mail_node(), "resource": d.of(*RESOURCES), "for_ms": d.spell_ms()})
def failing_start(world: "World", node: NodeName, resource: ResourceName, for_ms: float) -> None:
    m = machine(world, node)
    world.remark(f"{resource} cannot start on {m.name}")
    m.start_fails.add(resource)
    later(world, for_ms, partial(m.start_fails.discard, resource))


@agents.kind(29, 30, draw=lambda d: {"node": d.mail_node(), "for_ms": d.spell_ms()}, survived=STRONG)
def failing_stop(world: "World", node: NodeName, for_ms: float) -> None:
    """E.g. a file system that stays busy."""
    m = machine(world, node)
    world.remark(f"stops fail on {m.name}")
    m.stop_fails = True
    later(world, for_ms, partial(setattr, m, "stop_fails", False))


@agents.kind(29, draw=lambda d: {"node": d.mail_node()}, survived=STRONG)
def failing_stop_in_a_move(world: "World", node: NodeName) -> None:
    """The stop that a planned move needs fails."""
    from hamail.simulation.faults.operators import switchover

    failing_stop(world, "owner", 4000)
    switchover(world, next(iter(sorted(world.groups))), "standby")


@agents.kind(26, draw=lambda d: {"node": d.mail_node(), "start_ms": d.of(20, 800, 3000), "for_ms": d.spell_ms()})
def slow_starts(world: "World", node: NodeName, start_ms: float, for_ms: float) -> None:
    m = machine(world, node)
    usual, m.start_ms = m.start_ms, start_ms
    later(world, for_ms, partial(setattr, m, "start_ms", min(usual, 300.0)))


LYING = (Fault.START_EMPTY, Fault.START_UNSAID, Fault.UNKNOWN_EXIT, Fault.FALSE_ALARM, Fault.BLIND, Fault.STOP_LIES)
HANGING = (Fault.START_HANGS, Fault.START_SLOW, Fault.START_FAILS, Fault.WRONG_DEVICE, Fault.STOP_UNSAID)
STAYING = (Fault.STOP_HANGS, Fault.STOP_FAILS, Fault.UNKILLABLE)


def _draw_agent(*faults: Fault) -> Draw:
    def draw(d: Dice) -> Parameters:
        return {
            "node": d.mail_node(),
            "resource": d.of(*RESOURCES),
            "fault": str(d.of(*faults)),
            "for_ms": 2 * d.spell_ms(),
        }

    return draw


def _agent(world: "World", node: NodeName, resource: ResourceName, fault: str, for_ms: float) -> None:
    m = machine(world, node)
    world.remark(f"agent of {resource} on {m.name}: {fault}")
    m.agents.add(resource, Fault(fault))
    later(world, for_ms, lambda: m.agents.faults.get(resource, set()).discard(Fault(fault)))


@agents.kind(27, 32, draw=_draw_agent(*LYING))
def lying_agent(world: "World", node: NodeName, resource: ResourceName, fault: str, for_ms: float) -> None:
    """What it says is not what it did."""
    if Fault(fault) is Fault.BLIND:
        world.checker.hazard(Hazard.MONITOR_LIES)
    _agent(world, node, resource, fault, for_ms)


@agents.kind(26, draw=_draw_agent(*HANGING))
def hanging_agent(world: "World", node: NodeName, resource: ResourceName, fault: str, for_ms: float) -> None:
    _agent(world, node, resource, fault, for_ms)


@agents.kind(29, 30, draw=_draw_agent(*STAYING), survived=STRONG)
def staying_service(world: "World", node: NodeName, resource: ResourceName, fault: str, for_ms: float) -> None:
    """It cannot be stopped, or only by force."""
    _agent(world, node, resource, fault, for_ms)
