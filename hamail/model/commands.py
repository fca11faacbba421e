"""Commands: the only things that enter the log. `hamail.core.apply` is total over them.

Every command carries the wall-clock time of its proposer (`at_ms`, for display only). A command about a group
carries the epoch it was decided for (compare-and-set): if the group has moved on, apply rejects it.
"""

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from hamail.model.command import Basis as Basis
from hamail.model.command import Command as Command
from hamail.model.ids import DeviceName, Epoch, GroupName, LogIndex, NodeName, ResourceName
from hamail.model.practice_commands import ChangeIncident as ChangeIncident
from hamail.model.practice_commands import DrillDone as DrillDone
from hamail.model.practice_commands import EndDrill as EndDrill
from hamail.model.practice_commands import OrderDrill as OrderDrill
from hamail.model.practice_commands import RecordDrill as RecordDrill
from hamail.model.practice_commands import ReportAudit as ReportAudit
from hamail.model.spec import ClusterSpec
from hamail.model.state import Evidence, Incarnation


class Lapse(StrEnum):
    """What ends by itself."""

    BAN = "ban"
    QUARANTINE = "quarantine"
    STANDBY = "standby"
    MAINTENANCE = "maintenance"
    NODE_MAINTENANCE = "maintenance of a node"
    GROUP_MAINTENANCE = "maintenance of a group"


class Barrier(Command, frozen=True, kw_only=True, tag="barrier"):
    """A no-op: whoever sees it applied has applied everything committed before it was proposed."""

    node: NodeName


class Join(Command, frozen=True, kw_only=True, tag="join"):
    """A node has started (or its executor has), has cleaned up and holds nothing. Voids its old grants."""

    node: NodeName
    incarnation: Incarnation
    after: LogIndex = 0  # newest join or fence of this node that it knew (compare-and-set): a late one voids nothing
    watchdog_armed: bool = False  # its executor feeds a watchdog for as long as this incarnation lives
    cleaned: dict[GroupName, LogIndex] = {}  # under which configuration nothing of the group was left over


class CleanedUp(Command, frozen=True, kw_only=True, tag="cleaned_up"):
    """After a change of the configuration: nothing of these groups is left over on the node, as it names them now."""

    node: NodeName
    incarnation: Incarnation
    cleaned: dict[GroupName, LogIndex]


class Grant(Command, frozen=True, kw_only=True, tag="grant"):
    """Group belongs to node from now on, at epoch = this entry's index."""

    group: GroupName
    node: NodeName
    expected_epoch: Epoch
    evidence: Evidence
    sentence: str = ""
    voters: tuple[NodeName, ...] = ()  # who said that their promise has run out (Evidence.EXPIRED)
    unheard: tuple[NodeName, ...] = ()  # joined, but lost: nobody can ask them what is left over there


class Started(Command, frozen=True, kw_only=True, tag="started"):
    group: GroupName
    node: NodeName
    epoch: Epoch
    stamps: dict[str, int] = {}


class StartFailed(Command, frozen=True, kw_only=True, tag="start_failed"):
    """The owner could not start the group. `clean`: it has verified that it holds nothing any more."""

    group: GroupName
    node: NodeName
    epoch: Epoch
    resource: ResourceName
    clean: bool
    detail: str


class Failed(Command, frozen=True, kw_only=True, tag="failed"):
    """A resource failed beyond local repair: the group must leave its owner."""

    group: GroupName
    node: NodeName
    epoch: Epoch
    resource: ResourceName
    detail: str


class Restarted(Command, frozen=True, kw_only=True, tag="restarted"):
    """A resource failed and was restarted in place; for the history only."""

    group: GroupName
    node: NodeName
    epoch: Epoch
    resource: ResourceName
    detail: str
    count: int


class Released(Command, frozen=True, kw_only=True, tag="released"):
    """The owner's executor has verified the stop."""

    group: GroupName
    node: NodeName
    epoch: Epoch
    stamps: dict[str, int] = {}


class StopFailed(Command, frozen=True, kw_only=True, tag="stop_failed"):
    group: GroupName
    node: NodeName
    epoch: Epoch
    resource: ResourceName
    detail: str


class OwnerLost(Command, frozen=True, kw_only=True, tag="owner_lost"):
    """A majority of voters miss the owner's heartbeats."""

    group: GroupName
    node: NodeName
    epoch: Epoch
    silent_ms: int
    voters: tuple[NodeName, ...]


class OwnerStuck(Command, frozen=True, kw_only=True, tag="owner_stuck"):
    """The owner is heard, but it has not followed the log for so long: it learns of nothing that it should do."""

    group: GroupName
    node: NodeName
    epoch: Epoch
    behind_ms: int
    detail: str = ""  # what it says about itself


class OwnerBack(Command, frozen=True, kw_only=True, tag="owner_back"):
    """The owner is heard again before anything irreversible was done (only from WAITING)."""

    group: GroupName
    node: NodeName
    epoch: Epoch


class OrderFence(Command, frozen=True, kw_only=True, tag="order_fence"):
    target: NodeName
    device: DeviceName
    by: NodeName


class FenceDone(Command, frozen=True, kw_only=True, tag="fence_done"):
    """Result of the order `order`. `ok` only when the device itself reported the target off."""

    target: NodeName
    order: LogIndex
    ok: bool
    detail: str


class FenceConfirmed(Command, frozen=True, kw_only=True, tag="fence_confirmed"):
    """An operator vouches, by typing its name, that the node is off.

    `life`: that of the node that was looked at; whoever has joined until this is committed is another. -1: not said.
    """

    target: NodeName
    life: LogIndex = -1


class RequestFence(Command, frozen=True, kw_only=True, tag="request_fence"):
    """An operator wants a node fenced."""

    target: NodeName


