"""O2: what status reports never contradicts the truth for longer than it can take to see it, and two seconds.

A service that has died is seen at its next monitor, a node that has fallen silent after `detection` by a slow clock.
"""

from typing import TYPE_CHECKING

from hamail.core import leaving, membership
from hamail.core.timing import stretched
from hamail.model.ids import GroupName, NodeName
from hamail.model.state import Phase

if TYPE_CHECKING:
    from hamail.simulation.checkers.checker import Checker
    from hamail.simulation.daemon import Daemon
    from hamail.simulation.machine import Machine

EVERY_NS = 500_000_000
SLOW_EVERY_NS = 2_000_000_000  # where nodes are missed after SLOW_MS or more
SLOW_MS = 10_000
GRACE_NS = 2_000_000_000


class Status:
    """Asked twice a second of virtual time: a node that hears no majority says so, and is not believed."""

    def __init__(self, checker: "Checker") -> None:
        self._c = checker
        self.due_ns = EVERY_NS
        self._since_ns: dict[tuple[NodeName, GroupName, str], int] = {}

    def sample(self) -> None:
        now_ns = self._c.world.now_ns
        slow = self._c.world.spec.detection_ms >= SLOW_MS
        self.due_ns = now_ns + (SLOW_EVERY_NS if slow else EVERY_NS)
        wrong: dict[tuple[NodeName, GroupName, str], int] = {}
        for machine in self._c.world.machines.values():
            for group, what in self._contradictions(machine):
                key = (machine.name, group, what)
                wrong[key] = self._since_ns.get(key, now_ns)
                if now_ns - wrong[key] > self._limit_ns(group):
                    self._c.found("O2", group, f"{machine.name} has said for too long: {what}")
        self._since_ns = wrong

    def _limit_ns(self, group: GroupName) -> int:
        spec = self._c.world.state.spec.groups.get(group)
        interval_ms = max((r.monitor_interval_ms for r in spec.resources), default=0) if spec else 0
        state = self._c.world.state
        silent_ms = stretched(state.detection_ms_max or state.spec.detection_ms)
        return max(interval_ms, silent_ms) * 1_000_000 + GRACE_NS

    def _contradictions(self, machine: "Machine") -> list[tuple[GroupName, str]]:
        daemon, world = machine.daemon, self._c.world
        if daemon is None or daemon.hung or machine.paused or daemon.engine.problem or world.state.maintenance.on:
            return []
        engine, found = daemon.engine, list[tuple[GroupName, str]]()
        sure = engine.voter.past_barrier and not machine.disk_hangs and not engine.hindrance and _majority(daemon)
        for group in world.state.spec.groups:
            g = engine.state.group(group)
            owner = world.machines[g.owner] if g.owner else None
            if (
                sure
                and g.phase is Phase.ACTIVE
                and owner is not None
                and not owner.premises.of(group)
                and not _shown_down(daemon, group)
                and _well(daemon, owner.name, group)
                and world.network.under_way_ns(owner.name, machine.name) < GRACE_NS // 2
            ):
                found.append((group, f"{group} is active on {g.owner}, where nothing of it runs"))
            here = any(t.epoch for t in machine.premises.of(group).values())
            blind = not engine.local.connected or not engine.local.cleaning.done
            if here and not blind and group not in engine.local.held:
                found.append((group, f"nothing of {group} is held here, where it runs"))
        return found


def _shown_down(daemon: "Daemon", group: GroupName) -> bool:
    """Does status show that not every resource is up? It says where the group is, and that it does not work there."""
    shown = leaving.known_resources(daemon.engine).get(group, {})
    return any(state != "up" for state in shown.values())


def _well(daemon: "Daemon", owner: NodeName, group: GroupName) -> bool:
    """Does status show the owner as heard and ready, with the group? Of any other it says what is last known."""
    e = daemon.engine
    if owner == e.me:
        return not e.local.why_passive()
    beat = e.members.peers[owner].heartbeat
    if beat is None or not beat.ready or membership.missed(e.members, owner, e.now_ns, e.timings):
        return False
    return group in beat.resources


def _majority(daemon: "Daemon") -> bool:
    """Does it hear a leader and a majority of voters, as `hamailctl status` counts them?"""
    e, world = daemon.engine, daemon.m.world
    if world.log.leader is None or not world.network.both_ways(daemon.m.name, world.log.leader):
        return False
    heard = sum(1 for n in e.members.peers if not membership.missed(e.members, n, e.now_ns, e.timings))
    return (heard + 1) * 2 > len(e.members.peers) + 1
