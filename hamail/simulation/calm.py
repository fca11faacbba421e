"""Until when a tick of the engine would do nothing, so that the simulator need not make it.

Nothing here is believed: with `Daemon.dense` every tick is made, and one that was predicted to do nothing and does
something is an error (tests/simulation/test_calm.py).
"""

from hamail.core import expiry, lease, membership, node, returns
from hamail.core.engine import BARRIER, Engine
from hamail.core.lead import TRANSFER_PAUSE_MS
from hamail.core.lease import MS
from hamail.core.local import Local
from hamail.model.ids import NodeName
from hamail.model.state import Phase

NEARER = 0.9  # of the way to the end of something by the wall clock, which may run otherwise than the node's own


def calm_until_ns(e: Engine) -> int:
    """By the clock of the node; 0 when something is under way and every tick counts."""
    if e.problem or e.hindrance or e.stalled_ms or not e.state.config.revision:
        return 0
    if not e.voter.past_barrier:
        waits = BARRIER in e._inflight and len(e._inflight) == 1
    else:
        waits = not e._inflight and not e.local.reports._open and _at_rest(e) and _local_at_rest(e.local)
    if not waits:
        return 0
    t = e.timings
    missed = e.missed()
    if missed - e._missed or (e.leading and _accused(e) & {e.state.group(name).owner for name in e.state.spec.groups}):
        return 0
    if e.leading and e.voter.past_barrier and _comes_or_goes(e):
        return 0
    dues = [e._beat_ns + t.heartbeat_ms * MS, *e._inflight.values()]
    for name, peer in e.members.peers.items():
        beat = peer.heartbeat
        if beat is not None and (
            beat.stalled_ms or (e.leading and name not in missed and beat.applied < e.state.applied)
        ):
            return 0
        if e.now_ns < peer.excused_until_ns:
            dues.append(peer.excused_until_ns)
        elif name not in missed:
            limit_ms = t.detection_ms if beat is not None else max(t.settle_ms, t.detection_ms)
            dues.append(peer.heard_ns + limit_ms * MS)
    dues += [_renewal_ns(e, o) for o in e.local.leases.values()]
    if e.voter.past_barrier:
        dues += [e.local.fences._check_ns.get(name, 0) for name in _checked_devices(e.local)]
    if e.leading and e.voter.past_barrier and e.lead._better() is not None:
        dues.append(e.lead._transfer_ns + TRANSFER_PAUSE_MS * MS)
    if e.leading and (end_ms := expiry.next_ms(e.state)) is not None:
        dues.append(e.now_ns + int(max(0, end_ms - e.at_ms) * NEARER * MS))
    return min(dues)


def _comes_or_goes(e: Engine) -> bool:
    """Is there a node of which the coordinator has yet to note that a majority misses it, or hears it again?"""
    known = e.lead.returns.missing
    for name in returns.watched(e.state):
        if name == e.me:
            continue
        suspected = membership.suspected(e.members, name, e.now_ns, e.timings)
        beat = e.members.peers[name].heartbeat
        heard = not suspected and beat is not None and beat.ready and name not in e.missed()
        if (suspected and name not in known) or (heard and name in known):
            return True
    return False


def _accused(e: Engine) -> set[NodeName]:
    """Whom anybody misses, as far as this node was told."""
    beats = [peer.heartbeat for peer in e.members.peers.values() if peer.heartbeat is not None]
    told = {name for beat in beats for name, ms in beat.silent_ms.items() if ms >= e.timings.detection_ms}
    return told | e.missed()


def _at_rest(e: Engine) -> bool:
    """Nothing is under way in the log that this node has a part in."""
    m = e.state.maintenance
    coordinates = e.leading and not m.on
    for name in e.state.spec.groups:
        g = e.state.group(name)
        if g.phase is not Phase.ACTIVE and (coordinates or g.owner == e.me):
            return False
    orders = [n.fence for n in e.state.nodes.values() if n.fence is not None]
    if any(coordinates or order.by == e.me for order in orders):
        return False
    return e.me in m.acknowledged if m.on else e.me not in m.suspended


def _local_at_rest(local: Local) -> bool:
    e = local.e
    if local.witness:
        return True
    if not (local.connected and local.joined and local.cleaning.done) or local.cleaning.failed:
        return False
    if local.cleaning._configured != e.state.config.index or local.cleaning._open():
        return False
    busy = (local._stopping, local._pending, local._failing, local.repairs._broken)
    if any(busy) or local.maintenance.suspended != e.state.maintenance.on:
        return False
    mine = node.owned(e.state, e.me)
    return set(local.held) == set(mine) == set(local.leases) and all(_runs(local, name) for name in mine)


def _runs(local: Local, name: str) -> bool:
    held = local.held[name]
    return held.state == "up" and held.epoch == local.e.state.group(name).epoch == local.leases[name].epoch


def _renewal_ns(e: Engine, o: lease.Ownership) -> int:
    return 0 if not o.asked or not o.until_ns else o.asked[-1].nonce + lease.pause_ms(o, e.timings) * MS


def _checked_devices(local: Local) -> list[str]:
    if local.witness:
        return []
    spec = local.e.state.spec
    return [d.name for d in spec.fencing.values() if any(local.e.me in spec.fence_executors(d, n) for n in d.targets)]
