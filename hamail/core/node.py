"""What this node does next about the groups, from the replicated state, its leases and its executor."""

from msgspec import Struct

from hamail.core import lease
from hamail.core.lease import Ownership
from hamail.core.proof import HELD
from hamail.model.actions import GroupStatus
from hamail.model.ids import Epoch, GroupName, NodeName
from hamail.model.spec import GroupSpec
from hamail.model.state import ClusterState, GroupState, Phase
from hamail.model.timings import Timings

MS = 1_000_000
LEASELESS_MAX = 3  # leases' time without one, after which a grant that was never used is given back


class Start(Struct, frozen=True):
    group: GroupName
    epoch: Epoch


class Stop(Struct, frozen=True):
    group: GroupName
    epoch: Epoch
    why: str


def owned(state: ClusterState, me: NodeName) -> tuple[GroupName, ...]:
    """Groups that this node owns by the log and may hold, so it needs a lease for each."""
    return tuple(
        name for name in sorted(state.spec.groups) if state.group(name).owner == me and state.group(name).phase in HELD
    )


def steps(
    state: ClusterState,
    me: NodeName,
    held: dict[GroupName, GroupStatus],
    leases: dict[GroupName, Ownership],
    now_ns: int,
    t: Timings,
) -> tuple[Start | Stop, ...]:
    """Starts and stops that are due. Call only with the state past a barrier and the executor connected."""
    result: list[Start | Stop] = []
    for name in sorted({*state.spec.groups, *held}):
        step = _step(state, me, name, held.get(name), leases.get(name), now_ns, t)
        if step is not None:
            result.append(step)
    return tuple(result)


def _step(
    state: ClusterState,
    me: NodeName,
    name: GroupName,
    held: GroupStatus | None,
    ownership: Ownership | None,
    now_ns: int,
    t: Timings,
) -> Start | Stop | None:
    g = state.group(name)
    if held is not None:
        return _keep_or_stop(g, me, name, held)
    if g.owner != me or (state.maintenance.on and g.phase is not Phase.STOPPING):
        return None
    if g.phase is Phase.STOPPING:
        return Stop(name, g.epoch, g.sentence)
    if g.phase is not Phase.STARTING:  # the log says that it is here and it is not: verify, then say so
        return Stop(name, g.epoch, f"{name} is not running here any more")
    if ownership is None or ownership.epoch != g.epoch:
        return None
    if enough(ownership, now_ns, t):
        return Start(name, g.epoch)
    if not lease.alive(ownership, now_ns) and now_ns - ownership.since_ns > LEASELESS_MAX * t.lease_ms * MS:
        return Stop(name, g.epoch, f"no majority of voters has promised {me} a lease for {name}")
    return None


def _keep_or_stop(g: GroupState, me: NodeName, name: GroupName, held: GroupStatus) -> Stop | None:
    if held.state == "stopping":
        return None
    if g.owner == me and (g.epoch == held.epoch or held.state == "stop_failed"):
        if held.state == "stop_failed" and not (g.stuck and g.phase is Phase.STOPPING):
            return None  # again only when an operator has done something about it
        return Stop(name, g.epoch, g.sentence) if g.phase is Phase.STOPPING else None
    if held.state == "stop_failed":
        return None
    return Stop(name, held.epoch, f"epoch {held.epoch} of {name} is over: {g.owner or 'nobody'} owns epoch {g.epoch}")


def expected(state: ClusterState, me: NodeName) -> tuple[GroupName, ...]:
    """Groups that are being taken from another node and may come to this one."""
    leaving = (Phase.FENCING, Phase.WAITING, Phase.STOPPING)
    return tuple(
        name
        for name, spec in sorted(state.spec.groups.items())
        if me in spec.nodes and state.group(name).phase in leaving and state.group(name).owner != me
    )


def enough(ownership: Ownership, now_ns: int, t: Timings) -> bool:
    """Is there lease enough to begin? Less than half of what may be used is a sign of trouble: renew first."""
    return ownership.until_ns - now_ns > (t.lease_ms + t.stop_budget_ms) * MS // 2


def deadlines(ownership: Ownership, t: Timings) -> tuple[int, int]:
    """(soft, hard): when the dead-man's switch begins to stop the group, and when it must be out."""
    return ownership.until_ns - t.stop_budget_ms * MS, ownership.until_ns


def renewals(leases: dict[GroupName, Ownership], now_ns: int, t: Timings) -> tuple[GroupName, ...]:
    return tuple(name for name in sorted(leases) if lease.due(leases[name], now_ns, t))


class Repair(Struct, frozen=True):
    """What to do about a failed resource: restart it here, or let the group move."""

    move: bool
    why: str


def repair(spec: GroupSpec, recent: int, fatal: bool, elsewhere: bool) -> Repair:
    """`recent`: local restarts within the window. `elsewhere`: another node could take the group."""
    if fatal and elsewhere:
        return Repair(True, "no restart on this node can help")
    if recent >= spec.restarts and elsewhere:
        minutes = spec.restarts_window_ms / 60_000
        return Repair(True, f"it was restarted {recent} times within {minutes:g} minutes, the most that is allowed")
    if recent >= spec.restarts or fatal:
        return Repair(False, "the group does not move for it, so it is restarted here again")
    return Repair(False, f"restart {recent + 1} of {spec.restarts}")
