"""What one node can tell about the cluster right now: the replicated state plus what it hears itself.

This is the body of `hamailctl status --json`; `schema` grows when a field changes its meaning or goes away.
"""

from msgspec import Struct

from hamail.model.ids import DeviceName, Epoch, GroupName, LogIndex, NodeName, ResourceName
from hamail.model.state import FenceOrder, Maintenance, Phase

STATUS_SCHEMA = 1


class NodeView(Struct, frozen=True, kw_only=True):
    name: NodeName
    address: str
    witness: bool
    alive: bool  # heard within `detection` by this node (itself: always)
    suspected: bool  # a majority of voters miss it
    silent_ms: int
    joined: bool
    standby: bool
    ready: bool
    detail: str = ""  # why not ready
    watchdog: str = "none"  # armed | not armed | none
    fence: FenceOrder | None = None
    fence_failure: str = ""
    fence_devices: dict[DeviceName, str] = {}  # devices that can fence this node -> "" ready, else why not
    restarting: bool = False
    version: str = ""
    applied: LogIndex = 0


class Candidate(Struct, frozen=True, kw_only=True):
    node: NodeName
    eligible: bool
    reason: str  # why (not), in words


class GroupView(Struct, frozen=True, kw_only=True):
    name: GroupName
    phase: Phase
    owner: NodeName | None
    epoch: Epoch
    since_ms: int
    sentence: str
    trigger: str
    actor: str
    reason: str
    requires: str
    protection: str  # what keeps a second node from being active, in words
    unsafe_reason: str | None
    lease_ms: int | None  # what is left of the owner's lease; None where this node is not the owner
    resources: dict[ResourceName, str] = {}  # up | starting | failed | stopping | down | unknown
    candidates: tuple[Candidate, ...] = ()


class Status(Struct, frozen=True, kw_only=True):
    schema: int
    cluster: str
    node: NodeName  # who answers
    at_ms: int
    version: str
    quorum: bool  # this node hears a majority and has a recent commit
    coordinator: NodeName | None
    term: int
    applied: LogIndex
    config_revision: int
    maintenance: Maintenance
    nodes: tuple[NodeView, ...]
    groups: tuple[GroupView, ...]
    warnings: tuple[str, ...] = ()  # what is one failure away from an outage, in words
    problems: tuple[str, ...] = ()  # why this node is passive, if it is
