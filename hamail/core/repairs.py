"""Failed resources of this node's groups: restarted in place, or the group moves."""

from typing import TYPE_CHECKING

from hamail.core import hands_off, node, placement, policy
from hamail.core.lease import MS
from hamail.core.retries import pause_ms
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
        self._held_ns: dict[tuple[GroupName, ResourceName], int] = {}  # failed for good, but kept here: since when
        self._told: dict[tuple[GroupName, ResourceName], str] = {}  # why it stays, as the history was told

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

    def forget(self, group: GroupName, resource: ResourceName) -> a.ResourceFailed | None:
        """An operator has it restarted. What was known to be wrong with it."""
        return self._broken.pop((group, resource), None)

    def recovered(self, n: a.ResourceUp) -> None:
        """It works again before anything was done about it, e.g. by the hand of an operator: leave it alone."""
        broken = self._broken.get((n.group, n.resource))
        if broken is not None and broken.epoch == n.epoch:
            del self._broken[n.group, n.resource]

    def step(self) -> None:
        """Act on failures, as soon as the group is up and nobody works on it by hand."""
        for key, n in list(self._broken.items()):
            if hands_off.from_group(self.l.e.state, n.group):
                continue
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

    def _count(self, key: tuple[GroupName, ResourceName]) -> int:
        """Restarts within the window, also those of an earlier hamaild."""
        e = self.l.e
        spec, g = e.state.spec.groups[key[0]], e.state.group(key[0])
        return max(len(self._recent(key)), policy.restarts(spec, g, e.me, e.at_ms).get(key[1], 0))

    def _stays(self, n: a.ResourceFailed) -> str:
        """Why the group does not move for this; empty when it may."""
        e = self.l.e
        spec, g = e.state.spec.groups[n.group], e.state.group(n.group)
        if not any(r.name == n.resource and r.critical for r in spec.resources):
            return f"{n.resource} is not critical"
        facts = e.facts()
        others = [x.node for x in placement.candidates(e.state, facts, n.group) if x.eligible and x.node != e.me]
        if n.fatal:  # here it cannot run at all: a node that comes and goes is better than that
            others += placement.last_resorts(e.state, facts, n.group)
        if not others:
            return "no other node could take it"
        kept = [policy.stays(n.group, spec, g, node, n.resource, e.at_ms, fatal=n.fatal) for node in others]
        if not all(kept):
            return ""
        # It cannot run here at all, and what was wrong elsewhere may have been mended: wait, but not for ever.
        since_ns = self._held_ns.setdefault((n.group, n.resource), e.now_ns) if n.fatal else e.now_ns
        return kept[0] if e.now_ns - since_ns < self._patience_ms(n.group) * MS else ""

    def _patience_ms(self, group: GroupName) -> int:
        """Before a group that cannot run here moves in spite of its policy: longer with each failover of late."""
        e = self.l.e
        spec, g = e.state.spec.groups[group], e.state.group(group)
        return pause_ms(max(0, len(policy.recent(g.failovers, e.at_ms, policy.memory_ms(spec))) - 1))

    def _tell_held(self, n: a.ResourceFailed, stays: str) -> None:
        """Once, for the history: it would have moved, but for the failure policy."""
        e = self.l.e
        key = (n.group, n.resource)
        why = stays.partition(":")[0].partition(",")[0]  # without what changes by the second
        if not stays.startswith(n.group) and "no better" not in stays:
            return
        if self._told.get(key) != why:
            self._told[key] = why
            patience_s = self._patience_ms(n.group) // 1000
            until = f"; if that does not help within {patience_s} s, it moves all the same" if n.fatal else ""
            sentence = (
                f"{n.group} stays on {e.me} although {n.resource} fails there: {stays}. It is restarted in place "
                f"every {PAUSE_MS // 1000} s{until}. hamailctl clear {n.group} forgets that; switchover moves it."
            )
            e.propose(
                f"held {n.group} {n.resource}",
                c.Annotate(at_ms=e.at_ms, group=n.group, node=e.me, event="policy", sentence=sentence),
            )

    def cleared(self, group: GroupName) -> None:
        """An operator has cleared the group."""
        self._restarts = {key: at for key, at in self._restarts.items() if key[0] != group}
        self._told = {key: why for key, why in self._told.items() if key[0] != group}
        self._held_ns = {key: at for key, at in self._held_ns.items() if key[0] != group}

    def _pause_over(self, key: tuple[GroupName, ResourceName], n: a.ResourceFailed) -> bool:
        spec, recent = self.l.e.state.spec.groups.get(n.group), self._recent(key)
        if spec is None or not recent or (self._count(key) < spec.restarts and not n.fatal) or not self._stays(n):
            return True
        return self.l.e.now_ns - recent[-1] >= PAUSE_MS * MS

    def _repair(self, n: a.ResourceFailed) -> None:
        e, key = self.l.e, (n.group, n.resource)
        spec = e.state.spec.groups.get(n.group)
        if spec is None:
            return
        recent, count, stays = self._recent(key), self._count(key), self._stays(n)
        what = node.repair(spec, count, n.fatal, not stays)
        if stays and (n.fatal or count >= spec.restarts):
            self._tell_held(n, stays)
        else:
            self._told.pop(key, None)
        e.note("warning", f"{n.resource} of {n.group} failed: {n.detail}; {what.why}")
        self._why[key] = n.detail
        if what.move:
            detail = f"{n.detail}; {what.why}"
            failed = c.Failed(
                at_ms=e.at_ms, group=n.group, node=e.me, epoch=n.epoch, resource=n.resource, detail=detail
            )
            self.l.reports.tell(f"failed {n.group} {n.epoch}", failed)
            self._held_ns.pop(key, None)
            return
        self._restarts[key] = [*recent, e.now_ns]
        self.l.mark(n.group, n.epoch, n.resource, "starting")
        self.l.ask(a.RestartResource(id=self.l.next_id(), group=n.group, epoch=n.epoch, resource=n.resource))

    def restarted(self, n: a.ResourceRestarted, *, ordered: bool = False) -> None:
        """`ordered`: by an operator, and it went wrong."""
        e, key = self.l.e, (n.group, n.resource)
        if ordered:
            self._why[key] = "its restart was ordered"
        if not n.ok:
            first = self._why.get(key, "").partition(RESTART_FAILED)[0]  # the cause, not only what it led to
            detail = f"{first}{RESTART_FAILED}{n.detail}"
            self.l.mark(n.group, n.epoch, n.resource, "up")  # so that the failure is looked at afresh
            self.failed(a.ResourceFailed(group=n.group, epoch=n.epoch, resource=n.resource, detail=detail, fatal=True))
            return
        self._broken.pop(key, None)
        self._held_ns.pop(key, None)
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
