"""The failure policy, bans, quarantine, expiry and the scopes of maintenance, one rule at a time."""

import msgspec
import pytest
from msgspec.structs import replace

from hamail.core import coordinator, expiry, hands_off, leaving, placement, policy, policy_view, returns
from hamail.core.apply import apply
from hamail.core.facts import NodeFacts
from hamail.core.timing import derive
from hamail.model import commands as c
from hamail.model.spec import Budget
from hamail.model.state import ClusterState, Failure, Incarnation, Phase, Trigger
from hamail.simulation.spec import cluster
from tests.unit.test_core_apply import active, began, run
from tests.unit.test_core_placement import facts

MIN_MS = 60_000
HOUR_MS = 60 * MIN_MS
DAY_MS = 24 * HOUR_MS
TWO = (Budget(limit=1, window_ms=15 * MIN_MS), Budget(limit=3, window_ms=DAY_MS))
T = derive(1000, 5)


def refused(state, command, at=None):
    after, outcome = apply(state, at or state.applied + 1, command)
    assert not outcome.accepted
    assert replace(after, applied=0, events=()) == replace(state, applied=0, events=()), (
        "a refused order changes nothing"
    )
    return outcome.reasons[0]


def taken(state, *commands):
    for command in commands:
        state, outcome = apply(state, state.applied + 1, command)
        assert outcome.accepted, outcome.reasons
    return state


def with_group(state, **changes):
    return replace(state, groups={**state.groups, "mail": replace(state.group("mail"), **changes)})


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_the_budget_that_lasts_longest_counts():
    spec = replace(cluster(failovers=TWO).groups["mail"])
    g = replace(began().group("mail"), failovers=(0, 10 * HOUR_MS, 20 * HOUR_MS))
    short, long = policy.uses(spec, g, 20 * HOUR_MS + 1)
    assert (short.used, long.used, short.up, long.up) == (1, 3, True, True)
    full = policy.used_up(spec, g, 20 * HOUR_MS + 1)
    assert (full.limit, full.free_at_ms) == (3, DAY_MS)
    assert policy.used_up(spec, g, DAY_MS) is None, "the first one is a day old"


def test_no_failover_at_all_is_a_budget_too():
    spec = cluster(failovers=(Budget(limit=0, window_ms=HOUR_MS),)).groups["mail"]
    full = policy.used_up(spec, began().group("mail"), 0)
    assert (full.limit, full.free_at_ms) == (0, 0)


def test_without_a_budget_nothing_is_used_up():
    spec = cluster(failovers=()).groups["mail"]
    assert policy.used_up(spec, replace(began().group("mail"), failovers=(1, 2, 3)), 3) is None


def test_times_of_a_clock_that_was_years_ahead_do_not_count_for_years():
    assert policy.recent((5, 10 * DAY_MS), 10, HOUR_MS) == (5,)


def fails_over(state, at_ms, node="n1", to="n2"):
    epoch = state.group("mail").epoch
    lost = c.Failed(at_ms=at_ms, group="mail", node=node, epoch=epoch, resource="postfix", detail="x")
    released = c.Released(at_ms=at_ms, group="mail", node=node, epoch=epoch)
    grant = c.Grant(at_ms=at_ms, group="mail", node=to, expected_epoch=epoch, evidence="released")
    state = taken(state, lost, released, grant)
    epoch = state.group("mail").epoch
    return taken(state, c.Started(at_ms=at_ms, group="mail", node=to, epoch=epoch))


def test_a_failover_is_counted_and_a_switchover_is_not():
    state = fails_over(active(), 1000)
    assert state.group("mail").failovers == (1000,)
    g = state.group("mail")
    move = c.RequestMove(at_ms=2000, group="mail", target="n1", expected_epoch=g.epoch)
    released = c.Released(at_ms=2000, group="mail", node="n2", epoch=g.epoch)
    grant = c.Grant(at_ms=2000, group="mail", node="n1", expected_epoch=g.epoch, evidence="released")
    assert taken(state, move, released, grant).group("mail").failovers == (1000,)
    assert taken(state, c.Clear(at_ms=3000, group="mail")).group("mail").failovers == ()


