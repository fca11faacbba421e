"""hamaild, the executor, and whole nodes that stand still."""

from functools import partial
from typing import TYPE_CHECKING

from hamail.core import effects as fx
from hamail.model.ids import NodeName
from hamail.model.messages import ReleaseAnswer
from hamail.simulation.faults.dice import Dice
from hamail.simulation.faults.fault import FENCED, STRONG, Catalogue, Parameters
from hamail.simulation.faults.places import later, machine, where
from hamail.simulation.watchdog import Dog

if TYPE_CHECKING:
    from hamail.simulation.machine import Machine
    from hamail.simulation.world import World

processes = Catalogue()


def _end_daemon(world: "World", name: NodeName, back_ms: float, *, say_goodbye: bool) -> None:
    m = world.machines[name]
    if m.daemon is None:
        return
    world.remark(f"hamaild on {name} {'is restarted' if say_goodbye else 'is killed'}")
    if say_goodbye:
        m.daemon.leave()
    m.end_daemon()
    m.after_ms(back_ms, m.start_daemon)


@processes.kind(1, draw=lambda d: {"node": d.node(), "back_ms": d.back_ms()})
def kill_daemon(world: "World", node: NodeName, back_ms: float) -> None:
    _end_daemon(world, where(world, node), back_ms, say_goodbye=False)


@processes.kind(42, draw=lambda d: {"node": d.node(), "back_ms": d.back_ms()}, planned=True)
def restart_daemon(world: "World", node: NodeName, back_ms: float) -> None:
    """As an upgrade does it."""
    _end_daemon(world, where(world, node), back_ms, say_goodbye=True)


@processes.kind(42, draw=lambda d: {"apart_ms": d.of(200, 2000, 8000), "back_ms": d.of(100, 600)}, planned=True)
def rolling_restart(world: "World", apart_ms: float, back_ms: float) -> None:
    for number, name in enumerate(world.machines):
        later(world, number * apart_ms, partial(_end_daemon, world, name, back_ms, say_goodbye=True))


@processes.kind(2, draw=lambda d: {"node": d.node(), "times": d.of(3, 6, 12), "up_ms": d.of(5, 60, 400, 1500)})
def crash_loop(world: "World", node: NodeName, times: int, up_ms: float) -> None:
    name = where(world, node)
    for number in range(times):
        later(world, number * (up_ms + 50), partial(_end_daemon, world, name, 50, say_goodbye=False))


STEPS = (
    *("SaveBarred", "Transfer", "StartGroup", "StopGroup", "Extend", "RunFence", "CleanUp"),
    *("LeaseRequest", "LeaseAnswer", "ReleaseRequest", "ReleaseAnswer", "Heartbeat"),
    *("Barrier", "Join", "CleanedUp", "Grant", "Started", "StartFailed", "Released", "StopFailed", "Failed"),
    *("OwnerLost", "OwnerBack", "OrderFence", "FenceDone", "Retry", "ApplyConfig"),
)  # everything that hamaild does to the world around it


def _step(effect: fx.Effect) -> str:
    match effect:
        case fx.Send(_, message):
            return type(message).__name__
        case fx.Propose(_, command):
            return type(command).__name__
        case fx.Ask(request):
            return type(request).__name__
    return type(effect).__name__


def _draw_step(d: Dice) -> Parameters:
    return {"node": d.node(), "step": d.of(*STEPS), "done": d.share(0.5), "back_ms": d.of(50, 600, 3000)}


@processes.kind(1, 57, draw=_draw_step)
def die_at(world: "World", node: NodeName, step: str, done: bool, back_ms: float) -> None:
    """hamaild dies the next time that it is about to do something, or when it has just done it."""
    name = where(world, node)

    def strike(m: "Machine", effect: fx.Effect) -> bool:
        if m.name != name or _step(effect) != step:
            return False
        if done:
            later(world, 0, partial(_end_daemon, world, name, back_ms, say_goodbye=False))
        else:
            _end_daemon(world, name, back_ms, say_goodbye=False)
        return True

    world.failpoints.append(strike)


