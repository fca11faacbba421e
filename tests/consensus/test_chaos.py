"""Random crashes, power cuts, partitions, pauses and compactions on real nodes; then everything heals.

Checked all the time: no two nodes lead in one term, all nodes apply the same commands at the same indexes. At the end:
all acknowledged commands are there, in the order of their indexes, and the cluster works again.
"""

from random import Random

import pytest

from hamail.model.commands import Outcome
from tests.consensus.cluster import Cluster

SEEDS = range(1, 5)  # more in the long runs of the simulator


class Chaos:
    def __init__(self, seed: int, size: int) -> None:
        self.rng = Random(seed)
        self.c = Cluster(size, seed, compact_entries=15)
        self.leaders: dict[int, str] = {}
        self.truth: dict[int, str] = {}
        self.acknowledged: list[tuple[int, str]] = []
        self.proposed = 0

    def check(self) -> bool:
        for name, node in self.c.nodes.items():
            health = node.health()
            assert health.problem == "", (name, health.problem)
            if health.is_leader:
                assert self.leaders.setdefault(health.term, name) == name, f"two leaders in term {health.term}"
            for index, event in self.c.machines[name].applied[-3:]:
                assert self.truth.setdefault(index, event) == event, f"{name} applied another command at {index}"
        return False

    def propose(self) -> None:
        name = self.rng.choice(sorted(self.c.nodes)) if self.c.nodes else None
        if name is None or name in self.c.frozen:
            return
        self.proposed += 1
        text = f"c{self.proposed}"

        def done(result) -> None:
            if isinstance(result, Outcome) and result.accepted:
                self.acknowledged.append((result.index, text))

        self.c.nodes[name].propose(self.c.command(text), done)

    def fault(self) -> None:
        c, rng = self.c, self.rng
        kind = rng.choice(["kill", "power", "power", "isolate", "one way", "heal", "freeze", "boot", "boot", "all off"])
        name = rng.choice(c.names)
        if kind in ("kill", "power") and name in c.nodes and name not in c.frozen:
            c.kill(name, power=kind == "power", rng=rng if rng.random() < 0.7 else None)
        elif kind == "isolate":
            c.isolate(name)
        elif kind == "one way":
            c.cut.add((name, rng.choice([n for n in c.names if n != name])))
        elif kind == "heal":
            c.heal()
            c.frozen.clear()
        elif kind == "freeze":
            c.frozen.add(name)
        elif kind == "boot":
            self.boot_all()
        elif kind == "all off" and rng.random() < 0.5:
            for other in list(c.nodes):
                c.kill(other, power=True, rng=rng)

    def boot_all(self) -> None:
        for name in self.c.names:
            if name not in self.c.nodes:
                self.c.frozen.discard(name)
                self.c.boot(name)

    def finish(self) -> None:
        c = self.c
        c.heal()
        c.frozen.clear()
        self.boot_all()
        c.run(5000, self.check)
        final = c.commit(c.elect(), "final")
        assert isinstance(final, Outcome) and final.accepted
        c.run(500, self.check)
        histories = {tuple(c.machines[name].applied) for name in c.names}
        assert len(histories) == 1
        history = list(histories.pop())
        assert history == sorted(history)
        assert set(self.acknowledged) <= set(history)
        assert len({text for _, text in history}) == len(history), "a command was applied twice"


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_chaos(seed, size):
    chaos = Chaos(seed, size)
    for _ in range(60):
        chaos.fault()
        for _ in range(chaos.rng.randint(0, 6)):
            chaos.propose()
            chaos.c.run(chaos.rng.randint(1, 120), chaos.check)
    chaos.finish()
    assert len(chaos.acknowledged) > 10, "the run must have done something"