def test_a_failed_service_moves_only_to_a_better_node():
    spec = cluster().groups["mail"]
    g = replace(began().group("mail"), failures=(Failure(at_ms=0, node="n2", resource="postfix"),))
    said = policy.stays("mail", spec, g, "n2", "postfix", MIN_MS, fatal=True)
    assert said == "n2 is no better: postfix failed there, too, 1 min ago"
    assert policy.stays("mail", spec, g, "n2", "dovecot", MIN_MS, fatal=False) == ""
    assert policy.stays("mail", spec, g, "n2", "postfix", HOUR_MS, fatal=False) == "", "long ago"


def test_a_used_up_budget_keeps_what_can_be_restarted_and_what_has_failed_elsewhere():
    spec = cluster(failovers=TWO).groups["mail"]
    g = replace(began().group("mail"), failovers=(0,))
    assert "used up its failovers (1 in 15 min" in policy.stays("mail", spec, g, "n2", "postfix", 1, fatal=False)
    assert policy.stays("mail", spec, g, "n2", "postfix", 1, fatal=True) == "", "no restart can help here"
    g = replace(g, failures=(Failure(at_ms=0, node="n2"),))
    assert "used up" in policy.stays("mail", spec, g, "n2", "postfix", 1, fatal=True)


def test_a_group_that_bounces_waits_and_one_that_does_not_goes_on():
    state = began(cluster(failovers=TWO))
    bounced = with_group(state, trigger=Trigger.NODE_LOST, failovers=(0,), failures=(Failure(at_ms=0, node="n2"),))
    assert "it was itself lost" in placement.refusal(bounced, facts(), "mail", "n2")
    assert placement.choose(bounced, facts(), "mail") == "n1", "who has not failed it is no bounce"
    another = replace(bounced.group("mail").failures[0], resource="postfix")
    lost = Failure(at_ms=1, node="n1")
    otherwise = with_group(bounced, failures=(another, lost))
    assert placement.refusal(otherwise, facts(), "mail", "n2") == "", "another cause"
    for pardon in ({"pardoned": True}, {"trigger": Trigger.CLEARED}, {"trigger": Trigger.SWITCHOVER}):
        assert placement.refusal(with_group(bounced, **pardon), facts(), "mail", "n2") == ""


def test_the_history_tells_when_the_last_failover_is_used():
    state = fails_over(active(cluster(failovers=TWO)), 1000)
    assert any("has used up its failovers (1 in 15 min" in e.sentence for e in state.events)


# --- bans -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("until_ms", [0, 99, 100, 100 + 30 * DAY_MS + 1])
def test_a_ban_ends_in_the_future_and_within_30_days(until_ms):
    said = refused(active(), c.SetBan(at_ms=100, group="mail", node="n2", until_ms=until_ms))
    assert "always ends" in said


def test_a_banned_node_gets_the_group_by_no_path():
    state = taken(began(), c.SetBan(at_ms=0, group="mail", node="n1", until_ms=HOUR_MS))
    grant = c.Grant(at_ms=0, group="mail", node="n1", expected_epoch=0, evidence="never owned")
    assert "is banned from n1" in refused(state, grant)
    assert "is banned from n1" in refused(state, c.RequestMove(at_ms=0, group="mail", target="n1", expected_epoch=0))
    assert placement.choose(state, facts(), "mail") == "n2"


def test_a_ban_of_the_target_of_a_move_lets_it_go_elsewhere():
    state = active()
    move = c.RequestMove(at_ms=0, group="mail", target="n2", expected_epoch=state.group("mail").epoch)
    state = taken(state, move, c.SetBan(at_ms=0, group="mail", node="n2", until_ms=HOUR_MS))
    assert state.group("mail").target is None
    assert state.group("mail").phase is Phase.STOPPING