@processes.kind(1, draw=lambda d: {"back_ms": d.of(50, 600)})
def die_after_yes(world: "World", back_ms: float) -> None:
    """hamaild on the next voter that says that its promise has run out dies, and hears the owner again."""

    def die(name: NodeName) -> None:
        _end_daemon(world, name, back_ms, say_goodbye=False)
        for other, m in world.machines.items():
            if not m.witness and other != name:
                world.network.mend(name, other)

    def strike(m: "Machine", effect: fx.Effect) -> bool:
        said_yes = isinstance(effect, fx.Send) and isinstance(effect.message, ReleaseAnswer) and effect.message.yes
        if said_yes:
            later(world, 0, partial(die, m.name))
        return said_yes

    world.failpoints.append(strike)


@processes.kind(5, 56, draw=lambda d: {"node": d.node(), "for_ms": d.spell_ms()})
def hang_daemon(world: "World", node: NodeName, for_ms: float) -> None:
    m = machine(world, node)
    daemon = m.daemon
    if daemon is not None:
        world.remark(f"hamaild on {m.name} hangs")
        daemon.hung = True
        m.after_ms(for_ms, daemon.wake)


@processes.kind(49, draw=lambda d: {"node": d.node(), "stall_ms": d.brief_ms(), "times": d.of(5, 20)})
def starve(world: "World", node: NodeName, stall_ms: float, times: int) -> None:
    """It gets to run only now and then."""
    name = where(world, node)
    for number in range(times):
        later(world, number * (stall_ms + 60), partial(hang_daemon, world, name, stall_ms))


@processes.kind(1, draw=lambda d: {"node": d.mail_node(), "back_ms": d.back_ms()}, survived=STRONG)
def kill_executor(world: "World", node: NodeName, back_ms: float) -> None:
    m = machine(world, node)
    if m.executor is not None:
        world.remark(f"the executor on {m.name} is killed")
        m.end_executor()
        m.after_ms(back_ms, m.start_executor)


@processes.kind(48, draw=lambda d: {"node": d.mail_node(), "back_ms": d.back_ms()}, survived=STRONG)
def out_of_memory(world: "World", node: NodeName, back_ms: float) -> None:
    """Both processes of hamail and a service, at once."""
    name = where(world, node)
    executor = world.machines[name].executor
    if executor is not None:
        for group in sorted(executor.groups):
            executor.crash_resource(group, "dovecot")
    _end_daemon(world, name, back_ms, say_goodbye=False)
    kill_executor(world, name, back_ms / 2)


@processes.kind(6, draw=lambda d: {"node": d.mail_node(), "for_ms": d.spell_ms()}, survived=STRONG)
def pause_node(world: "World", node: NodeName, for_ms: float) -> None:
    """Everything on it stands still; its clock and its watchdog do not."""
    m = machine(world, node)
    world.remark(f"{m.name} stands still")
    m.pause()
    later(world, for_ms, m.resume)


@processes.kind(7, draw=lambda d: {"node": d.mail_node(), "for_ms": d.spell_ms()}, survived=FENCED)
def pause_guest(world: "World", node: NodeName, for_ms: float) -> None:
    """A virtual machine is paused: its clocks and its watchdog stand still with it."""
    m = machine(world, node)
    world.remark(f"{m.name}, a guest, stands still with its clocks")
    m.pause_guest()
    later(world, for_ms, m.resume)


def _draw_dog(d: Dice) -> Parameters:
    return {"node": d.of(*d.mail), "mood": str(d.of(Dog.LATE, Dog.DEAD)), "for_ms": 2 * d.spell_ms()}


@processes.kind(37, draw=_draw_dog, survived=FENCED)
def bad_watchdog(world: "World", node: NodeName, mood: str, for_ms: float) -> None:
    dog = world.machines[node].dog
    dog.mood = Dog(mood)
    world.remark(f"the watchdog of {node} {mood}")

    def replaced() -> None:
        dog.mood = Dog.WORKS

    later(world, for_ms, replaced)
