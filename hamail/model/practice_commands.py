"""Commands of drills, incidents and audit trails."""

from typing import Literal

from hamail.model.command import Command
from hamail.model.ids import DeviceName, Epoch, GroupName, LogIndex, NodeName, ResourceName
from hamail.model.practice import DrillRecord, Fault


class OrderDrill(Command, frozen=True, kw_only=True, tag="order_drill"):
    """An operator wants a fault for practice. `rehearse`: only find out whether it could be done."""

    fault: Fault
    group: GroupName
    epoch: Epoch
    node: NodeName
    target: NodeName = ""
    device: DeviceName = ""
    resource: ResourceName = ""
    duration_ms: int
    rehearse: bool = False


class DrillDone(Command, frozen=True, kw_only=True, tag="drill_done"):
    """How a node has carried the order out: done | refused | undone."""

    node: NodeName
    order: LogIndex
    result: str
    detail: str = ""


class EndDrill(Command, frozen=True, kw_only=True, tag="end_drill"):
    """Undo what can be undone, and forget the order."""


class RecordDrill(Command, frozen=True, kw_only=True, tag="record_drill"):
    record: DrillRecord


class ChangeIncident(Command, frozen=True, kw_only=True, tag="change_incident"):
    """`what`: open | note | close."""

    what: Literal["open", "note", "close"]
    incident: LogIndex = 0
    text: str = ""
    since: LogIndex = 0


class ReportAudit(Command, frozen=True, kw_only=True, tag="report_audit"):
    """How far this node's audit trail has grown. `anew`: its file was lost, and it began again."""

    node: NodeName
    sequence: int
    digest: str
    anew: bool = False
