"""Until when a tick of the engine would do nothing, so that the simulator need not make it.

Nothing here is believed: with `Daemon.dense` every tick is made, and one that was predicted to do nothing and does
something is an error (tests/simulation/test_calm.py).
"""

from hamail.core import lease, node
from hamail.core.engine import Engine
from hamail.core.lead import TRANSFER_PAUSE_MS
from hamail.core.lease import MS
from hamail.core.local import Local
from hamail.model.state import Phase


def calm_until_ns(e: Engine) -> int:
    """By the clock of the node; 0 when something is under way and every tick counts."""
    if e.problem or e.hindrance or e.stalled_ms:
        return 0
    if e._inflight or not e.voter.past_barrier or not e.state.config.revision or e.state.maintenance.on:
        return 0
    if e.local.reports._open or not _at_rest(e) or (not e.local.witness and not _local_at_rest(e.local)):
        return 0
    t = e.timings
    dues = [e._beat_ns + t.heartbeat_ms * MS]
    for peer in e.members.peers.values():
        beat = peer.heartbeat
        if beat is None or beat.stalled_ms or e.now_ns < peer.excused_until_ns:
            return 0
        if e.leading and beat.applied < e.state.applied:
            return 0
        if any(ms >= t.detection_ms for ms in beat.silent_ms.values()):
            return 0
        dues.append(peer.heard_ns + t.detection_ms * MS)
    dues += [_renewal_ns(e, o) for o in e.local.leases.values()]
    dues += [e.local.fences._check_ns.get(name, 0) for name in _checked_devices(e.local)]
    if e.leading and e.lead._better() is not None:
        dues.append(e.lead._transfer_ns + TRANSFER_PAUSE_MS * MS)
    return min(dues)


def _at_rest(e: Engine) -> bool:
    """Every group runs, and no order is open."""
    groups = all(e.state.group(name).phase is Phase.ACTIVE for name in e.state.spec.groups)
    return groups and all(n.fence is None for n in e.state.nodes.values()) and e.me not in e.state.maintenance.suspended


def _local_at_rest(local: Local) -> bool:
    e = local.e
    if not (local.connected and local.joined and local.cleaning.done) or local.cleaning.failed:
        return False
    if local.cleaning._configured != e.state.config.index or local.cleaning._open():
        return False
    busy = (local._stopping, local._pending, local._failing, local.repairs._broken)
    if any(busy) or local.maintenance.suspended:
        return False
    mine = node.owned(e.state, e.me)
    return set(local.held) == set(mine) == set(local.leases) and all(_runs(local, name) for name in mine)


def _runs(local: Local, name: str) -> bool:
    held = local.held[name]
    return held.state == "up" and held.epoch == local.e.state.group(name).epoch == local.leases[name].epoch


def _renewal_ns(e: Engine, o: lease.Ownership) -> int:
    return 0 if o.sent_ns is None or not o.until_ns else o.sent_ns + lease.pause_ms(o, e.timings) * MS


def _checked_devices(local: Local) -> list[str]:
    if local.witness:
        return []
    spec = local.e.state.spec
    return [d.name for d in spec.fencing.values() if any(local.e.me in spec.fence_executors(d, n) for n in d.targets)]
