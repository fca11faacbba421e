"""Every decision leaves its reasons in the history: bounded, the same on every node, enough to explain it later."""

import msgspec
from msgspec.structs import replace

from hamail.core import account, record, rules
from hamail.core.apply import apply, empty_state
from hamail.core.transitions import ROWS
from hamail.model import commands as c
from hamail.model.state import Evidence, Incarnation, Severity
from hamail.simulation.spec import cluster
from hamail.simulation.world import World

WITHOUT_RULE = {"barrier", "annotate", "ack_maintenance", "report_audit"}  # they decide nothing
BY_ROW = {"started", "failed", "start_failed", "stop_failed", "released"}  # the row of the table is the rule


def began():
    state, _ = apply(empty_state(), 1, c.ApplyConfig(at_ms=0, spec=cluster(), source="", expected_revision=0))
    for index, node in enumerate(("n1", "n2"), start=2):
        state, _ = apply(state, index, c.Join(at_ms=0, node=node, incarnation=Incarnation(f"boot-{node}", "x")))
    return state


def failed_over():
    world = World(cluster())
    world.start_all()
    assert world.run_until(lambda: world.active_on("mail") == "n1", 10_000)
    world.run_ms(3000)
    world.power_off("n1")
    assert world.run_until(lambda: world.active_on("mail") == "n2", 20_000)
    world.run_ms(1000)
    return world


def test_every_event_names_its_rule_and_the_first_of_an_entry_its_facts():
    state = failed_over().state
    seen = set()
    for event in state.events:
        assert event.decision.rule, event.sentence
        if event.index in seen:
            assert not event.decision.facts
        seen.add(event.index)
    lost = next(e for e in state.events if "must be fenced" in e.sentence)
    assert lost.decision.rule == "active + must fence -> fencing"
    assert lost.decision.trigger == "node lost"
    assert lost.decision.facts["voters"] == "n2, n3"
    assert "missed by n2, n3" in lost.decision.facts["n1"]
    assert lost.severity is Severity.WARNING
    order = next(e for e in state.events if e.kind == "fence")
    assert (order.decision.rule, order.decision.facts["pdu by n2"]) == ("order_fence", "ready")
    assert order.decision.by in ("n2", "n3")
    move = state.moves[-1]
    assert (move.evidence, move.epoch) == (Evidence.FENCED, state.group("mail").epoch)
    assert move.silent_ms >= 1000
    assert all(e.decision.move == move.id for e in state.events if e.index >= move.id and e.group)


def test_the_witness_explains_a_failover_from_its_log_alone():
    world = failed_over()
    state = world.machines["n3"].daemon.engine.state
    move = state.moves[-1]
    text = "\n".join(account.of_entry(state, move.id))
    for words in (
        "Move", "from n1 to n2: done", "Set off by node lost", "held mail any more: fenced",
        "rule    order_fence: A node that cannot be asked is cut off", "missed by n2, n3",
        "only wait until its promises run out: only a fence would prove it", "idle + granted -> starting",
    ):  # fmt: skip
        assert words in text, text
    one = next(e for e in state.events if e.kind == "fence")
    assert account.of_entry(state, one.index)[0].endswith(one.sentence)
    assert account.of_entry(state, 999_999) == ()


def test_every_node_keeps_the_same():
    world = failed_over()
    told = {msgspec.msgpack.encode(world.machines[n].daemon.engine.state.events) for n in ("n2", "n3")}
    assert len(told) == 1


def test_a_refused_order_is_told_as_it_was_typed_with_a_next_step():
    order = c.SetStandby(at_ms=5, node="n1", standby=False, request="order-1", actor="anna")
    sentence = apply(began(), 10, order)[0].events[-1].sentence
    assert sentence.startswith("anna asked for unstandby n1; refused: n1 is already out of standby; hamailctl status")


