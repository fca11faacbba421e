"""What hamaild may ask of the root executor, and what the executor tells: a closed set of typed requests.

Wire form on the unix socket: 4-byte big-endian length, then msgpack of one struct (see `hamail.executor.wire`).
Deadlines are CLOCK_BOOTTIME nanoseconds of this machine. The executor believes nothing else from hamaild: agents come
only from root-owned folders, parameters only from their meta-data.
"""

from typing import TypeAlias

from msgspec import Struct

from hamail.model.ids import DeviceName, Epoch, GroupName, LogIndex, ResourceName
from hamail.model.machine import MachineFacts
from hamail.model.practice import Fault
from hamail.model.spec import GroupSpec
from hamail.model.state import Evidence, Incarnation


class Request(Struct, frozen=True, kw_only=True, tag_field="request", forbid_unknown_fields=True):
    id: int  # echoed in Accepted / Refused


class Configure(Request, frozen=True, kw_only=True, tag="configure"):
    """These groups exist. The executor polices their addresses and mounts on this node also while it holds none."""

    cluster: str
    groups: tuple[GroupSpec, ...]
    config: LogIndex = 0  # the entry that put this configuration into force


class CleanUp(Request, frozen=True, kw_only=True, tag="clean_up"):
    """Boot hold: stop and verify what is left over of every configured group that this executor does not hold.

    Ends with `Cleaned`.
    """


class Prepare(Request, frozen=True, kw_only=True, tag="prepare"):
    """This group may be started here in a moment: let hamail's own agents ask now what only needs asking.

    Changes nothing on this node, holds nothing up, and no notice follows.
    """

    group: GroupSpec


class StartGroup(Request, frozen=True, kw_only=True, tag="start_group"):
    """Start the group under this epoch. Ends with `GroupUp` or `GroupStartFailed`.

    Past `soft_ns` the executor stops the group by itself; if it is not verified stopped by `hard_ns`, the watchdog
    is no longer fed.
    """

    group: GroupSpec
    epoch: Epoch
    soft_ns: int
    hard_ns: int
    evidence: Evidence


class Extend(Request, frozen=True, kw_only=True, tag="extend"):
    group: GroupName
    epoch: Epoch
    soft_ns: int
    hard_ns: int


class StopGroup(Request, frozen=True, kw_only=True, tag="stop_group"):
    """Ends with `GroupDown` (verified) or `GroupStopFailed`. Stopping a group that is not held verifies that."""

    group: GroupName
    epoch: Epoch
    why: str


class RestartResource(Request, frozen=True, kw_only=True, tag="restart_resource"):
    """Stop, verify and start one resource (and what stands on it). Ends with `ResourceRestarted`."""

    group: GroupName
    epoch: Epoch
    resource: ResourceName


class RunFence(Request, frozen=True, kw_only=True, tag="run_fence"):
    """Run a fence agent: `off`, then `status` until it says off. Ends with `FenceResult`."""

    order: LogIndex
    device: DeviceName
    agent: str
    target: str
    plug: str
    parameters: dict[str, str]
    secret_files: dict[str, str]
    timeout_ms: int


class CheckFence(Request, frozen=True, kw_only=True, tag="check_fence"):
    """Is the device reachable, and does it report a status for each plug? Ends with `FenceChecked`."""

    device: DeviceName
    agent: str
    plugs: dict[str, str]
    parameters: dict[str, str]
    secret_files: dict[str, str]
    timeout_ms: int


class Maintain(Request, frozen=True, kw_only=True, tag="maintain"):
    """On: deadlines are suspended, nothing is started, stopped, restarted or policed."""

    on: bool


class GatherFacts(Request, frozen=True, kw_only=True, tag="gather_facts"):
    """Look at this machine for `hamailctl doctor`. Takes no argument: what is looked at is fixed by the executor and by
    the configured groups. Changes nothing. Ends with `FactsGathered`.
    """


class Practise(Request, frozen=True, kw_only=True, tag="practise"):
    """A fault for practice, where root allows drills. It undoes itself after `duration_ms`. Ends with `Practised`.

    `rehearse`: only find out whether it could be done. Each order is carried out once.
    """

    order: LogIndex
    fault: Fault
    group: GroupName
    epoch: Epoch
    duration_ms: int
    resource: ResourceName = ""  # to be killed; "": the last service of the group
    rehearse: bool = False


class SwitchPower(Request, frozen=True, kw_only=True, tag="switch_power"):
    """Switch a node's power for practice, where root allows drills. It proves nothing. Ends with `Practised`."""

    order: LogIndex
    on: bool
    device: DeviceName
    agent: str
    target: str
    plug: str
    parameters: dict[str, str]
    secret_files: dict[str, str]
    timeout_ms: int
    rehearse: bool = False


class EndPractice(Request, frozen=True, kw_only=True, tag="end_practice"):
    """Undo at once what a `Practise` has done and what can be undone."""


class Hello(Request, frozen=True, kw_only=True, tag="hello"):
    """First request on a connection. Answered by `Welcome`. A newer connection replaces an older one."""

    version: str


