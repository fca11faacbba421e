"""What the commands of practice and proof print with --json; see `outputs`."""

from msgspec import Struct

from hamail.audit.entry import Entry
from hamail.model.ids import LogIndex
from hamail.model.practice import Incident


class AuditShowDocument(Struct, frozen=True, kw_only=True):
    entries: tuple[Entry, ...]


class AuditVerifyDocument(Struct, frozen=True, kw_only=True):
    result: str
    entries_to: int  # the last entry of the file
    known_to: int  # how far the cluster knows it; 0: it knows nothing


class ReportDocument(Struct, frozen=True, kw_only=True):
    result: str
    file: str
    bytes: int
    missing: tuple[str, ...]


class RunbookDocument(Struct, frozen=True, kw_only=True):
    file: str
    checksum: str  # SHA-256 of the configuration that it was made from
    text: str = ""  # where no file was asked for


class Budget(Struct, frozen=True, kw_only=True):
    allowed_ms: int
    left_ms: int


class InterruptionTold(Struct, frozen=True, kw_only=True):
    from_ms: int
    ms: int
    services: tuple[str, ...]
    planned: str  # the move that it belongs to; "": none


class AvailabilityDocument(Struct, frozen=True, kw_only=True):
    objective_percent: str
    observed_ms: int
    from_ms: int
    to_ms: int
    availability_percent: float | None
    unplanned_only_percent: float | None
    down_ms: int
    planned_ms: int | None  # null: no hamaild could tell
    unplanned_ms: int | None
    budget: dict[str, Budget]
    interruptions: tuple[InterruptionTold, ...]
    note: str = ""


class IncidentOrderDocument(Struct, frozen=True, kw_only=True):
    """Of `incident open`, `note` and `close`."""

    result: str
    incident: LogIndex
    index: LogIndex = 0


class IncidentLine(Struct, frozen=True, kw_only=True):
    at_ms: int
    actor: str
    text: str


class IncidentDocument(Struct, frozen=True, kw_only=True):
    id: LogIndex
    title: str
    opened_ms: int
    closed_ms: int  # 0: it is open
    actor: str
    complete: bool  # false: the beginning of its timeline is gone
    timeline: tuple[IncidentLine, ...]


class IncidentListDocument(Struct, frozen=True, kw_only=True):
    incidents: tuple[Incident, ...]


DOCUMENTS: dict[str, type[Struct]] = {
    "audit-show": AuditShowDocument,
    "audit-verify": AuditVerifyDocument,
    "report": ReportDocument,
    "runbook": RunbookDocument,
    "availability": AvailabilityDocument,
    "incident-open": IncidentOrderDocument,
    "incident-note": IncidentOrderDocument,
    "incident-close": IncidentOrderDocument,
    "incident-list": IncidentListDocument,
    "incident-show": IncidentDocument,
}
