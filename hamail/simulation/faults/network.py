"""Links between the nodes. Every fault of a link ends by itself after `for_ms`, or with `reconnect`."""

from functools import partial
from typing import TYPE_CHECKING

from hamail.model.ids import NodeName
from hamail.simulation.faults.dice import Dice
from hamail.simulation.faults.fault import Catalogue, Parameters
from hamail.simulation.faults.places import later, where

if TYPE_CHECKING:
    from hamail.simulation.world import World

network = Catalogue()


def _mended(world: "World", pairs: list[tuple[NodeName, NodeName]], for_ms: float) -> None:
    def mend() -> None:
        for a, b in pairs:
            world.network.mend(a, b)
        world.remark(f"mended: {', '.join(f'{a} - {b}' for a, b in pairs)}")

    later(world, for_ms, mend)


@network.kind(8, draw=lambda d: {"node": d.node(), "for_ms": d.spell_ms()})
def isolate(world: "World", node: NodeName, for_ms: float) -> None:
    name = where(world, node)
    world.remark(f"{name} is isolated")
    world.isolate(name)
    _mended(world, [(name, other) for other in world.machines if other != name], for_ms)


@network.kind(8, draw=lambda d: {"for_ms": d.spell_ms()})
def isolate_all(world: "World", for_ms: float) -> None:
    """Each for itself: no majority anywhere."""
    names = list(world.machines)
    world.remark("every node is isolated")
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    for a, b in pairs:
        world.network.cut(a, b)
    _mended(world, pairs, for_ms)


@network.kind(9, draw=lambda d: {"pair": list(d.two()), "for_ms": d.spell_ms()})
def break_link(world: "World", pair: list[NodeName], for_ms: float) -> None:
    """The two do not hear each other; both hear the rest."""
    a, b = pair
    world.remark(f"the link {a} - {b} breaks")
    world.network.cut(a, b)
    _mended(world, [(a, b)], for_ms)


@network.kind(9, draw=lambda d: {"for_ms": d.spell_ms()})
def mail_nodes_apart(world: "World", for_ms: float) -> None:
    mail = [n for n, m in world.machines.items() if not m.witness]
    break_link(world, [where(world, "owner"), next(n for n in mail if n != where(world, "owner"))], for_ms)


@network.kind(10, 17, draw=lambda d: {"pair": list(d.two()), "for_ms": d.spell_ms()})
def one_way(world: "World", pair: list[NodeName], for_ms: float) -> None:
    """As with a connection that is half open: one end sends, the other hears nothing."""
    a, b = pair
    world.remark(f"nothing from {a} reaches {b}")
    world.network.block(a, b)
    _mended(world, [(a, b)], for_ms)


@network.kind(10, draw=lambda d: {"node": d.node(), "deaf": d.share(0.5), "for_ms": d.spell_ms()})
def deaf_or_dumb(world: "World", node: NodeName, deaf: bool, for_ms: float) -> None:
    name = where(world, node)
    world.remark(f"{name} hears nothing" if deaf else f"nobody hears {name}")
    others = [n for n in world.machines if n != name]
    for other in others:
        world.network.block(*((other, name) if deaf else (name, other)))
    _mended(world, [(name, other) for other in others], for_ms)


@network.kind(11, draw=lambda d: {"for_ms": d.spell_ms()})
def ring(world: "World", for_ms: float) -> None:
    """Each node is heard by the next one only: every one sees another part of the cluster."""
    names = list(world.machines)
    world.remark("a ring: each node is heard by the next one only")
    pairs = [(a, b) for i, a in enumerate(names) for b in names if b not in (a, names[(i + 1) % len(names)])]
    for a, b in pairs:
        world.network.block(a, b)
    _mended(world, pairs, for_ms)


def _draw_flap(d: Dice) -> Parameters:
    period = d.of(50, 200, d.t.detection_ms, d.t.lease_ms, 2 * d.t.lease_ms)
    return {"pair": list(d.two()), "period_ms": period, "times": d.of(3, 8, 20) if period < 1000 else 3}


@network.kind(12, draw=_draw_flap)
def flap(world: "World", pair: list[NodeName], period_ms: float, times: int) -> None:
    a, b = pair
    world.remark(f"the link {a} - {b} flaps every {period_ms:g} ms")
    for number in range(times):
        later(world, number * period_ms, partial(world.network.cut, a, b))
        later(world, (number + 0.5) * period_ms, partial(world.network.mend, a, b))


@network.kind(13, 38, draw=lambda d: {"pair": list(d.two()), "by_ms": d.brief_ms(), "for_ms": d.spell_ms()})
def slow(world: "World", pair: list[NodeName], by_ms: float, for_ms: float) -> None:
    a, b = pair
    world.remark(f"from {a} to {b} it takes {by_ms:g} ms longer")
    world.network.slow_ms[a, b] = by_ms

    def over() -> None:
        world.network.slow_ms.pop((a, b), None)

    later(world, for_ms, over)


@network.kind(13, draw=lambda d: {"node": d.node(), "by_ms": d.brief_ms(), "for_ms": d.spell_ms()})
def slow_answers(world: "World", node: NodeName, by_ms: float, for_ms: float) -> None:
    """Everything that is sent to one node arrives late."""
    name = where(world, node)
    for other in world.machines:
        if other != name:
            slow(world, [other, name], by_ms, for_ms)


def _draw_quorum(d: Dice) -> Parameters:
    return {"group": d.of(*d.groups), "after_ms": d.of(0, 20, 150, 600, 2000), "for_ms": d.spell_ms()}


@network.kind(39, draw=_draw_quorum)
def quorum_lost_in_a_move(world: "World", group: str, after_ms: float, for_ms: float) -> None:
    """A move is ordered, and at some point of it nobody hears anybody for a while."""
    from hamail.simulation.faults.operators import switchover

    switchover(world, group, "standby")
    later(world, after_ms, lambda: isolate_all(world, for_ms))


@network.kind(12, draw=lambda d: {})
def reconnect(world: "World") -> None:
    world.remark("all links are well")
    world.network.heal()


def _draw_noise(d: Dice) -> Parameters:
    return {
        "pair": list(d.two()),
        "loss": d.of(0.01, 0.1, 0.3),
        "jitter_ms": d.of(0, 20, 300),
        "breaks_ms": d.of(0, 300, 3000),
        "for_ms": 2 * d.spell_ms(),
    }


@network.kind(13, 17, draw=_draw_noise)
def noisy_link(
    world: "World", pair: list[NodeName], loss: float, jitter_ms: float, breaks_ms: float, for_ms: float
) -> None:
    """Packets are lost and late; connections break and are dialled again."""
    a, b = pair
    world.remark(f"the link {a} - {b} is noisy")
    for way in ((a, b), (b, a)):
        world.network.loss[way] = loss
        if jitter_ms:
            world.network.jitter_ms[way] = jitter_ms
        if breaks_ms:
            world.network.flap_ms[way] = breaks_ms

    def over() -> None:
        for way in ((a, b), (b, a)):
            for noise in (world.network.loss, world.network.jitter_ms, world.network.flap_ms):
                noise.pop(way, None)

    later(world, for_ms, over)


@network.kind(17, draw=lambda d: {"node": d.node()})
def drop_connections(world: "World", node: NodeName) -> None:
    """All connections of a node break at once."""
    name = where(world, node)
    for other in world.machines:
        if other != name:
            world.network.drop(name, other)
            world.network.drop(other, name)
