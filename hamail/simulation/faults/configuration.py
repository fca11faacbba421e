"""Configurations that are applied while things go wrong: good ones, and some that must be refused whole."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from hamail.model import commands as c
from hamail.model.ids import GroupName, NodeName
from hamail.model.spec import ClusterSpec
from hamail.simulation.faults.dice import Dice
from hamail.simulation.faults.fault import Catalogue, Parameters
from hamail.simulation.faults.operators import send

if TYPE_CHECKING:
    from hamail.simulation.world import World

configuration = Catalogue()


def _apply(world: "World", spec: ClusterSpec, revision: int) -> None:
    send(world, c.ApplyConfig(at_ms=world.wall_ms, spec=spec, source="", expected_revision=revision))


@configuration.kind(43, draw=lambda d: {"group": d.of(*d.groups), "device": d.rng.randrange(100)}, planned=True)
def change_device(world: "World", group: GroupName, device: int) -> None:
    """The group gets another device, so that every node must look once more what is left over."""
    state = world.state
    if group not in state.spec.groups:
        return
    changed = state.spec.groups[group]
    store, *rest = changed.resources
    store = replace(store, parameters={"device": f"/dev/{device}"})
    groups = {**state.spec.groups, group: replace(changed, resources=(store, *rest))}
    _apply(world, replace(state.spec, groups=groups), state.config.revision)


@configuration.kind(43, draw=lambda d: {"factor": d.of(0.5, 0.8, 1.0, 1.5, 2.0)}, planned=True)
def change_detection(world: "World", factor: float) -> None:
    """All durations change while leases run."""
    detection_ms = min(20_000, max(300, int(world.spec.detection_ms * factor)))
    _apply(world, replace(world.state.spec, detection_ms=detection_ms), world.state.config.revision)


def _draw_bad(d: Dice) -> Parameters:
    return {
        "how": d.of("another identity", "one node less", "one node more", "an old revision"),
        "node": d.of(*d.nodes),
    }


@configuration.kind(41, 43, draw=_draw_bad)
def bad_configuration(world: "World", how: str, node: NodeName) -> None:
    """None of these may ever be in force."""
    spec, revision = world.state.spec, world.state.config.revision
    if not revision or node not in spec.nodes:  # a log that lies may have let a stranger in
        return
    nodes = dict(spec.nodes)
    match how:
        case "another identity":
            nodes["stranger"] = replace(nodes.pop(node), name="stranger")
        case "one node less":
            del nodes[node]
        case "one node more":
            nodes["n9"] = replace(nodes[node], name="n9", address="192.0.2.99")
        case "an old revision":
            revision -= 1
    _apply(world, replace(spec, nodes=nodes), revision)


@configuration.kind(41, draw=lambda d: {"node": d.of(*d.nodes), "back_ms": d.spell_ms()})
def wrong_file(world: "World", node: NodeName, back_ms: float) -> None:
    """hamaild is started with the file of another cluster, until somebody puts that right."""
    m = world.machines[node]
    if m.daemon is None:
        return
    world.remark(f"hamaild on {node} is started with the file of another cluster")
    nodes = {**world.spec.nodes, "n9": replace(world.spec.nodes[node], name="n9", address="192.0.2.99")}
    m.end_daemon()
    right, world.spec = world.spec, replace(world.spec, nodes=nodes)
    try:
        m.start_daemon()
    finally:
        world.spec = right

    def righted() -> None:
        m.end_daemon()
        m.start_daemon()

    m.after_ms(back_ms, righted)
