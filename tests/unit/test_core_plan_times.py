"""How long a plan says that a move takes: medians of the kept records, each with its count, and limits; no guesses."""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from subprocess import run

import pytest
from msgspec.structs import replace
from test_core_plan import LEASE, WATCHDOG, foretold, running, situation

from hamail.core import agent_limits, budget, usual
from hamail.core.timing import derive
from hamail.model.spec import ResourceSpec
from hamail.model.state import Evidence, Move, Trigger
from hamail.simulation.spec import cluster

AGENTS = Path(__file__).parents[2] / "agents"


def move(at=0, trigger=Trigger.NODE_LOST, evidence=Evidence.FENCED, result="done", silent_ms=1100, **stamps):
    stamps = {"first answer" if k == "answer" else k: at + ms for k, ms in stamps.items()}
    return Move(
        id=at + 1, group="mail", source="n1", target="n2", trigger=trigger, actor="", reason="", started_at_ms=at,
        stamps=stamps, result=result, evidence=evidence, silent_ms=silent_ms,
    )  # fmt: skip


def lost(at, **changes):
    stamps = {"detected": 0, "decided": 1, "fenced": 400, "granted": 420, "storage": 600, "services": 1000}
    return move(at, **{**stamps, "answer": 1100, "done": 1050, **changes})


def with_moves(seen, *moves):
    return replace(seen, state=replace(seen.state, moves=moves))


@pytest.fixture(scope="module")
def seen():
    return situation(running())


def times(told):
    return [(p.phase, p.usual_ms, p.seen) for p in told.phases]


def test_without_a_record_there_is_no_usual_time_but_a_limit(seen):
    told = foretold(with_moves(seen), "node-down=n1").groups[0]
    assert times(told) == [("detect", None, 0), ("fence", None, 0), ("grant", None, 0), ("start", None, 0)]
    assert told.usual_ms is None and told.assumed
    t, spec = derive(seen.state.spec.detection_ms, 5), seen.state.spec
    fence_ms = 2 * spec.fencing["pdu"].timeout_ms + budget.FENCE_GRACE_MS
    assert [p.limit_ms for p in told.phases][:3] == [budget.detect_limit_ms(t), fence_ms, t.propose_ms]
    assert told.limit_ms == sum(p.limit_ms for p in told.phases)


def test_usual_times_are_medians_of_the_records_and_say_of_how_many(seen):
    moves = (lost(0, fenced=300), lost(9000), lost(18_000, silent_ms=1300), lost(27_000, result="failed", fenced=9))
    told = foretold(with_moves(seen, *moves), "node-down=n1").groups[0]
    assert times(told) == [("detect", 1100, 3), ("fence", 400, 3), ("grant", 20, 3), ("start", 680, 3)]
    assert told.usual_ms == told.outage_ms == 1100 + 400 + 20 + 680 and not told.assumed
    assert told.phases[-1].parts == {"storage": 180, "services": 400, "first answer": 100}
    assert (told.counted_from, told.phases[0].node) == ("the last word of n1", "n1")