def test_a_refused_order_is_kept_and_changes_nothing_else():
    state = began()
    order = c.SetStandby(at_ms=5, node="n3", standby=True, request="order-1", actor="anna", reason="disk swap")
    after, outcome = apply(state, 10, order)
    assert not outcome.accepted
    event = after.events[-1]
    assert (event.kind, event.actor, event.reason, event.node) == ("refused", "anna", "disk swap", "n3")
    assert event.sentence.startswith("anna asked for standby n3; refused: n3 is a witness")
    assert event.decision.rule == "refused"
    assert replace(after, events=state.events, requests=(), applied=3) == replace(state, applied=3)
    again, _ = apply(after, 11, replace(order, request="order-2"))
    assert again.events == after.events, "the same refusal again and again does not flush the history"
    unasked, _ = apply(state, 12, replace(order, request=""))
    assert unasked.events == state.events


def test_a_record_is_bounded_whatever_a_command_carries():
    many = {f"{n} " + "k" * 500: "v" * 10_000 for n in range(500)}
    basis = c.Basis(by="b" * 5000, facts=many, rejected=many)
    grant = c.Grant(
        at_ms=0, group="mail", node="n1", expected_epoch=0, evidence=Evidence.NEVER_OWNED, basis=basis,
        voters=("x" * 100_000,),
    )  # fmt: skip
    state, outcome = apply(began(), 10, grant)
    assert outcome.accepted
    decision = state.events[-1].decision
    assert len(decision.facts) <= record.FACTS_MAX >= len(decision.rejected)
    size = len(msgspec.msgpack.encode(decision))
    assert size < 2 * record.FACTS_MAX * (record.KEY_CHARS_MAX + 2 * record.TEXT_CHARS_MAX)


def test_a_refused_order_with_monstrous_names_is_bounded_too():
    order = c.SetStandby(at_ms=5, node="n" * 100_000, standby=True, request="order-1", actor="a" * 100_000)
    state, _ = apply(began(), 10, order)
    event = state.events[-1]
    assert max(len(event.sentence), len(event.node), len(event.actor)) <= 2 * record.TEXT_CHARS_MAX


def test_what_the_history_says_decides_nothing():
    """The same log with and without the reasons leads to the same state, but for the reasons."""
    grant = c.Grant(at_ms=0, group="mail", node="n1", expected_epoch=0, evidence=Evidence.NEVER_OWNED)
    told = replace(grant, basis=c.Basis(by="n3", facts={"n1": "heard"}, rejected={"n2": "not heard"}))
    a, b = apply(began(), 10, grant)[0], apply(began(), 10, told)[0]
    assert a.events != b.events
    assert replace(a, events=()) == replace(b, events=())


def test_every_rule_has_a_sentence():
    tags = {str(kind.__struct_config__.tag) for kind in c.AnyCommand.__args__}
    missing = {t for t in tags - WITHOUT_RULE - BY_ROW if not rules.sentence(t)}
    assert not missing, f"give them a sentence in core/rules.py: {sorted(missing)}"
    assert all(rules.sentence(row.name) for row in ROWS)
    assert rules.sentence("no such rule") == ""


def test_an_old_state_without_reasons_still_loads():
    state = failed_over().state
    plain = msgspec.to_builtins(state)
    for event in plain["events"]:
        event.pop("decision"), event.pop("severity")
    for move in plain["moves"]:
        for name in ("evidence", "epoch", "silent_ms"):
            move.pop(name)
    old = msgspec.convert(plain, type(state))
    assert account.of_entry(old, old.moves[-1].id)
    assert account.of_entry(old, old.events[-1].index)


def test_times_are_told_as_times_and_durations_as_durations():
    ban = c.SetBan(at_ms=0, group="mail", node="n1", until_ms=1_795_000_000_000)
    assert record.facts(ban)["until"] == "2026-11-18 11:06:40 UTC"
    lost = c.OwnerLost(at_ms=0, group="mail", node="n1", epoch=1, silent_ms=1100, voters=())
    assert record.facts(lost)["silent"] == "1.1 s"
    monstrous = c.SetBan(at_ms=0, group="mail", node="n1", until_ms=2**62)
    assert record.facts(monstrous)["until"]
