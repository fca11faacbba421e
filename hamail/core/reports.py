"""What the log must still be told about this node: repeated until the state shows that it is known."""

from hamail.core.proof import HELD, RUNNING
from hamail.model import commands as c
from hamail.model.ids import NodeName
from hamail.model.state import ClusterState, Phase


class Reports:
    def __init__(self) -> None:
        self._open: dict[str, c.AnyCommand] = {}

    def add(self, key: str, command: c.AnyCommand) -> None:
        self._open[key] = command

    def about(self, group: str, epoch: int) -> bool:
        """Is there still something to be told about this grant?"""
        return any(
            getattr(x, "group", None) == group and getattr(x, "epoch", None) == epoch for x in self._open.values()
        )

    def due(self, state: ClusterState, me: NodeName) -> list[tuple[str, c.AnyCommand]]:
        """Forget what is no news any more; the rest must be proposed."""
        self._open = {key: command for key, command in self._open.items() if is_news(state, me, command)}
        return list(self._open.items())


def is_news(state: ClusterState, me: NodeName, command: c.AnyCommand) -> bool:
    """Would the log learn something from this report of `me`?"""
    if isinstance(command, c.FenceDone):
        order = state.node(command.target).fence
        return order is not None and order.id == command.order
    if not isinstance(command, c.Started | c.Failed | c.StartFailed | c.StopFailed | c.Released):
        return False
    g = state.group(command.group)
    if g.epoch != command.epoch or g.owner != me:
        return False
    match command:
        case c.Started():
            return g.phase is Phase.STARTING
        case c.Failed():
            return g.phase in RUNNING
        case c.StartFailed(clean=False) | c.StopFailed():
            return g.phase in HELD or not g.stuck
        case _:
            return True
