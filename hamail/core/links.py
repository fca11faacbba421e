"""Which links are broken although both of their ends live: what a node knows of links that are not its own, too."""

from itertools import combinations

from hamail.core.membership import MS, Membership, missed
from hamail.model.ids import NodeName
from hamail.model.timings import Timings


def broken(m: Membership, now_ns: int, t: Timings) -> tuple[tuple[NodeName, NodeName], ...]:
    """Pairs of living nodes of which at least one misses the other. Decides nothing: it is for people.

    A node that dies is silent to everybody at about the same time: it lives only if somebody has heard it lately. What
    others miss counts after `settle` only, for a node that has just begun has not heard all of them yet.
    """
    heard = {n for n, p in m.peers.items() if p.heartbeat is not None and not missed(m, n, now_ns, t)}
    fresh_ms, lasting_ms = t.detection_ms * 2 // 3, max(t.settle_ms, t.detection_ms)

    def told_ms(by: NodeName, of: NodeName) -> int | None:
        peer = m.peers[by]
        silent_ms = peer.heartbeat.silent_ms.get(of) if peer.heartbeat is not None else None
        return None if silent_ms is None else silent_ms + (now_ns - peer.heard_ns) // MS

    def lives(node: NodeName) -> bool:
        if node == m.me or node in heard:
            return True
        told = (told_ms(by, node) for by in heard)
        return any(ms is not None and ms < fresh_ms for ms in told)

    def misses(one: NodeName, other: NodeName) -> bool:
        if one == m.me:
            return missed(m, other, now_ns, t)
        return one in heard and (told_ms(one, other) or 0) >= lasting_ms

    awake = [n for n in sorted({m.me, *m.peers}) if lives(n) and not _excused(m, n, now_ns)]
    return tuple((a, b) for a, b in combinations(awake, 2) if misses(a, b) or misses(b, a))


def _excused(m: Membership, node: NodeName, now_ns: int) -> bool:
    return node != m.me and now_ns < m.peers[node].excused_until_ns