class RequestMove(Command, frozen=True, kw_only=True, tag="request_move"):
    group: GroupName
    target: NodeName
    expected_epoch: Epoch


class RequestFailover(Command, frozen=True, kw_only=True, tag="request_failover"):
    """Take the group from an owner that cannot give it up in order. That it is out must be proven as after any loss."""

    group: GroupName
    target: NodeName
    expected_epoch: Epoch


class RequestRestart(Command, frozen=True, kw_only=True, tag="request_restart"):
    """Restart in place. `resource` "": every resource of the group, one after the other."""

    group: GroupName
    resource: ResourceName
    expected_epoch: Epoch


class RestartEnded(Command, frozen=True, kw_only=True, tag="restart_ended"):
    """The owner has carried out the order, or tells why not."""

    group: GroupName
    node: NodeName
    order: LogIndex
    ok: bool
    detail: str = ""


class ScheduleMove(Command, frozen=True, kw_only=True, tag="schedule_move"):
    """Move the group at `due_ms` (wall clock). `target` None: to the node that is best then."""

    group: GroupName
    target: NodeName | None
    due_ms: int
    force: bool = False  # also when the preflight warns then


class RunScheduled(Command, frozen=True, kw_only=True, tag="run_scheduled"):
    """It is time: move, or say why not (`refusal`). Never tried again."""

    order: LogIndex
    group: GroupName
    target: NodeName | None
    expected_epoch: Epoch
    refusal: str = ""


class Cancel(Command, frozen=True, kw_only=True, tag="cancel"):
    """Drop a scheduled move, or turn one that is under way back to where it came from."""

    order: LogIndex


class SetStandby(Command, frozen=True, kw_only=True, tag="set_standby"):
    node: NodeName
    standby: bool
    until_ms: int = 0  # 0: until somebody takes it out


class SetMaintenance(Command, frozen=True, kw_only=True, tag="set_maintenance"):
    """`since`: what is to end began there; committed late, it must not end a later one. -1: not said."""

    on: bool
    since: LogIndex = -1
    until_ms: int = 0  # 0: until somebody ends it


class AckMaintenance(Command, frozen=True, kw_only=True, tag="ack_maintenance"):
    """A node has switched its dead-man's switch to maintenance, or (`on` false) back into force."""

    node: NodeName
    on: bool = True
    since: LogIndex = 0  # which switching on or off this answers


class Clear(Command, frozen=True, kw_only=True, tag="clear"):
    """Forget failures of a group (what its failure policy counts, failed fences of its owner) and try again.

    `epoch`: for which they are forgotten; committed late, it says nothing of a later one. -1: not said.
    """

    group: GroupName
    epoch: Epoch = -1


class Retry(Command, frozen=True, kw_only=True, tag="retry"):
    """Nobody could start the group, and a while has passed: every node that is left may try again."""

    group: GroupName
    expected_epoch: Epoch


class SetBan(Command, frozen=True, kw_only=True, tag="set_ban"):
    """The node may not be given the group until then; if it runs the group, the group moves away in order."""

    group: GroupName
    node: NodeName
    until_ms: int


class LiftBan(Command, frozen=True, kw_only=True, tag="lift_ban"):
    group: GroupName
    node: NodeName


class LiftQuarantine(Command, frozen=True, kw_only=True, tag="lift_quarantine"):
    node: NodeName


class HandsOff(Command, frozen=True, kw_only=True, tag="hands_off"):
    """Maintenance of one group or one node; exactly one of them is named."""

    on: bool
    group: GroupName = ""
    node: NodeName = ""
    until_ms: int = 0


class Expire(Command, frozen=True, kw_only=True, tag="expire"):
    """The time of something has passed by the coordinator's wall clock. `since` says which one of its kind is meant."""

    lapse: Lapse
    since: LogIndex
    group: GroupName = ""
    node: NodeName = ""


class NodeBack(Command, frozen=True, kw_only=True, tag="node_back"):
    """A node that owned nothing was missed by a majority, and is heard again without having restarted."""

    node: NodeName
    silent_ms: int


class ApplyConfig(Command, frozen=True, kw_only=True, tag="apply_config"):
    spec: ClusterSpec
    source: str
    expected_revision: int


class Annotate(Command, frozen=True, kw_only=True, tag="annotate"):
    """Later points on a move's timeline (first answer seen), or a warning worth keeping."""

    group: GroupName = ""
    epoch: Epoch = 0
    node: NodeName = ""
    event: str = ""
    sentence: str = ""
    stamps: dict[str, int] = {}


AnyCommand: TypeAlias = (
    Barrier
    | Join
    | CleanedUp
    | Grant
    | Started
    | StartFailed
    | Failed
    | Restarted
    | Released
    | StopFailed
    | OwnerLost
    | OwnerStuck
    | OwnerBack
    | OrderFence
    | FenceDone
    | FenceConfirmed
    | RequestFence
    | RequestMove
    | RequestFailover
    | RequestRestart
    | RestartEnded
    | ScheduleMove
    | RunScheduled
    | Cancel
    | SetStandby
    | SetMaintenance
    | AckMaintenance
    | Clear
    | Retry
    | SetBan
    | LiftBan
    | LiftQuarantine
    | HandsOff
    | Expire
    | NodeBack
    | ApplyConfig
    | OrderDrill
    | DrillDone
    | EndDrill
    | RecordDrill
    | ChangeIncident
    | ReportAudit
    | Annotate
)


class Outcome(Struct, frozen=True, kw_only=True):
    """What apply said. A rejected command has changed nothing."""

    index: LogIndex
    accepted: bool
    reasons: tuple[str, ...] = ()


class Unknown(Struct, frozen=True, kw_only=True):
    """The command may or may not take effect later; resolve with a barrier and a look at the state."""

    why: str
