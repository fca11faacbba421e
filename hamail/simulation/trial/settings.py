"""What kind of cluster a trial runs on."""

from msgspec import Struct

from hamail.core.timing import derive, stretched, watchdog_extra_ms
from hamail.model.ids import GroupName, NodeName
from hamail.model.spec import DEFAULT_FAILOVERS, DEFAULT_QUARANTINE, ClusterSpec, Requirement
from hamail.model.timings import Timings
from hamail.simulation.logs.build import LogKind
from hamail.simulation.spec import cluster
from hamail.simulation.world import World

FENCE_MS = 10_000  # time-out of the simulated devices
SLACK_MS = 12_000  # elections, cleaning up, starts, messages that came late


class Settings(Struct, frozen=True, kw_only=True):
    seed: int
    requires: Requirement = Requirement.FENCING
    detection_ms: int = 1000
    mail: tuple[NodeName, ...] = ("n1", "n2")
    witnesses: tuple[NodeName, ...] = ("n3",)
    groups: tuple[GroupName, ...] = ("mail",)
    levels: int = 2  # of fence devices
    log: LogKind = "perfect"
    late_share: float = 0.0  # of proposals that are committed after their proposer gave up
    rates_ppm: dict[NodeName, int] = {}
    returns_ms: dict[NodeName, int] = {}  # until somebody switches a node on again
    start_ms: dict[NodeName, int] = {}
    stop_ms: dict[NodeName, int] = {}
    limited: bool = True  # failovers and returns of nodes are, as configured by default
    mail_every_ms: int = 0  # each client's pause between two steps of a mail; 0 = no clients

    def spec(self) -> ClusterSpec:
        return cluster(
            self.mail,
            self.witnesses,
            requires=self.requires,
            levels=self.levels if self.requires is Requirement.FENCING else 0,
            detection_ms=self.detection_ms,
            groups=self.groups,
            failovers=DEFAULT_FAILOVERS if self.limited else (),
            quarantine=DEFAULT_QUARANTINE if self.limited else None,
        )

    def world(self) -> World:
        dogs = frozenset(self.mail) if self.requires is Requirement.WATCHDOG else frozenset[NodeName]()
        world = World(self.spec(), seed=self.seed, watchdogs=dogs, rates_ppm=self.rates_ppm, log=self.log)
        world.log.late_share = self.late_share
        for name, machine in world.machines.items():
            machine.returns_ms = self.returns_ms.get(name, 3000)
            machine.start_ms = self.start_ms.get(name, 100)
            machine.stop_ms = self.stop_ms.get(name, 100)
        return world

    def timings(self) -> Timings:
        return derive(self.detection_ms, self.spec().watchdog_timeout_s)


def takeover_ms(requires: Requirement, t: Timings) -> int:
    """About how long it takes until another node runs the group, when all that is needed works."""
    if requires is Requirement.FENCING:
        return t.detection_ms + 3000
    dog_ms = watchdog_extra_ms(t.watchdog_ms // 1000) if requires is Requirement.WATCHDOG else 0
    return t.detection_ms + t.wait_ms + dog_ms + 2000


def recovery_ms(requires: Requirement, t: Timings) -> int:
    """Within this a healthy core must serve again, whatever is broken elsewhere.

    At worst: a fence order that nobody answers is given up, its next device works; or the promises of voters that have
    just restarted run out, by a slow clock. The owner may first be heard again for a moment.
    """
    proof_ms = 2 * FENCE_MS + 5000 + FENCE_MS
    if requires is not Requirement.FENCING:
        proof_ms = 2 * t.wait_ms + (watchdog_extra_ms(t.watchdog_ms // 1000) if requires is Requirement.WATCHDOG else 0)
    return stretched(2 * t.detection_ms + t.settle_ms + 2 * t.lease_ms + proof_ms) + SLACK_MS
