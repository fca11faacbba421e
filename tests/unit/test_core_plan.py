"""`plan` foretells what the simulated cluster then does: target, evidence, result, and whether service continues."""

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from hamail.core import hypotheses, plan
from hamail.model import commands as c
from hamail.model.plan import Service
from hamail.model.situation import SITUATION_SCHEMA, Situation
from hamail.model.spec import Requirement
from hamail.model.state import Evidence
from hamail.simulation.fence_device import Mood
from hamail.simulation.script import Script
from hamail.simulation.spec import cluster
from hamail.simulation.world import World

STORIES_AT = Path(__file__).parents[1] / "scenario"
HEALTHY_MS = 10_000
SETTLED_MS = 25_000
CHECKED_MS = 5_000  # every fence device has been asked whether it would work


def running(spec=None, quiet_ms=CHECKED_MS) -> World:
    world = World(spec or cluster())
    world.start_all()
    assert world.run_until(lambda: world.active_on("mail") == "n1", HEALTHY_MS)
    world.run_ms(quiet_ms)
    return world


def situation(world: World, me="n3") -> Situation:
    engine = world.machines[me].daemon.engine
    facts = engine.facts()
    return Situation(
        schema=SITUATION_SCHEMA, cluster="simulated", node=me, at_ms=facts.at_ms, coordinator=world.log.leader,
        state=replace(engine.state, events=(), requests=()), heard=facts.nodes,
    )  # fmt: skip


def foretold(seen: Situation, *texts: str):
    return plan.plan(seen, [hypotheses.parse(text, seen.state.spec) for text in texts])


STRIKES = {
    "node-down": lambda world, n: world.power_off(n),
    "node-cut-off": lambda world, n: world.isolate(n),
    "link-down": lambda world, link: world.network.cut(*link.split("-")),
    "fence-fails": lambda world, device: setattr(world.devices[device], "mood", Mood.FAILS),
}


def strike(world: World, text: str) -> None:
    """Make the supposition true."""
    kind, _, value = text.partition("=")
    if kind in STRIKES:
        STRIKES[kind](world, value)
    elif kind == "resource-failed":
        group, resource = value.partition("@")[0].split("/")
        for name in ("n1", "n2"):
            if value.endswith("@*") or name == (value.partition("@")[2] or "n1"):
                world.machines[name].start_fails.add(resource)
        if world.machines["n1"].start_fails:
            world.machines["n1"].executor.crash_resource(group, resource)
    elif kind == "stop-fails":
        world.machines["n1"].stop_fails = True
    else:
        epoch = world.state.group("mail").epoch
        order = (
            c.SetStandby(at_ms=world.wall_ms, node=value, standby=True, request="order-1")
            if kind == "standby"
            else c.RequestMove(at_ms=world.wall_ms, group="mail", target=value[-2:], expected_epoch=epoch)
        )
        world.order(order)


FENCING, TWO, LEASE, WATCHDOG = (
    cluster(),
    cluster(levels=2),
    cluster(requires=Requirement.LEASE, levels=0),
    cluster(requires=Requirement.WATCHDOG, levels=0),
)
STORIES = [
    (spec, *supposed)
    for spec in (FENCING, LEASE, WATCHDOG)
    for supposed in (
        ["node-down=n1"], ["node-down=n2"], ["node-down=n3"], ["node-cut-off=n1"], ["node-cut-off=n2"],
        ["link-down=n1-n2"], ["link-down=n1-n3"], ["node-down=n2", "node-down=n3"], ["standby=n1"],
        ["switchover=mail@n2"], ["resource-failed=mail/postfix"], ["resource-failed=mail/postfix@*"],
        ["resource-failed=mail/postfix@n2", "switchover=mail@n2"], ["stop-fails=mail", "switchover=mail@n2"],
    )
] + [
    (FENCING, "fence-fails=pdu", "node-down=n1"),
    (TWO, "fence-fails=pdu", "node-down=n1"),
    (TWO, "fence-fails=pdu", "fence-fails=ipmi", "node-cut-off=n1"),
    (FENCING, "node-down=n1", "node-down=n3"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "supposed"),
    [(s[0], s[1:]) for s in STORIES],
    ids=[f"{s[0].groups['mail'].requires}-{len(s[0].fencing)}-{'+'.join(s[1:])}" for s in STORIES],
)
def test_what_is_foretold_then_happens(spec, supposed):
    world = running(spec)
    seen = situation(world)
    told = foretold(seen, *supposed).groups[0]
    before = len(world.state.moves)
    for text in supposed:
        strike(world, text)
    world.run_ms(SETTLED_MS)
    moves = world.state.moves[before:]
    assert world.active_on("mail") == told.after, world.recent()
    assert world.state.group("mail").phase == told.phase
    assert (moves[-1].trigger if moves else "") == told.trigger
    if moves and told.after:
        assert (moves[-1].target, moves[-1].evidence, moves[-1].result) == (told.after, told.evidence, told.result)


