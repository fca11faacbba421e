"""The course of a drill: probe, fault, watch, back to redundancy. What can be undone is undone, however it ends."""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from msgspec.structs import replace

from hamail.control.client import ControlClient, ControlError, Failed, OutcomeUnknown, SurelyNotDone
from hamail.control.practice_api import DrillRequest, EndDrillRequest
from hamail.model.practice import DRILL_MS_MIN, DrillOrder, Fault
from hamail.model.state import ClusterState, Move, Phase, Stamp
from hamail.practice.outside import Probe, ends, steady
from hamail.practice.plan import FAULTS, NODE_LOSS, SERVICE_KILL, STORAGE_LOSS, SWITCHOVER, Plan
from hamail.practice.report import Check, DrillReport, Gap, Mails, Told
from hamail.practice.report import Phase as Span
from hamail.probe import records
from hamail.probe.outages import answers, gap_at

POLL_S = 0.1
ANSWER_S = 90.0  # until the node that is to make the fault has said how that went
BACK_MIN_S = 60.0
REDUNDANT_S = 180.0
POWER_TRIES_MAX = 3
NOTICED_MS = 1500.0  # a killed service that nobody missed until then was not missed
TOLD_MAX = 100
ENDED_ELSEWHERE = "somebody ended it (hamailctl drill --abort)"
WORDS = {
    (Stamp.DETECTED, Stamp.DECIDED): "deciding",
    (Stamp.DECIDED, Stamp.STOPPED): "stopping",
    (Stamp.DECIDED, Stamp.FENCED): "fencing",
    (Stamp.STOPPED, Stamp.GRANTED): "granting",
    (Stamp.FENCED, Stamp.GRANTED): "granting",
    (Stamp.DECIDED, Stamp.GRANTED): "waiting and granting",
    (Stamp.GRANTED, Stamp.STORAGE): "mounting",
    (Stamp.STORAGE, Stamp.SERVICES): "starting services",
    (Stamp.SERVICES, Stamp.ADDRESS): "taking the address",
    (Stamp.ADDRESS, Stamp.ANSWERED): "first answer",
    (Stamp.ADDRESS, Stamp.DONE): "reporting",
}


class Stopped(Exception):
    """The operator does not want to go on."""


