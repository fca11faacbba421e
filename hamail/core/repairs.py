"""Failed resources of this node's groups: restarted in place, or the group moves."""

from typing import TYPE_CHECKING

from hamail.core import node, placement
from hamail.core.lease import MS
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.ids import GroupName, ResourceName

if TYPE_CHECKING:
    from hamail.core.local import Local

RESTART_FAILED = "; restart failed: "
PAUSE_MS = 5000  # between restarts beyond the allowed number, when no other node could take the group


class Repairs:
    def __init__(self, local: "Local") -> None:
        self.l = local
        self._broken: dict[tuple[GroupName, ResourceName], a.ResourceFailed] = {}  # to be acted upon
        self._restarts: dict[tuple[GroupName, ResourceName], list[int]] = {}
        self._why: dict[tuple[GroupName, ResourceName], str] = {}

    def adopt(self, groups: dict[GroupName, a.GroupStatus]) -> None:
        """What this hamaild finds at the executor: a failure that an earlier one was told of is still one."""
        self._broken.clear()
        for group, status in groups.items():
            for resource, state in status.resources.items():
                if state == "failed":
                    detail = "it had failed before hamaild was restarted"
                    self.failed(a.ResourceFailed(group=group, epoch=status.epoch, resource=resource, detail=detail))

    def failed(self, n: a.ResourceFailed) -> None:
        status = self.l.held.get(n.group)
        if status is None or status.epoch != n.epoch or status.state not in ("starting", "up"):
            return
        if status.state == "up" and status.resources.get(n.resource) == "starting":
            return  # it is being restarted: its end will be told
        self._broken.setdefault((n.group, n.resource), n)
        self.l.mark(n.group, n.epoch, n.resource, "failed")

    def recovered(self, n: a.ResourceUp) -> None:
        """It works again before anything was done about it, e.g. by the hand of an operator: leave it alone."""
        broken = self._broken.get((n.group, n.resource))
        if broken is not None and broken.epoch == n.epoch:
            del self._broken[n.group, n.resource]

    def step(self) -> None:
        """Act on failures, as soon as the group is up and nobody works on it by hand."""
        if self.l.e.state.maintenance.on:
            return
        for key, n in list(self._broken.items()):
            status = self.l.held.get(n.group)
            if status is None or status.epoch != n.epoch:
                del self._broken[key]
            elif status.state == "up" and self._pause_over(key, n):
                del self._broken[key]
                self._repair(n)

    def _recent(self, key: tuple[GroupName, ResourceName]) -> list[int]:
        spec = self.l.e.state.spec.groups.get(key[0])
        window_ns = (spec.restarts_window_ms if spec else 0) * MS
        return [at for at in self._restarts.get(key, []) if at > self.l.e.now_ns - window_ns]

    def _elsewhere(self, n: a.ResourceFailed) -> bool:
        """Could another node take the group, and is the resource worth a move?"""
        e = self.l.e
        spec = e.state.spec.groups[n.group]
        if not any(r.name == n.resource and r.critical for r in spec.resources):
            return False
        return any(x.eligible and x.node != e.me for x in placement.candidates(e.state, e.facts(), n.group))

    def _pause_over(self, key: tuple[GroupName, ResourceName], n: a.ResourceFailed) -> bool:
        spec, recent = self.l.e.state.spec.groups.get(n.group), self._recent(key)
        if spec is None or not recent or (len(recent) < spec.restarts and not n.fatal) or self._elsewhere(n):
            return True
        return self.l.e.now_ns - recent[-1] >= PAUSE_MS * MS

    def _repair(self, n: a.ResourceFailed) -> None:
        e, key = self.l.e, (n.group, n.resource)
        spec = e.state.spec.groups.get(n.group)
        if spec is None:
            return
        recent = self._recent(key)
        what = node.repair(spec, len(recent), n.fatal, self._elsewhere(n))
        e.note("warning", f"{n.resource} of {n.group} failed: {n.detail}; {what.why}")
        self._why[key] = n.detail
        if what.move:
            detail = f"{n.detail}; {what.why}"
            failed = c.Failed(
                at_ms=e.at_ms, group=n.group, node=e.me, epoch=n.epoch, resource=n.resource, detail=detail
            )
            self.l.reports.tell(f"failed {n.group} {n.epoch}", failed)
            return
        self._restarts[key] = [*recent, e.now_ns]
        self.l.mark(n.group, n.epoch, n.resource, "starting")
        self.l.ask(a.RestartResource(id=self.l.next_id(), group=n.group, epoch=n.epoch, resource=n.resource))

    def restarted(self, n: a.ResourceRestarted) -> None:
        e, key = self.l.e, (n.group, n.resource)
        if not n.ok:
            first = self._why.get(key, "").partition(RESTART_FAILED)[0]  # the cause, not only what it led to
            detail = f"{first}{RESTART_FAILED}{n.detail}"
            self.l.mark(n.group, n.epoch, n.resource, "up")  # so that the failure is looked at afresh
            self.failed(a.ResourceFailed(group=n.group, epoch=n.epoch, resource=n.resource, detail=detail, fatal=True))
            return
        self._broken.pop(key, None)
        self.l.mark(n.group, n.epoch, n.resource, "up")
        done = c.Restarted(
            at_ms=e.at_ms,
            group=n.group,
            node=e.me,
            epoch=n.epoch,
            resource=n.resource,
            detail=self._why.get(key, ""),
            count=len(self._restarts.get(key, [])),
        )
        e.propose(f"restarted {n.group} {n.resource} {e.now_ns}", done)
