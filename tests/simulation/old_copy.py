"""A voter whose disk goes back while the third one is away: only the leader knows what it has acknowledged."""

from hamail.model import commands as c
from hamail.model.ids import NodeName
from hamail.model.spec import Requirement
from hamail.simulation.spec import cluster
from hamail.simulation.world import World

EVENTS = 5


class OldCopy:
    def __init__(self, seed: int = 0, *, new_life: bool = False) -> None:
        """`new_life`: the copy is of the life before the one that is lost."""
        self.world = world = World(cluster(requires=Requirement.LEASE, levels=0), seed=seed, log="raft")
        world.start_all()
        assert world.run_until(lambda: world.active_on("mail") is not None, 10_000), world.recent()
        world.run_ms(2000)
        assert world.log.leader is not None
        self.leader: NodeName = world.log.leader
        self.old, self.third = (n for n in world.machines if n != self.leader)
        machine = world.machines[self.old]
        copy = machine.disk.copy()
        if new_life:
            machine.end_daemon()
            machine.start_daemon()
            world.run_ms(2000)
        world.isolate(self.third)
        for number in range(EVENTS):
            assert self.annotate(f"event {number}", self.leader)
        machine.power_off()
        machine.put_disk_back(copy)

    def annotate(self, text: str, node: NodeName) -> bool:
        results: list[object] = []
        self.world.log.propose(node, c.Annotate(at_ms=self.world.wall_ms, event=text), results.append)
        self.world.run_until(lambda: bool(results), 6000)
        return bool(results) and isinstance(results[0], c.Outcome) and results[0].accepted

    def start(self, starts: int = 1) -> None:
        machine = self.world.machines[self.old]
        machine.power_on()
        for _ in range(starts - 1):
            self.world.run_ms(20)
            machine.end_daemon()
            machine.start_daemon()

    def meet_the_leader(self, starts: int = 1) -> None:
        """Which has forgotten what it had only in its memory."""
        leader = self.world.machines[self.leader]
        leader.end_daemon()
        self.start(starts)
        leader.start_daemon()
        self.world.run_ms(1000)

    def meet_the_third(self) -> None:
        """Without the leader. These two are a majority, and together they know less than was acknowledged."""
        world = self.world
        world.isolate(self.leader)
        world.machines[self.third].end_daemon()
        world.machines[self.third].start_daemon()
        world.network.mend(self.old, self.third)
        for _ in range(EVENTS):
            world.run_ms(2000)
            self.annotate("another event", self.old)
        world.log.checker.report()
