"""The wire form of the control API: paths, limits, and one struct per request and answer. JSON over a unix socket.

`schema` grows when a field changes its meaning or goes away; fields may be added at any time, so clients ignore what
they do not know. Requests are strict: an unknown field is refused.
"""

import re

from msgspec import Struct

from hamail.model.ids import GroupName, LogIndex, NodeName, RequestId
from hamail.model.report import NodeReport
from hamail.model.state import ConfigRevision, Event, Move
from hamail.model.timings import Timings

API_SCHEMA = 1
PREFIX = "/v1"
DEFAULT_SOCKET = "/run/hamail/control.sock"
GIVEN = "the given configuration"  # how the place of a problem begins; hamailctl puts its file there
REQUEST_HEADER = "X-Request-Id"

BODY_BYTES_MAX = 1024 * 1024
REASON_CHARS_MAX = 500
FOR_MS_MAX = 30 * 86_400_000  # of standby, maintenance, bans: what is to last longer belongs into the configuration
WAIT_MS_MAX = 30_000  # the longest long poll
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{7,63}")


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that acts. `request` makes a retry safe: the same id is carried out once and answered the same."""

    request: RequestId = ""
    reason: str = ""


class MoveRequest(Request, frozen=True, kw_only=True):
    group: GroupName
    to: NodeName | None = None  # None: the best node
    force: bool = False  # also when the preflight warns


class StandbyRequest(Request, frozen=True, kw_only=True):
    node: NodeName
    standby: bool
    for_ms: int = 0  # 0: until somebody takes it out
    force: bool = False  # also when a group of the node has nowhere to go


class MaintenanceRequest(Request, frozen=True, kw_only=True):
    on: bool
    for_ms: int = 0  # 0: until somebody ends it


class ClearRequest(Request, frozen=True, kw_only=True):
    group: GroupName


class FenceRequest(Request, frozen=True, kw_only=True):
    node: NodeName


class FenceConfirmRequest(Request, frozen=True, kw_only=True):
    """An operator vouches that the node is off; `typed` is its name as he typed it a second time."""

    node: NodeName
    typed: NodeName


class ConfigRequest(Request, frozen=True, kw_only=True):
    source: str
    expected_revision: int | None = None  # None: whatever is applied now


class ConfigCheckRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str


class MoveCheckRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    group: GroupName
    to: NodeName | None = None


class Done(Struct, frozen=True, kw_only=True):
    """The order is committed and applied. What follows from it is seen in events, history and status."""

    request: RequestId
    index: LogIndex
    move: LogIndex = 0  # the move that the order opened; 0 = none (yet)
    repeated: bool = False  # this request had been answered before; nothing was done a second time
    revision: int = 0  # of the configuration, after config apply
    schema: int = API_SCHEMA


class Problem(Struct, frozen=True, kw_only=True):
    """Body of every answer that is not 200. `code` is for programs, the rest for people."""

    code: str  # bad_request | forbidden | not_found | refused | not_done | unknown_outcome | busy | internal
    error: str
    reasons: tuple[str, ...] = ()
    request: RequestId = ""
    schema: int = API_SCHEMA


class MoveCheck(Struct, frozen=True, kw_only=True):
    group: GroupName
    source: NodeName | None
    target: NodeName | None
    reasons: tuple[str, ...]  # non-empty: a move would be refused
    schema: int = API_SCHEMA


class Revisions(Struct, frozen=True, kw_only=True):
    revisions: tuple[ConfigRevision, ...]  # oldest first; the last one is in force
    schema: int = API_SCHEMA


class ConfigCheck(Struct, frozen=True, kw_only=True):
    problems: tuple[str, ...]
    changes: tuple[str, ...]
    revision: int  # that the changes are against
    refusals: tuple[str, ...] = ()  # why it could not be applied at this moment
    effects: tuple[str, ...] = ()  # what it would do to what runs
    unknown: tuple[str, ...] = ()  # which nodes could not be asked whether they can use it, and why
    schema: int = API_SCHEMA


class Events(Struct, frozen=True, kw_only=True):
    events: tuple[Event, ...]
    next: LogIndex  # ask for events after this one next time
    complete: bool  # False: events between `after` and the oldest kept one are gone
    schema: int = API_SCHEMA


class History(Struct, frozen=True, kw_only=True):
    moves: tuple[Move, ...]  # newest last
    schema: int = API_SCHEMA


class MoveAnswer(Struct, frozen=True, kw_only=True):
    move: Move
    schema: int = API_SCHEMA


class Why(Struct, frozen=True, kw_only=True):
    """`group` is empty when an entry of the history was asked for; then the events are it, or make up its move."""

    group: GroupName
    sentences: tuple[str, ...]
    events: tuple[Event, ...] = ()
    move: Move | None = None
    schema: int = API_SCHEMA


class ConfigAnswer(Struct, frozen=True, kw_only=True):
    config: ConfigRevision
    schema: int = API_SCHEMA


class TimingsAnswer(Struct, frozen=True, kw_only=True):
    timings: Timings
    schema: int = API_SCHEMA


class ActiveAnswer(Struct, frozen=True, kw_only=True):
    group: GroupName
    node: NodeName
    active: bool
    owner: NodeName | None
    schema: int = API_SCHEMA


class ReportsAnswer(Struct, frozen=True, kw_only=True):
    node: NodeName  # who asked the others
    reports: dict[NodeName, NodeReport]
    silent: dict[NodeName, str]  # node -> why there is no report of it
    schema: int = API_SCHEMA
