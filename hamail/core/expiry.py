"""What ends by itself: the coordinator proposes it when its wall clock says so, and apply compares what that says."""

from collections.abc import Iterator

from hamail.model import commands as c
from hamail.model.commands import Lapse
from hamail.model.ids import GroupName, LogIndex, NodeName
from hamail.model.state import ClusterState, Term

DUE_MAX = 16  # proposed in one turn; the rest follows when these have gone


def limited(state: ClusterState) -> Iterator[tuple[Lapse, GroupName, NodeName, LogIndex, int]]:
    """Everything that has an end: what, of which group or node, since which entry, until when."""
    if state.maintenance.on and state.maintenance.until_ms:
        yield Lapse.MAINTENANCE, "", "", state.maintenance.since, state.maintenance.until_ms
    for name, n in sorted(state.nodes.items()):
        own: tuple[tuple[Lapse, Term | None], ...] = (
            (Lapse.QUARANTINE, n.quarantine),
            (Lapse.STANDBY, n.standby_term if n.standby else None),
            (Lapse.NODE_MAINTENANCE, n.maintenance),
        )
        for what, term in own:
            if term is not None and term.until_ms:
                yield what, "", name, term.since, term.until_ms
    for name, g in sorted(state.groups.items()):
        if g.maintenance is not None and g.maintenance.until_ms:
            yield Lapse.GROUP_MAINTENANCE, name, "", g.maintenance.since, g.maintenance.until_ms
        for node, term in sorted(g.bans.items()):
            yield Lapse.BAN, name, node, term.since, term.until_ms


def due(state: ClusterState, at_ms: int) -> tuple[c.Expire, ...]:
    over = (x for x in limited(state) if at_ms >= x[4])
    return tuple(
        c.Expire(at_ms=at_ms, lapse=what, group=group, node=node, since=since, reason="its time is over")
        for what, group, node, since, _ in list(over)[:DUE_MAX]
    )


def next_ms(state: ClusterState) -> int | None:
    """Wall clock; None when nothing has an end."""
    return min((until_ms for *_, until_ms in limited(state)), default=None)