def test_only_the_newest_records_count(seen):
    old = tuple(lost(9000 * n, fenced=419) for n in range(usual.MOVES_LOOKED_AT))
    new = tuple(lost(10**6 + 9000 * n, fenced=300) for n in range(usual.MOVES_LOOKED_AT // 2 + 1))
    assert usual.fence(with_moves(seen, *old, *new).state, "mail").ms == 300


@pytest.mark.parametrize("skewed", [{"fenced": -50}, {"granted": 100}])
def test_clocks_that_contradict_each_other_are_no_record(seen, skewed):
    state = with_moves(seen, lost(10_000, **skewed)).state
    assert None in (usual.fence(state, "mail").ms, usual.grant(state, "mail").ms)


def test_a_fence_after_a_failed_stop_is_no_record_of_how_long_a_fence_takes(seen):
    slow = move(0, trigger=Trigger.SWITCHOVER, decided=0, fenced=30_000, granted=30_010, done=31_000)
    assert usual.fence(with_moves(seen, slow).state, "mail").ms is None


@pytest.mark.parametrize(
    ("supposed", "phases", "begins"),
    [
        (["switchover=mail@n2"], "stop n1, grant n2, start n2", "the order"),
        (["standby=n1"], "stop n1, grant n2, start n2", "the order"),
        (["resource-failed=mail/postfix"], "stop n1, grant n2, start n2", "the decision to move it"),
        (["resource-failed=mail/postfix@n2", "switchover=mail@n2"],
         "stop n1, grant n2, failing start n2, grant n1, start n1", "the order"),
        (["stop-fails=mail", "switchover=mail@n2"], "failing stop n1, fence n1, grant n2, start n2", "the order"),
        (["node-down=n2"], "", ""),
    ],
)  # fmt: skip
def test_the_phases_are_those_of_the_move(seen, supposed, phases, begins):
    told = foretold(seen, *supposed).groups[0]
    assert ", ".join(f"{p.phase} {p.node}" for p in told.phases) == phases
    assert told.counted_from == begins


def test_without_a_fence_the_promises_run_out():
    seen = situation(running(LEASE))
    told = foretold(seen, "node-down=n1").groups[0]
    assert [p.phase for p in told.phases] == ["detect", "wait", "grant", "start"]
    t = derive(LEASE.detection_ms, LEASE.watchdog_timeout_s)
    assert told.phases[1].limit_ms == t.wait_ms < budget.wait_limit_ms(running(WATCHDOG).state, "mail", t)


@pytest.mark.parametrize("spec", [cluster(), LEASE], ids=["fencing", "lease"])
def test_what_then_happens_is_within_the_limits(spec):
    world = running(spec)
    told = foretold(situation(world), "node-down=n1").groups[0]
    began_ms = world.wall_ms
    world.power_off("n1")
    assert world.run_until(lambda: world.active_on("mail") == "n2", 60_000)
    assert world.wall_ms - began_ms <= told.limit_ms
    made = world.state.moves[-1]
    assert made.silent_ms <= told.phases[0].limit_ms


def test_an_order_is_asked_about_with_the_same_times(seen):
    """The preflight's budget of each phase."""
    state = with_moves(seen).state
    assert budget.stop(state, "mail").usual_ms is None
    stamps = {"decided": 0, "stopped": 300, "granted": 310, "done": 900}
    ordered = [move(n, trigger=Trigger.SWITCHOVER, evidence=Evidence.RELEASED, **stamps) for n in range(3)]
    state = with_moves(seen, *ordered, move(9, result="failed", decided=0, stopped=9000)).state
    assert (budget.stop(state, "mail").usual_ms, budget.stop(state, "mail").seen) == (300, 3)
    assert budget.start(state, "mail").usual_ms == 590
    group = state.spec.groups["mail"]
    assert budget.longest_ms(group, lambda r: None) is None
    assert budget.longest_ms(group, lambda r: {"store": 10, "postfix": 5, "dovecot": 7, "address": 1}[r.name]) == 18


def test_an_agent_that_nobody_here_knows_has_no_limit(seen):
    r = ResourceSpec(name="x", agent="heartbeat:Xen")
    assert agent_limits.start_ms(r) is agent_limits.stop_ms(r) is None
    assert agent_limits.stop_ms(replace(r, stop_timeout_ms=7)) == 7


@pytest.mark.parametrize("agent", sorted(p.name for p in AGENTS.iterdir() if p.is_file() and p.name != "drill"))
def test_the_known_limits_are_those_of_the_agents(agent):
    found = run([sys.executable, AGENTS / agent, "meta-data"], capture_output=True, text=True, check=True, timeout=20)
    said = {a.get("name"): a.get("timeout") for a in ET.fromstring(found.stdout).iter("action")}
    for action, table in (("start", agent_limits.START_MS), ("stop", agent_limits.STOP_MS)):
        assert said[action] == f"{table[f'hamail:{agent}'] // 1000}s"
