"""The log that a world was asked for."""

import random
from typing import TYPE_CHECKING, Literal, TypeAlias

from hamail.simulation.agenda import MS
from hamail.simulation.logs.malicious import MaliciousLog
from hamail.simulation.logs.perfect import LOOK_MS, SLOW_LOOK_MS, SLOW_MS, PerfectLog
from hamail.simulation.logs.port import Log
from hamail.simulation.logs.raft import RaftLog

if TYPE_CHECKING:
    from hamail.simulation.world import World

LogKind: TypeAlias = Literal["perfect", "raft", "malicious"]


def build(kind: LogKind, world: "World") -> Log:
    rng = random.Random(world.seed + 2)  # noqa: S311 - reproducible on purpose
    if kind == "perfect":
        return PerfectLog(
            world.machines,
            world.network.both_ways,
            world.agenda.after_ms,
            lambda: world.now_ns / MS,
            rng,
            world.committed,
            SLOW_LOOK_MS if world.spec.detection_ms >= SLOW_MS else LOOK_MS,
        )
    return RaftLog(world, rng) if kind == "raft" else MaliciousLog(world, rng)
