"""The wire form of bans, quarantine, and maintenance of one group or node."""

from msgspec import Struct

from hamail.control.api import API_SCHEMA, Request
from hamail.model.ids import GroupName, NodeName
from hamail.model.leaving import Leaving


class BanRequest(Request, frozen=True, kw_only=True):
    group: GroupName
    node: NodeName
    for_ms: int  # from now, by the clock of the node that is asked
    force: bool = False  # also when the preflight warns


class UnbanRequest(Request, frozen=True, kw_only=True):
    group: GroupName
    node: NodeName


class QuarantineRequest(Request, frozen=True, kw_only=True):
    """Take the node out of quarantine."""

    node: NodeName


class HandsOffRequest(Request, frozen=True, kw_only=True):
    """Maintenance of a group or of a node; exactly one is named."""

    on: bool
    group: GroupName = ""
    node: NodeName = ""
    for_ms: int = 0  # 0: until somebody ends it


class LeavingAnswer(Struct, frozen=True, kw_only=True):
    leaving: Leaving
    schema: int = API_SCHEMA
