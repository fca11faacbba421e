"""The replicated state: what every node knows for certain after applying the same log."""

from enum import StrEnum

from msgspec import Struct

from hamail.model.ids import DeviceName, Epoch, GroupName, LogIndex, NodeName, RequestId, ResourceName
from hamail.model.orders import RestartOrder, ScheduledMove
from hamail.model.practice import AuditHead, DrillOrder, DrillRecord, Incident
from hamail.model.spec import ClusterSpec

EVENTS_KEPT = 1000
EARLIER_KEPT = 16  # points of earlier attempts of one move
MOVES_KEPT = 200
REQUESTS_KEPT = 500
FAILURES_KEPT = 128  # of a group: what its failure policy counts
RETURNS_KEPT = 32  # of a node


class Phase(StrEnum):
    """Where a group is in its life. `hamail.core.transitions` is the only place that changes it."""

    IDLE = "idle"  # nobody owns it, and whoever did is surely out: it may be granted
    STARTING = "starting"  # granted; the owner has not reported it up yet
    ACTIVE = "active"
    STOPPING = "stopping"  # the owner was told to stop
    FENCING = "fencing"  # the owner may still hold it and must be fenced first
    WAITING = "waiting"  # the owner may still hold it; its promises (and watchdog) must run out first
    BLOCKED = "blocked"  # only an operator can decide


class Evidence(StrEnum):
    """Why it is certain that a former owner is out."""

    NEVER_OWNED = "never owned"
    RELEASED = "released"  # the owner reported a verified stop
    FENCED = "fenced"
    CONFIRMED = "confirmed by hand"
    EXPIRED = "promises expired"
    REJOINED = "rejoined clean"  # the owner restarted, cleaned up and joined as a new incarnation


class Trigger(StrEnum):
    """What set a move off."""

    FIRST_START = "first start"
    NODE_LOST = "node lost"
    NODE_STUCK = "node does not follow the log"
    NODE_RESTARTED = "node restarted"
    SERVICE_FAILED = "service failed"
    START_FAILED = "start failed"
    STOP_FAILED = "stop failed"
    SWITCHOVER = "switchover"
    FAILOVER = "failover"
    STANDBY = "standby"
    FENCE_REQUESTED = "fence requested"
    LEASE_LOST = "lease lost"
    CLEARED = "cleared"
    TRIED_AGAIN = "tried again"
    BAN = "ban"


class Incarnation(Struct, frozen=True):
    """One life of a node: a new boot or a restarted executor is a new one; a restarted hamaild is not."""

    boot_id: str
    executor_id: str


class FenceOrder(Struct, frozen=True, kw_only=True):
    """An order in the log to fence `target`; at most one is open per target."""

    id: LogIndex
    target: NodeName
    device: DeviceName
    by: NodeName
    attempt: int
    reason: str
    ordered_at_ms: int


class Term(Struct, frozen=True, kw_only=True):
    """Something that an operator or the cluster has set, and until when it holds."""

    since: LogIndex  # the entry that set it: what ends it must name it
    since_ms: int
    until_ms: int = 0  # wall clock; 0 = until somebody ends it
    actor: str = ""
    reason: str = ""


class Failure(Struct, frozen=True, kw_only=True):
    """A group failed on a node, or was restarted there: counted by its failure policy."""

    at_ms: int
    node: NodeName
    resource: ResourceName = ""  # "": the node itself


class NodeState(Struct, frozen=True, kw_only=True):
    incarnation: Incarnation | None = None  # None: never joined, or fenced since
    joined_at: LogIndex = 0
    standby: bool = False
    fence: FenceOrder | None = None
    fence_attempts: int = 0
    fence_failure: str = ""  # last failure, kept until a success or a clear
    fenced_at: LogIndex = 0
    watchdog_armed: bool = False  # of the joined incarnation
    cleaned: dict[GroupName, LogIndex] = {}  # it holds nothing of the group as named by this configuration
    standby_term: Term | None = None  # who put it into standby, and until when
    returns: tuple[int, ...] = ()  # when it came back after it was lost, newest last
    quarantine: Term | None = None  # it came back too often: it is given a group only when nobody else can have it
    maintenance: Term | None = None  # hands off this node; its dead-man's switch stays in force

    @property
    def life(self) -> LogIndex:
        """The entry with which its present life began, or its last one ended."""
        return max(self.joined_at, self.fenced_at)


class GroupState(Struct, frozen=True, kw_only=True):
    phase: Phase = Phase.IDLE
    owner: NodeName | None = None  # who holds, or may still hold, the group
    former: NodeName | None = None  # who owned it before
    epoch: Epoch = 0
    evidence: Evidence = Evidence.NEVER_OWNED  # meaningful in IDLE: why nobody holds it
    released_epoch: Epoch = 0  # the epoch that `evidence` is about
    target: NodeName | None = None  # where an ordered move shall go
    trigger: Trigger = Trigger.FIRST_START
    actor: str = ""
    reason: str = ""
    move: LogIndex = 0  # id of the open move record; 0 = none
    stuck: bool = False  # the owner has said that it could not stop the group
    failed_on: tuple[NodeName, ...] = ()  # it failed here during the open move; lifted by `clear` and `retry`
    retries: int = 0  # since it last ran: the pause before the next one grows with them
    changed_at: LogIndex = 0  # configuration that added it, or its resources, to a cluster that had already started
    bans: dict[NodeName, Term] = {}  # nodes that may not be given this group
    maintenance: Term | None = None  # watched, but not acted upon; the dead-man's switch stays in force
    failovers: tuple[int, ...] = ()  # when a failure has moved it to another node, newest last
    failures: tuple[Failure, ...] = ()  # what has made it leave a node, newest last
    restarts: tuple[Failure, ...] = ()  # resources restarted in place, newest last
    pardoned: bool = False  # it waited long enough: until it runs, too many failovers hold it back no more
    restart: RestartOrder | None = None  # an operator's order that the owner carries out in place
    sentence: str = ""  # the last transition in words
    since_ms: int = 0  # wall clock, for display only


