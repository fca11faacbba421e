"""Each checker rejects a bad world or history that was made by hand for it, and what the table of claims prices in."""

import pytest
from msgspec.structs import replace

from hamail.executor.kinds import Kind
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.spec import Requirement
from hamail.model.state import Evidence, FenceOrder, Maintenance, NodeState, Phase
from hamail.ocf.claim import Claim
from hamail.simulation.checkers import liveness
from hamail.simulation.checkers.claims import PRICE, Hazard, unclaimed
from hamail.simulation.checkers.mail import audit
from hamail.simulation.checkers.violation import Violation
from hamail.simulation.fence_device import Mood
from hamail.simulation.premises import End, Thing
from hamail.simulation.spec import cluster
from hamail.simulation.storage import DAMAGED
from hamail.simulation.world import World


def running(requires=Requirement.FENCING, *, watchdogs=(), levels=1, groups=("mail",), **more):
    """A cluster that serves: n1 owns."""
    levels = levels if requires is Requirement.FENCING else 0
    world = World(cluster(requires=requires, levels=levels, groups=groups, **more), watchdogs=frozenset(watchdogs))
    world.start_all()
    for group in groups:
        liveness.comes_up(world, group)
    world.run_ms(1000)
    return world


def found(world, invariant):
    with pytest.raises(Violation, match=rf": {invariant}: "):
        world.checker.look()


def clean(world):
    world.checker.look()


def epoch(world):
    return world.state.group("mail").epoch


def accepted(world, command, **changes):
    """The log takes a command whose effect on the state is given by hand."""
    before = world.state
    world.state = replace(before, applied=before.applied + 1, **changes)
    world.checker.committed(before, command, c.Outcome(index=before.applied + 1, accepted=True))


# ---- S1 to S7 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "mark"),
    [(Kind.ADDRESS, "address", "S1v"), (Kind.STORAGE, "store", "S1m"), (Kind.SERVICE, "postfix", "S1p")],
)
def test_s1_two_nodes_are_active(kind, name, mark):
    world = running()
    world.machines["n2"].premises.put("mail", name, Thing(kind, 0))
    with pytest.raises(Violation, match=f"n1 and n2 are both active for mail .{mark}"):
        world.checker.look()


def test_s1_different_things_of_one_group_on_two_nodes():
    world = running()
    world.machines["n1"].premises.take("mail", "address", End.GONE)
    world.machines["n2"].premises.put("mail", "address", Thing(Kind.ADDRESS, 0))
    found(world, "S1")


def test_s2_grant_while_the_former_owner_is_active():
    world = running()
    g = world.state.group("mail")
    grant = c.Grant(at_ms=0, group="mail", node="n2", expected_epoch=g.epoch, evidence=Evidence.RELEASED)
    world.checker.grants.granted(world.state, grant, 99)
    found(world, "S2")


def test_s2_grant_while_the_lease_lives():
    world = running(Requirement.LEASE)
    g = world.state.group("mail")
    world.machines["n1"].premises.things.clear()
    waiting = replace(world.state, groups={"mail": replace(g, phase=Phase.WAITING)})
    grant = c.Grant(at_ms=0, group="mail", node="n2", expected_epoch=g.epoch, evidence=Evidence.EXPIRED)
    world.checker.grants.granted(waiting, grant, 99)
    found(world, "S2")


def test_s2_a_fence_that_no_device_has_confirmed():
    world = running()
    world.checker.fences.done(c.FenceDone(at_ms=0, target="n1", order=7, ok=True, detail=""))
    found(world, "S2")


def test_s3_an_epoch_comes_again():
    world = running()
    world.machines["n1"].premises.things.clear()
    grant = c.Grant(at_ms=0, group="mail", node="n2", expected_epoch=0, evidence=Evidence.RELEASED)
    world.checker.grants.granted(world.state, grant, epoch(world))
    found(world, "S3")


def test_s3_a_node_acts_under_the_epoch_of_another():
    world = running()
    world.power_off("n1")
    lun = world.lun("mail")
    world.machines["n2"].premises.put("mail", "store", Thing(Kind.STORAGE, epoch(world), lun.mount("n2", epoch(world))))
    found(world, "S3")


