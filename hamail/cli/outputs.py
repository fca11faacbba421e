"""What every command prints with --json: one type per document, from which docs/schemas is made.

A document says first what it is: `"schema": "hamail/NAME/1"`. Fields may be added at any time; the number grows when
one changes its meaning or goes away. A new command: add its document here, then `make schemas`.
"""

from typing import Any

import msgspec
from msgspec import Struct

from hamail.cli import outputs_practice
from hamail.cli.glance import Limit
from hamail.control.api import Why
from hamail.control.moves_api import Scheduled
from hamail.doctor.line import Line
from hamail.model.ids import GroupName, LogIndex, NodeName, RequestId
from hamail.model.leaving import Leaving
from hamail.model.orders import ScheduledMove
from hamail.model.plan import Plan, Risk
from hamail.model.preflight import Preflight
from hamail.model.situation import Situation
from hamail.model.state import ConfigRevision, Event, Evidence, Term
from hamail.model.status import STATUS_SCHEMA, Status
from hamail.model.timings import Timings
from hamail.practice.report import DrillReport

VERSION = 1
VERSIONS = {"status": STATUS_SCHEMA}  # of those that have grown
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class StatusDocument(Status, frozen=True, kw_only=True):
    """Of `status`, and one a line of `status --watch`."""

    risks: tuple[Risk, ...] = ()
    scheduled: tuple[ScheduledMove, ...] = ()
    limits: tuple[Limit, ...] = ()


class Point(Struct, frozen=True, kw_only=True):
    point: str
    node: NodeName  # of an attempt before the last one; "": of the source, or of the last one
    at_ms: int
    since_start_ms: int


class MoveTold(Struct, frozen=True, kw_only=True):
    id: LogIndex
    group: GroupName
    source: NodeName | None
    target: NodeName | None
    trigger: str
    actor: str
    reason: str
    started_at_ms: int
    result: str  # running | done | failed | rolled back | cancelled
    request: RequestId
    evidence: Evidence | None
    epoch: int
    silent_ms: int
    length_ms: int | None
    outage_ms: int | None  # an estimate
    timeline: tuple[Point, ...]


class HistoryDocument(Struct, frozen=True, kw_only=True):
    moves: tuple[MoveTold, ...]


class MoveDocument(Struct, frozen=True, kw_only=True):
    """Of `history ID`."""

    move: MoveTold


class OrderDocument(Struct, frozen=True, kw_only=True):
    """Of every command that gives an order to the cluster."""

    result: str  # done | accepted | scheduled | how the move ended
    request: RequestId
    index: LogIndex
    repeated: bool
    move: MoveTold | LogIndex | None = None
    moved: tuple[GroupName, ...] = ()
    reasons: tuple[str, ...] = ()
    scheduled: ScheduledMove | None = None


class PreflightDocument(Struct, frozen=True, kw_only=True):
    """Of an order with --dry-run."""

    preflight: Preflight
    would_be_refused: bool = False


class ErrorDocument(Struct, frozen=True, kw_only=True):
    """Of any command that fails."""

    error: str
    reasons: tuple[str, ...]
    request: RequestId
    exit_code: int


class QuarantineLine(Struct, frozen=True, kw_only=True):
    node: NodeName
    returns: int  # how often it was lost and came back within the time that counts
    quarantine: Term | None


class QuarantineDocument(Struct, frozen=True, kw_only=True):
    """Of `quarantine` without --clear."""

    rule: str
    nodes: tuple[QuarantineLine, ...]


class LeavingDocument(Struct, frozen=True, kw_only=True):
    """Of `maintenance off --dry-run`."""

    leaving: Leaving


class TimingDocument(Struct, frozen=True, kw_only=True):
    timings: Timings
    source: str


class VersionDocument(Struct, frozen=True, kw_only=True):
    hamailctl: str
    hamaild: str | None
    error: str


class ConfigCheckDocument(Struct, frozen=True, kw_only=True):
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    changes: tuple[str, ...] | None  # None: not compared with a running cluster
    effects: tuple[str, ...] = ()  # what it would do to what runs
    unknown: tuple[str, ...] = ()  # which nodes could not be asked whether they can use it, and why
    running: str


class ConfigApplyDocument(Struct, frozen=True, kw_only=True):
    result: str
    revision: int
    request: RequestId = ""
    changes: tuple[str, ...] = ()


class ConfigDiffDocument(Struct, frozen=True, kw_only=True):
    old: str
    new: str
    text: tuple[str, ...]  # a unified difference
    changes: tuple[str, ...] | None = None  # what it means; null: one of them cannot be read by this version


class ConfigHistoryDocument(Struct, frozen=True, kw_only=True):
    revisions: tuple[ConfigRevision, ...]  # oldest first; the last one is in force