def test_only_the_ban_that_is_meant_expires():
    first = c.SetBan(at_ms=0, group="mail", node="n2", until_ms=HOUR_MS)
    state = taken(active(), first)
    since = state.group("mail").bans["n2"].since
    end = c.Expire(at_ms=HOUR_MS, lapse=c.Lapse.BAN, since=since, group="mail", node="n2")
    assert "lasts until" in refused(state, replace(end, at_ms=HOUR_MS - 1))
    anew = taken(state, replace(first, until_ms=2 * HOUR_MS))
    assert "set anew" in refused(anew, end)
    assert taken(state, end).group("mail").bans == {}
    assert expiry.due(state, HOUR_MS - 1) == ()
    assert [x.lapse for x in expiry.due(state, HOUR_MS)] == [c.Lapse.BAN]


def test_every_lapse_is_proposed_and_accepted():
    state = active()
    ends = {"until_ms": 1000}
    state = taken(
        state,
        c.SetStandby(at_ms=0, node="n2", standby=True, **ends),
        c.HandsOff(at_ms=0, on=True, node="n2", **ends),
        c.HandsOff(at_ms=0, on=True, group="mail", **ends),
        c.SetBan(at_ms=0, group="mail", node="n2", **ends),
        c.SetMaintenance(at_ms=0, on=True, **ends),
    )
    quarantine = replace(state.node("n2").standby_term, since=1)
    state = replace(state, nodes={**state.nodes, "n2": replace(state.node("n2"), quarantine=quarantine)})
    assert expiry.next_ms(state) == 1000
    due = expiry.due(state, 1000)
    assert {x.lapse for x in due} == set(c.Lapse)
    assert set(due) <= set(coordinator.decide(state, facts(), T)) or coordinator.decide(state, facts(), T) == ()
    state = taken(state, *due)
    assert expiry.next_ms(state) is None and not state.maintenance.on and not state.node("n2").standby


# --- quarantine -------------------------------------------------------------------------------------------------------


def comes_back(state, at_ms, number):
    life = Incarnation(f"boot-{number}", f"x{number}")
    after = max(state.node("n2").joined_at, state.node("n2").fenced_at)
    return taken(state, c.Join(at_ms=at_ms, node="n2", incarnation=life, after=after, cleaned={"mail": 99}))


def test_the_third_return_within_ten_minutes_is_one_too_many():
    state = active()
    for number, at_ms in enumerate((0, 4 * MIN_MS, 8 * MIN_MS), start=7):
        assert state.node("n2").quarantine is None
        state = comes_back(state, at_ms, number)
    term = state.node("n2").quarantine
    assert term.until_ms == 8 * MIN_MS + HOUR_MS and "3 times within 10 min" in term.reason
    assert "quarantine --clear n2" in placement.refusal(state, facts(), "mail", "n2")
    epoch = state.group("mail").epoch
    assert "quarantine" in refused(state, c.RequestMove(at_ms=0, group="mail", target="n2", expected_epoch=epoch))
    assert taken(state, c.LiftQuarantine(at_ms=0, node="n2")).node("n2").returns == ()


def test_who_comes_back_seldom_or_in_order_is_not_put_there():
    state = active()
    for number, at_ms in enumerate((0, 11 * MIN_MS, 22 * MIN_MS), start=7):
        state = comes_back(state, at_ms, number)
    assert state.node("n2").quarantine is None
    state = taken(active(), c.SetStandby(at_ms=0, node="n2", standby=True))
    for number in (7, 8, 9, 10):
        state = comes_back(state, number * MIN_MS, number)
    assert state.node("n2").returns == ()


def test_a_return_that_is_seen_twice_counts_once():
    state = comes_back(active(), 10_000, 7)
    state = taken(state, c.NodeBack(at_ms=10_900, node="n2", silent_ms=3000))
    assert len(state.node("n2").returns) == 1


def quarantined(state, *nodes):
    term = policy_term()
    return replace(state, nodes={**state.nodes, **{n: replace(state.node(n), quarantine=term) for n in nodes}})


def policy_term():
    from hamail.model.state import Term

    return Term(since=1, since_ms=0, until_ms=HOUR_MS, reason="it flaps")


