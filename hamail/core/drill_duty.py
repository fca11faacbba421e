"""This node's part in a drill: it has its executor do what was ordered, tells the log how that went, and ends it."""

from typing import TYPE_CHECKING

from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.ids import LogIndex
from hamail.model.practice import ORDER_FRESH_MS, POWER, DrillOrder, Fault
from hamail.model.state import Phase

if TYPE_CHECKING:
    from hamail.core.local import Local


class DrillDuty:
    def __init__(self, local: "Local") -> None:
        self.l = local
        self._asked: LogIndex = 0  # the order that the executor has been given
        self._at_work: LogIndex = 0  # the order whose fault may still last
        self._answer: c.DrillDone | None = None

    def reconnected(self) -> None:
        """An answer may be lost. Asked again, the executor does nothing twice and says so."""
        self._asked = 0

    def practised(self, n: a.Practised) -> None:
        e = self.l.e
        self._answer = c.DrillDone(at_ms=e.at_ms, node=e.me, order=n.order, result=n.result, detail=n.detail)
        if n.result == "undone" and n.order == self._at_work:
            self._at_work = 0

    def refused(self, request: a.Practise | a.SwitchPower, why: str) -> None:
        self.practised(a.Practised(order=request.order, result="refused", detail=why))

    def step(self) -> None:
        e, order = self.l.e, self.l.e.state.drill
        if self._at_work and (order is None or order.id != self._at_work):
            self._at_work = 0
            self.l.ask(a.EndPractice(id=self.l.next_id()))
        if order is None or order.node != e.me:
            return
        answer = self._answer
        if answer is not None and answer.order == order.id:
            if not order.result or (order.result == "done" and answer.result == "undone"):
                e.propose(f"drill {order.id} {answer.result}", answer)
        elif not order.result and self._asked != order.id:
            self._asked = order.id
            self._begin(order)

    def _begin(self, order: DrillOrder) -> None:
        e, g = self.l.e, self.l.e.state.group(order.group)
        if abs(e.at_ms - order.at_ms) > ORDER_FRESH_MS:
            self._refuse(order, "the order came too late, or the clocks of the nodes differ: nothing was done")
        elif order.fault in POWER:
            self._switch(order)
        elif g.owner != e.me or g.epoch != order.epoch or g.phase is not Phase.ACTIVE:
            self._refuse(order, f"{order.group} does not run here any more: nothing was done")
        else:
            self._at_work = 0 if order.rehearse else order.id
            self.l.ask(
                a.Practise(
                    id=self.l.next_id(),
                    order=order.id,
                    fault=order.fault,
                    group=order.group,
                    epoch=order.epoch,
                    duration_ms=order.duration_ms,
                    resource=order.resource,
                    rehearse=order.rehearse,
                )
            )

    def _switch(self, order: DrillOrder) -> None:
        device = self.l.e.state.spec.fencing.get(order.device)
        if device is None or order.target not in device.targets:
            self._refuse(order, f"{order.device} is not configured for {order.target} any more")
            return
        node = self.l.e.state.node(order.target)
        if order.fault is Fault.POWER_ON and (node.fence is not None or node.incarnation is not None):
            self._refuse(order, f"{order.target} has joined, or is being fenced: nothing was done")
            return
        self.l.ask(
            a.SwitchPower(
                id=self.l.next_id(),
                order=order.id,
                on=order.fault is Fault.POWER_ON,
                device=device.name,
                agent=device.agent,
                target=order.target,
                plug=device.targets[order.target],
                parameters=device.parameters,
                secret_files=device.secret_files,
                timeout_ms=device.timeout_ms,
                rehearse=order.rehearse,
            )
        )

    def _refuse(self, order: DrillOrder, why: str) -> None:
        self.practised(a.Practised(order=order.id, result="refused", detail=why))
        self.step()
