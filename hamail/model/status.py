"""What one node can tell about the cluster right now: the replicated state plus what it hears itself.

This is the body of `hamailctl status --json`; `schema` grows when a field changes its meaning or goes away.
"""

from msgspec import Struct

from hamail.model.alert import Alert
from hamail.model.ids import DeviceName, Epoch, GroupName, LogIndex, NodeName, ResourceName
from hamail.model.practice import DrillRecord, Incident
from hamail.model.state import FenceOrder, Maintenance, Phase, Term

STATUS_SCHEMA = 2  # `warnings` and `problems` became `alerts`


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
    standby_term: Term | None = None
    quarantine: Term | None = None
    maintenance: Term | None = None
    returns: int = 0  # how often it was lost and came back within the time that counts for quarantine
    version: str = ""
    applied: LogIndex = 0
    certificate_expires_ms: int = 0  # wall clock; 0: not known, for no link to it is up
    certificate_revoked: bool = False  # it shows one that was revoked; false when it shows none


class BudgetView(Struct, frozen=True, kw_only=True):
    """How often failures may move a group within a time, and how often they have."""

    allowed: str  # "3 in 1h"
    limit: int
    window_ms: int
    used: int
    free_at_ms: int = 0  # wall clock, when one more is allowed; 0: it is now, or never will be


class PolicyView(Struct, frozen=True, kw_only=True):
    restarts: str  # of a failed resource in place, before the group moves: "3 in 10m"
    restarted: dict[ResourceName, int] = {}  # on its owner within that time; those with none are left out
    failovers: tuple[BudgetView, ...] = ()
    used_up: str = ""  # in words, when no further failover is allowed
    bans: dict[NodeName, Term] = {}
    maintenance: Term | None = None  # of the group itself
    hands_off: str = ""  # why nothing is done about it, whatever the scope; "" when it is looked after


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
    policy: PolicyView | None = None
    optional: tuple[ResourceName, ...] = ()  # mail is served without them: critical = false
    held: bool = False  # something of it runs on the node that tells, by its executor's word
    denied: bool = False  # the owner is heard, and says that nothing of it runs there
    last_resorts: tuple[NodeName, ...] = ()  # in quarantine: used if nobody else can
    retry: str = ""  # why nobody has it, and when it is tried again, in words


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
    broken_links: tuple[tuple[NodeName, NodeName], ...] = ()  # both live, and at least one misses the other
    fault: str = ""  # why this node takes no part until somebody mends it
    last_drill: DrillRecord | None = None
    incidents: tuple[Incident, ...] = ()  # open ones
    alerts: tuple[Alert, ...] = ()  # pending, the worst first

    @property
    def here(self) -> NodeView | None:
        """What the node that tells says of itself; None when the configuration does not name it."""
        return next((n for n in self.nodes if n.name == self.node), None)

    @property
    def passive(self) -> str:
        """Why this node could not take a group, or not vote; empty when it could."""
        me = self.here
        return self.fault or (me.detail if me is not None and not me.ready else "")