class ConfigShowDocument(Struct, frozen=True, kw_only=True):
    config: ConfigRevision


class DoctorDocument(Struct, frozen=True, kw_only=True):
    before_start: bool
    counts: dict[str, int]
    lines: tuple[Line, ...]


class ImportNote(Struct, frozen=True, kw_only=True):
    kind: str  # not carried over | to do | changed
    what: str
    why: str


class ImportDocument(Struct, frozen=True, kw_only=True):
    config: str  # the new cluster.toml
    notes: tuple[ImportNote, ...]
    file: str | None  # where it was written


class InitDocument(Struct, frozen=True, kw_only=True):
    result: str
    node: NodeName
    join: dict[NodeName, str]  # the command for each of the other machines
    troubles: tuple[str, ...]
    configuration: str


class JoinDocument(Struct, frozen=True, kw_only=True):
    result: str
    node: NodeName
    troubles: tuple[str, ...]


class TokenDocument(Struct, frozen=True, kw_only=True):
    token: str
    command: str


class TokensDocument(Struct, frozen=True, kw_only=True):
    tokens: tuple[dict[str, Any], ...]


class TokensClosedDocument(Struct, frozen=True, kw_only=True):
    closed: tuple[str, ...]


class CertificatesDocument(Struct, frozen=True, kw_only=True):
    certificates: tuple[dict[str, Any], ...]
    authority: dict[str, Any] | None


class RenewalDocument(Struct, frozen=True, kw_only=True):
    renewed: bool = False
    trust_changed: bool = False
    phase: str = ""
    result: str = ""


class RevocationDocument(Struct, frozen=True, kw_only=True):
    node: NodeName
    reason: str
    at: str
    cut_off: bool  # a majority of the nodes does not hear it any more; false: that could not be seen in time


class DrillDocument(DrillReport, frozen=True, kw_only=True):
    verdict: str
    rto_ms: int | None
    rpo: int | None
    deviations: tuple[str, ...]  # type: ignore[assignment]  # worked out there, told here
    folder: str = ""


class DrillAbortDocument(Struct, frozen=True, kw_only=True):
    result: str
    fault: str
    node: NodeName


ORDERS = (
    "switchover", "failover", "restart", "cancel", "standby", "unstandby", "maintenance", "clear", "fence-node",
    "fence-confirm", "ban", "unban", "quarantine",
)  # fmt: skip
DOCUMENTS: dict[str, type[Struct]] = {
    "status": StatusDocument,
    "events": Event,
    "history": HistoryDocument,
    "move": MoveDocument,
    "why": Why,
    "plan": Plan,
    "situation": Situation,
    "timing": TimingDocument,
    "version": VersionDocument,
    "error": ErrorDocument,
    **dict.fromkeys(ORDERS, OrderDocument),
    "preflight": PreflightDocument,
    "scheduled": Scheduled,
    "quarantine-list": QuarantineDocument,
    "leaving": LeavingDocument,
    "config-check": ConfigCheckDocument,
    "config-apply": ConfigApplyDocument,
    "config-show": ConfigShowDocument,
    "config-diff": ConfigDiffDocument,
    "config-history": ConfigHistoryDocument,
    "config-rollback": ConfigApplyDocument,
    "config-edit": ConfigApplyDocument,
    "doctor": DoctorDocument,
    "import-pacemaker": ImportDocument,
    "init": InitDocument,
    "join": JoinDocument,
    "token-create": TokenDocument,
    "token-list": TokensDocument,
    "token-close": TokensClosedDocument,
    "pki-status": CertificatesDocument,
    "pki-renew": RenewalDocument,
    "pki-rotate": RenewalDocument,
    "pki-revoke": RevocationDocument,
    "drill": DrillDocument,
    "drill-abort": DrillAbortDocument,
    **outputs_practice.DOCUMENTS,
}


def schema(name: str) -> dict[str, Any]:
    """The JSON schema of a document."""
    (body,), parts = msgspec.json.schema_components([DOCUMENTS[name]], ref_template="#/$defs/{name}")
    top = parts.pop(body["$ref"].rpartition("/")[2]) if "$ref" in body else body
    const = f"hamail/{name}/{VERSIONS.get(name, VERSION)}"
    properties = {**top.get("properties", {})}
    properties.pop("schema", None)
    required = ["schema", *(field for field in top.get("required", []) if field != "schema")]
    return {
        "$schema": DIALECT,
        "$id": const,
        **{key: top[key] for key in ("title", "description") if key in top},
        "type": "object",
        "properties": {"schema": {"const": const}, **properties},
        "required": required,
        **({"$defs": parts} if parts else {}),
    }
