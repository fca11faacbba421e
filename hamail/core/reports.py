"""What the log must still be told about this node: repeated until the state shows that it is known."""

from typing import TYPE_CHECKING

from hamail.core import hands_off
from hamail.core.lease import MS
from hamail.core.proof import DOUBTFUL, HELD, RUNNING
from hamail.model import commands as c
from hamail.model.ids import Epoch, GroupName, NodeName, ResourceName
from hamail.model.state import ClusterState, Phase

if TYPE_CHECKING:
    from hamail.core.local import Local

Report = c.Started | c.Failed | c.StartFailed | c.StopFailed | c.Released | c.FenceDone


class Reports:
    def __init__(self, local: "Local") -> None:
        self.l = local
        self._open: dict[str, Report] = {}

    def tell(self, key: str, command: Report) -> None:
        """Tell the log, again and again until it knows."""
        self._open[key] = command
        self.l.e.propose(key, command)

    def about(self, group: GroupName, epoch: Epoch) -> bool:
        """Is there still something to be told about this grant?"""
        return any(
            getattr(x, "group", None) == group and getattr(x, "epoch", None) == epoch for x in self._open.values()
        )

    def stop_failed(self, group: GroupName, epoch: Epoch, resource: ResourceName, detail: str) -> None:
        e = self.l.e
        failed = c.StopFailed(at_ms=e.at_ms, group=group, node=e.me, epoch=epoch, resource=resource, detail=detail)
        self.tell(f"stop failed {group} {epoch}", failed)

    def step(self) -> None:
        """Forget what is no news any more; propose the rest, and what can be seen without having been told."""
        e = self.l.e
        self._doubt()
        self._open = {key: command for key, command in self._open.items() if is_news(e.state, e.me, command)}
        for key, command in list(self._open.items()):
            waits = isinstance(command, c.Failed) and (
                e.state.group(command.group).phase not in RUNNING or hands_off.from_group(e.state, command.group)
            )
            if not waits:
                e.propose(key, command)
        for name, status in self.l.held.items():
            g = e.state.group(name)
            if g.owner != e.me or g.epoch < status.epoch:
                continue
            if g.phase is Phase.STARTING and status.state == "up" and status.epoch == g.epoch:
                started = c.Started(at_ms=e.at_ms, group=name, node=e.me, epoch=g.epoch)
                e.propose(f"started {name} {g.epoch}", started)
            elif g.phase in HELD and status.state == "stop_failed" and not g.stuck and not self.about(name, g.epoch):
                # Also after an earlier grant: until that is gone nothing of this one can be started.
                self.stop_failed(name, g.epoch, "", "its executor holds it after a failed stop")

    def _doubt(self) -> None:
        """Nobody on this node can stop what it owns, or say that it is stopped: that counts as a failed stop."""
        local, e = self.l, self.l.e
        why = ""
        if not local.connected and e.now_ns - local.lost_ns > e.timings.lease_ms * MS:
            why = "the executor is not running, so nothing can be stopped or verified"
        elif local.cleaning.failed and not local.joined:
            why = local.cleaning.detail
        if not why or e.state.maintenance.on or local.witness:
            return
        for name in sorted(e.state.spec.groups):
            g = e.state.group(name)
            if g.owner == e.me and g.phase in HELD:
                self.stop_failed(name, g.epoch, "", why)


def is_news(state: ClusterState, me: NodeName, command: Report) -> bool:
    """Would the log learn something from this report of `me`?"""
    if isinstance(command, c.FenceDone):
        order = state.node(command.target).fence
        return order is not None and order.id == command.order
    g = state.group(command.group)
    if g.epoch != command.epoch or g.owner != me:
        return False
    match command:
        case c.Started():
            return g.phase is Phase.STARTING
        case c.Failed():
            return g.phase in RUNNING or g.phase in DOUBTFUL  # in doubt it waits: the owner may yet be heard again
        case c.StartFailed(clean=False) | c.StopFailed():
            return g.phase in HELD or not g.stuck
        case _:
            return True