def test_s3_an_epoch_is_started_again_after_its_end():
    world = running()
    machine = world.machines["n1"]
    for name in ("address", "postfix", "dovecot", "store"):
        machine.premises.take("mail", name)
    world.checker.told(machine, a.GroupDown(group="mail", epoch=epoch(world), took_ms=0))
    clean(world)
    machine.premises.put("mail", "store", Thing(Kind.STORAGE, epoch(world)))
    found(world, "S3")


def test_s4_a_write_of_the_former_owner_lands_late():
    """The claim stops nobody who has mounted already: the simulated storage lets it land, and the checker sees it."""
    world = running()
    lun, old = world.lun("mail"), world.lun("mail").mounts["n1"]
    lun.mount("n2", epoch(world) + 1)
    old.write("a", 1)
    clean(world)
    old.sync()
    found(world, "S4")


@pytest.mark.parametrize(("older", "node"), [(1, "n2"), (0, "n2")])
def test_s4c_the_claim_goes_back(older, node):
    world = running()
    claim = world.lun("mail").claim
    world.checker.gate.claimed("mail", claim, replace(claim, epoch=claim.epoch - older, node=node))
    found(world, "S4c")


def test_s4c_holds_also_when_the_log_forks():
    world = running()
    world.checker.hazard(Hazard.FORKED_LOG)
    claim = world.lun("mail").claim
    world.checker.gate.claimed("mail", claim, replace(claim, node="n2"))
    found(world, "S4c")


def test_s6_the_address_before_the_mount():
    world = running()
    world.machines["n1"].premises.take("mail", "address")
    world.machines["n1"].premises.take("mail", "postfix")
    world.machines["n1"].premises.put("mail", "address", Thing(Kind.ADDRESS, epoch(world)))
    found(world, "S6")


def test_s6_the_mount_goes_before_the_services():
    world = running()
    world.machines["n1"].premises.take("mail", "store")
    found(world, "S6")


def test_s6_a_crash_is_no_stop():
    world = running()
    world.machines["n1"].premises.take("mail", "postfix", End.GONE)
    clean(world)


@pytest.mark.parametrize(
    "notice",
    [
        a.GroupDown(group="mail", epoch=1000, took_ms=0),
        a.GroupStartFailed(group="mail", epoch=1000, resource="store", detail="", clean=True),
    ],
    ids=lambda n: type(n).__name__,
)
def test_s7_the_executor_says_stopped(notice):
    world = running()
    world.checker.told(world.machines["n1"], notice)
    found(world, "S7")


def test_s7_the_executor_says_clean():
    world = running()
    machine = world.machines["n2"]
    machine.premises.things["mail"] = {"postfix": Thing(Kind.SERVICE, 0)}
    world.checker.told(machine, a.Cleaned(ok=True, groups=("mail",), config=1))
    found(world, "S7")


def test_s7_hamaild_says_released():
    world = running()
    released = c.Released(at_ms=0, group="mail", node="n1", epoch=epoch(world))
    world.checker.proposed(world.machines["n1"], released)
    found(world, "S7")


# ---- S5: the oracle of the mail clients -----------------------------------------------------------------------------


def with_mail():
    world = running()
    clients = world.begin_mail("mail")
    world.run_ms(5000)
    clients.stop()
    world.run_ms(2000)
    return world, clients, world.lun("mail")


def test_s5_all_is_there():
    world, clients, _ = with_mail()
    verdict = audit(world, clients)
    clean(world)
    assert verdict.acknowledged > 15 and not verdict.words and not verdict.duplicate


def _a_mail(clients, lun):
    mail = next(m for m, uid in clients.ok.items() if uid)
    return mail, ("box", clients.ok[mail])


def _lose(clients, lun):
    del lun.durable[_a_mail(clients, lun)[1]]


def _damage(clients, lun):
    lun.durable[_a_mail(clients, lun)[1]] = DAMAGED


def _alter(clients, lun):
    mail, key = _a_mail(clients, lun)
    lun.durable[key] = (mail, 0)


def _invent(clients, lun):
    lun.durable["box", 999] = (5000, 5000 * 2_654_435_761 % 4_294_967_296)


def _shift(clients, lun):
    _, (_, uid) = _a_mail(clients, lun)
    lun.durable["box", uid], lun.durable["box", uid + 1] = lun.durable["box", uid + 1], lun.durable["box", uid]


