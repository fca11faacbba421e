"""The replicated state machine is total, deterministic, and rejects without a trace."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect as info
from msgspec.structs import replace

from hamail.core import transitions
from hamail.core.apply import HANDLERS, apply, empty_state
from hamail.model import commands as c
from hamail.model.spec import Requirement
from hamail.model.state import ClusterState, Evidence, Incarnation, Phase, Trigger
from hamail.simulation.spec import cluster

NODES = st.sampled_from(["n1", "n2", "n3", "n9"])
GROUPS = st.sampled_from(["mail", "lists", "none"])
LIVES = st.sampled_from([Incarnation("b1", "x1"), Incarnation("b1", "x2"), Incarnation("b2", "x3")])
SMALL = st.integers(0, 40)
TEXT = st.sampled_from(["", "because", "{node} {x}", "\n\t"])
SPECS = st.sampled_from(
    [
        cluster(requires=r, levels=n, groups=g)
        for r in Requirement
        for n in (0, 2)
        for g in (("mail",), ("mail", "lists"))
    ]
    + [cluster(("n1",), ("n2", "n3"))]
)
MOMENTS = SMALL | st.sampled_from([-(2**63), 2**60, 2**60 + 1, 2**63 - 1])  # a clock may be anywhere
BY_NAME = {
    "at_ms": MOMENTS, "until_ms": MOMENTS, "due_ms": MOMENTS,
    "request": st.sampled_from(["", "", "r1", "r2"]), "actor": TEXT, "reason": TEXT,
    "node": NODES, "target": NODES, "by": NODES, "group": GROUPS, "epoch": SMALL, "expected_epoch": SMALL,
    "order": SMALL, "after": SMALL, "since": SMALL, "silent_ms": SMALL, "count": SMALL, "expected_revision": SMALL,
    "behind_ms": SMALL, "unheard": st.lists(NODES, max_size=2).map(tuple), "cleaned": st.dictionaries(GROUPS, SMALL),
    "incarnation": LIVES, "evidence": st.sampled_from(list(Evidence)), "sentence": TEXT, "detail": TEXT,
    "resource": TEXT, "event": TEXT, "source": TEXT, "device": st.sampled_from(["pdu", "ipmi", "none"]),
    "voters": st.lists(NODES, max_size=4).map(tuple), "stamps": st.dictionaries(TEXT, SMALL, max_size=2),
    "clean": st.booleans(), "ok": st.booleans(), "standby": st.booleans(), "on": st.booleans(),
    "watchdog_armed": st.booleans(), "spec": SPECS, "lapse": st.sampled_from(list(c.Lapse)),
    "basis": st.none() | st.builds(
        c.Basis, by=NODES, facts=st.dictionaries(TEXT, TEXT), rejected=st.dictionaries(TEXT, TEXT)
    ),
}  # fmt: skip


def fitting(state: ClusterState, command):
    """The same command with the epochs that the state expects: random ones would nearly all be rejected."""
    changes = {}
    g = state.group(getattr(command, "group", ""))
    if hasattr(command, "epoch"):
        changes["epoch"] = g.epoch
        if g.owner and hasattr(command, "node"):
            changes["node"] = g.owner
    if hasattr(command, "expected_epoch"):
        changes["expected_epoch"] = g.epoch
    if isinstance(command, c.Join):
        n = state.node(command.node)
        changes["after"] = max(n.joined_at, n.fenced_at)
    if isinstance(command, c.FenceDone) and (order := state.node(command.target).fence):
        changes["order"] = order.id
    if isinstance(command, c.ApplyConfig):
        changes["expected_revision"] = state.config.revision
    return replace(command, **changes)


def of_type(kind):
    """Whatever msgspec would let through: what is drawn is what the wire can carry."""
    match kind:
        case info.BoolType():
            return st.booleans()
        case info.IntType():
            return SMALL | st.sampled_from([-(2**63), 2**63 - 1])
        case info.FloatType():
            return st.floats()
        case info.StrType():
            return TEXT
        case info.NoneType():
            return st.none()
        case info.EnumType():
            return st.sampled_from(list(kind.cls))
        case info.LiteralType():
            return st.sampled_from(kind.values)
        case info.VarTupleType() | info.ListType():
            return st.lists(of_type(kind.item_type), max_size=3).map(tuple)
        case info.DictType():
            return st.dictionaries(of_type(kind.key_type), of_type(kind.value_type), max_size=3)
        case info.UnionType():
            return st.one_of([of_type(each) for each in kind.types])
        case info.StructType():
            return drawn_struct(kind.cls)
    raise NotImplementedError(f"the test cannot draw a {kind}")


def drawn_struct(kind):
    """By the names of its fields, or else by their types: a new command is tried as soon as there is one."""
    types = {f.name: f.type for f in info.type_info(kind).fields}
    return st.builds(kind, **{name: BY_NAME[name] if name in BY_NAME else of_type(types[name]) for name in types})


COMMANDS = st.one_of([drawn_struct(kind) for kind in HANDLERS])
HISTORIES = st.lists(st.tuples(COMMANDS, st.booleans()), min_size=5, max_size=60)


def began(spec=None) -> ClusterState:
    spec = spec or cluster()
    state, _ = apply(empty_state(), 1, c.ApplyConfig(at_ms=0, spec=spec, source="", expected_revision=0))
    for index, node in enumerate(("n1", "n2"), start=2):
        state, _ = apply(state, index, c.Join(at_ms=0, node=node, incarnation=Incarnation(f"boot-{node}", "x")))
    return state


def run(state, *commands, start=10):
    for index, command in enumerate(commands, start=start):
        state, outcome = apply(state, index, command)
        assert outcome.accepted, (command, outcome.reasons)
    return state


def grant(node="n1", expected=0, evidence=Evidence.NEVER_OWNED, voters=()):
    return c.Grant(at_ms=0, group="mail", node=node, expected_epoch=expected, evidence=evidence, voters=voters)


def active(spec=None) -> ClusterState:
    return run(began(spec), grant(), c.Started(at_ms=0, group="mail", node="n1", epoch=10))


LOST = c.OwnerLost(at_ms=0, group="mail", node="n1", epoch=10, silent_ms=1000, voters=("n2", "n3"))
EXPIRED = grant("n2", 10, Evidence.EXPIRED, ("n2", "n3"))


def test_every_command_has_a_handler():
    assert set(HANDLERS) == set(c.AnyCommand.__args__)


@settings(max_examples=200, deadline=None)
@given(HISTORIES, st.booleans())
def test_apply_is_total_and_leaves_no_trace_of_what_it_rejects(history, configured):
    state = began() if configured else empty_state()
    for index, (drawn, fit) in enumerate(history, start=state.applied + 1):
        command = fitting(state, drawn) if fit else drawn
        before = state
        state, outcome = apply(before, index, command)
        again, same = apply(before, index, command)
        assert (again, same) == (state, outcome), "not deterministic"
        assert state.applied == index
        if not outcome.accepted:
            assert outcome.reasons
            assert state == replace(before, applied=index, requests=state.requests, events=state.events)
            news = state.events[len(before.events) :]
            assert all(e.kind == "refused" and command.request for e in news), "only what a person asked for is told"
        check(before, state, index)


def check(before: ClusterState, state: ClusterState, index: int) -> None:
    for name in state.groups:
        old, new = before.group(name), state.group(name)
        assert new.epoch >= old.epoch
        assert new.epoch in (old.epoch, index), "an epoch is the index of its grant"
        if new.epoch != old.epoch:
            owner = state.spec.nodes[new.owner]
            assert not owner.witness
            assert state.node(new.owner).incarnation is not None
            assert old.phase in (Phase.IDLE, Phase.WAITING, Phase.FENCING)
            assert not before.maintenance.on
        assert (new.owner is None) == (new.phase is Phase.IDLE)
    assert len(state.events) <= 1000
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=ClusterState) == state


@settings(max_examples=60, deadline=None)
@given(HISTORIES)
def test_nothing_is_granted_away_from_an_owner_without_proof(history):
    """Whatever is committed: an owner of a group that requires fencing loses it only by its own word or by a fence."""
    state = active()
    for index, (drawn, fit) in enumerate(history, start=20):
        command = fitting(state, drawn) if fit else drawn
        if isinstance(command, c.ApplyConfig):
            continue
        before = state.group("mail")
        state, _ = apply(state, index, command)
        after = state.group("mail")
        if before.owner is not None and after.owner != before.owner:
            assert isinstance(command, c.Released | c.StartFailed | c.FenceDone | c.FenceConfirmed | c.Join), (
                f"{type(command).__name__} took mail from {before.owner}"
            )


def test_a_request_is_answered_once():
    state = active()
    order = c.SetStandby(at_ms=0, node="n2", standby=True, request="r1")
    state, first = apply(state, 20, order)
    assert first.accepted
    later, second = apply(state, 21, order)
    assert (second, later) == (first, replace(state, applied=21))


def test_a_rejected_request_stays_rejected():
    wrong = c.SetStandby(at_ms=0, node="n3", standby=True, request="r1")
    state, first = apply(began(), 20, wrong)
    _, second = apply(state, 21, wrong)
    assert not first.accepted
    assert second == first


@pytest.mark.parametrize(
    ("requires", "levels", "watchdog", "phase"),
    [
        (Requirement.FENCING, 1, False, Phase.FENCING),
        (Requirement.FENCING, 0, True, Phase.BLOCKED),
        (Requirement.WATCHDOG, 0, True, Phase.WAITING),
        (Requirement.WATCHDOG, 0, False, Phase.BLOCKED),
        (Requirement.LEASE, 0, False, Phase.WAITING),
        (Requirement.LEASE, 1, False, Phase.FENCING),
    ],
)
def test_what_a_lost_owner_needs(requires, levels, watchdog, phase):
    state = active(cluster(requires=requires, levels=levels))
    nodes = {**state.nodes, "n1": replace(state.node("n1"), watchdog_armed=watchdog)}
    state = run(replace(state, nodes=nodes), LOST, start=20)
    assert state.group("mail").phase is phase
    _, outcome = apply(state, 30, EXPIRED)
    assert outcome.accepted == (requires is not Requirement.FENCING and phase is not Phase.BLOCKED), outcome


def test_expiry_needs_a_majority():
    state = run(active(cluster(requires=Requirement.LEASE, levels=0)), LOST, start=20)
    for voters in ((), ("n2",), ("n2", "n9"), ("n2", "n2")):
        _, outcome = apply(state, 30, replace(EXPIRED, voters=voters))
        assert not outcome.accepted, voters


def test_expiry_proves_nothing_after_a_failed_stop_under_leases_alone():
    state = run(active(cluster(requires=Requirement.LEASE, levels=0)), LOST, start=20)
    assert state.group("mail").phase is Phase.WAITING
    failed = c.StopFailed(at_ms=0, group="mail", node="n1", epoch=10, resource="store", detail="busy")
    state = run(state, failed, start=30)
    assert state.group("mail").phase is Phase.BLOCKED
    assert not apply(state, 40, EXPIRED)[1].accepted


def test_expiry_proves_nothing_while_the_switch_may_be_suspended():
    on, off = (c.SetMaintenance(at_ms=0, on=x) for x in (True, False))
    state = run(active(cluster(requires=Requirement.LEASE, levels=0)), on, off, LOST, start=20)
    assert state.group("mail").phase is Phase.BLOCKED
    state = run(active(cluster(requires=Requirement.LEASE, levels=0)), on, off, start=20)
    late = c.AckMaintenance(at_ms=0, node="n1", on=False, since=19)
    assert not apply(state, 30, late)[1].accepted
    state = run(state, replace(late, since=21), LOST, start=30)
    assert state.group("mail").phase is Phase.WAITING


def test_a_late_join_of_an_earlier_life_voids_nothing():
    old = c.Join(at_ms=0, node="n1", incarnation=Incarnation("boot-0", "x"))
    state, outcome = apply(active(), 20, old)
    assert not outcome.accepted
    assert state.group("mail").owner == "n1"


def test_a_join_frees_what_an_earlier_life_held():
    state = active()
    again = c.Join(at_ms=0, node="n1", incarnation=Incarnation("boot-1", "y"), after=state.node("n1").joined_at)
    g = run(state, again, start=20).group("mail")
    assert (g.phase, g.owner, g.evidence, g.trigger) == (Phase.IDLE, None, Evidence.REJOINED, Trigger.NODE_RESTARTED)


def test_a_fence_that_ends_after_a_join_is_closed_and_proves_nothing():
    order = c.OrderFence(at_ms=0, target="n1", device="pdu", by="n2")
    state = run(active(), LOST, order, start=20)
    join = c.Join(at_ms=0, node="n1", incarnation=Incarnation("boot-1", "y"), after=state.node("n1").joined_at)
    state = run(state, join, start=30)
    assert not apply(state, 40, grant("n1", 10))[1].accepted, "it is still being fenced"
    state = run(state, c.FenceDone(at_ms=0, target="n1", order=21, ok=True, detail="off"), start=40)
    assert state.node("n1").fence is None
    assert state.node("n1").incarnation == Incarnation("boot-1", "y")


def test_fences_are_for_nodes_that_hold_something():
    order = c.OrderFence(at_ms=0, target="n1", device="pdu", by="n2")
    assert not apply(active(), 20, order)[1].accepted
    state = run(active(), LOST, start=20)
    for wrong in (
        replace(order, by="n1"),
        replace(order, by="n3"),
        replace(order, device="none"),
        replace(order, target="n2", by="n1"),
    ):
        assert not apply(state, 30, wrong)[1].accepted, wrong
    state = run(state, order, start=30)
    assert not apply(state, 40, order)[1].accepted, "one at a time"


def test_an_untrusted_owner_does_not_simply_keep_the_group():
    failed = c.StopFailed(at_ms=0, group="mail", node="n1", epoch=10, resource="store", detail="busy")
    back = c.OwnerBack(at_ms=0, group="mail", node="n1", epoch=10)
    assert not apply(run(active(), failed, start=20), 30, back)[1].accepted
    assert not apply(run(active(), c.RequestFence(at_ms=0, target="n1"), start=20), 30, back)[1].accepted
    assert apply(run(active(), LOST, start=20), 30, back)[1].accepted


def test_nobody_vouches_for_the_death_of_a_node_that_counts_as_running():
    confirmed = c.FenceConfirmed(at_ms=0, target="n1", actor="anna")
    assert not apply(active(), 20, confirmed)[1].accepted
    g = run(run(active(), LOST, start=20), confirmed, start=30).group("mail")
    assert (g.phase, g.evidence) == (Phase.IDLE, Evidence.CONFIRMED)


def test_a_word_that_comes_late_says_nothing_of_a_later_life():
    """It was given, its commit hung, the node came back, got the group and is missed again: it may well run."""
    state = run(active(), LOST, start=20)
    life = state.node("n1").life
    assert apply(state, 30, c.FenceConfirmed(at_ms=0, target="n1", life=life))[1].accepted
    later, outcome = apply(state, 30, c.FenceConfirmed(at_ms=0, target="n1", life=life - 1))
    assert not outcome.accepted and "joined again" in outcome.reasons[0] and later.group("mail") == state.group("mail")


def test_an_end_of_maintenance_that_comes_late_does_not_end_a_later_one():
    """It hung, maintenance was ended by another one and begun anew: people are at work again."""
    on, off = c.SetMaintenance(at_ms=0, on=True), c.SetMaintenance(at_ms=0, on=False)
    first = run(active(), on, start=20)
    late = replace(off, since=first.maintenance.since)
    assert apply(first, 21, late)[1].accepted
    again = run(first, off, on, start=21)
    after, outcome = apply(again, 30, late)
    assert not outcome.accepted and after.maintenance == again.maintenance


def test_a_clear_that_comes_late_says_nothing_of_a_later_epoch():
    """It would have let an owner back from which somebody has ordered the group away by force."""
    g = active().group("mail")
    assert apply(active(), 20, c.Clear(at_ms=0, group="mail", epoch=g.epoch))[1].accepted
    assert not apply(active(), 20, c.Clear(at_ms=0, group="mail", epoch=g.epoch - 1))[1].accepted


def test_config_does_not_change_under_a_move():
    state = run(active(), LOST, start=20)
    loose = cluster(requires=Requirement.LEASE)
    change = c.ApplyConfig(at_ms=0, spec=loose, source="", expected_revision=1)
    assert not apply(state, 30, change)[1].accepted
    assert apply(active(), 30, change)[1].accepted


def test_longest_timings_are_remembered():
    change = c.ApplyConfig(at_ms=0, spec=cluster(detection_ms=5000), source="", expected_revision=1)
    back = c.ApplyConfig(at_ms=0, spec=cluster(detection_ms=300), source="", expected_revision=2)
    assert run(active(), change, back, start=20).detection_ms_max == 5000


def test_diagram_has_every_phase_and_event():
    drawn = transitions.diagram()
    assert all(str(p) in drawn for p in Phase)
    assert all(str(w) in drawn for w in transitions.What)
    assert drawn.startswith("stateDiagram-v2")


@pytest.mark.parametrize(
    ("state", "command", "why"),
    [
        (began(), grant("n9"), "there is no node n9"),
        (run(active(), c.SetMaintenance(at_ms=0, on=True), start=20), LOST, "in maintenance"),
        (
            run(active(), c.SetMaintenance(at_ms=0, on=True), start=20),
            c.Failed(at_ms=0, group="mail", node="n1", epoch=10, resource="postfix", detail="x"),
            "in maintenance",
        ),
        (
            run(
                began(replace(cluster(), groups={"mail": replace(cluster().groups["mail"], nodes=("n1",))})),
                grant(),
                c.StartFailed(at_ms=0, group="mail", node="n1", epoch=10, resource="store", clean=True, detail="x"),
                c.SetMaintenance(at_ms=0, on=True),
            ),
            c.Retry(at_ms=0, group="mail", expected_epoch=10),
            "in maintenance",
        ),
    ],
)
def test_what_is_rejected_and_why(state, command, why):
    after, outcome = apply(state, 50, command)
    assert not outcome.accepted and why in outcome.reasons[0]
    assert after == replace(state, applied=50)


def test_a_group_comes_up_also_when_the_record_of_its_move_has_left_the_history():
    state = run(began(), grant())
    forgotten = replace(state, moves=())
    up = run(forgotten, c.Started(at_ms=0, group="mail", node="n1", epoch=10), start=20)
    assert (up.group("mail").phase, up.group("mail").move, up.moves) == (Phase.ACTIVE, 0, ())
