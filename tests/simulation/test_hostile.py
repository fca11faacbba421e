"""A hostile machine in a live cluster: what it cannot do, and (at the end) what a voter that lies can do.

Every run has ordinary faults as well, and every checker of the simulation looks on.
"""

import random

import pytest
from msgspec.structs import replace

from hamail.consensus.syncobj import SyncObjConsensus
from hamail.core import lease
from hamail.model import commands as c
from hamail.model.messages import Heartbeat, ReleaseAnswer
from hamail.model.spec import Requirement
from hamail.model.state import Phase
from hamail.simulation.checkers.violation import Violation
from hamail.simulation.spec import cluster
from hamail.simulation.world import World
from tests.simulation.hostile import Outsider, Witness

SEEDS = 3
FAULTS = 8


def world_of(seed, requires):
    dogs = frozenset({"n1", "n2"}) if requires is Requirement.WATCHDOG else frozenset()
    levels = 2 if requires is Requirement.FENCING else 0
    world = World(cluster(requires=requires, levels=levels), seed=seed, watchdogs=dogs, log="raft")
    world.start_all()
    assert world.run_until(lambda: world.active_on("mail") is not None, 20_000)
    return world


def harass(world, rng, faults=FAULTS):
    """Ordinary faults of mail nodes and links, one at a time."""
    for _ in range(faults):
        name = rng.choice(("n1", "n2"))
        match rng.randrange(4):
            case 0:
                world.power_off(name)
                world.agenda.after_ms(2000, world.machines[name].power_on)
            case 1:
                world.isolate(name)
            case 2:
                world.network.cut("n1", "n2")
            case _:
                world.run_ms(1500)
        world.run_ms(rng.choice((300, 2000, 5000)))
        world.network.heal()
        world.run_ms(rng.choice((200, 1500)))


def recovers(world):
    """Once nobody disturbs it any more, and operators have taken back what was ordered in their name."""
    world.peace = True
    world.network.heal()
    for machine in world.machines.values():
        machine.power_on()
    world.run_ms(10_000)
    for order in (
        c.SetMaintenance(at_ms=0, on=False),
        *(c.SetStandby(at_ms=0, node=n, standby=False) for n in ("n1", "n2")),
        c.Clear(at_ms=0, group="mail"),
    ):
        world.order(order)
    return world.run_until(lambda: world.state.group("mail").phase is Phase.ACTIVE, 120_000)


@pytest.mark.parametrize("requires", list(Requirement))
def test_an_outsider_can_do_nothing(requires):
    """Whatever it says and whatever it has overheard: not even a move."""
    world = world_of(1, requires)
    outsider = Outsider(world, seed=1)
    outsider.begin()
    owner, epoch = world.active_on("mail"), world.state.group("mail").epoch
    world.run_ms(8000)
    assert outsider.said > 100
    assert (world.active_on("mail"), world.state.group("mail").epoch) == (owner, epoch)
    assert not world.checker.hazards
    harass(world, random.Random(1), faults=3)
    assert recovers(world)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_hostile_witness_cannot_make_two_active(seed):
    """With `requires = fencing`: only the word of the node itself, or of whoever was to fence it, sets a group free."""
    world = world_of(seed, Requirement.FENCING)
    witness = Witness(world, seed)
    witness.begin()
    harass(world, random.Random(seed))
    assert witness.said > 300
    assert not world.checker.hazards, "what it said has become a fact for which nothing is claimed"
    assert world.state.spec.groups["mail"].requires is Requirement.FENCING
    assert recovers(world)
    honest = [m.daemon.engine for m in world.machines.values() if m.daemon is not None]
    assert not any(engine.problem for engine in honest), "an honest node has given up"


def two_are_found(requires, seeds, attack):
    """Does the hunt find two active nodes?"""
    for seed in range(seeds):
        try:
            world = world_of(seed, requires)
            attack(world, seed)
        except Violation as found:
            return str(found)
        if world.checker.hazards:
            return f"a fact was made: {world.checker.hazards}"
    return ""


def lead(world, name):
    for _ in range(20):
        if world.log.leader == name:
            return
        if world.log.leader is not None:
            world.machines[world.log.leader].daemon.seat.transfer(name)
        world.run_ms(1000)
    raise AssertionError(f"{name} does not come to lead")


def by_witness(world, seed):
    Witness(world, seed).begin()
    harass(world, random.Random(seed))


def test_without_the_check_of_who_says_it_two_would_be_active(monkeypatch):
    """The hunt is worth something: it finds what the check prevents."""
    monkeypatch.setattr(SyncObjConsensus, "_may_say", lambda *_: True)
    assert two_are_found(Requirement.FENCING, 4, by_witness)


# ---- what remains: a voter that lies ---------------------------------------------------------------------------------


def test_without_fencing_a_lying_witness_can_make_two_active():
    """Its vote is in the majority of the lease and in that of the release. This is the price of `requires = lease`."""

    def attack(world, _seed):
        owner = world.active_on("mail")
        lead(world, "n2" if owner == "n1" else "n1")
        witness = world.machines["n3"].daemon.engine
        send = world.network.send

        def accuse(sender, receiver, message):
            if sender == "n3" and isinstance(message, Heartbeat):
                message = replace(message, silent_ms={**message.silent_ms, owner: 10_000})
            return send(sender, receiver, message)

        world.network.send = accuse
        # It tells whoever asks that its promise has run out, and goes on promising to the owner.
        promise, release = witness._promise, lease.release

        def lie(voter, state, request, now_ns, hold_ms):
            if voter is witness.voter:
                return voter, ReleaseAnswer(group=request.group, epoch=request.epoch, yes=True)
            return release(voter, state, request, now_ns, hold_ms)

        def faithful(sender, request):
            state, witness.state = witness.state, still
            try:
                return promise(sender, request) if sender == owner else ()
            finally:
                witness.state = state

        still = witness.state
        lease.release = lie
        witness._promise = faithful
        try:
            world.network.cut("n1", "n2")
            world.run_ms(40_000)
        finally:
            lease.release = release

    assert "is active for it" in two_are_found(Requirement.LEASE, 1, attack)


def test_a_lying_leader_can_write_what_it_likes():
    """It owns the log: no other node can know that n1 never said this. Trust in a voter is trust in its log."""

    def attack(world, _seed):
        lead(world, "n3")
        owner = world.active_on("mail")
        epoch = world.state.group("mail").epoch
        released = c.Released(at_ms=0, group="mail", node=owner, epoch=epoch)
        world.log.propose("n3", released, lambda _result: None)
        world.network.cut("n3", owner)
        world.run_ms(20_000)

    assert two_are_found(Requirement.FENCING, 1, attack)
