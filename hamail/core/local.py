"""The half of the engine that looks after this node: its executor, its leases, its reports to the log."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from hamail.core import lease, node, placement
from hamail.core.effects import Ask
from hamail.core.facts import NodeFacts
from hamail.core.lease import HOLDING, MS, Ownership
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.ids import DeviceName, Epoch, GroupName, LogIndex, NodeName, ResourceName
from hamail.model.messages import LeaseAnswer
from hamail.model.state import Incarnation, Phase, Stamp

if TYPE_CHECKING:
    from hamail.core.engine import Engine

CLEAN_RETRY_MS = 5000
FIRST_FENCE_CHECK_MS = 1000


class Local:
    def __init__(self, engine: "Engine") -> None:
        self.e = engine
        self.connected = False
        self.incarnation: Incarnation | None = None
        self.clean = False
        self.clean_detail = "its executor has not said yet that nothing is left over"
        self.held: dict[GroupName, a.GroupStatus] = {}
        self.watchdog = a.WatchdogStatus()
        self.leases: dict[GroupName, Ownership] = {}
        self.fence_ready: dict[DeviceName, str] = {}
        self.maintained = False
        self._reports: dict[str, c.AnyCommand] = {}  # what the log must still be told
        self._restarts: dict[tuple[GroupName, ResourceName], list[int]] = {}
        self._why_failed: dict[tuple[GroupName, ResourceName], str] = {}
        self._fencing: set[LogIndex] = set()
        self._fence_check_ns: dict[DeviceName, int] = {}
        self._clean_asked_ns = 0
        self._stopped: set[tuple[GroupName, Epoch]] = set()
        self._configured: object = None
        self._request = 0
        self._pending: dict[int, a.AnyRequest] = {}  # until the executor has accepted or refused them
        self._begun: set[tuple[GroupName, Epoch]] = set()  # a grant is started once; what follows is a report

    # ---- what is known ---------------------------------------------------------------------------------------------

    @property
    def witness(self) -> bool:
        spec = self.e.state.spec if self.e.state.config.revision else self.e.bootstrap
        return self.e.me in spec.nodes and spec.nodes[self.e.me].witness

    def why_passive(self) -> str:
        """Why this node could not take a group now; empty when it could."""
        if self.e.problem:
            return self.e.problem
        if not self.e.voter.past_barrier:
            return "it has not caught up with the log since it started"
        if self.witness:
            return ""
        if not self.connected:
            return "its executor is not running (systemctl status hamail-executor)"
        return "" if self.clean else self.clean_detail

    def own_facts(self) -> NodeFacts:
        why = self.why_passive()
        return NodeFacts(
            alive=True,
            ready=not why,
            detail=why,
            watchdog_armed=self.watchdog.armed,
            fence_ready=self.fence_ready,
        )

    def resources(self) -> dict[GroupName, dict[ResourceName, str]]:
        return {name: status.resources for name, status in self.held.items()}

    def lease_ms(self, group: GroupName) -> int | None:
        o = self.leases.get(group)
        return None if o is None else max(0, o.until_ns - self.e.now_ns) // MS

    # ---- events ------------------------------------------------------------------------------------------------------

    def disconnected(self) -> None:
        self.connected = False
        self._configured = None

    def abandon(self, why: str) -> None:
        """This node is passive from now on: stop what it holds."""
        for name, status in self.held.items():
            self._stop(node.Stop(name, status.epoch, why))

    def reconfigure(self) -> None:
        self._configured = None
        self._fence_check_ns = {}
        known = self.e.state.spec.fencing
        self.fence_ready = {d: why for d, why in self.fence_ready.items() if d in known}

    def notice(self, n: a.AnyNotice) -> None:
        handlers: dict[type, Callable[[Any], None]] = {
            a.Welcome: self._welcome,
            a.Cleaned: self._cleaned,
            a.ResourceUp: self._resource_up,
            a.GroupUp: self._up,
            a.GroupStartFailed: self._start_failed,
            a.GroupDown: self._down,
            a.GroupStopFailed: self._stop_failed,
            a.ResourceFailed: self._resource_failed,
            a.ResourceRestarted: self._resource_restarted,
            a.FenceResult: self._fence_result,
            a.FenceChecked: self._fence_checked,
            a.DeadlinePassed: self._deadline_passed,
            a.Stray: self._stray,
            a.Refused: self._refused,
            a.Accepted: self._accepted,
        }
        handlers[type(n)](n)

    def lease_answer(self, voter: NodeName, answer: LeaseAnswer) -> None:
        o = self.leases.get(answer.group)
        if o is None:
            return
        extended = lease.receive(o, voter, answer, self.e.majority(), self.e.timings)
        self.leases[answer.group] = extended
        held = self.held.get(answer.group)
        if extended.until_ns > o.until_ns and held is not None and held.epoch == o.epoch:
            soft, hard = node.deadlines(extended, self.e.timings)
            self._ask(a.Extend(id=self._id(), group=answer.group, epoch=o.epoch, soft_ns=soft, hard_ns=hard))
        if extended.until_ns > o.until_ns and o.until_ns == 0:
            self.step()  # the first lease of a grant: start at once

    def step(self) -> None:
        """Everything that is due on this node now."""
        e = self.e
        self._keep_leases()
        if not self.connected or not e.voter.past_barrier or not e.state.config.revision:
            if self.witness:
                self._acknowledge_maintenance()
            return
        self._configure()
        self._acknowledge_maintenance()
        self._join()
        self._tell_log()
        if self.clean:
            for step in node.steps(e.state, e.me, self.held, self.leases, e.now_ns, e.timings):
                self._start(step) if isinstance(step, node.Start) else self._stop(step)
        self._fence()

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _id(self) -> int:
        self._request += 1
        return self._request

    def _ask(self, request: a.AnyRequest) -> None:
        if isinstance(request, a.StartGroup | a.RunFence | a.RestartResource):
            self._pending[request.id] = request
        self.e.emit(Ask(request))

    def _welcome(self, n: a.Welcome) -> None:
        self.connected = True
        self.incarnation = n.incarnation
        self.held = dict(n.groups)
        self.watchdog = n.watchdog
        self.clean = n.clean
        self.maintained = n.maintenance
        self._configured = None
        self._stopped.clear()
        self._begun.clear()
        self._pending.clear()
        self._fencing.clear()
        self._clean_asked_ns = 0
        if n.groups:
            held = ", ".join(f"{name} at epoch {g.epoch}" for name, g in sorted(n.groups.items()))
            self.e.note("info", f"adopted from the executor: {held}")
        if not n.watchdog.armed and n.watchdog.detail:
            self.e.note("warning", n.watchdog.detail)

    def _cleaned(self, n: a.Cleaned) -> None:
        self.clean = n.ok
        self.clean_detail = n.detail or "what was left over could not be cleaned up"
        if not n.ok:
            self.e.note("warning", f"cleaning up failed: {n.detail}")

    def _resource_up(self, n: a.ResourceUp) -> None:
        self._resource(n.group, n.epoch, n.resource, "up")

    def _fence_result(self, n: a.FenceResult) -> None:
        command = c.FenceDone(at_ms=self.e.at_ms, target=n.target, order=n.order, ok=n.ok, detail=n.detail)
        self._report(f"fence {n.order}", command)

    def _fence_checked(self, n: a.FenceChecked) -> None:
        self.fence_ready = {**self.fence_ready, n.device: "" if n.ok else n.detail or "no reason given"}

    def _stray(self, n: a.Stray) -> None:
        self.e.note("warning", f"{n.what} of {n.group} was found here" + ("" if n.removed else ", and stays"))

    def _accepted(self, n: a.Accepted) -> None:
        self._pending.pop(n.id, None)

    def _refused(self, n: a.Refused) -> None:
        """A refused request was surely not carried out."""
        self.e.note("warning", f"the executor refused request {n.id}: {n.why}")
        match self._pending.pop(n.id, None):
            case a.StartGroup(group=spec, epoch=epoch):
                failed = a.GroupStartFailed(group=spec.name, epoch=epoch, resource="executor", detail=n.why, clean=True)
                self._start_failed(failed)
            case a.RunFence(order=order, target=target):
                self._fence_result(a.FenceResult(order=order, target=target, ok=False, detail=n.why, took_ms=0))
            case a.RestartResource(group=group, epoch=epoch, resource=resource):
                self._resource_restarted(
                    a.ResourceRestarted(group=group, epoch=epoch, resource=resource, ok=False, detail=n.why)
                )
            case _:
                pass

    def _configure(self) -> None:
        """Tell the executor which groups there are, then have it clean up (boot hold)."""
        spec, revision = self.e.state.spec, self.e.state.config.revision
        if self._configured != revision:
            self._configured = revision
            groups = tuple(spec.groups[g] for g in sorted(spec.groups))
            self._ask(a.Configure(id=self._id(), cluster=spec.name, groups=groups))
        if not self.clean and self.e.now_ns - self._clean_asked_ns >= CLEAN_RETRY_MS * MS:
            self._clean_asked_ns = self.e.now_ns
            self._ask(a.CleanUp(id=self._id()))

    def _acknowledge_maintenance(self) -> None:
        m = self.e.state.maintenance
        if not self.witness and m.on != self.maintained and self.connected:
            self.maintained = m.on
            self._ask(a.Maintain(id=self._id(), on=m.on))
        if m.on and self.e.me not in m.acknowledged:
            self.e.propose("maintenance", c.AckMaintenance(at_ms=self.e.at_ms, node=self.e.me))

    def _join(self) -> None:
        """A new life of this node joins when it holds nothing; that voids what an earlier life was granted."""
        known = self.e.state.node(self.e.me)
        if self.incarnation is None or known.incarnation == self.incarnation or not self.clean or self.held:
            return
        self.e.propose("join", c.Join(at_ms=self.e.at_ms, node=self.e.me, incarnation=self.incarnation))

    def _report(self, key: str, command: c.AnyCommand) -> None:
        self._reports[key] = command
        self.e.propose(key, command)

    def _tell_log(self) -> None:
        """Repeat reports until the state shows that they are known, or no longer matter."""
        for key, command in list(self._reports.items()):
            if self._still_news(command):
                self.e.propose(key, command)
            else:
                del self._reports[key]
        for name, status in self.held.items():
            g = self.e.state.group(name)
            if g.owner == self.e.me and g.epoch == status.epoch and g.phase is Phase.STARTING and status.state == "up":
                key = f"started {name} {g.epoch}"
                self.e.propose(key, c.Started(at_ms=self.e.at_ms, group=name, node=self.e.me, epoch=g.epoch))

    def _still_news(self, command: c.AnyCommand) -> bool:
        state = self.e.state
        match command:
            case c.FenceDone():
                order = state.node(command.target).fence
                return order is not None and order.id == command.order
            case c.Started():
                g = state.group(command.group)
                return g.epoch == command.epoch and g.owner == self.e.me and g.phase is Phase.STARTING
            case c.Failed():
                g = state.group(command.group)
                return g.epoch == command.epoch and g.phase in (Phase.STARTING, Phase.ACTIVE)
            case c.StartFailed() | c.StopFailed():
                g = state.group(command.group)
                return g.epoch == command.epoch and g.owner == self.e.me and g.phase in HOLDING
            case c.Released():
                g = state.group(command.group)
                return g.epoch == command.epoch and g.owner == self.e.me
            case _:
                return False

    def _keep_leases(self) -> None:
        e = self.e
        mine = node.owned(e.state, e.me) if e.voter.past_barrier else ()
        self.leases = {
            name: self._ownership(name) for name in mine if name in self.held or e.state.group(name).phase in HOLDING
        }
        for name in node.renewals(self.leases, e.now_ns, e.timings):
            self.leases[name], request = lease.ask(self.leases[name], e.now_ns)
            e.ask_voters(request)

    def _ownership(self, name: GroupName) -> Ownership:
        epoch = self.e.state.group(name).epoch
        known = self.leases.get(name)
        return known if known is not None and known.epoch == epoch else Ownership(group=name, epoch=epoch)

    def _start(self, step: node.Start) -> None:
        if (step.group, step.epoch) in self._begun:
            return
        self._begun.add((step.group, step.epoch))
        spec, g = self.e.state.spec.groups[step.group], self.e.state.group(step.group)
        soft, hard = node.deadlines(self.leases[step.group], self.e.timings)
        self.held[step.group] = a.GroupStatus(epoch=step.epoch, state="starting", soft_ns=soft, hard_ns=hard)
        self._ask(
            a.StartGroup(id=self._id(), group=spec, epoch=step.epoch, soft_ns=soft, hard_ns=hard, evidence=g.evidence)
        )

    def _stop(self, step: node.Stop) -> None:
        if (step.group, step.epoch) in self._stopped:
            return
        self._stopped.add((step.group, step.epoch))
        if (status := self.held.get(step.group)) is not None:
            self.held[step.group] = replace(status, state="stopping")
        self._ask(a.StopGroup(id=self._id(), group=step.group, epoch=step.epoch, why=step.why))

    def _resource(self, group: GroupName, epoch: Epoch, resource: ResourceName, state: str) -> None:
        status = self.held.get(group)
        if status is not None and status.epoch == epoch:
            self.held[group] = replace(status, resources={**status.resources, resource: state})

    def _up(self, n: a.GroupUp) -> None:
        status = self.held.get(n.group)
        if status is None or status.epoch != n.epoch:
            return
        if status.state == "starting":
            self.held[n.group] = replace(status, state="up")
        command = c.Started(at_ms=self.e.at_ms, group=n.group, node=self.e.me, epoch=n.epoch, stamps=n.stamps)
        self._report(f"started {n.group} {n.epoch}", command)

    def _start_failed(self, n: a.GroupStartFailed) -> None:
        if n.clean:
            self.held.pop(n.group, None)
        elif n.group in self.held:
            self.held[n.group] = replace(self.held[n.group], state="stop_failed")
        command = c.StartFailed(
            at_ms=self.e.at_ms,
            group=n.group,
            node=self.e.me,
            epoch=n.epoch,
            resource=n.resource,
            clean=n.clean,
            detail=n.detail,
        )
        self._report(f"start failed {n.group} {n.epoch}", command)

    def _down(self, n: a.GroupDown) -> None:
        status = self.held.get(n.group)
        if status is not None and status.epoch == n.epoch:
            del self.held[n.group]
        g = self.e.state.group(n.group)
        if g.owner == self.e.me and g.epoch == n.epoch:
            stamps = n.stamps or {Stamp.STOPPED: self.e.at_ms}
            command = c.Released(at_ms=self.e.at_ms, group=n.group, node=self.e.me, epoch=n.epoch, stamps=stamps)
            self._report(f"released {n.group} {n.epoch}", command)

    def _stop_failed(self, n: a.GroupStopFailed) -> None:
        if n.group in self.held:
            self.held[n.group] = replace(self.held[n.group], state="stop_failed")
        command = c.StopFailed(
            at_ms=self.e.at_ms, group=n.group, node=self.e.me, epoch=n.epoch, resource=n.resource, detail=n.detail
        )
        self._report(f"stop failed {n.group} {n.epoch}", command)

    def _deadline_passed(self, n: a.DeadlinePassed) -> None:
        self.e.note("warning", f"the lease of {n.group} was not renewed in time: the dead-man's switch stops it")
        if n.group in self.held:
            self.held[n.group] = replace(self.held[n.group], state="stopping")

    def _resource_failed(self, n: a.ResourceFailed) -> None:
        e = self.e
        status, spec = self.held.get(n.group), e.state.spec.groups.get(n.group)
        if status is None or spec is None or status.epoch != n.epoch or status.state != "up" or e.state.maintenance.on:
            return
        resource = next((r for r in spec.resources if r.name == n.resource), None)
        if resource is None or status.resources.get(n.resource) in ("failed", "starting"):
            return
        key = (n.group, n.resource)
        window_ns = e.now_ns - spec.restarts_window_ms * MS
        recent = [at for at in self._restarts.get(key, []) if at > window_ns]
        elsewhere = any(x.eligible and x.node != e.me for x in placement.candidates(e.state, e.facts(), n.group))
        what = node.repair(spec, len(recent), n.fatal, elsewhere and resource.critical)
        e.note("warning", f"{n.resource} of {n.group} failed: {n.detail}; {what.why}")
        self._why_failed[key] = n.detail
        self._resource(n.group, n.epoch, n.resource, "failed")
        if what.move:
            self._give_up(n.group, n.epoch, n.resource, f"{n.detail}; {what.why}")
        else:
            self._restarts[key] = [*recent, e.now_ns]
            self._ask(a.RestartResource(id=self._id(), group=n.group, epoch=n.epoch, resource=n.resource))

    def _give_up(self, group: GroupName, epoch: Epoch, resource: ResourceName, detail: str) -> None:
        command = c.Failed(
            at_ms=self.e.at_ms, group=group, node=self.e.me, epoch=epoch, resource=resource, detail=detail
        )
        self._report(f"failed {group} {epoch}", command)

    def _resource_restarted(self, n: a.ResourceRestarted) -> None:
        key = (n.group, n.resource)
        if not n.ok:
            self._resource(n.group, n.epoch, n.resource, "up")  # so that the next failure is looked at afresh
            failed = a.ResourceFailed(
                group=n.group, epoch=n.epoch, resource=n.resource, detail=f"restart failed: {n.detail}", fatal=True
            )
            self._resource_failed(failed)
            return
        self._resource(n.group, n.epoch, n.resource, "up")
        count = len(self._restarts.get(key, []))
        detail = self._why_failed.get(key, "")
        command = c.Restarted(
            at_ms=self.e.at_ms,
            group=n.group,
            node=self.e.me,
            epoch=n.epoch,
            resource=n.resource,
            detail=detail,
            count=count,
        )
        self.e.propose(f"restarted {n.group} {n.resource} {self.e.now_ns}", command)

    def _fence(self) -> None:
        """Run fence orders addressed to this node, and ask each device now and then whether it would work."""
        e, spec = self.e, self.e.state.spec
        for target, known in sorted(e.state.nodes.items()):
            order = known.fence
            if order is None or order.by != e.me or order.id in self._fencing or order.device not in spec.fencing:
                continue
            self._fencing.add(order.id)
            d = spec.fencing[order.device]
            self._ask(
                a.RunFence(
                    id=self._id(),
                    order=order.id,
                    device=d.name,
                    agent=d.agent,
                    target=target,
                    plug=d.targets[target],
                    parameters=d.parameters,
                    secret_files=d.secret_files,
                    timeout_ms=d.timeout_ms,
                )
            )
        for d in spec.fencing.values():
            targets = {n: plug for n, plug in d.targets.items() if e.me in spec.fence_executors(d, n)}
            if not targets or e.now_ns < self._fence_check_ns.get(d.name, 0):
                continue
            self._fence_check_ns[d.name] = e.now_ns + e.timings.fence_check_ms * MS
            self._ask(
                a.CheckFence(
                    id=self._id(),
                    device=d.name,
                    agent=d.agent,
                    plugs=targets,
                    parameters=d.parameters,
                    secret_files=d.secret_files,
                    timeout_ms=d.timeout_ms,
                )
            )