def test_nothing_supposed_nothing_happens():
    told = foretold(situation(running()))
    assert told.continues and not told.steps
    assert told.groups[0].service is Service.UNINTERRUPTED


def test_plan_changes_nothing_and_says_the_same_twice():
    seen = situation(running())
    before = msgspec.json.encode(seen)
    assert foretold(seen, "node-down=n1") == foretold(seen, "node-down=n1")
    assert msgspec.json.encode(seen) == before


def test_a_saved_situation_gives_the_same_plan():
    seen = situation(running())
    again = msgspec.json.decode(msgspec.json.encode(seen), type=Situation)
    assert foretold(again, "node-down=n1") == foretold(seen, "node-down=n1")


def test_it_goes_on_from_the_middle_of_a_failover():
    world = running()
    world.power_off("n1")
    assert world.run_until(lambda: world.state.group("mail").phase == "fencing", 5000)
    told = foretold(situation(world)).groups[0]
    assert (told.after, told.evidence, told.service) == ("n2", Evidence.FENCED, Service.INTERRUPTED)


def test_every_step_says_why():
    told = foretold(situation(running()), "node-down=n1")
    order = next(s.event for s in told.steps if s.event.kind == "fence")
    assert order.decision.rule == "order_fence"
    assert order.decision.facts["pdu by n2"] == "ready"
    assert "only a fence would prove it" in order.decision.rejected["only wait until its promises run out"]
    grant = next(s.event for s in told.steps if "goes to n2" in s.event.sentence)
    assert grant.decision.rule == "idle + granted -> starting"
    assert "it is out" in grant.decision.rejected["n1"]


def test_one_failure_away():
    risks = {r.supposed: r for r in plan.risks(situation(running()))}
    assert all(r.continues for r in risks.values())
    assert "without it the loss of n1 would be an outage" in risks["fence-fails=pdu",].why
    world = running()
    world.power_off("n2")
    world.run_ms(3000)
    risks = {r.supposed: r for r in plan.risks(situation(world))}
    assert not risks["node-down=n1",].continues and not risks["node-down=n3",].continues
    assert ("node-down=n2",) not in risks
    assert not next(iter(risks.values())).continues, "the worst first"


def test_a_link_between_two_others_that_is_down_now_is_down_in_the_plan():
    world = running()
    world.network.cut("n1", "n2")
    world.run_ms(3000)
    seen = situation(world)
    assert not foretold(seen).steps, "n3 hears both: nothing moves"
    told = foretold(seen, "node-down=n3").groups[0]
    assert told.service is Service.DOWN, "neither of the others hears a majority then"
    worst = plan.risks(seen)[0]
    assert (worst.supposed, worst.continues) == (("node-down=n3",), False)
    strike(world, "node-down=n3")
    world.run_ms(SETTLED_MS)
    assert world.active_on("mail") is None


def test_a_link_that_is_silent_in_one_direction_is_down_in_the_plan_of_both_its_ends():
    world = running()
    world.network.block("n3", "n2")
    world.run_ms(3000)
    for me in ("n1", "n2", "n3"):
        assert foretold(situation(world, me), "node-down=n1").groups[0].service is Service.DOWN, me
    world.network.heal()
    world.run_ms(3000)
    for me in ("n1", "n2", "n3"):
        assert foretold(situation(world, me), "node-down=n1").groups[0].after == "n2", me


def risk(world: World, text: str):
    return next(r for r in plan.risks(situation(world)) if r.supposed[0] == text)


