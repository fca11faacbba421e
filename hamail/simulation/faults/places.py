"""Who is meant: a fault names a node, or the part that a node plays at the moment when it strikes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from hamail.model.ids import NodeName

if TYPE_CHECKING:
    from hamail.simulation.machine import Machine
    from hamail.simulation.world import World


def where(world: "World", node: NodeName) -> NodeName:
    """`node`, or who is now the `owner` of the first group, a `standby` for it, or the `leader` of the log."""
    if node == "leader":
        return world.log.leader or next(iter(world.machines))
    if node not in ("owner", "standby"):
        return node
    group = next(iter(sorted(world.groups)))
    mail = [name for name, m in world.machines.items() if not m.witness]
    owner = world.active_on(group) or world.state.group(group).owner or mail[0]
    return owner if node == "owner" else next(n for n in mail if n != owner)


def machine(world: "World", node: NodeName) -> "Machine":
    return world.machines[where(world, node)]


def later(world: "World", delay_ms: float, deed: Callable[[], None]) -> None:
    """What a fault has in mind for later; void once the chaos is over."""
    world.agenda.after_ms(delay_ms, lambda: None if world.peace else deed())