def test_the_last_resort():
    state = quarantined(began(), "n2")
    assert placement.choose(state, facts(), "mail") == "n1"
    assert placement.choose(state, facts(n1=NodeFacts(silent_ms=9000, suspected=True)), "mail") == "n2"
    back_soon = NodeFacts(alive=True, ready=True, restarting=True)
    assert placement.choose(state, facts(n1=back_soon), "mail") is None, "n1 is back in a second"
    unsettled = replace(facts(n1=NodeFacts()), settled=False)
    assert placement.choose(state, unsettled, "mail") is None, "n1 may just not have been heard yet"
    assert placement.choose(quarantined(began(), "n1", "n2"), facts(), "mail") == "n1"
    runs = quarantined(active(), "n2")
    assert not placement.candidates(runs, facts(), "mail")[-1].eligible
    assert placement.last_resorts(runs, facts(), "mail") == ("n2",)


def test_a_node_that_owns_nothing_is_watched():
    watch, state = returns.Returns(), active()
    assert watch.step(state, facts(n2=NodeFacts(suspected=True, silent_ms=1500))) == ()
    assert watch.missing == {"n2"}
    (back,) = watch.step(state, replace(facts(), now_ns=2_000_000_000))
    assert (back.node, back.silent_ms) == ("n2", 3500)
    watch.step(state, facts(n2=NodeFacts(suspected=True)))
    assert watch.step(comes_back(state, 0, 7), facts()) == (), "its join was counted"
    assert watch.step(state, facts(n1=NodeFacts(suspected=True))) == () and not watch.missing, "n1 owns mail"


# --- maintenance of a group or a node ---------------------------------------------------------------------------------


def test_nothing_is_decided_about_what_is_left_alone():
    lost = facts(n1=NodeFacts(suspected=True, silent_ms=5000, accusers=("n2", "n3")))
    for scope in ({"group": "mail"}, {"node": "n1"}):
        state = taken(active(), c.HandsOff(at_ms=0, on=True, **scope))
        assert coordinator.decide(state, lost, T) == ()
        assert hands_off.from_group(state, "mail")
        told = leaving.preview(state, lost, T, {}, **scope)
        assert told.acts and any("taken for lost" in x for x in told.sentences)
        epoch = state.group("mail").epoch
        for order in (
            c.OwnerLost(at_ms=0, group="mail", node="n1", epoch=epoch, silent_ms=9, voters=("n2", "n3")),
            c.Failed(at_ms=0, group="mail", node="n1", epoch=epoch, resource="x", detail="x"),
            c.RequestMove(at_ms=0, group="mail", target="n2", expected_epoch=epoch),
            c.RequestFence(at_ms=0, target="n1"),
            c.SetStandby(at_ms=0, node="n1", standby=True),
            c.SetBan(at_ms=0, group="mail", node="n1", until_ms=10),
        ):
            assert "maintenance" in refused(state, order), order


def test_maintenance_waits_for_the_end_of_a_move():
    state = active()
    epoch = state.group("mail").epoch
    moving = taken(state, c.RequestMove(at_ms=0, group="mail", target="n2", expected_epoch=epoch))
    for scope in ({"group": "mail"}, {"node": "n1"}):
        assert "wait" in refused(moving, c.HandsOff(at_ms=0, on=True, **scope))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "either a group or a node"),
        ({"group": "mail", "node": "n1"}, "either a group or a node"),
        ({"group": "web"}, "no group web"),
        ({"node": "n9"}, "no node n9"),
        ({"node": "n3"}, "witness"),
        ({"node": "n1", "until_ms": 5}, "not in the future"),
    ],
)
def test_hands_off_of_what(fields, why):
    assert why in refused(active(), c.HandsOff(at_ms=5, on=True, **fields))


def test_leaving_says_so_when_nothing_follows():
    state = taken(active(), c.HandsOff(at_ms=0, on=True, group="mail"))
    resources = {"mail": {r.name: "up" for r in state.spec.groups["mail"].resources}}
    told = leaving.preview(state, facts(), T, resources, group="mail")
    assert told.sentences == ("mail stays active on n1: nothing has to be done.",) and not told.acts
    resources["mail"]["postfix"] = "failed"
    told = leaving.preview(state, facts(), T, resources, group="mail")
    assert "postfix is failed on n1" in told.sentences[0] and told.acts
    both = taken(state, c.HandsOff(at_ms=0, on=True, node="n1"))
    assert "still nothing is done" in leaving.preview(both, facts(), T, resources, group="mail").sentences[0]


