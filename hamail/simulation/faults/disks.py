"""The disk under the log: it hangs, fails, is full, or is an old one."""

from functools import partial
from typing import TYPE_CHECKING

from hamail.model.ids import NodeName
from hamail.simulation.faults.fault import Catalogue
from hamail.simulation.faults.places import later, machine

if TYPE_CHECKING:
    from hamail.simulation.world import World

disks = Catalogue()


@disks.kind(24, draw=lambda d: {"node": d.node(), "for_ms": d.spell_ms()})
def hang_disk(world: "World", node: NodeName, for_ms: float) -> None:
    """Long enough, at times, that its node must lose what it owns."""
    m = machine(world, node)
    world.remark(f"the disk of {m.name} hangs")
    m.hang_disk(True)
    later(world, for_ms, partial(m.hang_disk, False))


def _fail(world: "World", node: NodeName, why: str, back_ms: float) -> None:
    m = machine(world, node)
    if m.daemon is None:
        return
    world.remark(f"{m.name}: {why}")
    m.break_journal(why)

    def repaired() -> None:
        m.journal_problem = ""
        m.end_daemon()
        m.start_daemon()

    m.after_ms(back_ms, repaired)


@disks.kind(22, draw=lambda d: {"node": d.node(), "back_ms": d.spell_ms()})
def sync_error(world: "World", node: NodeName, back_ms: float) -> None:
    """A sync fails: hamaild takes no further part until it is started anew."""
    _fail(world, node, "a sync of the journal failed", back_ms)


@disks.kind(21, draw=lambda d: {"node": d.node(), "back_ms": d.spell_ms()})
def disk_full(world: "World", node: NodeName, back_ms: float) -> None:
    _fail(world, node, "no space is left for the journal", back_ms)
