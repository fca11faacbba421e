"""S2: only a device confirms a fence. S12: it hits whom it is meant for, no valid holder, and never the last two."""

from typing import TYPE_CHECKING

from hamail.core.proof import HELD
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.ids import LogIndex, NodeName
from hamail.model.state import ClusterState, Trigger
from hamail.simulation.checkers.claims import Hazard

if TYPE_CHECKING:
    from hamail.simulation.checkers.checker import Checker


class Fences:
    def __init__(self, checker: "Checker") -> None:
        self._c = checker
        self._orders: dict[LogIndex, NodeName] = {}
        self._confirmed: set[LogIndex] = set()  # by a device
        self._off_by_fence: set[NodeName] = set()
        self.cuts: list[tuple[int, LogIndex, NodeName]] = []  # (at_ns, order, who lost its power)

    def ordered(self, command: c.OrderFence, index: LogIndex, state: ClusterState) -> None:
        target = command.target
        self._orders[index] = target
        if command.by == target:
            self._c.found("S12", "", f"{target} is to fence itself")
        owned = [(name, g) for name, g in state.groups.items() if g.owner == target]
        asked = any(g.trigger is Trigger.FENCE_REQUESTED for _, g in owned)
        if owned and not asked and all(g.phase in HELD for _, g in owned):
            names = ", ".join(f"{name} ({g.phase})" for name, g in owned)
            self._c.found("S12", owned[0][0], f"{target} is to be fenced though it validly holds all it owns: {names}")

    def told(self, notice: a.FenceResult) -> None:
        if not notice.ok:
            return
        self._confirmed.add(notice.order)
        lied = self._c.hazards & {Hazard.FENCE_LIES, Hazard.FENCE_WRONG}
        if not lied and not any(order == notice.order and hit == notice.target for _, order, hit in self.cuts):
            self._c.found("S2", "", f"an executor says that {notice.target} is off; no device has said so")

    def done(self, command: c.FenceDone) -> None:
        if command.ok and command.order not in self._confirmed:
            self._c.found("S2", "", f"{command.target} counts as fenced, but no device has said so")

    def cut(self, order: a.RunFence, by: NodeName, hit: NodeName) -> None:
        """A device is about to cut the power of `hit`."""
        world = self._c.world
        if hit != order.target:
            self._c.hazard(Hazard.FENCE_WRONG)
            self._c.found("S12", "", f"{by} fences {order.target}, and {hit} loses its power")
        if self._orders.get(order.order) != order.target:
            self._c.found("S12", "", f"{by} fences {order.target} without an order in the log")
        if world.machines[hit].powered:
            self._off_by_fence.add(hit)
        self.cuts.append((world.now_ns, order.order, hit))
        mail = [n for n, m in world.machines.items() if not m.witness]
        if all(n in self._off_by_fence for n in mail):
            self._c.found("S12", "", f"{' and '.join(mail)} have fenced each other: nobody is left")

    def powered_on(self, node: NodeName) -> None:
        self._off_by_fence.discard(node)
