"""The half of the engine that looks after this node: its executor, its leases, its reports to the log."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from hamail.core import fitness, lease, node
from hamail.core.cleaning import Cleaning
from hamail.core.drill_duty import DrillDuty
from hamail.core.effects import Ask
from hamail.core.facts import NodeFacts
from hamail.core.fence_duty import FenceDuty
from hamail.core.lease import MS, Ownership
from hamail.core.maintenance_duty import MaintenanceDuty
from hamail.core.preparation import Preparation
from hamail.core.repairs import Repairs
from hamail.core.reports import Reports
from hamail.core.restart_duty import RestartDuty
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.ids import Epoch, GroupName, NodeName, ResourceName
from hamail.model.messages import LeaseAnswer
from hamail.model.state import Incarnation, Phase, Stamp

if TYPE_CHECKING:
    from hamail.core.engine import Engine

STOP_RETRY_MS = 1000  # after the executor refused to stop a group
ANSWERED = (a.StartGroup, a.StopGroup, a.RunFence, a.RestartResource, a.Maintain, a.Practise, a.SwitchPower)


class Local:
    def __init__(self, engine: "Engine") -> None:
        self.e = engine
        self.connected = False
        self.incarnation: Incarnation | None = None
        self.held: dict[GroupName, a.GroupStatus] = {}
        self.watchdog = a.WatchdogStatus()
        self.leases: dict[GroupName, Ownership] = {}
        self.cleaning = Cleaning(self)
        self.maintenance = MaintenanceDuty(self)
        self.reports = Reports(self)
        self.repairs = Repairs(self)
        self.restarts = RestartDuty(self)
        self.fences = FenceDuty(self)
        self.drills = DrillDuty(self)
        self.preparation = Preparation(self)
        self.lost_ns = engine.now_ns  # since when the executor is not connected
        self._request = 0
        self._pending: dict[int, a.AnyRequest] = {}  # until the executor has accepted or refused them
        self._begun: set[tuple[GroupName, Epoch]] = set()  # a grant is started once; what follows is a report
        self._stopping: set[tuple[GroupName, Epoch]] = set()  # asked for, not answered yet
        self._stop_retry_ns: dict[GroupName, int] = {}
        self._failing: dict[tuple[GroupName, Epoch], str] = {}  # refused starts, until it is verified that nothing runs
        self._why_down: dict[tuple[GroupName, Epoch], str] = {}

    # ---- what is known ---------------------------------------------------------------------------------------------

    @property
    def witness(self) -> bool:
        spec = self.e.state.spec if self.e.state.config.revision else self.e.bootstrap
        return self.e.me in spec.nodes and spec.nodes[self.e.me].witness

    @property
    def joined(self) -> bool:
        """Does the log know this life of this node? What an earlier life was granted must not be touched."""
        return self.incarnation is not None and self.e.state.node(self.e.me).incarnation == self.incarnation

    def why_passive(self) -> str:
        """Why this node could not take a group now; empty when it could."""
        return fitness.why_passive(self)

    def own_facts(self) -> NodeFacts:
        why = self.why_passive()
        return NodeFacts(
            alive=True,
            ready=not why,
            detail=why,
            watchdog_armed=fitness.watchdog_armed(self),
            fence_ready=self.fences.ready,
            holds=tuple(sorted(self.held)) if self.connected else None,
        )

    def resources(self) -> dict[GroupName, dict[ResourceName, str]]:
        return {name: status.resources for name, status in self.held.items()}

    def lease_ms(self, group: GroupName) -> int | None:
        o = self.leases.get(group)
        return None if o is None else max(0, o.until_ns - self.e.now_ns) // MS

    # ---- events ------------------------------------------------------------------------------------------------------

    def disconnected(self) -> None:
        if self.connected:
            self.lost_ns = self.e.now_ns
        self.connected = False

    def abandon(self, why: str) -> None:
        """This node is passive from now on: stop what it holds."""
        for name, status in list(self.held.items()):
            self._stop(node.Stop(name, status.epoch, why))

    def reconfigure(self) -> None:
        self.cleaning.reconfigure()
        self.fences.reconfigure()

    def notice(self, n: a.AnyNotice) -> None:
        handlers: dict[type, Callable[[Any], None]] = {
            a.Welcome: self._welcome,
            a.Cleaned: self.cleaning.notice,
            a.ResourceUp: self._resource_up,
            a.GroupUp: self._up,
            a.GroupStartFailed: self._start_failed,
            a.GroupDown: self._down,
            a.GroupStopFailed: self._stop_failed,
            a.ResourceFailed: self.repairs.failed,
            a.ResourceRestarted: self._resource_restarted,
            a.FenceResult: self.fences.result,
            a.FenceChecked: self.fences.checked,
            a.Practised: self.drills.practised,
            a.DeadlinePassed: self._deadline_passed,
            a.Stray: self._stray,
            a.Refused: self._refused,
            a.Accepted: self._accepted,
            a.FactsGathered: lambda _: None,  # for people; goes to who asked, past the engine
        }
        handlers[type(n)](n)

    def lease_answer(self, voter: NodeName, answer: LeaseAnswer) -> None:
        o = self.leases.get(answer.group)
        if o is None:
            return
        extended = lease.receive(o, voter, answer, self.e.majority(), self.e.timings)
        self.leases[answer.group] = extended
        held = self.held.get(answer.group)
        # Also when the end has not moved: after `detection` was lowered, the soft deadline still does.
        renewed = extended.upheld_ns > o.upheld_ns
        if renewed and held is not None and held.epoch == o.epoch:
            soft, hard = node.deadlines(extended, self.e.timings)
            self.ask(a.Extend(id=self.next_id(), group=o.group, epoch=o.epoch, soft_ns=soft, hard_ns=hard))
        if extended.until_ns > o.until_ns and o.until_ns == 0:
            self.step()  # the first lease of a grant: start at once

    def step(self) -> None:
        """Everything that is due on this node now."""
        e = self.e
        self._keep_leases()
        if not e.voter.past_barrier or not e.state.config.revision:
            return
        self.reports.step()
        if self.witness or not self.connected:
            self.maintenance.acknowledge()
            return
        self.cleaning.step()
        self.maintenance.step()
        self._join()
        self.repairs.step()
        self.restarts.step()
        for step in node.steps(e.state, e.me, self.held, self.leases, e.now_ns, e.timings):
            if isinstance(step, node.Stop):
                self._stop_if_due(step)
            elif self.cleaning.done and self.joined and not self.maintenance.suspended:
                self._start(step)
        self.preparation.step()
        self.fences.step()
        self.drills.step()

    # ---- the executor ------------------------------------------------------------------------------------------------

    def next_id(self) -> int:
        self._request += 1
        return self._request

    def ask(self, request: a.AnyRequest) -> None:
        if isinstance(request, ANSWERED):
            self._pending[request.id] = request
        self.e.emit(Ask(request))

    def mark(self, group: GroupName, epoch: Epoch, resource: ResourceName, state: str) -> None:
        """Remember how a resource is."""
        status = self.held.get(group)
        if status is not None and status.epoch == epoch:
            self.held[group] = replace(status, resources={**status.resources, resource: state})

    def _welcome(self, n: a.Welcome) -> None:
        self.connected = True
        self.restarts.disconnected()
        self.incarnation = n.incarnation
        self.held = dict(n.groups)
        self.watchdog = n.watchdog
        self.cleaning.reconnected(n.clean)
        self.maintenance.reconnected(n.maintenance)
        for known in (self._stopping, self._begun, self._pending, self._failing, self._stop_retry_ns, self._why_down):
            known.clear()
        self._begun |= {(name, g.epoch) for name, g in n.groups.items()}
        self.fences.reconnected()
        self.drills.reconnected()
        self.repairs.adopt(n.groups)
        if n.groups:
            held = ", ".join(f"{name} at epoch {g.epoch}" for name, g in sorted(n.groups.items()))
            self.e.note("info", f"adopted from the executor: {held}")
        if not n.watchdog.armed and n.watchdog.detail:
            self.e.note("warning", n.watchdog.detail)
        elif slow := fitness.watchdog_too_slow(self):
            self.e.note("warning", slow)

    def _resource_up(self, n: a.ResourceUp) -> None:
        self.mark(n.group, n.epoch, n.resource, "up")
        self.repairs.recovered(n)
        self.restarts.came_up(n.group, n.epoch, n.resource)

    def _resource_restarted(self, n: a.ResourceRestarted) -> None:
        ordered = self.restarts.concerns(n.group, n.epoch, n.resource)
        if ordered:
            self.restarts.restarted(n)
        if not ordered or not n.ok:  # what an order has left broken is mended like any failure
            self.repairs.restarted(n, ordered=ordered)

    def _stray(self, n: a.Stray) -> None:
        self.e.note("warning", f"{n.what} of {n.group} was found here{'' if n.removed else ', and stays'}")

    def _accepted(self, n: a.Accepted) -> None:
        request = self._pending.pop(n.id, None)
        if isinstance(request, a.Maintain):
            self.maintenance.suspended = request.on

    def _refused(self, n: a.Refused) -> None:
        """A refused request was surely not carried out."""
        self.e.note("warning", f"the executor refused request {n.id}: {n.why}")
        match self._pending.pop(n.id, None):
            case a.StartGroup(group=spec, epoch=epoch):
                # Not started, but is nothing of it here either? Only a verified stop may say so.
                self.held.pop(spec.name, None)
                self._failing[spec.name, epoch] = n.why
                self._stop(node.Stop(spec.name, epoch, "its start was refused"))
            case a.StopGroup(group=group, epoch=epoch):
                self._stopping.discard((group, epoch))
                self._stop_retry_ns[group] = self.e.now_ns + STOP_RETRY_MS * MS
                if (status := self.held.get(group)) is not None and status.state == "stopping":
                    self.held[group] = replace(status, state="up")
            case a.Practise() | a.SwitchPower() as drill:
                self.drills.refused(drill, n.why)
            case a.RunFence(order=order, target=target):
                self.fences.result(a.FenceResult(order=order, target=target, ok=False, detail=n.why, took_ms=0))
            case a.RestartResource(group=group, epoch=epoch, resource=resource) as r:
                if self.restarts.concerns(group, epoch, resource):
                    self.restarts.refused(r, n.why)
                    return
                self.repairs.restarted(
                    a.ResourceRestarted(group=group, epoch=epoch, resource=resource, ok=False, detail=n.why)
                )
            case _:
                pass

    # ---- the log -----------------------------------------------------------------------------------------------------

    def _join(self) -> None:
        """A new life of this node joins when it holds nothing; that voids what an earlier life was granted."""
        if self.incarnation is None or self.joined or not self.cleaning.done or self.held:
            return
        join = c.Join(
            at_ms=self.e.at_ms,
            node=self.e.me,
            incarnation=self.incarnation,
            after=self.e.state.node(self.e.me).life,
            watchdog_armed=fitness.watchdog_armed(self),
            cleaned=self.cleaning.cleaned,
        )
        self.e.propose(f"join {self.incarnation.executor_id} {join.after}", join)

    # ---- groups ------------------------------------------------------------------------------------------------------

    def _keep_leases(self) -> None:
        e = self.e
        mine = node.owned(e.state, e.me) if e.voter.past_barrier else ()
        self.leases = {name: self._ownership(name) for name in mine}
        for name in node.renewals(self.leases, e.now_ns, e.timings):
            self.leases[name], request = lease.ask(self.leases[name], e.now_ns, e.timings)
            e.ask_voters(request)

    def _ownership(self, name: GroupName) -> Ownership:
        epoch = self.e.state.group(name).epoch
        known = self.leases.get(name)
        if known is not None and known.epoch == epoch:
            return known
        return Ownership(group=name, epoch=epoch, since_ns=self.e.now_ns)

    def _start(self, step: node.Start) -> None:
        key = (step.group, step.epoch)
        if self.reports.about(*key):
            return  # it has ended: the log does not know yet
        if key in self._begun:
            if key not in self._failing:  # nobody has said how it ended
                self._stop(node.Stop(step.group, step.epoch, "nothing is known of its start any more"))
            return
        self._begun.add(key)
        spec, g = self.e.state.spec.groups[step.group], self.e.state.group(step.group)
        soft, hard = node.deadlines(self.leases[step.group], self.e.timings)
        self.held[step.group] = a.GroupStatus(epoch=step.epoch, state="starting", soft_ns=soft, hard_ns=hard)
        self.ask(
            a.StartGroup(
                id=self.next_id(), group=spec, epoch=step.epoch, soft_ns=soft, hard_ns=hard, evidence=g.evidence
            )
        )

    def _stop_if_due(self, step: node.Stop) -> None:
        status = self.held.get(step.group)
        if status is None and not self.joined:
            return  # what an earlier life of this node owned ends with the join
        if (status is None or status.state == "stop_failed") and self.reports.about(step.group, step.epoch):
            return  # it has ended: the log does not know yet
        self._stop(step)

    def _stop(self, step: node.Stop) -> None:
        key = (step.group, step.epoch)
        if key in self._stopping or self.e.now_ns < self._stop_retry_ns.get(step.group, 0):
            return
        self._stopping.add(key)
        self._why_down.setdefault(key, "" if self.e.state.group(step.group).phase is Phase.STOPPING else step.why)
        if (status := self.held.get(step.group)) is not None:
            self.held[step.group] = replace(status, state="stopping")
        self.ask(a.StopGroup(id=self.next_id(), group=step.group, epoch=step.epoch, why=step.why))

    def _turned(self, group: GroupName, epoch: Epoch, state: str) -> None:
        """`state` "": it is gone. A late word about an earlier epoch says nothing about the present one.

        A word about a later one does: what was to be stopped under it is whatever was left.
        """
        status = self.held.get(group)
        if status is not None and status.epoch <= epoch:
            del self.held[group]
            if state:
                self.held[group] = replace(status, state=state)

    def _up(self, n: a.GroupUp) -> None:
        status = self.held.get(n.group)
        if status is None or status.epoch != n.epoch:
            return
        if status.state == "starting":
            self.held[n.group] = replace(status, state="up")
        command = c.Started(at_ms=self.e.at_ms, group=n.group, node=self.e.me, epoch=n.epoch, stamps=n.stamps)
        self.reports.tell(f"started {n.group} {n.epoch}", command)

    def _start_failed(self, n: a.GroupStartFailed) -> None:
        self._begun.add((n.group, n.epoch))
        self._stopping.discard((n.group, n.epoch))  # a stop that was asked for meanwhile has ended with it
        self._turned(n.group, n.epoch, "" if n.clean else "stop_failed")
        command = c.StartFailed(
            at_ms=self.e.at_ms,
            group=n.group,
            node=self.e.me,
            epoch=n.epoch,
            resource=n.resource,
            clean=n.clean,
            detail=n.detail,
        )
        self.reports.tell(f"start failed {n.group} {n.epoch}", command)

    def _down(self, n: a.GroupDown) -> None:
        key = (n.group, n.epoch)
        self._stopping.discard(key)
        self._begun.add(key)  # what is reported as stopped must never be started again under the same epoch
        why = self._why_down.pop(key, "")
        self._turned(n.group, n.epoch, "")
        if (refusal := self._failing.pop(key, None)) is not None:
            self._start_failed(
                a.GroupStartFailed(group=n.group, epoch=n.epoch, resource="executor", detail=refusal, clean=True)
            )
            return
        g = self.e.state.group(n.group)
        if g.owner == self.e.me and g.epoch == n.epoch:
            released = c.Released(
                at_ms=self.e.at_ms,
                group=n.group,
                node=self.e.me,
                epoch=n.epoch,
                stamps=n.stamps or {Stamp.STOPPED: self.e.at_ms},
                reason=f"Why: {why}." if why else "",
            )
            self.reports.tell(f"released {n.group} {n.epoch}", released)

    def _stop_failed(self, n: a.GroupStopFailed) -> None:
        key = (n.group, n.epoch)
        self._stopping.discard(key)
        self._turned(n.group, n.epoch, "stop_failed")
        if (refusal := self._failing.pop(key, None)) is not None:
            detail = f"{refusal}; and {n.detail}"
            self._start_failed(
                a.GroupStartFailed(group=n.group, epoch=n.epoch, resource=n.resource, detail=detail, clean=False)
            )
            return
        self.reports.stop_failed(n.group, n.epoch, n.resource, n.detail)

    def _deadline_passed(self, n: a.DeadlinePassed) -> None:
        self.e.note("warning", f"the lease of {n.group} was not renewed in time: the dead-man's switch stops it")
        self._why_down[n.group, n.epoch] = "its lease was not renewed in time"
        self._turned(n.group, n.epoch, "stopping")
