"""Bans and maintenance with an end, on real nodes: the group moves in order, and is looked after again by itself."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.world import MASTER_PID, World
from tests.lab.cluster import WITNESS
from tests.lab.instruments import other


def test_a_ban_moves_the_group_and_ends_by_itself(world: World) -> None:
    active = world.active
    standby = other(active)
    refused = world.ctl(active, f"ban mail {active}", code=2)
    assert "--for" in refused.stderr
    world.ctl(standby, f"ban mail {active} --for 8s --reason 'its disk is slow' --yes")
    assert world.active == standby
    refused = world.ctl(standby, f"switchover mail --to {active} --yes", code=3)
    assert "has banned mail from it until" in refused.stdout + refused.stderr
    group = (world.status(WITNESS) or {})["groups"][0]
    assert group["policy"]["bans"][active]["reason"] == "its disk is slow"

    def free() -> bool:
        return not (world.status(standby) or {})["groups"][0]["policy"]["bans"]

    world.until(free, 20, "the end of the ban")
    assert world.active == standby, "nothing moves back by itself"


def test_maintenance_of_a_group_leaves_a_dead_service_alone(world: World) -> None:
    active, epoch = world.active, world.epoch()

    def postfix() -> str:
        return str((world.status(active) or {})["groups"][0]["resources"]["postfix"])

    world.ctl(active, "maintenance on --group mail --for 10m --reason 'new version'")
    world.nodes[active].run("pkill -9 -x master")
    world.until(lambda: postfix() == "failed", 20, "the failure is seen")
    world.never(lambda: postfix() != "failed", 3.0, "repaired in spite of maintenance")
    told = world.ctl(active, "maintenance off --group mail --dry-run")
    assert f"postfix is failed on {active}" in told.stdout
    world.ctl(active, "maintenance off --group mail --yes")
    world.until(lambda: postfix() == "up", 20, "repaired after maintenance")
    assert (world.active, world.epoch()) == (active, epoch)


ONE_RETURN_S = 5.0  # what comes closer together counts as one return


@contextmanager
def policy(world: World, **lines: str) -> Iterator[None]:
    """With these lines of the failure policy; afterwards with those of the lab, and nothing is left of what counted."""
    source = world.source()
    changed = source
    for key, value in lines.items():
        section = "cluster" if key == "quarantine" else "groups.mail"
        without = re.sub(rf"(?m)^{key} = .*\n", "", changed)
        changed = without.replace(f"[{section}]\n", f'[{section}]\n{key} = "{value}"\n', 1)
    world.apply(changed)
    try:
        yield
    finally:
        world.lab.restore()
        world.ctl(WITNESS, "clear mail")
        world.wait_healthy(30)
        world.apply(source)
        for node in world.nodes:
            world.ctl(WITNESS, f"quarantine --clear {node}", code=None)


def die_and_return(world: World, node: str) -> float:
    """The power of a mail node goes, the others miss it, it comes back. When it had joined again."""
    world.lab.cut(node)
    world.until(lambda: world.view(node, WITNESS).get("suspected"), 5, f"{node} is missed")
    world.until_active(other(node))
    world.lab.on(node)

    def back() -> bool:
        view = world.view(node, WITNESS)
        return bool(view) and view["joined"] and view["ready"] and not view["suspected"]

    world.until(back, 15, f"{node} is back")
    return time.monotonic()


def quarantined(world: World, node: str) -> dict:
    listed = json.loads(world.ctl(WITNESS, "quarantine --json").stdout)
    return next(n["quarantine"] for n in listed["nodes"] if n["node"] == node) or {}


def kill_postfix(world: World, node: str) -> None:
    world.nodes[node].run(f"kill -9 $(cat {MASTER_PID})")


def test_a_node_that_flaps_is_given_nothing_until_it_is_trusted_again(world: World) -> None:
    flapping = world.active
    steady = other(flapping)
    with policy(world, quarantine="2 in 10m", restarts="0 in 10m"):
        returned_s = die_and_return(world, flapping)
        assert not quarantined(world, flapping), "once is what nodes are for"
        time.sleep(max(0.0, returned_s + ONE_RETURN_S - time.monotonic()))
        die_and_return(world, flapping)
        told = world.until_told(f"{flapping} is in quarantine until [^.]*")
        assert "it was lost and came back 2 times within 10 min" in told
        assert quarantined(world, flapping)["reason"] in told
        shown = world.ctl(steady, "status", code=None).stdout
        assert f"{flapping} is in quarantine" in shown or "quarantine" in shown
        assert f"{flapping} could not take over: it is in quarantine" in world.why()
        refused = world.ctl(steady, f"switchover mail --to {flapping} --yes", code=3)
        assert f"hamailctl quarantine --clear {flapping}" in refused.stdout + refused.stderr
        epoch = world.epoch()
        kill_postfix(world, steady)
        world.until_told(f"postfix failed on {steady} and was restarted in place", 10)
        assert (world.active, world.epoch()) == (steady, epoch), (
            "a failed service moves nothing to a node in quarantine"
        )
        world.ctl(WITNESS, f"quarantine --clear {flapping} --reason 'new cable'")
        assert f"{flapping} could take over" in world.why()
        world.ctl(steady, f"switchover mail --to {flapping} --yes")
        assert world.active == flapping


def test_used_up_failovers_keep_a_failed_service_and_a_group_that_its_nodes_die_of(world: World) -> None:
    first = world.active
    second = other(first)
    with policy(world, failovers="1 in 15m", restarts="0 in 10m"):
        kill_postfix(world, first)
        world.until_active(second)
        spent = "mail has used up its failovers \\(1 in 15 min, until [^)]*\\)"
        world.until_told(f"{spent}: no failed service moves it before then")
        assert re.search(f"{spent}: it moves for no failed service before then", world.why())
        budget = world.group(WITNESS)["policy"]["failovers"][0]
        assert (budget["allowed"], budget["used"]) == ("1 in 15m", 1)
        epoch = world.epoch()
        kill_postfix(world, second)
        world.until_told("mail stays on .* although postfix fails there")
        world.until_told(f"postfix failed on {second} and was restarted in place", 10)
        assert (world.active, world.epoch()) == (second, epoch), "it does not bounce"
        # A lost node is failed over at once: that Postfix has failed on the other one is another cause.
        die_and_return(world, second)
        # Now that one is lost as well: something may be killing whoever has mail.
        world.lab.cut(first)
        world.until(lambda: world.group(WITNESS)["phase"] == "idle", 10, "it waits")
        why = world.why(WITNESS)
        assert re.search(f"{second}: it was itself lost .* ago, and {spent}", why), why
        waits = "mail waits, for it moved too often; next try in 1[0-9]{2} s"
        world.until(lambda: re.search(waits, world.why(WITNESS)), 5, "why tells when it is tried")
        world.never(lambda: world.holds(second), 2.0, "tried at once although it bounces")
        world.ctl(second, "clear mail")
        world.until_active(second)
