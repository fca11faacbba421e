"""Wire form of drills, incidents: one struct per request."""

from typing import Literal

from hamail.control.api import Request
from hamail.model.ids import DeviceName, Epoch, GroupName, LogIndex, NodeName, ResourceName
from hamail.model.practice import DrillRecord, Fault


class DrillRequest(Request, frozen=True, kw_only=True):
    """`node` carries it out, on `target`. `rehearse`: only find out whether it could be done."""

    fault: Fault
    group: GroupName
    epoch: Epoch
    node: NodeName
    target: NodeName = ""
    device: DeviceName = ""
    resource: ResourceName = ""
    duration_ms: int
    rehearse: bool = False


class EndDrillRequest(Request, frozen=True, kw_only=True):
    pass


class DrillRecordRequest(Request, frozen=True, kw_only=True):
    record: DrillRecord


class IncidentRequest(Request, frozen=True, kw_only=True):
    what: Literal["open", "note", "close"]
    incident: LogIndex = 0
    text: str = ""
    since: LogIndex = 0
