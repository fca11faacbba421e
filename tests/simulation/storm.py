"""Faults that the log feels most, with many proposals, on the real log: power, processes, links, disks. Then all heals.

Raises Violation, or AssertionError when the log does not come back.
"""

from functools import partial
from random import Random

from msgspec.structs import replace

from hamail.model import commands as c
from hamail.model.commands import Outcome
from hamail.model.spec import Requirement
from hamail.simulation.disk import LOG_DIR
from hamail.simulation.spec import cluster
from hamail.simulation.world import World

KINDS = (
    "power", "all_power", "kill", "isolate", "one_way", "heal", "lossy", "flap", "slow_disk", "hang", "pause",
    "io_error", "repair", "config",
)  # fmt: skip
JOURNAL = LOG_DIR / "journal"
SLOW_MS = ((0.2, 2.0), (5.0, 50.0), (100.0, 900.0), (1000.0, 3000.0))


class Storm:
    def __init__(self, seed: int, kinds: tuple[str, ...] = KINDS, *, steps: int = 50, compact_entries: int = 8) -> None:
        self.rng = Random(seed)
        self.kinds, self.steps = kinds, steps
        self.world = World(cluster(requires=Requirement.LEASE, levels=0), seed=seed, log="raft")
        self.world.log.compact_entries = compact_entries
        self.world.checker.look = lambda: None  # here the log alone is judged
        self.names = sorted(self.world.machines)
        self.proposed = 0

    def run(self) -> "Storm":
        self.world.start_all()
        self.world.run_ms(1500)
        for _ in range(self.steps):
            getattr(self, f"_{self.rng.choice(self.kinds)}")(self._any())
            for _ in range(self.rng.randrange(5)):
                self._propose(self._any().name)
            self.world.run_ms(self.rng.choice((5, 20, 200, 700, 2500)))
        self._finish()
        return self

    def _any(self):
        return self.world.machines[self.rng.choice(self.names)]

    def _propose(self, name: str) -> None:
        if self.world.machines[name].votes:
            self.proposed += 1
            command = c.Annotate(at_ms=self.world.wall_ms, event=f"event {self.proposed}")
            self.world.log.propose(name, command, lambda _: None)

    def _finish(self) -> None:
        world = self.world
        world.network.heal()
        for machine in world.machines.values():
            machine.resume()
            self._repair_one(machine)
            machine.disk.write_ms = SLOW_MS[0]
            machine.power_on()
            machine.start_daemon()
        world.run_ms(8000)
        results = []
        leader = world.log.leader
        assert leader is not None, f"all is well again, but nobody leads\n{world.recent()}"
        world.log.propose(leader, c.Annotate(at_ms=world.wall_ms, event="final"), results.append)
        world.run_ms(3000)
        assert [r for r in results if isinstance(r, Outcome) and r.accepted], f"nothing is committed: {results}"
        world.log.checker.all_agree()
        events = [e.event for e in world.log.entries if isinstance(e, c.Annotate)]
        assert len(events) == len(set(events)), "a command is in the log twice"

    # ---- faults -------------------------------------------------------------------------------------------------

    def _power(self, m) -> None:
        m.power_off()
        self.world.agenda.after_ms(self.rng.choice((50, 1500, 6000)), m.power_on)

    def _all_power(self, _) -> None:
        for m in self.world.machines.values():
            m.power_off()
            self.world.agenda.after_ms(self.rng.choice((10, 500, 3000)), m.power_on)

    def _kill(self, m) -> None:
        if m.daemon is not None:
            m.end_daemon()
            m.after_ms(self.rng.choice((20, 400, 2000)), m.start_daemon)

    def _isolate(self, m) -> None:
        self.world.isolate(m.name)

    def _one_way(self, m) -> None:
        self.world.network.block(m.name, self.rng.choice([n for n in self.names if n != m.name]))

    def _heal(self, _) -> None:
        self.world.network.heal()

    def _mend_one(self, m) -> None:
        self.world.network.mend(m.name, self.rng.choice([n for n in self.names if n != m.name]))

    def _lossy(self, m) -> None:
        for name in self.names:
            self.world.network.loss[m.name, name] = self.rng.choice((0.1, 0.3, 0.6))
            self.world.network.jitter_ms[m.name, name] = 50

    def _flap(self, m) -> None:
        for name in self.names:
            self.world.network.flap_ms[m.name, name] = self.rng.choice((100, 1000))

    def _slow_disk(self, m) -> None:
        m.disk.write_ms = self.rng.choice(SLOW_MS)

    def _hang(self, m) -> None:
        m.hang_disk(True)
        self.world.agenda.after_ms(self.rng.choice((500, 4000)), partial(m.hang_disk, False))

    def _pause(self, m) -> None:
        m.pause()
        self.world.agenda.after_ms(self.rng.choice((500, 4000)), m.resume)

    def _io_error(self, m) -> None:
        m.disk.fail_syncs(once=True)

    def _repair(self, _) -> None:
        for m in self.world.machines.values():
            self._repair_one(m)

    def _config(self, m) -> None:
        state = self.world.state
        if m.votes and state.config.revision:
            spec = replace(state.spec, detection_ms=self.rng.choice((600, 1000, 2000)))
            command = c.ApplyConfig(
                at_ms=self.world.wall_ms, spec=spec, source="storm", expected_revision=state.config.revision
            )
            self.world.log.propose(m.name, command, lambda _: None)

    def _flip(self, m) -> None:
        """A bit of the journal while nobody looks; at most one node at a time, as no majority survives two."""
        if all(self._is_whole(x) for x in self.world.machines.values()):
            m.power_off()
            m.disk.flip_bit(JOURNAL)
            m.power_on()

    def _replace(self, m) -> None:
        if all(self._is_whole(x) for x in self.world.machines.values()):
            m.power_off()
            m.replace_disk()
            self.world.agenda.after_ms(100, m.power_on)

    def _is_whole(self, m) -> bool:
        return m.daemon is not None and not m.daemon.engine.problem and not m.daemon.engine.hindrance

    def _repair_one(self, m) -> None:
        m.repair_disk()
        if m.daemon is None or not m.daemon.engine.problem:
            return
        damaged = "is damaged" in m.daemon.engine.problem
        m.end_daemon()
        if damaged:
            m.replace_disk()
        m.start_daemon()