def test_in_maintenance_of_a_group_nothing_is_said_to_be_restarted():
    world = running()
    world.order(c.HandsOff(at_ms=world.wall_ms, group="mail", on=True, actor="anna", request="r-1"))
    why = risk(world, "resource-failed=mail/postfix").why
    assert "again and again" not in why and "hamailctl maintenance off --group mail ends it" in why
    assert "n1: has it, but does not serve it" in why and "(active)" not in why
    told = foretold(situation(world), "resource-failed=mail/postfix")
    assert not told.steps and not told.continues and told.groups[0].phase == "active"
    assert told.groups[0].nodes["n2"] == "could take over, but nothing is done now"


def test_nobody_takes_over_during_maintenance_however_short_it_is():
    world = running()
    until_ms = world.wall_ms + 8000
    world.order(c.SetMaintenance(at_ms=world.wall_ms, on=True, until_ms=until_ms, actor="anna", request="r-1"))
    found = risk(world, "node-down=n1")
    assert not found.continues and found.outage_ms is None
    assert "nothing is done about it meanwhile: hamailctl maintenance off" in found.why


def test_a_plan_goes_on_when_maintenance_ends():
    world = running()
    seen = situation(world)
    ends = replace(seen.state.maintenance, on=True, since=5, until_ms=seen.at_ms + 60_000)
    seen = replace(seen, state=replace(seen.state, maintenance=ends))
    told = foretold(seen, "node-down=n1")
    assert told.groups[0].after == "n2" and told.steps[1].at_ms == 60_000
    ends = replace(ends, until_ms=seen.at_ms + 5 * 3_600_000)
    told = foretold(replace(seen, state=replace(seen.state, maintenance=ends)), "node-down=n1")
    assert told.groups[0].service is Service.DOWN and told.at_rest


def test_a_node_that_has_just_failed_the_group_is_no_standby():
    world = running()
    world.machines["n2"].start_fails.add("postfix")
    strike(world, "switchover=mail@n2")
    world.run_ms(10_000)
    assert world.state.moves[-1].result == "rolled back"
    found = risk(world, "node-down=n1")
    assert not found.continues
    assert found.supposed == ("node-down=n1", "resource-failed=mail/postfix@n2")
    assert "mail would be down if postfix failed on n2 again, as it did" in found.why
    assert "hamailctl clear mail" in found.why
    assert risk(world, "node-down=n3").continues and risk(world, "node-down=n2").continues
    world.machines["n2"].start_fails.clear()
    for target in ("n2", "n1"):
        strike(world, f"switchover=mail@{target}")
        world.run_ms(10_000)
    assert world.active_on("mail") == "n1"
    assert risk(world, "node-down=n1").continues, "it has run there since"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "nobody can suppose 'nonsense'"),
        ("node-down", "write it as node-down=NODE"),
        ("node-down=n9", "there is no node 'n9'; there is n1, n2, n3"),
        ("standby=n3", "there is no mail node 'n3'"),
        ("link-down=n1", "write it as link-down=NODE-NODE"),
        ("link-down=n1-n1", "write it as link-down=NODE-NODE"),
        ("resource-failed=mail", "there is no resource of mail ''"),
        ("resource-failed=list/x", "there is no group 'list'"),
        ("resource-failed=mail/postfix@n3", "there is no mail node 'n3'"),
        ("fence-fails=ups", "there is no fence device 'ups'; there is pdu"),
        ("switchover=mail", "write it as switchover=GROUP@NODE"),
        ("stop-fails=mail/store", "write it as stop-fails=GROUP"),
    ],
)
def test_what_cannot_be_supposed_is_said(text, says):
    with pytest.raises(ValueError, match=says.replace("*", ".")):
        hypotheses.parse(text, cluster())


@pytest.mark.parametrize("text", [t for s in STORIES for t in s[1:]])
def test_suppositions_are_written_as_they_are_read(text):
    h = hypotheses.parse(text, cluster(levels=2))
    assert str(h) == text
    assert hypotheses.words(h)


@pytest.mark.parametrize("story", ["power_cut", "stop_fails", "both_lost", "target_fails", "lease_only"])
def test_at_any_moment_of_a_story_plans_come_to_rest(story):
    script = Script()
    for line in (STORIES_AT / f"{story}.txt").read_text().splitlines():
        if not line.strip() or line.startswith(("  | ", "#")):
            continue
        script.perform(line.strip())
        if script._world is None:
            continue
        for name, machine in script.world.machines.items():
            if machine.daemon is not None and machine.daemon.engine.state.config.revision:
                seen = situation(script.world, name)
                assert plan.plan(seen).at_rest, line
                assert plan.risks(seen)
