"""Faults that are no reason to move: clients notice nothing, nobody is fenced, the epoch stays."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.world import World
from tests.lab.cluster import WITNESS
from tests.lab.instruments import other
from tests.lab.probe import outage

HOLD_S = 2.0  # twice the detection time
GAP_MS = 150.0  # between two greetings; the probe asks every 10 ms on a machine that is busy with much else


@contextmanager
def undisturbed(world: World, name: str) -> Iterator[str]:
    """Gives the active node's name; afterwards it must still be that, as if nothing had happened."""
    active, epoch = world.active, world.epoch()
    generations = {node: world.nodes[node].generation for node in (active, other(active))}
    with world.probing(name) as probe:
        fault_ns = time.monotonic_ns()
        yield active
        time.sleep(0.3)
        attempts = probe.stop()
    failed = [a for a in attempts if not a.ok]
    assert not failed, f"clients have seen {len(failed)} failures, the first: {failed[0]}"
    for service in ("smtp", "imap"):
        assert outage(attempts, service, fault_ns).ms < GAP_MS
    assert (world.active, world.epoch()) == (active, epoch)
    assert not world.moves()
    assert generations == {node: world.nodes[node].generation for node in generations}, "somebody was fenced"
    assert all(world.nodes[node].powered for node in generations)


def test_partition_of_the_standby(world: World) -> None:
    with undisturbed(world, "standby") as active:
        standby = other(active)
        world.lab.isolate(standby)
        world.until(lambda: world.view(standby, active)["suspected"], 3, "the standby is missed")
        time.sleep(HOLD_S)
        assert {"no-standby mail", f"node-not-heard {standby}"} <= world.alerts(active)
        cut_off = world.status(standby)
        assert cut_off is not None and not cut_off["quorum"]
        world.lab.heal()
        world.wait_healthy(20)


def test_link_between_the_mail_nodes_cut_while_both_hear_the_witness(world: World) -> None:
    with undisturbed(world, "link") as active:
        standby = other(active)
        world.lab.partition(active, standby)
        world.until(lambda: not world.view(active, standby)["alive"], 3, "the standby does not hear the active node")
        world.never(lambda: world.view(active, standby)["suspected"], HOLD_S, "one bad link is no death")
        told = {f"link-broken {'-'.join(sorted((active, standby)))}"}
        world.until(lambda: world.alerts(WITNESS) == told, 12, "the witness tells of a link that is not its own")
        assert told <= world.alerts(active) and told <= world.alerts(standby)
        world.lab.heal()


def test_one_way_loss_towards_the_standby(world: World) -> None:
    with undisturbed(world, "one-way") as active:
        world.lab.drop(active, other(active))
        time.sleep(HOLD_S)
        world.lab.heal()


def test_witness_off_and_a_switchover_without_it(world: World) -> None:
    with undisturbed(world, "witness") as active:
        world.lab.cut(WITNESS)
        world.until(lambda: not world.view(WITNESS, active)["alive"], 3, "the witness is missed")
        time.sleep(HOLD_S)
        assert world.alerts(active) == {f"witness-lost {WITNESS}"}
    standby = other(active)
    world.ctl(active, f"switchover mail --to {standby} --yes")
    assert world.active == standby
    world.ctl(standby, f"switchover mail --to {active} --yes")
    assert world.active == active


def test_restart_of_hamaild_on_every_node(world: World) -> None:
    """An upgrade: the executor holds the group meanwhile, and whoever coordinates hands over."""
    with undisturbed(world, "hamaild") as active:
        for name in (active, WITNESS, other(active)):
            before = world.main_pid(name, "hamaild")
            world.nodes[name].run("systemctl restart hamaild")
            assert world.main_pid(name, "hamaild") not in (0, before)
            world.wait_healthy(15)


def test_frozen_standby(world: World) -> None:
    with undisturbed(world, "frozen") as active:
        world.lab.freeze(other(active), pause_watchdog=True)
        time.sleep(HOLD_S)
        world.lab.thaw(other(active))
        world.wait_healthy(20)
