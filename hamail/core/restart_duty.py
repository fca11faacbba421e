"""This node's part in restarts that an operator orders: in place, one resource after the other, then a word to the log.

A restart by order is no failure: it counts nowhere. What it leaves broken is a failure like any other.
"""

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from hamail.core import hands_off
from hamail.core.ordering import waves
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.ids import Epoch, GroupName, LogIndex, ResourceName
from hamail.model.orders import RestartOrder

if TYPE_CHECKING:
    from hamail.core.local import Local

FORGOTTEN = "hamaild was restarted meanwhile and does not know what became of it; look at hamailctl status"


class Running(Struct, frozen=True, kw_only=True):
    order: LogIndex
    epoch: Epoch
    left: tuple[ResourceName, ...]  # the first is being restarted
    broken: a.ResourceFailed | None = None  # what was known to be wrong with it before
    end: c.RestartEnded | None = None  # how it ended, until the log knows


class RestartDuty:
    def __init__(self, local: "Local") -> None:
        self.l = local
        self._running: dict[GroupName, Running] = {}
        self._before: LogIndex | None = None  # orders up to this entry were for an earlier life of hamaild

    def disconnected(self) -> None:
        """The executor is another one, or may have lost a word: nobody will tell how it ended."""
        for group, r in list(self._running.items()):
            if r.end is None:
                self._ended(group, r, "the executor was not connected all the while; look at hamailctl status")

    def step(self) -> None:
        e = self.l.e
        if self._before is None:
            self._before = e.state.applied
        for group in sorted(e.state.spec.groups):
            g = e.state.group(group)
            running = self._running.get(group)
            if running is not None and (g.restart is None or g.restart.id != running.order):
                del self._running[group]  # the log has closed it
                running = None
            if g.restart is not None and g.owner == e.me and running is None:
                self._begin(group, g.restart)
            running = self._running.get(group)
            if running is not None and running.end is not None:
                e.propose(f"restart {running.order}", running.end)

    def _begin(self, group: GroupName, order: RestartOrder) -> None:
        e, spec = self.l.e, self.l.e.state.spec.groups[group]
        names = tuple(n for wave in waves(spec.resources) for n in wave)
        running = Running(order=order.id, epoch=order.epoch, left=(order.resource,) if order.resource else names)
        self._running[group] = running
        status = self.l.held.get(group)
        assert self._before is not None
        if order.id <= self._before:
            self._ended(group, running, FORGOTTEN)
        elif status is None or status.epoch != order.epoch or status.state != "up":
            self._ended(group, running, f"{group} is not up on {e.me}")
        else:
            self._next(group, running)

    def _next(self, group: GroupName, running: Running) -> None:
        status, resource = self.l.held[group], running.left[0]
        if status.resources.get(resource) == "starting":
            self._ended(group, running, f"{resource} had failed and is being restarted for that already")
            return
        if why := hands_off.from_group(self.l.e.state, group):
            self._ended(group, running, f"{resource} and what comes after it were left alone, since {why}")
            return
        self._running[group] = replace(running, broken=self.l.repairs.forget(group, resource))
        self.l.mark(group, running.epoch, resource, "starting")
        self.l.ask(a.RestartResource(id=self.l.next_id(), group=group, epoch=running.epoch, resource=resource))

    def concerns(self, group: GroupName, epoch: Epoch, resource: ResourceName) -> bool:
        """Is this the resource that is being restarted by order just now?"""
        r = self._running.get(group)
        return r is not None and r.end is None and r.epoch == epoch and r.left[:1] == (resource,)

    def came_up(self, group: GroupName, epoch: Epoch, resource: ResourceName) -> None:
        """Started along with what it stands on: once is enough."""
        r = self._running.get(group)
        if r is not None and r.end is None and r.epoch == epoch and resource in r.left[1:]:
            self._running[group] = replace(r, left=(r.left[0], *(n for n in r.left[1:] if n != resource)))

    def restarted(self, n: a.ResourceRestarted) -> None:
        """Call only for what it concerns."""
        running = self._running[n.group]
        if not n.ok:
            self._ended(n.group, running, n.detail or "no reason given")
            return
        self.l.mark(n.group, n.epoch, n.resource, "up")
        if running.left[1:]:
            self._next(n.group, replace(running, left=running.left[1:]))
        else:
            self._ended(n.group, running, "")

    def refused(self, n: a.RestartResource, why: str) -> None:
        """Surely not carried out: the resource is as it was."""
        running = self._running[n.group]
        self.l.mark(n.group, n.epoch, n.resource, "up")
        if running.broken is not None:
            self.l.repairs.failed(running.broken)
        self._ended(n.group, running, why)

    def _ended(self, group: GroupName, running: Running, why_not: str) -> None:
        e = self.l.e
        end = c.RestartEnded(at_ms=e.at_ms, group=group, node=e.me, order=running.order, ok=not why_not, detail=why_not)
        self._running[group] = replace(running, left=(), end=end)
        e.propose(f"restart {running.order}", end)
