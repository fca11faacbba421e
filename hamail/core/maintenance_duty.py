"""This node's part in maintenance: suspend the dead-man's switch, put it into force again, and say so."""

from typing import TYPE_CHECKING

from hamail.core import lease
from hamail.core.lease import MS
from hamail.model import actions as a
from hamail.model import commands as c

if TYPE_CHECKING:
    from hamail.core.local import Local

RETRY_MS = 1000


class MaintenanceDuty:
    def __init__(self, local: "Local") -> None:
        self.l = local
        self.suspended = False  # the executor has said that its dead-man's switch is suspended
        self._asked_ns: int | None = None
        self._ended_ns: int | None = None

    def reconnected(self, suspended: bool) -> None:
        self.suspended = suspended
        self._asked_ns = None

    def step(self) -> None:
        self._tell_executor()
        self.acknowledge()

    def _tell_executor(self) -> None:
        """The switch goes back into force under leases that are alive, so that nothing is stopped by that alone."""
        e, on = self.l.e, self.l.e.state.maintenance.on
        if on or not self.suspended:
            self._ended_ns = None
        elif self._ended_ns is None:
            self._ended_ns = e.now_ns
        if on == self.suspended or (self._asked_ns is not None and e.now_ns - self._asked_ns < RETRY_MS * MS):
            return
        waited = self._ended_ns is not None and e.now_ns - self._ended_ns > e.timings.lease_ms * MS
        leases = self.l.leases
        alive = all(name in leases and lease.alive(leases[name], e.now_ns) for name in self.l.held)
        if on or alive or waited:
            self._asked_ns = e.now_ns
            self.l.ask(a.Maintain(id=self.l.next_id(), on=on))

    def acknowledge(self) -> None:
        m, me = self.l.e.state.maintenance, self.l.e.me
        missing = me not in m.acknowledged if m.on else me in m.suspended
        done = self.l.witness or (self.l.connected and self.suspended == m.on)
        if not m.on and not self.l.joined:
            done = False  # what an executor that was replaced meanwhile has left running is under no switch at all
        if missing and done:
            ack = c.AckMaintenance(at_ms=self.l.e.at_ms, node=me, on=m.on, since=m.since)
            self.l.e.propose(f"maintenance {m.since}", ack)