@pytest.mark.parametrize(
    ("harm", "word"),
    [(_lose, "lost"), (_damage, "corrupt"), (_alter, "corrupt"), (_invent, "phantom"), (_shift, "uid reused")],
)
def test_s5_mail_is_harmed(harm, word):
    world, clients, lun = with_mail()
    harm(clients, lun)
    assert word in audit(world, clients).words
    found(world, "S5")


def test_two_writers_damage_each_other():
    """What the storage of the simulation does to those who break S1."""
    world, clients, lun = with_mail()
    world.checker.hazard(Hazard.FENCE_LIES)
    second = lun.mount("n2", epoch(world) + 1)
    second.write(("box", 1), "mine")
    second.sync()
    assert audit(world, clients).corrupt


def test_a_power_cut_loses_what_was_not_synced_and_nothing_else():
    world = running()
    clients = world.begin_mail("mail")
    for _ in range(3):
        world.run_ms(3000)
        world.power_off(world.active_on("mail"))
        liveness.comes_up(world, "mail")
        for machine in world.machines.values():
            machine.power_on()
        world.run_ms(3000)
    assert clients.acknowledged > 40
    assert not audit(world, clients).words
    clean(world)


# ---- S10, S11, S12, S14, O2 -----------------------------------------------------------------------------------------


def test_s10_the_history_is_silent_about_a_step():
    world = running()
    g = world.state.group("mail")
    failed = c.Failed(at_ms=0, group="mail", node="n1", epoch=g.epoch, resource="postfix", detail="")
    accepted(world, failed, groups={"mail": replace(g, phase=Phase.STOPPING)})
    found(world, "S10")


def test_s10_the_history_tells_what_was_not():
    world = running()
    accepted(world, c.Started(at_ms=0, group="mail", node="n2", epoch=4711))
    found(world, "S10")


def test_s10_a_start_that_nobody_has_announced():
    world = running()
    world.checker.grants.holders["mail", 4711] = "n1"
    world.machines["n1"].premises.put("mail", "postfix", Thing(Kind.SERVICE, 4711))
    found(world, "S10")


def test_s10_the_result_is_missing():
    world = running()
    world.checker.audit.all_told()
    clean(world)
    world.checker.audit._reported.clear()
    world.checker.audit.all_told()
    found(world, "S10")


def test_s11_a_stranger_in_the_log():
    world = running()
    accepted(world, c.SetStandby(at_ms=0, node="n9", standby=True))
    found(world, "S11")


def test_s11_a_witness_holds_nothing():
    world = running()
    world.checker.members.placed(world.machines["n3"], "mail")
    found(world, "S11")


def test_s12_a_valid_holder_is_to_be_fenced():
    world = running()
    order = c.OrderFence(at_ms=0, target="n1", device="pdu", by="n2")
    world.checker.fences.ordered(order, 99, world.state)
    found(world, "S12")


def run_fence(order=99, target="n1"):
    return a.RunFence(
        id=1, order=order, device="pdu", agent="fence_pdu", target=target, plug=target, parameters={},
        secret_files={}, timeout_ms=1000,
    )  # fmt: skip


def test_s12_a_fence_without_an_order():
    world = running()
    world.checker.fences.cut(run_fence(), "n2", "n1")
    found(world, "S12")


def test_s12_a_duel_leaves_nobody():
    world = running()
    world.checker.fences._orders.update({98: "n1", 99: "n2"})
    world.checker.fences.cut(run_fence(98, "n1"), "n2", "n1")
    clean(world)
    world.checker.fences.cut(run_fence(99, "n2"), "n1", "n2")
    found(world, "S12")


def test_s12_the_wrong_node_is_priced_in_and_counted():
    world = running()
    world.devices["pdu"].mood = Mood.WRONG
    world.checker.fences._orders[99] = "n1"
    world.checker.fences.cut(run_fence(), "n2", "n3")
    clean(world)
    assert Hazard.FENCE_WRONG in world.checker.hazards and world.checker.excused == {"S12": 1}


def test_s14_an_agent_is_called_during_maintenance():
    world = running()
    world.state = replace(world.state, maintenance=Maintenance(on=True, acknowledged=("n1",)))
    world.checker.began(world.machines["n2"], "mail", "postfix", "start")
    clean(world)
    world.checker.began(world.machines["n1"], "mail", "postfix", "start")
    found(world, "S14")


