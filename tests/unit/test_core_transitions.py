"""The table of a group's life: every row can be reached, and its sentence can be read."""

import random

from msgspec.structs import replace

from hamail.core import draft, transitions
from hamail.core.apply import apply
from hamail.core.transitions import ROWS, What
from hamail.model import commands as c
from hamail.model.spec import Requirement
from hamail.model.state import ClusterState, Evidence, Incarnation, Phase
from hamail.simulation.spec import cluster
from tests.unit.test_core_apply import began, fitting

WALKS, STEPS = 1200, 40
REQUIREMENTS = tuple(Requirement)


def some_command(rng: random.Random, state: ClusterState) -> c.AnyCommand:
    """A command that has a good chance to be accepted."""
    node, other, group = rng.choice(("n1", "n2")), rng.choice(("n1", "n2")), rng.choice(("mail", "lists"))
    life = Incarnation(rng.choice(("b1", "b2")), rng.choice(("x1", "x2")))
    g = state.group(group)
    about = {"at_ms": 0, "group": group, "node": node, "epoch": 0}
    evidence = rng.choice((Evidence.EXPIRED, g.evidence))
    voters = ("n1", "n2", "n3")
    spec = cluster(requires=rng.choice(REQUIREMENTS), levels=rng.choice((0, 1)), groups=("mail", "lists"))
    ok = rng.random() < 0.7
    order = c.OrderFence(at_ms=0, target=node, device="pdu", by=other)
    done = c.FenceDone(at_ms=0, target=node, order=0, ok=ok, detail="off")
    grant = c.Grant(at_ms=0, group=group, node=node, expected_epoch=0, evidence=evidence, voters=voters)
    drawn = rng.choice(
        (
            *(grant, grant, order, order, done, done, c.Started(**about), c.Started(**about)),
            c.Join(at_ms=0, node=node, incarnation=life, watchdog_armed=rng.random() < 0.5),
            c.StartFailed(**about, resource="postfix", clean=rng.random() < 0.5, detail="x"),
            c.Failed(**about, resource="postfix", detail="x"),
            c.Released(**about),
            c.StopFailed(**about, resource="store", detail="x"),
            c.OwnerLost(**about, silent_ms=1000, voters=voters),
            c.OwnerBack(**about),
            c.FenceConfirmed(at_ms=0, target=node),
            c.RequestFence(at_ms=0, target=node),
            c.RequestMove(at_ms=0, group=group, target=node, expected_epoch=0),
            c.SetStandby(at_ms=0, node=node, standby=rng.random() < 0.2),
            c.SetMaintenance(at_ms=0, on=rng.random() < 0.2),
            c.Clear(at_ms=0, group=group),
            c.ApplyConfig(at_ms=0, spec=spec, source="", expected_revision=0),
        )
    )
    return fitting(state, drawn)


def rare_histories():
    """What a random walk finds only after hours: two groups on one node, or a configuration that changes meanwhile."""
    two = ("mail", "lists")
    fenced, watched, leased = (
        cluster(requires=r, levels=n, groups=two)
        for r, n in ((Requirement.FENCING, 1), (Requirement.WATCHDOG, 0), (Requirement.LEASE, 0))
    )
    lost = {"at_ms": 0, "node": "n1", "silent_ms": 1000, "voters": ("n2", "n3")}
    owned = [
        step
        for index, name in ((10, "mail"), (12, "lists"))
        for step in (
            c.Grant(at_ms=0, group=name, node="n1", expected_epoch=0, evidence=Evidence.NEVER_OWNED),
            c.Started(at_ms=0, group=name, node="n1", epoch=index),
        )
    ]
    mail_lost, lists_lost = (c.OwnerLost(group=g, epoch=e, **lost) for g, e in (("mail", 10), ("lists", 12)))
    stuck = c.StopFailed(at_ms=0, group="lists", node="n1", epoch=12, resource="store", detail="x")
    away = c.RequestMove(at_ms=0, group="lists", target="n2", expected_epoch=12)
    order = c.OrderFence(at_ms=0, target="n1", device="pdu", by="n2")
    off = [order, c.FenceDone(at_ms=0, target="n1", order=0, ok=True, detail="off")]
    on, ended = (c.SetMaintenance(at_ms=0, on=x) for x in (True, False))

    def devices(spec, levels):
        """Only the fence devices change: that is possible while a group is on the move."""
        return c.ApplyConfig(
            at_ms=0, spec=replace(spec, fencing=cluster(levels=levels).fencing), source="", expected_revision=1
        )

    bare = replace(fenced, fencing={})
    yield fenced, [*owned, mail_lost, *off]  # lists is active
    yield fenced, [*owned, mail_lost, away, *off]  # lists is stopping
    yield bare, [*owned, lists_lost, devices(bare, 1), mail_lost, *off]  # lists is blocked
    yield leased, [*owned, lists_lost, devices(leased, 1), mail_lost, *off]  # lists is waiting
    yield replace(watched, fencing=fenced.fencing), [*owned, lists_lost, devices(watched, 0), stuck]
    yield watched, [*owned, on, ended, lists_lost, c.AckMaintenance(at_ms=0, node="n1", on=False, since=15), stuck]


def test_every_row_can_be_reached(monkeypatch):
    seen: set[tuple[Phase, What]] = set()

    def find(phase, what):
        row = transitions.find(phase, what)
        if row is not None:
            seen.add((phase, what))
        return row

    monkeypatch.setattr(draft, "find", find)
    for spec, history in rare_histories():
        state = began(spec)
        armed = {name: replace(n, watchdog_armed=True) for name, n in state.nodes.items()}
        state = replace(state, nodes=armed)
        for index, command in enumerate(history, start=10):
            state, outcome = apply(state, index, fitting(state, command))
            assert outcome.accepted, (command, outcome.reasons)
    rng = random.Random(1)
    for walk in range(WALKS):
        start = cluster(requires=REQUIREMENTS[walk % 3], levels=walk % 2, groups=("mail", "lists"))
        state = began(start)
        for index in range(10, 10 + STEPS):
            state, _ = apply(state, index, some_command(rng, state))
        if len(seen) == len(ROWS):
            return
    assert {(r.phase, r.event) for r in ROWS} == seen


def test_sentences_are_for_people():
    for row in ROWS:
        assert "{group}" in row.sentence, row
        assert "shall" not in row.sentence
        assert row.sentence[-1] in ".}", row
