"""This node's part in fencing: it runs the orders addressed to it, and asks each device whether it would work."""

from typing import TYPE_CHECKING

from hamail.core.lease import MS
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.ids import DeviceName, LogIndex

if TYPE_CHECKING:
    from hamail.core.local import Local


HURRY_MS = 5_000  # a device that was asked within this time is not asked again because somebody wants to know


class FenceDuty:
    def __init__(self, local: "Local") -> None:
        self.l = local
        self.ready: dict[DeviceName, str] = {}  # device -> "" when it answered its last check, else why not
        self._running: set[LogIndex] = set()
        self._check_ns: dict[DeviceName, int] = {}

    def reconfigure(self) -> None:
        self._check_ns = {}
        known = self.l.e.state.spec.fencing
        self.ready = {d: why for d, why in self.ready.items() if d in known}

    def reconnected(self) -> None:
        """Results may be lost: what is still ordered is run again. Cutting the power twice does no harm."""
        self._running.clear()

    def result(self, n: a.FenceResult) -> None:
        e = self.l.e
        command = c.FenceDone(at_ms=e.at_ms, target=n.target, order=n.order, ok=n.ok, detail=n.detail)
        self.l.reports.tell(f"fence {n.order}", command)

    def checked(self, n: a.FenceChecked) -> None:
        self.ready = {**self.ready, n.device: "" if n.ok else n.detail or "no reason given"}

    def hurry(self) -> frozenset[DeviceName]:
        """Somebody wants to know: ask at the next step. Returns the devices that this node will ask then."""
        e, spec = self.l.e, self.l.e.state.spec
        enough_ns = e.now_ns + (e.timings.fence_check_ms - HURRY_MS) * MS
        due = {d.name for d in spec.fencing.values() if self._check_ns.get(d.name, 0) <= enough_ns}
        for name in due:
            self._check_ns.pop(name, None)
        mine = {d.name for d in spec.fencing.values() for n in d.targets if e.me in spec.fence_executors(d, n)}
        return frozenset(due & mine)

    def step(self) -> None:
        self._run_orders()
        self._check_devices()

    def _run_orders(self) -> None:
        e, spec = self.l.e, self.l.e.state.spec
        for target, known in sorted(e.state.nodes.items()):
            order = known.fence
            if order is None or order.by != e.me or order.id in self._running or order.device not in spec.fencing:
                continue
            self._running.add(order.id)
            d = spec.fencing[order.device]
            self.l.ask(
                a.RunFence(
                    id=self.l.next_id(),
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

    def _check_devices(self) -> None:
        e, spec = self.l.e, self.l.e.state.spec
        for d in spec.fencing.values():
            if e.now_ns < self._check_ns.get(d.name, 0):
                continue
            self._check_ns[d.name] = e.now_ns + e.timings.fence_check_ms * MS
            targets = {n: plug for n, plug in d.targets.items() if e.me in spec.fence_executors(d, n)}
            if not targets:
                continue
            self.l.ask(
                a.CheckFence(
                    id=self.l.next_id(),
                    device=d.name,
                    agent=d.agent,
                    plugs=targets,
                    parameters=d.parameters,
                    secret_files=d.secret_files,
                    timeout_ms=d.timeout_ms,
                )
            )
