"""Who is alive, from heartbeats alone.

Each node tells in its heartbeat for how long it has not heard each of the others. A node is *missed* by a voter that
has not heard it for `detection`, and *suspected* when a majority of all voters miss it: one bad link between two nodes
moves nothing while a third hears both. An observer that was itself stalled accuses later (local health).
"""

import msgspec
from msgspec import Struct

from hamail.model.ids import NodeName
from hamail.model.messages import Heartbeat
from hamail.model.timings import Timings

MS = 1_000_000


class Peer(Struct, frozen=True, kw_only=True):
    """What this node knows of another one from its heartbeats."""

    heard_ns: int  # when the last heartbeat came, or when this node began to listen (anew)
    spoke_ns: int  # the same, but listening anew leaves it: for how long it has truly been silent
    heartbeat: Heartbeat | None = None  # None: never heard
    excused_until_ns: int = 0  # announced that it would be away until then


class Membership(Struct, frozen=True, kw_only=True):
    me: NodeName
    began_ns: int
    ticked_ns: int
    peers: dict[NodeName, Peer]


def begin(me: NodeName, voters: tuple[NodeName, ...], now_ns: int) -> Membership:
    peers = {n: Peer(heard_ns=now_ns, spoke_ns=now_ns) for n in voters if n != me}
    return Membership(me=me, began_ns=now_ns, ticked_ns=now_ns, peers=peers)


def hear(m: Membership, sender: NodeName, beat: Heartbeat, now_ns: int) -> Membership:
    """A heartbeat came. Those of nodes that are no members change nothing."""
    if sender not in m.peers:
        return m
    excused = now_ns + beat.restarting_ms * MS if beat.restarting_ms else 0
    peer = Peer(heard_ns=now_ns, spoke_ns=now_ns, heartbeat=beat, excused_until_ns=excused)
    return msgspec.structs.replace(m, peers={**m.peers, sender: peer})


def listen_anew(m: Membership, now_ns: int) -> Membership:
    """From now on silence counts again: nobody is missed for what was allowed until this moment."""
    peers = {name: msgspec.structs.replace(p, heard_ns=max(p.heard_ns, now_ns)) for name, p in m.peers.items()}
    return msgspec.structs.replace(m, peers=peers)


def tick(m: Membership, now_ns: int, t: Timings) -> Membership:
    """Time passes. After a stall of this process the time it could not listen is nobody else's silence."""
    stalled_ns = now_ns - m.ticked_ns - 4 * t.tick_ms * MS
    m = msgspec.structs.replace(m, ticked_ns=now_ns)
    if stalled_ns <= 0:
        return m

    def later(at_ns: int) -> int:
        return min(now_ns, at_ns + stalled_ns)

    peers = {
        name: msgspec.structs.replace(p, heard_ns=later(p.heard_ns), spoke_ns=later(p.spoke_ns))
        for name, p in m.peers.items()
    }
    return msgspec.structs.replace(m, peers=peers)


def silent_ms(m: Membership, node: NodeName, now_ns: int) -> int:
    """For how long this node has not heard `node`, counted from when it began to listen anew: what it is missed for."""
    return 0 if node == m.me else max(0, now_ns - m.peers[node].heard_ns) // MS


def unheard_ms(m: Membership, node: NodeName, now_ns: int) -> int:
    """For how long it has truly said nothing, also while that was allowed: for people, and as part of an outage."""
    return 0 if node == m.me else max(0, now_ns - m.peers[node].spoke_ns) // MS


def missed(m: Membership, node: NodeName, now_ns: int, t: Timings) -> bool:
    """Does this node miss `node`? One never heard since this process began is given `settle` first."""
    if node == m.me:
        return False
    peer = m.peers[node]
    limit_ms = t.detection_ms if peer.heartbeat is not None else max(t.settle_ms, t.detection_ms)
    return now_ns >= peer.excused_until_ns and now_ns - peer.heard_ns >= limit_ms * MS


def all_missed(m: Membership, now_ns: int, t: Timings) -> frozenset[NodeName]:
    """Everybody whom this node misses."""
    return frozenset(n for n in m.peers if missed(m, n, now_ns, t))


def accusers(m: Membership, node: NodeName, now_ns: int, t: Timings) -> tuple[NodeName, ...]:
    """Voters that miss `node`, as far as this node can know: itself, and those it hears."""
    result = [m.me] if missed(m, node, now_ns, t) else []
    if now_ns < (0 if node == m.me else m.peers[node].excused_until_ns):
        return ()
    for name, peer in m.peers.items():
        if name == node or peer.heartbeat is None or missed(m, name, now_ns, t):
            continue
        since_ms = (now_ns - peer.heard_ns) // MS
        told_ms = peer.heartbeat.silent_ms.get(node, 0)
        # What it told has grown by the age of its heartbeat, but only if it had begun to miss heartbeats at all.
        grown_ms = told_ms + since_ms if told_ms >= t.detection_ms else told_ms
        if grown_ms >= t.detection_ms:
            result.append(name)
    return tuple(sorted(result))


def suspected(m: Membership, node: NodeName, now_ns: int, t: Timings) -> bool:
    """Does a majority of all voters miss `node`?"""
    return enough(m, accusers(m, node, now_ns, t))


def enough(m: Membership, accusing: tuple[NodeName, ...]) -> bool:
    """Are these a majority of all voters?"""
    return len(accusing) >= (len(m.peers) + 1) // 2 + 1


def hears_majority(m: Membership, missing: frozenset[NodeName]) -> bool:
    """`missing`: everybody whom this node misses."""
    heard = 1 + sum(1 for n, peer in m.peers.items() if n not in missing and peer.heartbeat is not None)
    return heard >= (len(m.peers) + 1) // 2 + 1