def test_s14_a_fence_is_ordered_during_maintenance():
    world = running()
    world.state = replace(world.state, maintenance=Maintenance(on=True))
    fence = FenceOrder(id=99, target="n2", device="pdu", by="n1", attempt=1, reason="", ordered_at_ms=0)
    order = c.OrderFence(at_ms=0, target="n2", device="pdu", by="n1")
    accepted(world, order, nodes={**world.state.nodes, "n2": NodeState(fence=fence)})
    found(world, "S14")


def test_o2_status_says_active_where_nothing_runs():
    world = running()
    held = world.machines["n1"].executor.groups["mail"]
    held._monitoring += 1  # nobody looks any more
    for name in ("address", "postfix", "dovecot", "store"):
        world.machines["n1"].premises.take("mail", name, End.GONE)
    with pytest.raises(Violation, match=r"O2: n. has said for too long: mail is active on n1"):
        world.run_ms(15_000)


def test_o2_status_does_not_know_what_runs_here():
    world = running()
    world.machines["n1"].daemon.engine.local.held.clear()
    world.machines["n1"].daemon.hung = True  # it stays so
    world.run_ms(100)
    for _ in range(20):
        world.machines["n1"].daemon.hung = False
        world.checker.status.sample()
        world.machines["n1"].daemon.hung = True
        world.agenda.now_ns += 1_000_000_000
    found(world, "O2")


# ---- the table of claims --------------------------------------------------------------------------------------------


def test_every_hazard_has_its_price_for_every_requirement():
    assert set(PRICE) == set(Hazard)
    assert all(set(prices) == set(Requirement) for prices in PRICE.values())


def test_the_claim_never_has_a_price():
    assert not any("S4c" in broken for prices in PRICE.values() for broken in prices.values())


def test_what_needs_no_fence_is_priced_only_where_there_is_none():
    for hazard in (Hazard.PAUSED_GUEST, Hazard.WATCHDOG_BROKEN, Hazard.UNSTOPPABLE, Hazard.WILD_CLOCK):
        assert not unclaimed(Requirement.FENCING, {hazard})


@pytest.mark.parametrize(("stop_ms", "noted"), [(300, False), (1000, False), (1600, True)])
def test_stops_longer_than_the_stop_budget_are_noted_and_no_others(stop_ms, noted):
    """Detection of 1 s makes a stop budget of 1.25 s."""
    world = running(Requirement.LEASE)
    world.machines["n1"].stop_ms = stop_ms
    world.isolate("n1")
    world.run_ms(20_000)
    assert (Hazard.SLOW_STOP in world.checker.hazards) is noted
    assert not unclaimed(Requirement.WATCHDOG, {Hazard.SLOW_STOP}) | unclaimed(Requirement.FENCING, {Hazard.SLOW_STOP})


@pytest.mark.parametrize("requires", [Requirement.WATCHDOG, Requirement.LEASE])
def test_a_paused_guest_really_pays_that_price(requires):
    """The table is honest: its owner comes back with a live lease by its own clock, and writes."""
    dogs = ("n1", "n2") if requires is Requirement.WATCHDOG else ()
    world = running(requires, watchdogs=dogs)
    clients = world.begin_mail("mail")
    world.run_ms(3000)
    world.machines["n1"].pause_guest()
    assert world.run_until(lambda: world.active_on("mail") == "n2", 60_000)
    world.run_ms(2000)
    world.machines["n1"].resume()
    world.run_ms(10_000)
    assert {"S1", "S2"} <= set(world.checker.excused)
    assert world.active_on("mail") == "n2" and not world.machines["n1"].premises.things
    assert audit(world, clients).acknowledged


def test_a_paused_guest_is_no_danger_where_it_is_fenced():
    world = running()
    world.machines["n1"].pause_guest()
    assert world.run_until(lambda: world.active_on("mail") == "n2", 60_000)
    world.machines["n1"].resume()
    world.run_ms(10_000)
    assert not world.checker.excused


def test_a_lying_fence_device_really_pays_its_price():
    world = running()
    world.begin_mail("mail")
    world.run_ms(1000)
    world.devices["pdu"].mood = Mood.LIES
    world.isolate("n1")
    world.run_ms(15_000)
    assert Hazard.FENCE_LIES in world.checker.hazards
    assert {"S1", "S2", "S4"} <= set(world.checker.excused)


