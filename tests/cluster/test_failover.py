"""The active node is lost in one way or another: the other takes over, and only when the first is surely out."""

import time

import pytest

from tests.cluster.foretold import foretell
from tests.cluster.world import MASTER_PID, World
from tests.lab.cluster import NODES, WITNESS
from tests.lab.image import POSTFIX_UNIT
from tests.lab.instruments import other
from tests.lab.pdu import Mode
from tests.lab.probe import outage

LEASE_S = 5.0  # with detection = 1s: see hamailctl timing
WATCHDOG_S = 5.0
SLACK_S = 1.5  # two cores that also run everything else


def cut_off(world: World) -> tuple[str, str]:
    """(active, standby) at the beginning of a test."""
    active = world.active
    return active, other(active)


def test_power_cut(world: World) -> None:
    active, standby = cut_off(world)
    told = foretell(world, f"node-down={active}")
    with world.probing("power-cut") as probe:
        fault_ns = time.monotonic_ns()
        world.lab.cut(active)
        world.until_active(standby)
        assert probe.wait_until_up(("smtp", "imap"), 5), "clients are not served"
    print(f"SMTP outage {outage(probe.stop(), 'smtp', fault_ns).ms:.0f} ms")
    move = world.moves()[-1]
    assert (move["source"], move["target"], move["trigger"], move["result"]) == (active, standby, "node lost", "done")
    world.until_told(f"{active} is off: .*(fenced.*pdu|pdu.*fenced)")
    told.came_true(world)
    world.until(lambda: "first answer" in world.moves()[-1]["stamps"], 5, "the history has the first answer, too")
    timeline = world.ctl(standby, f"history {move['id']}").stdout
    for point in ("detected", "decided", "fenced", "storage", "services", "address", "first answer"):
        assert point in timeline
    # The distribution's own tools tell the truth.
    for unit in (POSTFIX_UNIT, "dovecot.service"):
        assert world.nodes[standby].run(f"systemctl is-active {unit}").stdout.strip() == "active"
    world.lab.on(active)
    world.wait_healthy(30)
    assert world.active == standby, "nothing moves back by itself"
    for unit in (POSTFIX_UNIT, "dovecot.service"):
        assert world.nodes[active].run(f"systemctl is-active {unit}", check=False).stdout.strip() == "inactive"


def test_switchover_and_back(world: World) -> None:
    active, standby = cut_off(world)
    generations = {name: node.generation for name, node in world.nodes.items()}
    for source, target in ((active, standby), (standby, active)):
        told = foretell(world, f"switchover=mail@{target}", by=source)
        done = world.ctl(source, f"switchover mail --to {target} --reason 'kernel update' --yes")
        told.came_true(world)
        assert f"mail is active on {target}" in done.stdout
        assert world.active == target
        assert not world.holds(source)
    assert [m["result"] for m in world.moves()] == ["done", "done"]
    assert [m["reason"] for m in world.moves()] == ["kernel update", "kernel update"]
    assert world.moves()[0]["actor"].startswith("root")
    assert generations == {name: node.generation for name, node in world.nodes.items()}, "nobody was fenced"


def test_services_are_restarted_in_place_and_the_fourth_crash_moves_the_group(world: World) -> None:
    active, standby = cut_off(world)
    epoch = world.epoch()
    node = world.nodes[active]

    def crash(name: str, pid: str) -> None:
        """`pid`: the command that prints the master's."""
        count = world.told().count(f"{name} failed")
        before = node.run(f"{pid}").stdout
        node.run(f"kill -9 {before}")
        world.until(lambda: world.told().count(f"{name} failed") > count, 5, f"{name} is restarted")
        world.until(lambda: world.group(active)["resources"][name] == "up", 5, f"{name} up")
        assert node.run(f"{pid}").stdout.strip() not in ("", "0", before.strip())

    crash("dovecot", "systemctl show -P MainPID dovecot.service")
    for _ in range(3):
        crash("postfix", f"cat {MASTER_PID}")
        assert (world.active, world.epoch()) == (active, epoch)
    world.until_told("postfix failed .*restarted in place")
    world.until_told("dovecot failed .*restarted in place")
    told = foretell(world, "resource-failed=mail/postfix")
    node.run(f"kill -9 $(cat {MASTER_PID})")
    world.until_active(standby)
    told.came_true(world)
    move = world.moves()[-1]
    assert (move["trigger"], move["result"]) == ("service failed", "done")
    assert "restarted 3 times" in world.told()
    assert node.powered, "a clean stop needs no fence"
    world.ctl(standby, "clear mail")


def test_silent_partition_of_the_active_node(world: World) -> None:
    active, standby = cut_off(world)
    generation = world.nodes[active].generation
    told = foretell(world, f"node-cut-off={active}")
    world.lab.isolate(active)
    world.until_active(standby)
    told.came_true(world)
    world.until_told(f"{active} is off: .*(fenced.*pdu|pdu.*fenced)")
    assert not world.nodes[active].powered
    epoch = world.epoch()
    world.lab.heal()
    world.lab.on(active)
    assert world.nodes[active].generation == generation + 1
    world.wait_healthy(30)
    assert (world.active, world.epoch()) == (standby, epoch), "the old one comes back as a standby"


