"""What trials have shown, counted. Tallies add up, in any order."""

from msgspec import Struct, field

from hamail.model.ids import GroupName, LogIndex
from hamail.model.state import ClusterState, Trigger

ORDERED = frozenset({Trigger.FIRST_START, Trigger.SWITCHOVER, Trigger.STANDBY})


class Tally(Struct, kw_only=True):
    seeds: int = 0
    simulated_ms: int = 0
    events: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    failovers: int = 0  # a group came up on another node after something had failed
    returns: int = 0  # it came up again where it had been
    ordered: int = 0  # moves that somebody had ordered
    mails: int = 0  # acknowledged to simulated clients, in trials that came to their last audit
    recovered_ms: list[int] = field(default_factory=list)  # a healthy core served again, since it was healed
    violations: int = 0
    cpu_s: float = 0.0

    def add(self, other: "Tally") -> None:
        self.seeds += other.seeds
        self.simulated_ms += other.simulated_ms
        self.events += other.events
        for kind, count in other.faults.items():
            self.faults[kind] = self.faults.get(kind, 0) + count
        self.failovers += other.failovers
        self.returns += other.returns
        self.ordered += other.ordered
        self.mails += other.mails
        self.recovered_ms += other.recovered_ms
        self.violations += other.violations
        self.cpu_s += other.cpu_s


class Moves:
    """Counts moves that have ended; look often, the state keeps a limited number."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._seen: set[tuple[GroupName, LogIndex]] = set()

    def look(self, state: ClusterState) -> None:
        for move in state.moves:
            key = (move.group, move.id)
            if move.result != "done" or key in self._seen:
                continue
            self._seen.add(key)
            if move.trigger in ORDERED:
                self._tally.ordered += move.trigger is not Trigger.FIRST_START
            elif move.source in (None, move.target):
                self._tally.returns += 1
            else:
                self._tally.failovers += 1
