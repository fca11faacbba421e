"""The disk under hamaild: it hangs, is slow, fails, is full, damaged, or an old one. A person repairs it later."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from hamail.model.ids import NodeName
from hamail.simulation.disk import BARRED, LOG_DIR
from hamail.simulation.faults.dice import Dice
from hamail.simulation.faults.fault import Catalogue, Parameters
from hamail.simulation.faults.places import later, machine
from hamail.simulation.logs.raft import WRITE_MS

if TYPE_CHECKING:
    from hamail.simulation.machine import Machine
    from hamail.simulation.world import World

disks = Catalogue()


@disks.kind(24, draw=lambda d: {"node": d.node(), "for_ms": d.spell_ms()})
def hang_disk(world: "World", node: NodeName, for_ms: float) -> None:
    """Long enough, at times, that its node must lose what it owns."""
    m = machine(world, node)
    world.remark(f"the disk of {m.name} hangs")
    m.hang_disk(True)
    later(world, for_ms, partial(m.hang_disk, False))


@disks.kind(24, draw=lambda d: {"node": d.node(), "takes_ms": d.of(10, 200, 2000), "for_ms": 2 * d.spell_ms()})
def slow_disk(world: "World", node: NodeName, takes_ms: float, for_ms: float) -> None:
    m = machine(world, node)
    world.remark(f"the disk of {m.name} takes up to {takes_ms} ms for a write")
    m.disk.write_ms = (takes_ms / 4, takes_ms)

    later(world, for_ms, lambda: usual_speed(m))


def usual_speed(m: "Machine") -> None:
    m.disk.write_ms = WRITE_MS if m.world.log_kind == "raft" else (0.0, 0.0)


def renew(m: "Machine") -> None:
    """A person makes the disk work and starts hamaild; if that gives up again, the disk is replaced."""
    m.repair_disk()
    m.end_daemon()
    m.start_daemon()
    if m.daemon is not None and m.daemon.engine.problem:
        m.world.remark(f"the disk of {m.name} is replaced")
        m.end_daemon()
        m.replace_disk()
        m.start_daemon()


def _fails(world: "World", m: "Machine", why: str, fault: Callable[[], None], back_ms: float) -> None:
    world.remark(f"{m.name}: {why}")
    fault()
    if world.log_kind == "perfect" and m.daemon is not None:
        m.break_journal(why)  # that log writes nothing that could fail
    later(world, back_ms, lambda: renew(m) if m.powered else m.repair_disk())


@disks.kind(22, draw=lambda d: {"node": d.node(), "once": d.share(0.5), "back_ms": d.spell_ms()})
def sync_error(world: "World", node: NodeName, once: bool, back_ms: float) -> None:
    """A sync fails: hamaild takes no further part until it is started anew."""
    m = machine(world, node)
    _fails(world, m, "syncs fail", partial(m.disk.fail_syncs, once=once), back_ms)


@disks.kind(21, draw=lambda d: {"node": d.node(), "back_ms": d.spell_ms()})
def disk_full(world: "World", node: NodeName, back_ms: float) -> None:
    m = machine(world, node)
    _fails(world, m, "no space is left", m.disk.fill, back_ms)


@disks.kind(21, draw=lambda d: {"node": d.node(), "back_ms": d.spell_ms()})
def disk_read_only(world: "World", node: NodeName, back_ms: float) -> None:
    m = machine(world, node)
    _fails(world, m, "the disk is read-only", m.disk.make_read_only, back_ms)


@disks.kind(23, draw=lambda d: {"node": d.frail, "file": d.of("log", "barred"), "back_ms": d.spell_ms()})
def flip_bit(world: "World", node: NodeName, file: str, back_ms: float) -> None:
    """While hamaild is down one bit of a file changes: it must be noticed, and never believed."""
    m = machine(world, node)
    if m.daemon is None:
        return
    m.end_daemon()
    files = [BARRED] if file == "barred" else [p for p in m.disk.files() if p.parent == LOG_DIR]
    hit = [str(p) for p in files if m.disk.flip_bit(p)]
    world.remark(f"a bit is flipped on {m.name} in {', '.join(hit) or 'nothing'}")
    m.start_daemon()
    later(world, back_ms, lambda: renew(m) if m.daemon is not None and m.daemon.engine.problem else None)


def _draw_old(d: Dice) -> Parameters:
    return {"node": d.frail, "age_ms": 2 * d.spell_ms()}


@disks.kind(25, draw=_draw_old)
def old_disk(world: "World", node: NodeName, age_ms: float) -> None:
    """The disk is put back as it was a while ago, as from a snapshot of the machine."""
    m = machine(world, node)
    copy = m.disk.copy()

    def back() -> None:
        if m.daemon is None:
            return
        world.remark(f"the disk of {m.name} is put back to {age_ms / 1000:g} s ago")
        m.end_daemon()
        m.put_disk_back(copy)
        m.start_daemon()

    later(world, age_ms, back)


@disks.kind(25, draw=lambda d: {"node": d.frail})
def new_disk(world: "World", node: NodeName) -> None:
    """The disk is replaced by an empty one, set up as the documentation says."""
    m = machine(world, node)
    if m.daemon is not None:
        world.remark(f"the disk of {m.name} is replaced")
        m.end_daemon()
        m.replace_disk()
        m.start_daemon()
