"""The logs of the simulated cluster, their disks and links; and that what judges them can see."""

import os
import subprocess
import sys

import pytest

from hamail.model import commands as c
from hamail.model.spec import Requirement
from hamail.simulation.checkers.violation import Violation
from hamail.simulation.disk import BARRED, LOG_DIR
from hamail.simulation.spec import cluster
from hamail.simulation.trace import Trace, UnpinnedHash
from hamail.simulation.world import World
from tests.simulation.old_copy import OldCopy
from tests.simulation.storm import Storm

KINDS = ("perfect", "raft", "malicious")
JOURNAL = LOG_DIR / "journal"


def started(log="raft", **options):
    world = World(cluster(**options), log=log)
    world.start_all()
    assert world.run_until(lambda: serves(world, "n1") or serves(world, "n2"), 10_000), world.recent()
    return world


def serves(world, node):
    g = world.state.group("mail")
    return world.active_on("mail") == node and g.phase == "active" and g.owner == node


def annotate(world, text, node=None):
    results = []
    command = c.Annotate(at_ms=world.wall_ms, event=text)
    world.log.propose(node or world.log.leader, command, results.append)
    world.run_until(lambda: bool(results), 6000)
    return results[0] if results else None


@pytest.mark.parametrize("log", ["perfect", "raft"])
def test_start_power_cut_switchover(log):
    world = started(log)
    first = world.active_on("mail")
    second = "n2" if first == "n1" else "n1"
    world.run_ms(2000)
    world.power_off(first)
    assert world.run_until(lambda: serves(world, second), 10_000), world.recent()
    world.machines[first].power_on()
    world.run_ms(4000)
    epoch = world.state.group("mail").epoch
    move = c.RequestMove(at_ms=world.wall_ms, group="mail", target=first, expected_epoch=epoch)
    outcome = world.order(move)
    assert outcome is not None and outcome.accepted
    assert world.run_until(lambda: serves(world, first), 5000), world.recent()


# ---- the real log ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(3))
def test_storm(seed):
    storm = Storm(seed).run()
    assert storm.world.log.checker.newest > 20, "it must have done something"


def test_a_node_that_lags_gets_a_snapshot():
    world = started()
    late = next(n for n in ("n1", "n2", "n3") if n not in (world.log.leader, world.active_on("mail")))
    world.isolate(late)
    for number in range(3 * world.log.compact_entries):
        assert annotate(world, f"event {number}").accepted
    world.network.heal()
    world.run_ms(5000)
    world.log.checker.all_agree()
    consensus = world.machines[late].daemon.seat._consensus
    assert consensus._snapshots.installed > 0
    assert consensus._journal.first_index > 1, "the log was compacted"


def test_nothing_acknowledged_is_lost_when_all_lose_their_power():
    world = started()
    outcome = annotate(world, "keep this")
    for name in world.machines:
        world.power_off(name)
    for machine in world.machines.values():
        machine.power_on()
    assert world.run_until(lambda: world.log.leader is not None, 5000)
    world.run_ms(1000)
    world.log.checker.all_agree()
    assert world.log.entries[outcome.index - 1].event == "keep this"


def test_proposals_from_a_follower_and_from_nowhere():
    world = started()
    other = next(n for n in ("n3", "n2", "n1") if n not in (world.log.leader, world.active_on("mail")))
    assert annotate(world, "of a follower", other).accepted
    world.isolate(other)
    assert isinstance(annotate(world, "of nobody", other), c.Unknown)


# ---- disks -----------------------------------------------------------------------------------------------------------
def fails(machine):
    return machine.daemon is not None and machine.daemon.engine.problem


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda disk: disk.fill(), "No space left"),
        (lambda disk: disk.fail_syncs(once=True), "Input/output error"),
        (lambda disk: disk.fail_syncs(once=False), "Input/output error"),
        (lambda disk: disk.make_read_only(), "Read-only"),
    ],
    ids=["full", "one sync", "every sync", "read only"],
)
def test_a_broken_disk_ends_the_part_of_its_node(fault, words):
    world = started()
    victim = world.machines[world.log.leader]
    fault(victim.disk)
    world.log.propose(victim.name, c.Annotate(at_ms=world.wall_ms, event="x"), lambda _: None)
    assert world.run_until(lambda: words in fails(victim), 2000), world.recent()
    assert world.run_until(lambda: world.log.leader not in (None, victim.name), 10_000), "the others go on"
    victim.repair_disk()
    victim.end_daemon()
    victim.start_daemon()
    world.run_ms(3000)
    assert not fails(victim)
    world.log.checker.all_agree()