def test_maintenance_of_the_cluster_changes_its_end_without_new_answers():
    state = taken(active(), c.SetMaintenance(at_ms=0, on=True, until_ms=50))
    since = state.maintenance.since
    state = taken(state, c.SetMaintenance(at_ms=10, on=True, until_ms=90))
    assert (state.maintenance.since, state.maintenance.until_ms) == (since, 90)
    end = c.Expire(at_ms=90, lapse=c.Lapse.MAINTENANCE, since=since)
    assert "lasts until" in refused(state, replace(end, at_ms=60))
    over = taken(state, end).maintenance
    assert not over.on and over.suspended == ("n1", "n2"), "each switch is in force only when its node has said so"


# --- views ------------------------------------------------------------------------------------------------------------


def test_the_view_counts():
    state = fails_over(active(cluster(failovers=TWO)), 1000)
    restart = c.Restarted(
        at_ms=2000, group="mail", node="n2", epoch=state.group("mail").epoch, resource="postfix", detail="x", count=1
    )
    seen = policy_view.view(taken(state, restart, restart), "mail", 3000)
    assert seen.restarts == "3 in 10m" and seen.restarted == {"postfix": 2}
    assert [(b.allowed, b.used) for b in seen.failovers] == [("1 in 15m", 1), ("3 in 24h", 1)]
    assert "used up" in seen.used_up


def test_a_snapshot_of_an_earlier_version_loads():
    """What it did not have takes its default."""
    plain = msgspec.to_builtins(run(active()))
    news = {"bans", "maintenance", "failovers", "failures", "restarts", "pardoned"}
    plain["groups"] = {n: {k: v for k, v in g.items() if k not in news} for n, g in plain["groups"].items()}
    news = {"standby_term", "returns", "quarantine", "maintenance"}
    plain["nodes"] = {n: {k: v for k, v in x.items() if k not in news} for n, x in plain["nodes"].items()}
    del plain["maintenance"]["until_ms"]
    for part in ("quarantine", "quarantine_for_ms"):
        del plain["spec"][part]
    del plain["spec"]["groups"]["mail"]["failovers"]
    assert msgspec.convert(plain, ClusterState) == active()


# --- what no clock and no configuration may do ------------------------------------------------------------------------


def test_a_snapshot_can_be_written_whatever_the_clock_of_a_node_says():
    """An entry that makes the state too large for its own format would stop every node for good."""
    state = began()
    for number in range(4):
        life = Incarnation(f"boot-{number}", "x")
        at_ms = 2**64 - 1 - number * 10_000
        state = taken(state, c.Join(at_ms=at_ms, node="n2", incarnation=life, after=state.node("n2").life))
    assert state.node("n2").quarantine is not None
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=ClusterState) == state


def test_a_budget_that_no_configuration_has_is_no_error_of_apply():
    assert policy.use(Budget(limit=-1, window_ms=HOUR_MS), (1,), 1) == policy.Use(limit=-1, window_ms=HOUR_MS, used=1)


def test_a_long_word_of_a_peer_keeps_no_decision_out_of_the_log():
    long = "x" * 200_000
    found = coordinator.decide(began(), facts(n2=NodeFacts(alive=True, detail=long)), T)
    assert [type(x) for x in found] == [c.Grant]
    assert all(len(words) < 1000 for words in found[0].basis.facts.values())


@pytest.mark.parametrize("nodes", [(), ("n1", "ghost")])
def test_a_configuration_whose_groups_name_no_nodes_of_the_cluster_is_refused(nodes):
    """No parser lets it through; forged by a member it made apply raise on every node, for instance in ScheduleMove."""
    spec = cluster()
    spec = replace(spec, groups={"mail": replace(spec.groups["mail"], nodes=nodes)})
    assert "not nodes of the cluster" in refused(
        began(), c.ApplyConfig(at_ms=0, spec=spec, source="", expected_revision=1)
    )
    state = replace(began(), spec=spec)
    assert refused(state, c.ScheduleMove(at_ms=0, group="mail", target="ghost", due_ms=1)) in (
        "there is no node ghost",
        "ghost may not own mail",
    )
