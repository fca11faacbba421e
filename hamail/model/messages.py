"""Messages between hamaild processes. None of them ever waits for a disk, except a yes to `ReleaseRequest`.

`Raft` wraps what the consensus library says; the rest is hamail's own.
"""

from typing import TypeAlias

from msgspec import Struct

from hamail.model.ids import DeviceName, Epoch, GroupName, LogIndex, NodeName, ResourceName
from hamail.model.report import NodeReport
from hamail.model.state import Incarnation


class Message(Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    pass


class Heartbeat(Message, frozen=True, kw_only=True, tag="heartbeat"):
    """I am alive, and this is for how long I have not heard each of the others."""

    sequence: int
    incarnation: Incarnation | None  # None: a witness (it has no executor), or not connected to it yet
    silent_ms: dict[NodeName, int]
    applied: LogIndex
    ready: bool  # executor connected, journal healthy, joined
    fence_ready: dict[DeviceName, str] = {}  # device -> "" when it answered its last check, else why not
    restarting_ms: int = 0  # I shall be away for at most this long: a restart of hamaild, not a death
    stalled_ms: int = 0  # for how long my log has waited for the disk: I learn of nothing, and can report nothing
    version: str = ""
    detail: str = ""  # why not ready
    watchdog_armed: bool = False
    resources: dict[GroupName, dict[ResourceName, str]] = {}  # what the sender's executor holds


class LeaseRequest(Message, frozen=True, kw_only=True, tag="lease_request"):
    """Owner: promise nobody else for W from your receipt of this."""

    group: GroupName
    epoch: Epoch
    nonce: int  # when it was sent, by the owner's clock: an answer proves a promise made after that
    wait_ms: int = 0  # the owner's own W: it may not have applied a change of the timings yet


class LeaseAnswer(Message, frozen=True, kw_only=True, tag="lease_answer"):
    group: GroupName
    epoch: Epoch
    nonce: int
    promised: bool
    why: str = ""


class ReleaseRequest(Message, frozen=True, kw_only=True, tag="release_request"):
    """Coordinator: has your promise to this epoch run out?"""

    group: GroupName
    epoch: Epoch


class ReleaseAnswer(Message, frozen=True, kw_only=True, tag="release_answer"):
    """`yes` is durable: this voter will never promise that epoch again."""

    group: GroupName
    epoch: Epoch
    yes: bool
    remaining_ms: int = 0


class Raft(Message, frozen=True, kw_only=True, tag="raft"):
    """A message of the consensus adapter; `payload` is decoded by its own strict codec."""

    payload: bytes


class ReportRequest(Message, frozen=True, kw_only=True, tag="report_request"):
    """Tell what you see of your machine and your links. Answered by `ReportAnswer`; decides nothing."""

    nonce: int


class ReportAnswer(Message, frozen=True, kw_only=True, tag="report_answer"):
    nonce: int
    report: NodeReport


class Ping(Message, frozen=True, kw_only=True, tag="ping"):
    nonce: int


class Pong(Message, frozen=True, kw_only=True, tag="pong"):
    nonce: int
    at_us: int  # wall clock of the answering node


class Revoked(Message, frozen=True, kw_only=True, tag="revoked"):
    """Which certificates count no more, as the authority has said and signed it. Goes past the engine."""

    statement: str


class ConfigAsk(Message, frozen=True, kw_only=True, tag="config_ask"):
    """Could you take this configuration? Answered by `ConfigTold`; goes past the engine, and decides nothing."""

    nonce: int
    source: str  # TOML


class ConfigTold(Message, frozen=True, kw_only=True, tag="config_told"):
    nonce: int
    problems: tuple[str, ...]


# For people's questions only: they go past the engine, which knows nothing of them.
Aside: TypeAlias = ReportRequest | ReportAnswer | Ping | Pong
AnyMessage: TypeAlias = (
    Heartbeat
    | LeaseRequest
    | LeaseAnswer
    | ReleaseRequest
    | ReleaseAnswer
    | Raft
    | ReportRequest
    | ReportAnswer
    | Ping
    | Pong
    | Revoked
    | ConfigAsk
    | ConfigTold
)
