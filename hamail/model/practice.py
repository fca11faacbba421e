"""What the cluster remembers of drills, incidents and audit trails: small, bounded, replicated."""

from enum import StrEnum

from msgspec import Struct

from hamail.model.ids import DeviceName, Epoch, GroupName, LogIndex, NodeName

DRILLS_KEPT = 50
INCIDENTS_KEPT = 20
NOTES_KEPT = 100  # of one incident
TEXT_CHARS_MAX = 500
DRILL_MS_MIN, DRILL_MS_MAX = 1_000, 120_000
ORDER_FRESH_MS = 10_000  # an order that its node applies later than this is not carried out any more


class Fault(StrEnum):
    """What a node can be ordered to do to itself, or to another one's power, for the sake of practice."""

    SERVICE_KILL = "service-kill"
    NETWORK_LOSS = "network-loss"
    STORAGE_LOSS = "storage-loss"
    POWER_OFF = "power-off"
    POWER_ON = "power-on"


POWER = (Fault.POWER_OFF, Fault.POWER_ON)


class DrillOrder(Struct, frozen=True, kw_only=True):
    """The order of today; at most one is open. `epoch`: of the group, so that an old order says nothing later."""

    id: LogIndex
    fault: Fault
    group: GroupName
    epoch: Epoch
    node: NodeName  # who is to do it
    target: NodeName  # to whom: itself, or whose power
    device: DeviceName = ""
    resource: str = ""
    duration_ms: int = 0
    rehearse: bool = False  # only find out whether it could be done
    at_ms: int = 0
    actor: str = ""
    result: str = ""  # "" not answered yet | done | refused | undone
    detail: str = ""


class DrillRecord(Struct, frozen=True, kw_only=True):
    """What is kept of a drill; its report is a file of whoever held it."""

    id: str
    name: str
    group: GroupName
    at_ms: int
    verdict: str  # passed | failed | aborted
    rto_ms: int | None  # None: service did not come back
    rpo: int | None  # acknowledged mails that were lost; None: not measured
    expected_rto_ms: int | None = None
    actor: str = ""
    detail: str = ""


class IncidentNote(Struct, frozen=True, kw_only=True):
    at_ms: int
    actor: str
    text: str


class Incident(Struct, frozen=True, kw_only=True):
    """Its timeline is what the cluster's events say between `opened_ms` and `closed_ms`, and these notes."""

    id: LogIndex
    title: str
    opened_ms: int
    actor: str
    since: LogIndex  # events from here on belong to it
    notes: tuple[IncidentNote, ...] = ()
    closed_ms: int = 0
    until: LogIndex = 0


class AuditHead(Struct, frozen=True, kw_only=True):
    """How far a node's own audit trail had grown: what the others know of it."""

    sequence: int
    digest: str
    at_ms: int = 0
