"""What an operator orders about the group, on the live cluster: failover, restart, cancel, and for later."""

import time

from hamail.control.client import Refused
from hamail.control.moves_client import MovesClient
from tests.cluster.world import MASTER_PID, World
from tests.lab.cluster import WITNESS
from tests.lab.instruments import other
from tests.lab.pdu import Mode


def constraints(world: World) -> dict:
    """What could steer later decisions; all of it is empty after an order that is over."""
    group = world.ask("state")["state"]["groups"]["mail"]
    names = ("target", "failed_on", "bans", "restart", "move")
    return {name: group[name] for name in names if group.get(name)} | (
        {"scheduled": True} if world.ask("scheduled")["scheduled"] else {}
    )


def test_failover_is_for_an_owner_that_cannot_give_mail_up(world: World) -> None:
    """A healthy one is left alone. One that is lost is fenced at the operator's word, and not before that is done."""
    active, epoch = world.active, world.epoch()
    standby = other(active)
    refused = world.ctl(standby, "failover mail --yes --force", code=3)
    assert "is healthy" in refused.stderr and "hamailctl switchover mail" in refused.stderr
    assert (world.active, world.epoch()) == (active, epoch)
    world.lab.pdu_mode = Mode.FAIL
    world.lab.cut(active)
    world.until_told("(?i)fencing .* with pdu failed", 20)
    refused = world.ctl(WITNESS, "switchover mail --yes", code=3)
    assert "hamailctl failover mail" in refused.stderr
    dry = world.ctl(WITNESS, "failover mail --dry-run", code=None)
    assert "a confirmed fence of" in dry.stdout and "acknowledged is on the shared storage" in dry.stdout
    assert world.group()["phase"] == "fencing" and not world.holds(standby), "nothing starts without proof"
    world.lab.pdu_mode = Mode.OK
    done = world.ctl(WITNESS, "failover mail --yes --force --reason 'the switch works again'")
    assert f"{active} fenced: surely off" in done.stdout and f"mail is active on {standby}" in done.stdout
    assert world.moves()[-1]["trigger"] == "failover"
    assert constraints(world) == {}


def test_restart_in_place(world: World) -> None:
    active, epoch = world.active, world.epoch()
    before = world.nodes[active].run(f"cat {MASTER_PID}").stdout.strip()
    done = world.ctl(other(active), "restart mail postfix --yes --reason 'new certificate'")
    assert f"postfix of mail was restarted on {active}" in done.stdout
    assert world.nodes[active].run(f"cat {MASTER_PID}").stdout.strip() != before
    world.ctl(active, "restart mail --yes")
    assert (world.active, world.epoch()) == (active, epoch)
    assert "failed on" not in world.told(), "an ordered restart is no failure"
    assert constraints(world) == {}
    unknown = world.ctl(active, "restart mail nosuch --yes", code=3)
    assert "has no resource nosuch" in unknown.stderr
    world.ctl(active, "maintenance on")
    refused = world.ctl(active, "restart mail postfix --yes", code=3)
    assert "in maintenance" in refused.stderr
    world.ctl(active, "maintenance off --yes")


def test_a_move_under_way_is_turned_back(world: World) -> None:
    active = world.active
    control = world.client(active)
    move = control.request_move("mail", other(active), "a mistake").move
    MovesClient(control).cancel(move, "called off")
    world.until(lambda: control.move(move).move.result != "running", 30, "the move is over")
    ended = control.move(move).move
    assert (ended.result, world.active) == ("cancelled", active)
    assert "called off" in ended.detail
    assert constraints(world) == {}
    try:
        MovesClient(control).cancel(move)
        raise AssertionError("a move that is over was cancelled")
    except Refused as error:
        assert "scheduled or under way" in error.reasons[0]


def test_a_move_for_later_and_one_that_is_called_off(world: World) -> None:
    active = world.active
    standby = other(active)
    world.ctl(standby, "switchover mail --in 1h --yes")
    shown = world.ctl(WITNESS, "scheduled").stdout
    number = shown.splitlines()[1].split()[0]
    assert "the best node" in shown
    assert "Called off" in world.ctl(WITNESS, f"cancel {number}").stdout
    world.ctl(standby, f"switchover mail --to {standby} --in 2s --yes")
    began = time.monotonic()
    world.until_active(standby, 30)
    assert time.monotonic() - began > 1, "too early"
    assert constraints(world) == {}
    assert world.moves()[-1]["trigger"] == "switchover"