def test_a_hanging_disk_is_told_to_the_engine():
    world = started()
    victim = world.machines[world.log.leader]
    victim.hang_disk(True)
    world.log.propose(victim.name, c.Annotate(at_ms=world.wall_ms, event="x"), lambda _: None)
    assert world.run_until(lambda: victim.daemon.engine.stalled_ms > 1000, 3000)
    assert "has not answered a write" in victim.daemon.engine.hindrance
    victim.hang_disk(False)
    assert world.run_until(lambda: victim.daemon.engine.stalled_ms == 0 and not victim.daemon.engine.hindrance, 3000)


@pytest.mark.parametrize("path", [JOURNAL, BARRED], ids=["journal", "barred"])
@pytest.mark.parametrize("log", ["raft", "perfect"])
def test_a_flipped_bit_is_found_at_the_next_start(path, log):
    world = started(log, requires=Requirement.LEASE, levels=0)
    world.power_off(world.active_on("mail"))  # the others must say that their promises have run out
    world.run_until(lambda: serves(world, "n1") or serves(world, "n2"), 15_000)
    victim = world.machines["n3"]
    victim.end_daemon()
    found = victim.disk.flip_bit(path)
    victim.start_daemon()
    assert found is (log == "raft" or path is BARRED)
    assert bool(found) == bool("damaged" in fails(victim))


def test_a_replaced_disk_follows_and_votes_again_later():
    world = started()
    victim = world.machines[next(n for n in world.machines if n != world.log.leader)]
    victim.power_off()
    victim.replace_disk()
    victim.power_on()
    assert "disk was replaced" in victim.daemon.engine.hindrance or victim.daemon.seat._consensus._link.mute
    assert world.run_until(lambda: not victim.daemon.seat._consensus._link.mute, 10_000)
    world.run_ms(1000)
    world.log.checker.all_agree()


def test_a_barred_epoch_waits_for_a_slow_disk():
    """The yes of a voter leaves only after the disk has its consequence; heartbeats do not wait."""
    world = started(requires=Requirement.LEASE, levels=0)
    for machine in world.machines.values():
        machine.disk.write_ms = (100.0, 150.0)
    owner = world.active_on("mail")
    world.power_off(owner)
    assert world.run_until(lambda: any(m.disk.exists(BARRED) for m in world.machines.values()), 20_000)
    assert world.run_until(lambda: serves(world, "n2" if owner == "n1" else "n1"), 30_000), world.recent()


# ---- the log that lies -----------------------------------------------------------------------------------------------
def test_the_liar_lies_and_only_the_storage_holds():
    forks = leaders = 0
    for seed in range(3):
        world = World(cluster(), seed=seed, log="malicious")
        world.start_all()
        for _ in range(15):
            world.run_ms(2000)  # what is claimed without a log is judged after every event
            forks += len({repr(h[:20]) for h in world.log.histories.values()}) > 1
            leaders += len(world.log.leaders) > 1
        world.peace = True
        assert world.run_until(lambda w=world: serves(w, "n1") or serves(w, "n2"), 60_000), world.recent()
    assert forks and leaders


# ---- links -----------------------------------------------------------------------------------------------------------
def test_what_arrives_is_in_order_and_never_twice():
    world = started("perfect")
    seen = []
    network = world.network
    network._deliver = lambda sender, receiver, message: seen.append(message) if sender == "t" else None
    network._life = lambda name: world
    network.loss["t", "n1"], network.jitter_ms["t", "n1"], network.flap_ms["t", "n1"] = 0.3, 80, 900
    refused = 0
    for number in range(400):
        refused += not network.send("t", "n1", number)
        world.run_ms(7)
    world.run_ms(20_000)
    assert seen == sorted(set(seen))
    assert refused > 10 and 50 < len(seen) < 400 - refused, "some were refused, some lost on their way"


def test_nothing_reaches_the_next_process():
    world = started("perfect")
    world.network.slow_ms["n1", "n3"] = 500
    world.run_ms(100)
    world.machines["n3"].end_daemon()
    world.machines["n3"].start_daemon()
    got = []
    world.machines["n3"].daemon.message = lambda sender, message: got.append(sender)
    world.run_until(lambda: False, 400)
    assert "n2" in got and "n1" not in got


# ---- the same again --------------------------------------------------------------------------------------------------
@pytest.mark.skipif(os.environ.get("PYTHONHASHSEED", "random") != "random", reason="it is pinned")
def test_no_trace_without_a_pinned_hash():
    with pytest.raises(UnpinnedHash):
        Trace()