AnyRequest: TypeAlias = (
    Hello
    | Configure
    | CleanUp
    | Prepare
    | StartGroup
    | Extend
    | StopGroup
    | RestartResource
    | RunFence
    | CheckFence
    | Practise
    | SwitchPower
    | EndPractice
    | Maintain
    | GatherFacts
)


class Notice(Struct, frozen=True, kw_only=True, tag_field="notice", forbid_unknown_fields=True):
    pass


class GroupStatus(Struct, frozen=True, kw_only=True):
    """What the executor holds: state is starting | up | stopping | stop_failed."""

    epoch: Epoch
    state: str
    resources: dict[ResourceName, str] = {}  # resource -> up | starting | failed | stopping | down
    soft_ns: int = 0
    hard_ns: int = 0


class WatchdogStatus(Struct, frozen=True, kw_only=True):
    device: str = ""
    armed: bool = False
    timeout_s: int = 0
    identity: str = ""
    detail: str = ""


class Welcome(Notice, frozen=True, kw_only=True, tag="welcome"):
    incarnation: Incarnation
    groups: dict[GroupName, GroupStatus]
    watchdog: WatchdogStatus
    clean: bool  # a CleanUp of this incarnation has succeeded
    maintenance: bool = False


class Accepted(Notice, frozen=True, kw_only=True, tag="accepted"):
    id: int


class Refused(Notice, frozen=True, kw_only=True, tag="refused"):
    id: int
    why: str


class Cleaned(Notice, frozen=True, kw_only=True, tag="cleaned"):
    """`groups`: of these nothing is left over as configuration `config` names it; also where `ok` is false."""

    ok: bool
    detail: str = ""
    config: LogIndex = 0  # 0: no search has ended; nothing may be started here any more
    groups: tuple[GroupName, ...] = ()


class ResourceUp(Notice, frozen=True, kw_only=True, tag="resource_up"):
    group: GroupName
    epoch: Epoch
    resource: ResourceName
    agent: str
    at_ms: int  # wall clock
    took_ms: int


class GroupUp(Notice, frozen=True, kw_only=True, tag="group_up"):
    group: GroupName
    epoch: Epoch
    took_ms: int
    stamps: dict[str, int] = {}  # Stamp -> wall ms


class GroupStartFailed(Notice, frozen=True, kw_only=True, tag="group_start_failed"):
    """`clean`: everything that had been started is verified stopped again."""

    group: GroupName
    epoch: Epoch
    resource: ResourceName
    detail: str
    clean: bool


class GroupDown(Notice, frozen=True, kw_only=True, tag="group_down"):
    """Verified: cgroups empty, not mounted, addresses gone."""

    group: GroupName
    epoch: Epoch
    took_ms: int
    stamps: dict[str, int] = {}


class GroupStopFailed(Notice, frozen=True, kw_only=True, tag="group_stop_failed"):
    group: GroupName
    epoch: Epoch
    resource: ResourceName
    detail: str


class ResourceFailed(Notice, frozen=True, kw_only=True, tag="resource_failed"):
    """Seen by pidfd, netlink or monitor. `fatal`: no restart can help (e.g. the agent's exit code is a hard one)."""

    group: GroupName
    epoch: Epoch
    resource: ResourceName
    detail: str
    fatal: bool = False


class ResourceRestarted(Notice, frozen=True, kw_only=True, tag="resource_restarted"):
    group: GroupName
    epoch: Epoch
    resource: ResourceName
    ok: bool
    detail: str = ""


class DeadlinePassed(Notice, frozen=True, kw_only=True, tag="deadline_passed"):
    """The dead-man's switch stops the group now; `GroupDown` or `GroupStopFailed` follows."""

    group: GroupName
    epoch: Epoch


class FenceResult(Notice, frozen=True, kw_only=True, tag="fence_result"):
    order: LogIndex
    target: str
    ok: bool
    detail: str
    took_ms: int


class FenceChecked(Notice, frozen=True, kw_only=True, tag="fence_checked"):
    device: DeviceName
    ok: bool
    detail: str


class FactsGathered(Notice, frozen=True, kw_only=True, tag="facts_gathered"):
    """`facts` None: the machine could not be looked at; `problem` says why."""

    facts: MachineFacts | None
    problem: str = ""


class Practised(Notice, frozen=True, kw_only=True, tag="practised"):
    """`result`: done | refused | undone."""

    order: LogIndex
    result: str
    detail: str = ""


class Stray(Notice, frozen=True, kw_only=True, tag="stray"):
    """Something of a group was found here that should not be, and was removed (or could not be)."""

    group: GroupName
    what: str
    removed: bool


AnyNotice: TypeAlias = (
    Welcome
    | Accepted
    | Refused
    | Cleaned
    | ResourceUp
    | GroupUp
    | GroupStartFailed
    | GroupDown
    | GroupStopFailed
    | ResourceFailed
    | ResourceRestarted
    | DeadlinePassed
    | FenceResult
    | FenceChecked
    | Stray
    | FactsGathered
    | Practised
)