class Drill:
    """`say` gets a line for people; `stop` tells whether the operator wants to end it."""

    def __init__(
        self,
        client: ControlClient,
        plan: Plan,
        probe: Probe,
        services: Sequence[str],
        say: Callable[[str], None],
        stop: Callable[[], bool],
    ) -> None:
        self.client, self.plan, self.probe = client, plan, probe
        self.services = tuple(services)
        self._say, self._stop = say, stop
        self.fault_ms: float | None = None
        self.fault = ""
        self.redundant_ms: float | None = None
        self.aborted = ""
        self.notes: list[str] = []
        self.first_event = 0
        self._fault_order = 0  # the one that `drill --abort` may end under us
        self._state: ClusterState | None = None

    # -- looking ---------------------------------------------------------------------------------------------------

    def state(self) -> ClusterState:
        """The newest that this hamaild has told; it may be away for a moment in the middle of a drill."""
        try:
            self._state = self.client.state()
        except (Failed, SurelyNotDone):
            if self._state is None:
                raise
        return self._state

    def _until(self, condition: Callable[[], bool], seconds: float, *, even_if_stopped: bool = False) -> bool:
        end_s = time.monotonic() + seconds
        while not condition():
            if not even_if_stopped and not self.aborted:
                self._go_on()
            if time.monotonic() > end_s:
                return False
            time.sleep(POLL_S)
        return True

    def _go_on(self) -> None:
        """Raises Stopped when the operator has had enough, here or by `drill --abort` elsewhere."""
        if self._stop():
            self.aborted = "the operator stopped it"
        elif self._ended_elsewhere():
            self.aborted = ENDED_ELSEWHERE
        if self.aborted:
            raise Stopped

    def _ended_elsewhere(self) -> bool:
        state, number = self._state, self._fault_order
        if not number or state is None or state.applied < number:
            return False
        return state.drill is None or state.drill.id != number

    # -- before ----------------------------------------------------------------------------------------------------

    def rehearse(self) -> Check:
        """Ask the node that is to make the fault whether it could."""
        if self.plan.name == SWITCHOVER:
            check = self.client.check_move(self.plan.group, self.plan.target or None)
            return Check(name="the move would be accepted", ok=not check.reasons, detail="; ".join(check.reasons))
        name = f"{self.plan.node or 'nobody'} could do it"
        if not self.plan.node:
            return Check(name=name, ok=False, detail=f"no fence device can switch {self.plan.source}")
        try:
            order = self._order(FAULTS[self.plan.name], rehearse=True)
        except ControlError as error:
            return Check(name=name, ok=False, detail="; ".join((error.error, *error.reasons)))
        if not order.result:
            return Check(name=name, ok=False, detail=f"{self.plan.node} has not answered")
        return Check(name=name, ok=order.result == "done", detail=order.detail)

    def _order(self, fault: Fault, *, rehearse: bool = False, node: str = "") -> DrillOrder:
        """Order it and wait for the answer; one without a result means that none came."""
        plan = self.plan
        power = fault in (Fault.POWER_ON, Fault.POWER_OFF)
        body = DrillRequest(
            fault=fault,
            group=plan.group,
            epoch=plan.epoch,
            node=node or plan.node,
            target=plan.source,
            device=plan.device if power else "",
            resource=plan.resource,
            duration_ms=max(DRILL_MS_MIN, plan.duration_ms),
            rehearse=rehearse,
            reason="rehearsal" if rehearse else f"drill {plan.name}",
        )
        done = self.client.order("drills/order", body)
        if not rehearse and fault is not Fault.POWER_ON:
            self._fault_order = done.index
        found: list[DrillOrder] = []

        def answered() -> bool:
            state = self.state()
            order = state.drill
            if order is not None and order.id == done.index:
                found[:] = [order]
            gone = state.applied >= done.index and (order is None or order.id != done.index)
            return gone or bool(found and found[0].result)

        cut_off = fault is Fault.NETWORK_LOSS and not rehearse  # it can only tell afterwards
        self._until(answered, 1.0 if cut_off else ANSWER_S, even_if_stopped=True)
        if found:
            return found[0]
        return DrillOrder(
            id=done.index, fault=fault, group=plan.group, epoch=plan.epoch, node=body.node, target=plan.source
        )

    # -- the fault -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Everything from the fault to redundancy. Never raises for what the cluster does."""
        self.first_event = self.state().applied
        try:
            self._fault()
            if self.fault_ms is not None:
                self._watch()
        except Stopped:
            self._say(f"Stopping, since {self.aborted}: undoing what can be undone. Ctrl-C again leaves at once.")
        except ControlError as error:
            self.notes.append(f"hamaild: {error.error}" + "".join(f"; {r}" for r in error.reasons))
            if self.fault_ms is None:
                self.fault = error.error
        self.probe.end_sessions()
        self._return()

    def _fault(self) -> None:
        at_ms = self.probe.now_ms()
        if self.plan.name == SWITCHOVER:
            done = self.client.request_move(self.plan.group, self.plan.target or None, "drill switchover")
            self.fault_ms, self.fault = at_ms, f"move {done.move} was ordered"
            return
        self.fault_ms = at_ms  # also if the answer never comes: then something may have happened
        try:
            order = self._order(FAULTS[self.plan.name])
        except OutcomeUnknown as error:
            self.notes.append(f"whether the fault was made is not known: {error.error}")
            return
        except ControlError:
            self.fault_ms = None
            raise
        if order.result == "refused":
            self.fault_ms = None
            self.fault = order.detail or "refused"
            return
        self.fault = f"{order.fault} by {order.node}" + (f": {order.detail}" if order.detail else "")

    def _watch(self) -> None:
        """Until service is back for clients, or far too long."""
        limit_s = max(BACK_MIN_S, 3 * self.plan.expected.limit_ms / 1000)
        assert self.fault_ms is not None
        if not self._until(lambda: self._reacted() and self._steady(), limit_s):
            self.notes.append(f"service was not steady again within {limit_s:.0f} s")
            return
        self._say("Service is back for clients.")

    def _reacted(self) -> bool:
        """Has the cluster done what it should about the fault? Before that, answers are those of before."""
        state = self.state()
        g = state.group(self.plan.group)
        if g.phase is not Phase.ACTIVE:
            return False
        if g.epoch != self.plan.epoch:
            return True
        if self.plan.name in (SERVICE_KILL, STORAGE_LOSS):
            mended = any(
                e.index > self.first_event and e.group == self.plan.group and e.kind not in ("drill", "note")
                for e in state.events
            )
            assert self.fault_ms is not None
            waited = self.plan.name == SERVICE_KILL and self.probe.now_ms() - self.fault_ms > NOTICED_MS
            return mended or waited
        return False

    def _steady(self) -> bool:
        assert self.fault_ms is not None
        return steady(self.probe.lines(), self.services, self.probe.now_ms(), self.fault_ms)

    # -- afterwards ------------------------------------------------------------------------------------------------

    def _return(self) -> None:
        """End the fault, give a node its power back, and wait until every node is able again."""
        try:
            running = self.state().drill
            if not self.aborted and self._ended_elsewhere():
                self.aborted = ENDED_ELSEWHERE
            if self.plan.name != SWITCHOVER and running is not None:
                self.client.order("drills/end", EndDrillRequest(reason="the drill is over"))
        except ControlError as error:
            self.notes.append(f"the drill's order was not ended: {error.error}")
        if self.fault_ms is None:
            return
        try:
            if self._until(lambda: self._whole() or self._off(), REDUNDANT_S, even_if_stopped=True) and self._off():
                self._switch_on()
            if self._until(self._whole, REDUNDANT_S, even_if_stopped=True):
                self.redundant_ms = self.probe.now_ms() - self.fault_ms
                self._say("The cluster is redundant again.")
            else:
                self.notes.append("not every node is able again; hamailctl status tells why")
        except ControlError as error:
            self.notes.append(f"hamaild: {error.error}")

    def _whole(self) -> bool:
        try:
            status = self.client.status()
        except (Failed, SurelyNotDone):
            return False
        groups = all(g.phase is Phase.ACTIVE for g in status.groups)
        able = all(n.alive and (n.witness or (n.joined and n.ready)) and n.fence is None for n in status.nodes)
        return groups and able and not self._power_cut_pending()

    def _power_cut_pending(self) -> bool:
        """Just after its power was cut a node may still count as heard."""
        if self.plan.name != NODE_LOSS:
            return False
        return self.state().group(self.plan.group).epoch == self.plan.epoch

    def _off(self) -> bool:
        """Has the cluster settled that the source is out, so that it may be switched on again?"""
        state = self.state()
        node = state.node(self.plan.source)
        held = any(g.owner == self.plan.source for g in state.groups.values())
        return node.incarnation is None and node.fence is None and not held and node.fenced_at > self.first_event

    def _switch_on(self) -> None:
        if not self.plan.power_by:
            self.notes.append(f"{self.plan.source} is off and nobody can switch it on: do it by hand")
            return
        self._say(f"Switching {self.plan.source} on again.")
        why = ""
        for _ in range(POWER_TRIES_MAX):
            if not self._off():
                return  # whoever aborted the drill was faster
            try:
                order = self._order(Fault.POWER_ON, node=self.plan.power_by)
                self.client.order("drills/end", EndDrillRequest(reason="the drill is over"))
            except ControlError as error:
                why = "; ".join((error.error, *error.reasons))
                time.sleep(1.0)
                continue
            if order.result == "done":
                return
            why = order.detail
        self.notes.append(f"{self.plan.source} was not switched on ({why}): do it by hand")

    # -- the report ------------------------------------------------------------------------------------------------

    def facts(self, report: DrillReport) -> DrillReport:
        """The report with what was seen. Call it when the probe has stopped."""
        lines, state = self.probe.lines(), self.state()
        moves = [m for m in state.moves if m.id > self.first_event and m.group == self.plan.group]
        if len(moves) > 1:
            self.notes.append(f"{self.plan.group} moved {len(moves)} times")
        g = state.group(self.plan.group)
        either = (self.plan.source,) if self.plan.name == STORAGE_LOSS else ()  # a mount mends it in place as well
        if self.fault_ms is not None and self.plan.target and g.owner not in (self.plan.target, *either):
            self.notes.append(f"{self.plan.group} is on {g.owner or 'no node'}, not on {self.plan.target}")
        told = [e for e in state.events if e.index > self.first_event][:TOLD_MAX]
        return replace(
            report,
            target=g.owner or "",
            ended_ms=self.probe.now_ms(),
            fault_ms=self.fault_ms,
            fault=self.fault,
            phases=tuple(x for m in moves for x in spans(m)),
            told=tuple(Told(at_ms=e.at_ms, sentence=e.sentence) for e in told),
            gaps=() if self.fault_ms is None else gaps(lines, self.services, self.fault_ms),
            failed_checks=failed(lines, self.fault_ms),
            mails=mails(lines),
            sessions_held=self.probe.sessions_held,
            sessions_dropped=self.probe.sessions_dropped,
            redundant_ms=self.redundant_ms,
            aborted=self.aborted,
            notes=tuple(self.notes),
        )


