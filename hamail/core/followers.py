"""Which nodes are heard and yet do not follow the log: their part of it hangs, e.g. on a disk that never answers.

Their leases and heartbeats go on, since neither waits for a disk. Such an owner learns of no order, and can report
nothing. The coordinator measures it by its own clock, from what the heartbeats say to be applied.
"""

from typing import TYPE_CHECKING

from hamail.core.facts import Facts
from hamail.core.lease import MS
from hamail.model.ids import LogIndex, NodeName
from hamail.model.timings import Timings

if TYPE_CHECKING:
    from hamail.core.engine import Engine

STUCK_LEASES = 2  # a slow disk and a restart of hamaild are over long before


def stuck(facts: Facts, node: NodeName, t: Timings) -> bool:
    """Has its log stood still for so long that it must not own a group any more?"""
    return facts.behind_ms.get(node, 0) > STUCK_LEASES * t.lease_ms


class Followers:
    def __init__(self, engine: "Engine") -> None:
        self.e = engine
        self._seen: dict[NodeName, tuple[LogIndex, int]] = {}  # applied, and since when it has stood there

    def forget(self) -> None:
        self._seen.clear()

    def step(self) -> None:
        e = self.e
        for name, peer in e.members.peers.items():
            applied = peer.heartbeat.applied if peer.heartbeat is not None else 0
            away = peer.heartbeat is None or name in e.missed()
            excused = e.now_ns < peer.excused_until_ns
            moved = self._seen.get(name, (-1, 0))[0] != applied
            if moved or away or excused or applied >= e.state.applied:
                self._seen[name] = (applied, e.now_ns)

    def behind_ms(self) -> dict[NodeName, int]:
        """For how long each node that this one hears has stood still, by this node's clock or by its own word."""
        measured = {name: (self.e.now_ns - since_ns) // MS for name, (_, since_ns) in self._seen.items()}
        return {name: max(ms, self._told_ms(name)) for name, ms in measured.items()}

    def _told_ms(self, name: NodeName) -> int:
        e, peer = self.e, self.e.members.peers[name]
        away = name in e.missed() or e.now_ns < peer.excused_until_ns
        return 0 if away or peer.heartbeat is None else peer.heartbeat.stalled_ms