TRACED = """
from hamail.simulation.logs.quiet import quiet
from hamail.simulation.spec import cluster
from hamail.simulation.world import World
quiet()
for log in ("perfect", "raft", "malicious"):
    for seed in (1, 1, 2):
        world = World(cluster(), seed=seed, log=log, traced=True)
        world.start_all()
        world.run_ms(3000)
        world.power_off("n1")
        world.run_ms(3000)
        world.machines["n1"].power_on()
        world.run_ms(2000)
        print(log, seed, world.trace.events, world.trace.digest())
"""


def traced(hash_seed):
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", TRACED], env=environment, capture_output=True, text=True, check=True, timeout=200
    )
    return [line.split() for line in done.stdout.splitlines()]


def test_one_seed_makes_one_history_in_every_process():
    here, there = traced("1"), traced("2")
    assert here == there, "not even the order in sets of words may matter"
    assert all(int(events) > 300 for _, _, events, _ in here)
    for first, again, other in zip(here[::3], here[1::3], here[2::3], strict=True):
        assert first == again
        assert first[3] != other[3]


# ---- the checker -----------------------------------------------------------------------------------------------------
def test_the_checker_sees_two_leaders_a_second_vote_and_a_fork():
    world = started()
    checker = world.log.checker
    checker.votes("n1", 99, "n1")
    checker.votes("n1", 99, "n2")
    assert "votes for n2 in term 99" in checker._found
    checker._found = ""
    checker.opened("n1", 99, None)
    assert "remembers a vote for None" in checker._found
    checker._found = ""
    checker.begins("n3")
    index = next(i for i, e in enumerate(checker.entries, start=1) if e is not None)
    checker.applies("n3", index, c.Annotate(at_ms=0, event="another"))
    assert f"as log entry {index}, another" in checker._found
    checker._found = ""
    checker.acknowledged("n1", checker.newest + 5, c.Annotate(at_ms=0, event="lost"))
    assert "which it is not" in checker._found
    checker._found = ""
    checker.problem("n1", "state machine raised ZeroDivisionError()")
    assert "ZeroDivisionError" in checker._found


@pytest.mark.parametrize("new_life", [False, True], ids=["copy of this life", "copy of the life before"])
@pytest.mark.parametrize("starts", [1, 4])
def test_an_old_copy_of_a_disk_does_not_vote(starts, new_life):
    """The number of its lives catches up with what was lost, and the one that knows more has been restarted as well."""
    s = OldCopy(new_life=new_life)
    s.meet_the_leader(starts)
    s.meet_the_third()
    assert "old" in s.world.machines[s.old].daemon.engine.hindrance
    s.world.network.heal()
    s.world.run_ms(10_000)
    assert not s.world.machines[s.old].daemon.engine.hindrance, "others have overruled what it forgot: it votes again"
    s.world.log.checker.all_agree()


def test_an_old_copy_of_a_disk_is_found_when_it_hears_the_one_that_knows():
    """It could not ask: the leader was away, and the other one had nothing to tell. It followed nobody meanwhile."""
    s = OldCopy()
    s.start()
    s.world.isolate(s.leader)
    s.world.run_ms(10_000)
    s.world.network.heal()
    assert s.world.run_until(lambda: s.world.machines[s.old].daemon.engine.hindrance, 2000)
    s.world.run_ms(10_000)
    assert not s.world.machines[s.old].daemon.engine.hindrance
    s.world.log.checker.all_agree()


@pytest.mark.xfail(strict=True, raises=Violation, reason="nobody who could be asked knows more (see ADR 14)")
def test_the_limit_an_old_copy_votes_where_nobody_is_left_who_knows():
    """To rule this out no two of three could start while the third one is dead."""
    s = OldCopy()
    s.world.isolate(s.leader)
    s.start()
    s.meet_the_third()


def test_a_node_that_cannot_read_what_it_has_barred_is_not_in_the_log():
    """Without this its empty state once became the snapshot from which others started."""
    world = started("perfect", requires=Requirement.LEASE, levels=0)
    world.power_off("n1")  # so that something is barred
    world.run_ms(30_000)
    world.machines["n1"].power_on()
    broken = world.machines["n3"]
    broken.end_daemon()
    assert broken.disk.flip_bit(BARRED)
    broken.start_daemon()
    world.run_ms(20_000)
    assert broken.daemon.engine.problem and not broken.votes
    assert broken.daemon.engine.state.applied == 0 and serves(world, "n2")