def spans(move: Move) -> tuple[Span, ...]:
    """The phases of a move, from one point to the next."""
    rank = {stamp.value: number for number, stamp in enumerate(Stamp)}
    points = sorted(move.stamps.items(), key=lambda item: (item[1], rank.get(item[0], len(rank))))
    found = []
    for (a, from_ms), (b, to_ms) in pairwise(points):
        words = {f"{x.value} {y.value}": text for (x, y), text in WORDS.items()}
        found.append(Span(name=words.get(f"{a} {b}", f"until {b}"), from_ms=from_ms, to_ms=to_ms))
    return tuple(s for s in found if s.to_ms > s.from_ms)


def gaps(lines: Sequence[records.AnyLine], services: Sequence[str], fault_ms: float) -> tuple[Gap, ...]:
    """The outage of each service at the fault: from the last answer before it to the first one after it."""
    times = answers(lines)
    found = []
    for service in services:
        gap = gap_at(times.get(service, []), fault_ms)
        if gap is None:
            found.append(Gap(service=service, from_ms=fault_ms, to_ms=None))
        else:
            found.append(Gap(service=service, from_ms=gap[0], to_ms=None if gap[1] == float("inf") else gap[1]))
    return tuple(found)


def failed(lines: Sequence[records.AnyLine], fault_ms: float | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        if isinstance(line, records.Check) and not line.ok and fault_ms is not None and line.at_ms >= fault_ms:
            found[line.service] = found.get(line.service, 0) + 1
    return found


def mails(lines: Sequence[records.AnyLine]) -> Mails:
    end = ends(lines)
    if end is None:
        return Mails(problem="the prober did not end in order")
    return Mails(
        sent=end.sent,
        acknowledged=end.acknowledged,
        found=end.found,
        lost=end.lost,
        duplicated=len(end.duplicated),
        corrupt=len(end.corrupt),
        unknown=end.unknown,
        read=end.read,
        problem=end.problem,
    )