def test_an_out_of_date_owner_does_not_get_past_the_claim():
    """What the claim does prevent: a start under an older epoch, and a second one under the same."""
    world = running()
    lun = world.lun("mail")
    ours = Claim(cluster="simulated", group="mail", epoch=epoch(world), node="n2")
    assert "same epoch" in lun.refusal(ours)
    assert "out of date" in lun.refusal(replace(ours, epoch=ours.epoch - 1))
    assert lun.refusal(replace(ours, epoch=ours.epoch + 1)) == ""


# ---- L1 to L9 -------------------------------------------------------------------------------------------------------


def test_l1_it_does_not_come_up():
    world = running()
    for machine in world.machines.values():
        machine.start_fails.add("postfix")
    world.power_off("n1")
    with pytest.raises(Violation, match="L1"):
        liveness.comes_up(world, "mail", 20_000)


def test_l2_ping_pong():
    world = running()
    world.agenda.after_ms(3000, lambda: world.power_off("n1"))
    with pytest.raises(Violation, match="L2"):
        liveness.stays(world, "mail", 10_000)


def test_l3_interrupted():
    world = running()
    world.power_off("n2")
    liveness.no_outage(world, "mail", 5000)
    world.agenda.after_ms(500, lambda: world.machines["n1"].executor.crash_resource("mail", "postfix"))
    with pytest.raises(Violation, match="L3"):
        liveness.no_outage(world, "mail", 2000)


def test_l4_another_leader_is_no_move():
    world = running()
    with liveness.no_move(world, "mail"):
        world.machines[world.log.leader].daemon.hung = True
        world.run_ms(100)
    with pytest.raises(Violation, match="L4"), liveness.no_move(world, "mail"):
        world.power_off("n1")
        world.run_ms(10_000)


@pytest.mark.parametrize("requires", list(Requirement))
def test_l5_a_holder_cut_off_lets_go(requires):
    world = running(requires)
    for device in world.devices.values():
        device.mood = Mood.FAILS
    world.isolate("n1")
    assert liveness.lets_go(world, "n1", "mail") < 6000


def test_l5_it_does_not_let_go():
    world = running(Requirement.LEASE)
    world.machines["n1"].executor.maintenance = True
    world.machines["n1"].executor.deadman.suspend(True)
    world.isolate("n1")
    world.checker.hazard(Hazard.UNSTOPPABLE)
    with pytest.raises(Violation, match="L5"):
        liveness.lets_go(world, "n1", "mail")


@pytest.mark.parametrize("order", ["n1 n2 n3", "n3 n2 n1", "n2 n3 n1"])
def test_l6_cold_start_in_any_order(order):
    world = running()
    for name in world.machines:
        world.power_off(name)
    for number, name in enumerate(order.split()):
        world.agenda.after_ms(500 * number, world.machines[name].power_on)
    assert liveness.comes_up(world, "mail", mark="L6") < 20_000


def test_l7_a_bad_agent_delays_only_its_own_group():
    def cut():
        world.power_off("n1")

    world = running(groups=("mail", "lists"))
    world.lun("lists").hung.add("n2")  # its start there hangs
    liveness.not_delayed(world, "mail", cut, 5000)
    assert world.active_on("lists") is None


def test_l7_it_is_delayed():
    world = running()
    world.machines["n2"].start_ms = 4000
    with pytest.raises(Violation, match="L7"):
        liveness.not_delayed(world, "mail", lambda: world.power_off("n1"), 5000)


def test_l8_every_order_is_answered():
    world = running()
    order = c.SetStandby(at_ms=0, node="n2", standby=True)
    liveness.answers(world, "n1", order)
    world.isolate("n2")
    liveness.answers(world, "n2", order)
    world.log.propose = lambda *_: None
    with pytest.raises(Violation, match="L8"):
        liveness.answers(world, "n1", order)


def test_l9_nothing_grows():
    world = running(failovers=(), quarantine=None)

    def a_day():
        for _ in range(12):
            world.power_off(world.active_on("mail"))
            liveness.comes_up(world, "mail")
            for machine in world.machines.values():
                machine.power_on()
            world.run_ms(5000)

    a_day()
    before = liveness.sizes(world)
    a_day()
    assert liveness.grown(before, liveness.sizes(world)) == {}
    world.machines["n1"].daemon.engine.local._begun |= {("mail", n) for n in range(100)}
    assert list(liveness.grown(before, liveness.sizes(world))) == ["n1 local _begun"]
