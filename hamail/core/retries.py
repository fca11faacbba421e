"""A group that nobody could start is tried again by itself: storage may come late, a full disk may be emptied.

Every node watches with its own clock how long the group has waited, so that each can say when the next try comes; the
coordinator proposes it. The pause grows with the tries that the log has counted since the group last ran.
"""

from collections.abc import Callable

from hamail.core import hands_off, placement, policy
from hamail.core.facts import Facts
from hamail.core.lease import MS
from hamail.model.ids import Epoch, GroupName
from hamail.model.state import ClusterState, Phase

RETRY_MS = 60_000  # before the first try; doubled for each further one
RETRY_MS_MAX = 600_000


def pause_ms(retries: int) -> int:
    return min(RETRY_MS << min(retries, 8), RETRY_MS_MAX)


def only_failures(state: ClusterState, facts: Facts, group: GroupName) -> bool:
    """May nobody have the group, and is there a node that could if it had not failed there?"""
    if not _waits(state, group) or placement.choose(state, facts, group) is not None:
        return False
    held = (n for n in state.spec.groups[group].nodes if policy.held_back(state, group, n, facts.at_ms))
    return any(placement.unfit(state, facts, group, node) == "" for node in (*state.group(group).failed_on, *held))


def _waits(state: ClusterState, group: GroupName) -> bool:
    """May be: nobody has it, and something has failed."""
    g = state.group(group)
    return g.phase is Phase.IDLE and bool(g.failed_on or (g.failures and not g.pardoned))


def words(state: ClusterState, facts: Facts, group: GroupName) -> str:
    """Why it waits, and when the next try comes; empty when none will."""
    left_ms = facts.retry_in_ms.get(group)
    if left_ms is None:
        return ""
    why = "could not be started anywhere" if state.group(group).failed_on else "waits, for it moved too often"
    return f"{group} {why}; next try in {-(-left_ms // 1000)} s; hamailctl clear {group} tries at once"


def _pause_ms(state: ClusterState, group: GroupName, at_ms: int) -> int:
    """It grows with the tries since the group last ran, and with the failovers that were too many."""
    g = state.group(group)
    return pause_ms(g.retries + (0 if g.failed_on else policy.excess(state.spec.groups[group], g, at_ms)))


class Retries:
    def __init__(self) -> None:
        self._since_ns: dict[tuple[GroupName, Epoch], int] = {}  # since when it could only be tried again

    def step(self, state: ClusterState, facts: Callable[[], Facts], now_ns: int) -> None:
        """Call at each tick, on every node."""
        candidates = [n for n in state.spec.groups if _waits(state, n) and not hands_off.from_group(state, n)]
        if not candidates:
            self._since_ns.clear()
            return
        known = facts()
        waiting = [(n, state.group(n).epoch) for n in candidates if only_failures(state, known, n)]
        self._since_ns = {key: self._since_ns.get(key, now_ns) for key in waiting}

    def in_ms(self, state: ClusterState, now_ns: int, at_ms: int) -> dict[GroupName, int]:
        """How long until the next try, for each group that waits for one; 0 = now."""
        return {
            name: max(0, _pause_ms(state, name, at_ms) - (now_ns - since_ns) // MS)
            for (name, epoch), since_ns in self._since_ns.items()
            if name in state.spec.groups and state.group(name).epoch == epoch and _waits(state, name)
        }
