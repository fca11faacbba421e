"""hamail's own processes die or hang: the dead-man's switch and the watchdog, seen from outside."""

import time

from tests.cluster.world import World
from tests.lab.cluster import WITNESS
from tests.lab.instruments import other
from tests.lab.pdu import Mode

LEASE_S = 5.0  # with detection = 1s: see hamailctl timing
WATCHDOG_S = 5.0
SLACK_S = 1.5


def test_kill_of_hamaild(world: World) -> None:
    """It is back within the lease: whether it is missed meanwhile or not, mail is served and never twice."""
    active = world.active
    before = world.main_pid(active, "hamaild")
    world.nodes[active].run(f"kill -9 {before}")
    started_s = time.monotonic()

    def settled() -> bool:
        if world.active == other(active):
            return True
        well = world.status(active) and world.view(active, WITNESS).get("alive") and world.active == active
        return bool(well) and time.monotonic() - started_s > 1.5

    world.until(settled, 10, "kept, or taken over")
    print("kept its group" if world.active == active else "was fenced")
    assert world.holds(world.active)


def test_kill_of_the_executor(world: World) -> None:
    """Nobody watches the services any more: a new executor is a new life, which first stops what it finds."""
    active = world.active
    epoch, node = world.epoch(), world.nodes[active]
    before = world.main_pid(active, "hamail-executor")
    node.run(f"kill -9 {before}")
    world.until(lambda: world.main_pid(active, "hamail-executor") not in (0, before), 5, "restarted by systemd")
    world.until(lambda: world.active and world.epoch() > epoch, 15, "the group is granted anew")
    assert node.powered, "the new executor fed the watchdog in time"
    assert "leftovers" in world.journal(active, "hamail-executor")


def test_stop_of_the_executor(world: World) -> None:
    active = world.active
    standby = other(active)
    node = world.nodes[active]
    node.run("systemctl stop hamail-executor")
    assert not world.holds(active), "a stop of the executor stops what it holds, and verifies that"
    world.until_active(standby, 15)
    assert node.powered
    time.sleep(WATCHDOG_S / 5)
    node.run("systemctl start hamail-executor")
    world.wait_healthy(15)
    assert world.active == standby


def test_hung_hamaild_is_stopped_by_the_dead_man_s_switch(world: World) -> None:
    """With a PDU that refuses, nothing but the switch can take the group away in time."""
    active = world.active
    node = world.nodes[active]
    world.lab.pdu_mode = Mode.FAIL
    hung = world.main_pid(active, "hamaild")
    node.run(f"kill -STOP {hung}")
    stopped_s = world.until(lambda: not world.holds(active), LEASE_S + SLACK_S, "stopped inside the lease")
    print(f"everything was stopped {stopped_s:.1f} s after the hang")
    assert "dead-man's switch" in world.journal(active, "hamail-executor")
    assert node.powered
    world.never(lambda: world.holds(other(active)), 0.5, "started elsewhere without a fence")
    world.until(lambda: world.active, 20, "systemd ends the hung hamaild, and the group starts again")


def test_hung_node_is_reset_by_its_watchdog(world: World) -> None:
    """hamaild and the executor hang together, and no fence works: the last line of defence."""
    active = world.active
    node = world.nodes[active]
    generation, epoch = node.generation, world.epoch()
    world.lab.pdu_mode = Mode.FAIL
    pids = [world.main_pid(active, unit) for unit in ("hamaild", "hamail-executor")]
    # systemd would end the hung ones itself; here it hangs as well.
    node.run(f"kill -STOP {' '.join(map(str, pids))}")
    node.freeze()
    reset_s = world.until(lambda: node.generation > generation, WATCHDOG_S + SLACK_S, "reset by the watchdog")
    print(f"reset {reset_s:.1f} s after the hang")
    assert "watchdog expired" in node.log.read_text()
    world.until(lambda: world.active and world.epoch() > epoch, 30, "the group is started under a new epoch")


def test_frozen_node_is_fenced(world: World) -> None:
    active = world.active
    world.lab.freeze(active)
    world.until_active(other(active))
    assert not world.nodes[active].powered
    world.lab.thaw(active)


def test_loss_soon_after_a_fence_that_failed_is_fenced_at_once(world: World) -> None:
    """The pause between attempts belongs to the case that failed: the node said that it stopped, which ended that."""
    active = world.active
    world.lab.pdu_mode = Mode.FAIL
    world.lab.isolate(active)
    world.until_told("(?i)fencing .* with pdu failed")
    world.until(lambda: not world.holds(active), LEASE_S + SLACK_S, "the dead-man's switch has stopped the group")
    world.lab.heal()
    world.lab.pdu_mode = Mode.OK
    world.until(lambda: world.active, 10, "active again")
    again = world.active
    world.lab.cut(again)
    world.until_active(other(again), 5)


def test_node_that_was_paused_beyond_its_lease_and_could_not_be_fenced(world: World) -> None:
    """As when a hypervisor pauses a guest: its clock of processes and its watchdog stop together."""
    active = world.active
    node, epoch = world.nodes[active], world.epoch()
    generation = node.generation
    world.lab.pdu_mode = Mode.FAIL
    world.lab.freeze(active, pause_watchdog=True)
    world.never(lambda: world.holds(other(active)), LEASE_S + SLACK_S, "started elsewhere without a fence")
    world.lab.thaw(active)
    # The first thing that it does is to stop; where systemd ends the stalled executor, the next one does it at once.
    world.until(lambda: not world.holds(active), WATCHDOG_S + SLACK_S, "stopped, or else reset by the watchdog")
    world.until(lambda: world.active and world.epoch() > epoch, 20, "and only then the group is granted anew")
    assert "dead-man's switch" in world.journal(active, "hamail-executor") or node.generation > generation
