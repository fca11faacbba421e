"""The perfect log keeps the promises of the port."""

import pytest

from hamail.consensus.memory import MemoryConsensus, MemoryLog
from hamail.consensus.port import NOT_LOGGED, Consensus
from hamail.consensus.syncobj import SyncObjConsensus
from hamail.model.commands import Outcome, Unknown
from tests.consensus.cluster import MS, ListMachine, note


class World:
    def __init__(self, keep=2000):
        self.now_ns = 0
        self.log = MemoryLog(["a", "b", "c"], keep_entries=keep)
        self.machines = {}
        self.nodes = {}
        for name in self.log.voters:
            self.boot(name)

    def boot(self, name):
        self.machines[name] = ListMachine()
        self.nodes[name] = MemoryConsensus(self.log, name, self.machines[name], 1000, lambda: self.now_ns)
        self.nodes[name].start()

    def tick(self, ms=10):
        self.now_ns += ms * MS
        for name in sorted(self.nodes):
            self.nodes[name].tick(self.now_ns)


def test_both_are_the_port():
    def takes(_: type[Consensus]) -> None:
        pass

    takes(MemoryConsensus)
    takes(SyncObjConsensus)


def test_same_index_everywhere_and_results_once():
    w = World()
    w.log.set_leader("a")
    results = []
    w.nodes["b"].propose(note("one"), results.append)
    w.nodes["c"].propose(note("reject"), results.append)
    assert results == []
    w.tick()
    w.tick()
    assert [type(r) for r in results] == [Outcome, Outcome] and [r.accepted for r in results] == [True, False]
    assert len({tuple(m.applied) for m in w.machines.values()}) == 1
    assert w.machines["a"].applied == [(3, "one")], "1 is the beginning, 2 the leader's no-op, as in Raft"


def test_cut_node_learns_nothing_then_everything():
    w = World()
    w.log.set_leader("a")
    w.log.cut("c")
    results = []
    w.nodes["c"].propose(note("unheard"), results.append)
    w.nodes["a"].propose(note("one"), results.append)
    w.tick()
    w.tick()
    assert w.machines["c"].applied == [] and w.nodes["c"].health().leader is None
    assert w.nodes["c"].health().heard_leader_ms > 0
    w.tick(1000)
    assert isinstance(results[-1], Unknown)
    w.log.heal("c")
    w.tick()
    assert w.machines["c"].applied == w.machines["a"].applied


def test_no_majority_no_commits():
    w = World()
    w.log.set_leader("a")
    w.tick()
    w.log.cut("b")
    w.log.cut("c")
    results = []
    w.nodes["a"].propose(note("x"), results.append)
    w.tick()
    assert results == [] and not w.nodes["a"].health().is_leader
    w.log.heal("b")
    w.tick()
    assert results[0].accepted


def test_new_leader_catches_up_before_it_says_so():
    w = World()
    w.log.set_leader("a")
    w.tick()
    w.log.set_leader("b")
    assert w.nodes["b"].health().is_leader and not w.nodes["b"].health().caught_up_term
    w.tick()
    assert w.nodes["b"].health().caught_up_term and w.nodes["b"].health().term == 2
    assert w.nodes["b"].transfer_leadership("c") and not w.nodes["b"].transfer_leadership("c")
    assert w.log.leader == "c"


@pytest.mark.parametrize("keep", [5, 2000])
def test_restarted_node_gets_everything(keep):
    w = World(keep)
    w.log.set_leader("a")
    for i in range(30):
        w.nodes["a"].propose(note(f"e{i}"), lambda _: None)
        w.tick()
    w.nodes["c"].stop()
    w.boot("c")
    w.tick()
    w.tick()
    assert w.machines["c"].applied == w.machines["a"].applied and len(w.machines["c"].applied) == 30
    assert len(w.log._entries) <= keep + 3


def test_machine_that_raises_stops_its_node():
    w = World()
    w.log.set_leader("a")
    w.machines["b"].raise_on = "raise"
    results = []
    w.nodes["b"].propose(note("raise"), results.append)
    w.tick()
    w.tick()
    assert "boom" in w.nodes["b"].health().problem and isinstance(results[0], Unknown)
    assert w.machines["a"].events == ["raise"]


def test_the_same_leader_again_is_no_new_term_and_nobody_commits_nothing():
    w = World()
    w.log.set_leader("a")
    w.log.set_leader("a")
    assert w.log.term == 1
    w.log.set_leader(None)
    results = []
    w.nodes["a"].propose(note("x"), results.append)
    w.tick()
    assert results == [] and w.log.term == 1 and w.nodes["a"].health().leader is None
    w.log.set_leader("b")
    w.tick()
    assert results[0].accepted and w.log.term == 2


def test_what_is_proposed_to_a_stopped_node_surely_does_not_enter_the_log():
    w = World()
    w.log.set_leader("a")
    w.nodes["b"].stop()
    w.nodes["b"].stop()
    results = []
    w.nodes["b"].propose(note("x"), results.append)
    w.tick()
    assert (results[0].accepted, results[0].index) == (False, NOT_LOGGED) and "not running" in results[0].reasons[0]
    assert w.machines["a"].events == []
