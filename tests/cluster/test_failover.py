"""Faults on a running cluster under mail load. Judged from outside: the kernel's evidence and the mail oracle.

Whatever happens, no two nodes are ever active at once and no acknowledged message is lost (`whole_story`).
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import instruments, mail, moves
from tests.lab.evidence import by_component
from tests.lab.instruments import other
from tests.lab.lab import Lab
from tests.lab.pdu import Mode

BUILD = Path(__file__).resolve().parents[2] / "build"
MAIL_RATE = 10.0
BACK_S = 30.0
QUIET_S = 4.0  # longer than every time out of the default settings that could start a move
MASTER_PID = "/srv/mail/queue/pid/master.pid"


@pytest.fixture
def whole_story(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Mail flows and the kernel is watched during the test; then the two promises are checked."""
    name = request.node.name.removeprefix("test_")
    recorder = instruments.recorder(lab, BUILD / f"evidence-test-{name}.jsonl")
    load = instruments.mail_load(lab, BUILD / f"mail-test-{name}.jsonl", MAIL_RATE)
    with recorder, load:
        time.sleep(0.5)
        yield lab
        lab.restore()
        active = lab.wait_healthy()
        judged = mail.verdict(load, load.stop(), lambda script: lab.run(active, script).stdout)
        evidence = recorder.stop()
    assert evidence.double_active_ms() == 0, by_component(evidence)
    assert evidence.conclusive()
    assert judged.acknowledged, "no mail was acknowledged in the whole test"
    assert judged.passed, judged


def until_active(lab: Lab, node: str, timeout_s: float = BACK_S) -> float:
    """Wait until `node` says that it runs the group; how long that took."""
    started = time.monotonic()
    while True:
        status = lab.status(node) or {"groups": []}
        if any(group["owner"] == node and group["phase"] == "active" for group in status["groups"]):
            return time.monotonic() - started
        assert time.monotonic() - started < timeout_s, f"{node} is not active after {timeout_s} s: {status['groups']}"
        time.sleep(0.1)


def quiet(lab: Lab, before: int, seconds: float = QUIET_S) -> None:
    """Nothing moves."""
    time.sleep(seconds)
    assert not moves.since(lab, before)


def test_power_cut_of_the_active_node(whole_story: Lab) -> None:
    lab, active = whole_story, whole_story.active()
    lab.cut(active)
    until_active(lab, other(active))
    lab.on(active)
    assert lab.wait_healthy() == other(active), "no failback by itself"


def test_planned_switchover_there_and_back(whole_story: Lab) -> None:
    lab, active = whole_story, whole_story.active()
    moves.switchover(lab, active, other(active))
    until_active(lab, other(active))
    moves.switchover(lab, other(active), active)
    until_active(lab, active)
    assert all(node.powered for node in lab.nodes.values()), "nobody was fenced"


def test_killed_postfix_is_restarted_where_it_is(whole_story: Lab) -> None:
    lab, active = whole_story, whole_story.active()
    before = moves.latest(lab)
    old = lab.run(active, f"cat {MASTER_PID}").stdout.strip()
    lab.run(active, f"kill -9 {old}")
    quiet(lab, before)
    assert lab.wait_healthy() == active
    assert lab.run(active, f"cat {MASTER_PID}").stdout.strip() != old


def test_silent_partition_of_the_active_node(whole_story: Lab) -> None:
    lab, active = whole_story, whole_story.active()
    lab.isolate(active)
    until_active(lab, other(active))


def test_partition_of_the_standby_moves_nothing(whole_story: Lab) -> None:
    lab, active = whole_story, whole_story.active()
    before = moves.latest(lab)
    lab.isolate(other(active))
    quiet(lab, before)
    lab.heal()
    assert lab.wait_healthy() == active


def test_broken_link_between_the_mail_nodes_moves_nothing(whole_story: Lab) -> None:
    lab, active = whole_story, whole_story.active()
    before = moves.latest(lab)
    lab.partition("n1", "n2")
    quiet(lab, before)
    lab.heal()
    assert lab.wait_healthy() == active


def test_lost_witness_moves_nothing(whole_story: Lab) -> None:
    lab, active = whole_story, whole_story.active()
    before = moves.latest(lab)
    lab.cut("n3")
    quiet(lab, before)
    assert lab.active() == active


def test_lost_quorum_stops_the_group_and_it_comes_back(whole_story: Lab) -> None:
    lab, active = whole_story, whole_story.active()
    lab.cut(other(active))
    lab.cut("n3")
    deadline = time.monotonic() + BACK_S
    while lab.run(active, "mountpoint -q /srv/mail", check=False).returncode == 0:
        assert time.monotonic() < deadline, "a node without quorum must not stay active"
        time.sleep(0.2)
    lab.all_on()
    lab.wait_healthy()


def test_restart_of_hamaild_interrupts_nothing(whole_story: Lab) -> None:
    lab, active = whole_story, whole_story.active()
    before = moves.latest(lab)
    master = lab.run(active, f"cat {MASTER_PID}").stdout
    lab.run(active, "systemctl restart hamaild")
    quiet(lab, before)
    assert lab.wait_healthy() == active
    assert lab.run(active, f"cat {MASTER_PID}").stdout == master


def test_killed_hamaild_interrupts_nothing(whole_story: Lab) -> None:
    lab, active = whole_story, whole_story.active()
    before = moves.latest(lab)
    master = lab.run(active, f"cat {MASTER_PID}").stdout
    lab.run(active, "systemctl kill -s KILL hamaild")
    quiet(lab, before)
    assert lab.wait_healthy() == active
    assert lab.run(active, f"cat {MASTER_PID}").stdout == master


def test_frozen_active_node_is_fenced(whole_story: Lab) -> None:
    lab, active = whole_story, whole_story.active()
    lab.freeze(active, pause_watchdog=True)
    until_active(lab, other(active))
    assert not lab.nodes[active].powered


def test_hung_storage_path_is_fenced_in_the_end(whole_story: Lab) -> None:
    lab, active = whole_story, whole_story.active()
    lab.san_hang(active)
    until_active(lab, other(active), 120)


def test_lost_storage_path_moves_the_group(whole_story: Lab) -> None:
    lab, active = whole_story, whole_story.active()
    lab.san_off(active)
    until_active(lab, other(active), 120)


@pytest.mark.parametrize("mode", [Mode.FAIL, Mode.HANG, Mode.LIE])
def test_nobody_takes_over_before_a_fence_is_confirmed(whole_story: Lab, mode: Mode) -> None:
    lab, active = whole_story, whole_story.active()
    lab.pdu_mode = mode
    generation = lab.nodes[active].generation
    lab.isolate(active)
    time.sleep(12)
    assert lab.run(other(active), "mountpoint -q /srv/mail", check=False).returncode, (
        "started without a confirmed fence"
    )
    assert lab.nodes[active].generation == generation
    lab.pdu_mode = Mode.OK
    until_active(lab, other(active), 90)


def test_executor_that_hangs_is_reset_by_its_watchdog(whole_story: Lab) -> None:
    lab, active = whole_story, whole_story.active()
    generation = lab.nodes[active].generation
    lab.run(active, "kill -STOP $(systemctl show -P MainPID hamail-executor hamaild)")
    until_active(lab, other(active), 60)
    assert lab.nodes[active].generation > generation or not lab.nodes[active].powered


def test_cold_start_of_the_whole_cluster(whole_story: Lab) -> None:
    lab = whole_story
    for node in lab.nodes.values():
        node.cut()
    lab.all_on()
    lab.wait_healthy()
