"""S14: during maintenance nothing is started, stopped, fenced or granted, by any path."""

from typing import TYPE_CHECKING

from hamail.model import commands as c
from hamail.model.ids import GroupName, NodeName, ResourceName
from hamail.model.state import ClusterState

if TYPE_CHECKING:
    from hamail.simulation.checkers.checker import Checker
    from hamail.simulation.machine import Machine

DEEDS = (c.Grant, c.OrderFence, c.OwnerLost, c.OwnerStuck, c.Retry)


class HandsOff:
    def __init__(self, checker: "Checker") -> None:
        self._c = checker
        self._under_way: set[tuple[NodeName, GroupName]] = set()  # stops and restarts that began before

    def began(self, machine: "Machine", group: GroupName, name: ResourceName, action: str) -> None:
        """An agent was called on a node that has said that it keeps its hands off."""
        m = self._c.world.state.maintenance
        if m.on and machine.name in m.acknowledged and (machine.name, group) not in self._under_way:
            self._c.found("S14", group, f"{machine.name} calls {action} of {name} of {group} during maintenance")

    def acknowledged(self, node: NodeName) -> None:
        """What is under way there at that moment comes to its end."""
        executor = self._c.world.machines[node].executor
        held = executor.groups if executor is not None else {}
        self._under_way = {key for key in self._under_way if key[0] != node}
        busy = {name for name, g in held.items() if g.state in ("stopping", "stop_failed") or g.restarting}
        self._under_way |= {(node, name) for name in busy}

    def committed(self, before: ClusterState, command: c.AnyCommand) -> None:
        if not isinstance(command, (*DEEDS, c.Failed, c.RequestMove, c.RequestFence)):
            return
        group, what = getattr(command, "group", ""), type(command).__name__
        if before.maintenance.on and isinstance(command, DEEDS):
            self._c.found("S14", group, f"{what} is accepted during maintenance")
        if group and before.group(group).maintenance is not None:
            self._c.found("S14", group, f"{what} is accepted during maintenance of {group}")
        concerned = getattr(command, "target", "") or getattr(command, "node", "")
        owner = before.group(group).owner or ""
        for node in {concerned, owner}:
            if node and before.node(node).maintenance is not None:
                self._c.found("S14", group, f"{what} is accepted during maintenance of {node}")
        if isinstance(command, c.Grant) and command.node in before.group(group).bans:
            self._c.found("S14", group, f"{group} is granted to {command.node}, from which it is banned")
