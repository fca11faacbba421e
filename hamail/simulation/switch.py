"""The clients' side of the network: to which node a floating address leads, as their neighbour tables have it."""

from hamail.model.ids import GroupName, NodeName

STALE_MS = 30_000  # a neighbour entry that does not answer is asked for anew after so long


class Switch:
    def __init__(self) -> None:
        self.leads: dict[GroupName, NodeName] = {}
        self.deaf = False  # announcements are lost
        self.cut_off: set[NodeName] = set()  # clients do not reach these
        self._answered_ms: dict[GroupName, float] = {}

    def announce(self, group: GroupName, node: NodeName) -> None:
        """A gratuitous ARP."""
        if not self.deaf and node not in self.cut_off:
            self.leads[group] = node

    def resolve(self, group: GroupName, holders: list[NodeName], now_ms: float) -> NodeName | None:
        """Where a packet of a client goes. `holders`: who would answer an ARP request now."""
        known = self.leads.get(group)
        if known in holders:
            self._answered_ms[group] = now_ms
        elif known is None or now_ms - self._answered_ms.setdefault(group, now_ms) >= STALE_MS:
            reachable = [n for n in holders if n not in self.cut_off]
            if reachable:
                self.leads[group] = known = reachable[0]
                self._answered_ms[group] = now_ms
        return None if known in self.cut_off else known
