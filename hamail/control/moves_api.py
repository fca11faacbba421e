"""The wire form of the orders about single groups: failover, restart in place, scheduled moves, cancelling."""

from msgspec import Struct

from hamail.control.api import API_SCHEMA, Request
from hamail.model.ids import GroupName, LogIndex, NodeName, ResourceName
from hamail.model.orders import ScheduledMove
from hamail.model.preflight import Preflight


class FailoverRequest(Request, frozen=True, kw_only=True):
    group: GroupName
    to: NodeName | None = None  # None: the best node
    force: bool = False  # also when the preflight warns


class RestartRequest(Request, frozen=True, kw_only=True):
    group: GroupName
    resource: ResourceName = ""  # "": every resource, one after the other
    force: bool = False


class ScheduleRequest(Request, frozen=True, kw_only=True):
    """Either a moment (wall clock, ms since 1970), or so long from now by the clock of the node that is asked."""

    group: GroupName
    to: NodeName | None = None  # None: the node that is best then
    at_ms: int = 0
    in_ms: int = 0
    force: bool = False  # also when the preflight warns then


class CancelRequest(Request, frozen=True, kw_only=True):
    """The number of a scheduled move, or of a move that is under way."""

    order: LogIndex


class PreflightAnswer(Struct, frozen=True, kw_only=True):
    preflight: Preflight
    schema: int = API_SCHEMA


class Scheduled(Struct, frozen=True, kw_only=True):
    scheduled: tuple[ScheduledMove, ...]
    at_ms: int  # wall clock of the node that answers
    schema: int = API_SCHEMA