class Stamp(StrEnum):
    """Points on the timeline of a move."""

    DETECTED = "detected"
    DECIDED = "decided"
    STOPPED = "stopped"
    FENCED = "fenced"
    GRANTED = "granted"
    STORAGE = "storage"
    SERVICES = "services"
    ADDRESS = "address"
    ANSWERED = "first answer"
    DONE = "done"


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"  # service is, or may soon be, worse than it should
    CRITICAL = "critical"  # a person has to act


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an entry of the history stood on, so that any node can explain it from the log alone. See `core.record`."""

    rule: str  # the row of `core.transitions`, or a name in `core.rules`
    trigger: str = ""  # of the move that it belongs to
    move: LogIndex = 0
    by: NodeName = ""  # whose facts they are
    facts: dict[str, str] = {}
    rejected: dict[str, str] = {}  # alternative -> why not


class Past(Struct, frozen=True, kw_only=True):
    """A point of an earlier attempt of a move: on a node that was granted the group and did not get it to run."""

    point: str  # a Stamp, or why it went no further: "could not start it"
    node: NodeName
    at_ms: int


class Move(Struct, frozen=True, kw_only=True):
    """One move of a group with its timeline. Stamps are wall-clock milliseconds of the node that saw the point."""

    id: LogIndex
    group: GroupName
    source: NodeName | None
    target: NodeName | None
    trigger: Trigger
    actor: str
    reason: str
    started_at_ms: int
    stamps: dict[str, int] = {}
    result: str = "running"  # running | done | failed | rolled back | cancelled
    detail: str = ""  # why it did not end as was asked, in one sentence
    asked: NodeName | None = None  # where it was ordered to; `target` is where it went
    failures: dict[NodeName, str] = {}  # who could not have the group, and why: "could not start it (...)"
    cancelled: str = ""  # who turned it back, and why
    request: RequestId = ""
    evidence: Evidence | None = None  # of its last grant: why it was certain that nobody held the group
    epoch: Epoch = 0  # of its last grant
    silent_ms: int = 0  # for how long the owner had not been heard when that was decided
    earlier: tuple[Past, ...] = ()  # attempts before the last one, oldest first; `stamps` has the source and the last


class Event(Struct, frozen=True, kw_only=True):
    """One line of the audit trail."""

    index: LogIndex
    at_ms: int
    kind: str
    sentence: str
    group: GroupName = ""
    node: NodeName = ""
    resource: ResourceName = ""
    actor: str = ""
    reason: str = ""
    severity: Severity = Severity.INFO
    decision: Decision | None = None


class Maintenance(Struct, frozen=True, kw_only=True):
    """Hands off: nothing is started, stopped, fenced or taken over."""

    on: bool = False
    acknowledged: tuple[NodeName, ...] = ()
    suspended: tuple[NodeName, ...] = ()  # their dead-man's switch may be suspended, also after maintenance was ended
    since: LogIndex = 0  # of the last switching on or off
    actor: str = ""
    reason: str = ""
    since_ms: int = 0
    until_ms: int = 0  # it ends by itself then; 0 = when somebody ends it


class ConfigRevision(Struct, frozen=True, kw_only=True):
    revision: int
    index: LogIndex
    applied_at_ms: int
    actor: str
    reason: str
    source: str  # the TOML text as applied


REVISIONS_KEPT = 20
REVISIONS_CHARACTERS_MAX = 200_000  # of all earlier texts together: they are part of every snapshot


def keep_revisions(revisions: tuple[ConfigRevision, ...]) -> tuple[ConfigRevision, ...]:
    """The newest that fit, in their order."""
    kept: list[ConfigRevision] = []
    room = REVISIONS_CHARACTERS_MAX
    for revision in reversed(revisions[-REVISIONS_KEPT:]):
        room -= len(revision.source)
        if room < 0:
            break
        kept.append(revision)
    return tuple(reversed(kept))


class ClusterState(Struct, frozen=True, kw_only=True):
    spec: ClusterSpec
    config: ConfigRevision
    revisions: tuple[ConfigRevision, ...] = ()  # of the configuration before this one, newest last, bounded
    applied: LogIndex = 0
    detection_ms_max: int = 0  # longest ever in force: a restarted voter may have promised for that long
    watchdog_timeout_s_max: int = 0  # longest ever in force: a watchdog may still run with it
    groups: dict[GroupName, GroupState] = {}
    nodes: dict[NodeName, NodeState] = {}
    maintenance: Maintenance = Maintenance()
    moves: tuple[Move, ...] = ()  # newest last, bounded
    events: tuple[Event, ...] = ()  # newest last, bounded
    scheduled: tuple[ScheduledMove, ...] = ()  # moves that wait for their time, in the order of their ids
    drill: DrillOrder | None = None  # the one that was ordered last, until it is ended
    drills: tuple[DrillRecord, ...] = ()  # newest last, bounded
    incidents: tuple[Incident, ...] = ()  # newest last, bounded
    audit: dict[NodeName, AuditHead] = {}  # how far each node's own trail had grown
    requests: tuple[tuple[RequestId, LogIndex, str], ...] = ()  # answered requests, so that a retry is safe

    def group(self, name: GroupName) -> GroupState:
        return self.groups.get(name, GroupState())

    def node(self, name: NodeName) -> NodeState:
        return self.nodes.get(name, NodeState())