def test_quorum_lost_and_regained(world: World) -> None:
    """The rest of the cluster dies: nobody can promise a lease any more, so the active node stops by itself."""
    active, standby = cut_off(world)
    told = foretell(world, f"node-down={WITNESS}", f"node-down={standby}", by=active)
    world.lab.cut(WITNESS)
    world.lab.cut(standby)
    started_s = time.monotonic()
    world.until(lambda: not world.holds(active), LEASE_S + SLACK_S, "the dead-man's switch has stopped the group")
    assert time.monotonic() - started_s > 1, "not at the first missed heartbeat"
    assert world.nodes[active].powered, "stopped, not reset"
    assert "dead-man's switch" in world.journal(active, "hamail-executor")
    status = world.status(active)
    assert status is not None and not status["quorum"]
    told.stays_down(world)
    world.lab.on(WITNESS)
    world.until(lambda: world.view(WITNESS, active).get("alive"), 10, "the witness is heard again")
    world.until_active(active, 15)  # it needs nobody else once there is a majority


def test_no_fence_no_takeover(world: World) -> None:
    """The PDU refuses, then hangs: the group stays down until the fence is real, or an operator says so."""
    active, standby = cut_off(world)
    told = foretell(world, "fence-fails=pdu", f"node-down={active}")
    world.lab.pdu_mode = Mode.FAIL
    world.lab.cut(active)
    world.until_told("(?i)fencing .* with pdu failed")
    told.stays_down(world)
    world.never(lambda: world.holds(standby), 2, "started without a fence")
    assert world.group()["phase"] == "fencing"
    assert "must be fenced" in world.why()
    refused = world.ctl(standby, f"fence confirm {active} --i-know-it-is-off {standby}", code=2)
    assert "nothing was confirmed" in refused.stderr
    assert not world.holds(standby)
    world.ctl(standby, f"fence confirm {active} --i-know-it-is-off {active} --reason 'cable pulled'")
    world.until_active(standby)
    assert "an operator" in world.told() or "confirmed" in world.told()
    confirmed = [e for e in world.events() if e["actor"].startswith("root")]
    assert confirmed, "the audit trail says who"


def test_hanging_fence_device(world: World) -> None:
    active, standby = cut_off(world)
    world.lab.pdu_mode = Mode.HANG
    world.lab.cut(active)
    world.until(lambda: world.group()["phase"] == "fencing", 5, "the fence is ordered")
    world.never(lambda: world.holds(standby), 3, "started without a fence")
    world.ctl(standby, f"fence confirm {active} --i-know-it-is-off {active}")
    world.until_active(standby)


def test_lying_fence_device(world: World) -> None:
    """It acknowledges `off` and cuts nothing: the fence counts as failed, and the live node is left alone with it."""
    active, standby = cut_off(world)
    epoch = world.epoch()
    world.lab.pdu_mode = Mode.LIE
    world.lab.isolate(active)
    world.until_told("(?i)fencing .* with pdu failed", 15)
    assert world.nodes[active].powered
    assert not world.holds(standby)
    # The cut-off node has no lease any more and stops by itself; even so nobody takes over without a fence.
    world.until(lambda: not world.holds(active), LEASE_S + SLACK_S, "the dead-man's switch has stopped the group")
    world.never(lambda: world.holds(standby), 1, "started without a fence")
    world.lab.heal()
    world.until(lambda: world.active, 20, "it has said that it holds nothing, so the group may start again")
    assert world.epoch() > epoch


def test_cold_start_of_the_whole_cluster(world: World) -> None:
    for name in NODES:
        world.lab.cut(name)
    started_s = time.monotonic()
    world.lab.all_on()
    world.wait_healthy(40)
    print(f"healthy {time.monotonic() - started_s:.1f} s after the power came back")


def test_target_that_cannot_start_sends_the_group_back(world: World) -> None:
    active, standby = cut_off(world)
    node = world.nodes[standby]
    node.run("cp /etc/dovecot/dovecot.conf /root/; echo 'no such setting' >>/etc/dovecot/dovecot.conf")
    told = foretell(world, f"switchover=mail@{standby}", f"resource-failed=mail/dovecot@{standby}")
    try:
        failed = world.ctl(active, f"switchover mail --to {standby} --yes", code=1)
        told.came_true(world)
        assert "rolled back" in failed.stderr
        assert world.active == active
        assert "dovecot" in world.told()
        assert world.moves()[0]["result"] == "rolled back"
        assert not world.holds(standby)
    finally:
        node.run("cp /root/dovecot.conf /etc/dovecot/dovecot.conf")
    world.ctl(active, "clear mail")


@pytest.mark.parametrize("holder", ["open file", "another namespace"])
def test_busy_storage(world: World, holder: str) -> None:
    """A process that sits on the mail store is ended; a mount that cannot be taken away is fenced."""
    active, standby = cut_off(world)
    node = world.nodes[active]
    sit = "trap '' TERM HUP INT; cd /srv/mail; exec 3>>/srv/mail/held; while :; do sleep 1; done"
    inside = ["unshare", "-m", "--propagation", "private"] if holder == "another namespace" else []
    command = "sleep 1000" if inside else sit
    node.run(["sh", "-c", 'setsid "$@" >/dev/null 2>&1 </dev/null &', "-", *inside, "sh", "-c", command])
    time.sleep(0.2)
    generation = node.generation
    told = foretell(world, f"switchover=mail@{standby}", *(["stop-fails=mail"] if inside else []))
    world.ctl(standby, f"switchover mail --to {standby} --yes", timeout_s=40)
    assert world.active == standby
    told.came_true(world)
    if inside:
        assert not node.powered
        assert "mounted in another mount namespace" in world.told()
        world.until_told("counts as still running")
    else:
        assert node.powered and node.generation == generation
