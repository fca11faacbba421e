"""What one seed draws its faults from. Durations follow the cluster's own timings: they hurt at any `detection`."""

import random
from typing import TypeVar

from hamail.core.timing import derive
from hamail.model.ids import NodeName
from hamail.model.spec import ClusterSpec

T = TypeVar("T")
ROLES = ("owner", "standby", "leader")


class Dice:
    def __init__(self, rng: random.Random, spec: ClusterSpec) -> None:
        self.rng = rng
        self.spec = spec
        self.t = derive(spec.detection_ms, spec.watchdog_timeout_s)
        self.nodes = spec.voters()
        self.mail = tuple(n for n in self.nodes if not spec.nodes[n].witness)
        self.devices = tuple(sorted(spec.fencing))
        self.groups = tuple(sorted(spec.groups))
        self.frail: NodeName = rng.choice(self.nodes)  # the only one whose disk forgets: no log survives more

    def of(self, *values: T) -> T:
        return self.rng.choice(values)

    def share(self, chance: float) -> bool:
        return self.rng.random() < chance

    def between(self, low: float, high: float) -> float:
        return round(self.rng.uniform(low, high), 3)

    def node(self) -> NodeName:
        """Any node; as often one that has a part to play at that moment."""
        return self.of(*self.nodes, *ROLES)

    def mail_node(self) -> NodeName:
        return self.of(*self.mail, "owner", "owner", "standby")

    def two(self) -> tuple[NodeName, NodeName]:
        a, b = self.rng.sample(self.nodes, 2)
        return a, b

    def brief_ms(self) -> int:
        """From nothing to about the time after which a node is missed."""
        return int(self.of(0.05, 0.3, 0.8, 1.2) * self.t.detection_ms) + self.rng.randrange(50)

    def spell_ms(self) -> int:
        """From well below the detection time to well beyond a lease."""
        detection, lease = self.t.detection_ms, self.t.lease_ms
        return int(self.of(0.4 * detection, 1.5 * detection, 3 * detection, 1.0 * lease, 1.6 * lease, 3 * lease))

    def back_ms(self) -> int:
        """Until a dead thing comes back."""
        return int(self.of(50, 300, 0.8 * self.t.detection_ms, 1.2 * self.t.lease_ms, 2.5 * self.t.lease_ms))
