"""Orders of operators that take a while, as the replicated state keeps them until they are carried out."""

from msgspec import Struct

from hamail.model.ids import Epoch, GroupName, LogIndex, NodeName, RequestId, ResourceName

SCHEDULED_MAX = 20  # moves that wait for their time


class RestartOrder(Struct, frozen=True, kw_only=True):
    """Restart something in place; open until the owner has told how it ended, or the group has left it."""

    id: LogIndex
    resource: ResourceName  # "": every resource, one after the other
    epoch: Epoch
    actor: str = ""
    reason: str = ""
    ordered_at_ms: int = 0


class ScheduledMove(Struct, frozen=True, kw_only=True):
    """A move that the coordinator makes when its time has come, or never."""

    id: LogIndex
    group: GroupName
    target: NodeName | None  # None: the node that is best then
    due_ms: int  # wall clock
    force: bool = False
    actor: str = ""
    reason: str = ""
    ordered_at_ms: int = 0
    request: RequestId = ""
