"""What the operator wants: the cluster's configuration after it was read, checked and normalised.

Durations are integers that carry their unit in the name. `hamail.config` makes these from TOML; everything else
only reads them.
"""

from enum import StrEnum

from msgspec import Struct

from hamail.model.ids import DeviceName, GroupName, NodeName, ResourceName


class Requirement(StrEnum):
    """Which proof that the former owner is out suffices to start a group elsewhere."""

    FENCING = "fencing"  # a confirmed fence, or a verified stop
    WATCHDOG = "watchdog"  # or: promises run out and the owner's armed watchdog has had its time
    LEASE = "lease"  # or: promises run out


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most so many within any window of this length."""

    limit: int
    window_ms: int

    def __str__(self) -> str:
        for unit, size_ms in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
            if self.window_ms % size_ms == 0:
                return f"{self.limit} in {self.window_ms // size_ms}{unit}"
        return f"{self.limit} in {self.window_ms}ms"


DEFAULT_FAILOVERS = (Budget(limit=3, window_ms=3_600_000),)
DEFAULT_QUARANTINE = Budget(limit=3, window_ms=600_000)


class NodeSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine that runs hamaild. A witness votes and may never own a group."""

    name: NodeName
    address: str
    port: int = 7461
    witness: bool = False
    virtual: bool = False  # a guest: a pause stops its clocks and its watchdog together
    watchdog_device: str | None = None


class ResourceSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing started and stopped by a resource agent (OCF)."""

    name: ResourceName
    agent: str  # "provider:type", e.g. "hamail:postfix", "heartbeat:IPaddr2"
    parameters: dict[str, str] = {}
    after: tuple[ResourceName, ...] = ()  # must be up before this starts; stops in the reverse order
    monitor_interval_ms: int = 10_000
    monitor_timeout_ms: int | None = None  # None: what the agent's meta-data advertises
    start_timeout_ms: int | None = None
    stop_timeout_ms: int | None = None
    critical: bool = True  # False: its failure is shown but moves nothing
    network_check: bool = True  # False: the operator means it when a floating IP is outside the nodes' networks


class GroupSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Resources that live together on one node: the unit of failover."""

    name: GroupName
    nodes: tuple[NodeName, ...]  # in order of preference
    resources: tuple[ResourceSpec, ...]
    requires: Requirement = Requirement.FENCING
    shared_storage: bool = True
    unsafe_reason: str | None = None  # why the operator accepts less than fencing on shared storage
    restarts: int = 3  # local restarts of a failed resource within the window before the group moves
    restarts_window_ms: int = 600_000
    failovers: tuple[Budget, ...] = DEFAULT_FAILOVERS  # moves that failures may cause; shortest window first


class FenceDeviceSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device that can cut a node off, driven by a fence agent with the standard stdin protocol."""

    name: DeviceName
    agent: str  # "fence_ipmilan", or an absolute path
    targets: dict[NodeName, str]  # node -> plug (port) on the device
    parameters: dict[str, str] = {}
    secret_files: dict[str, str] = {}  # parameter -> file on each node that holds its value
    level: int = 1  # lower levels are tried first
    timeout_ms: int = 60_000
    executors: tuple[NodeName, ...] = ()  # who may run it; empty: every mail node but the target


class Objectives(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the service has promised. Drills pass or fail by it; nothing in the cluster acts on it."""

    rto_ms: int | None = None  # the longest outage of one failure
    rpo: int = 0  # acknowledged mails that may be lost
    availability: str = ""  # in per cent, as written: "99.999"


class ClusterSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    nodes: dict[NodeName, NodeSpec]
    groups: dict[GroupName, GroupSpec]
    fencing: dict[DeviceName, FenceDeviceSpec] = {}
    detection_ms: int = 1000  # the one setting that all timings derive from (hamail.core.timing)
    watchdog_timeout_s: int = 5
    quarantine: Budget | None = DEFAULT_QUARANTINE  # a node that comes back that often is in quarantine; None: never
    quarantine_for_ms: int = 3_600_000
    objectives: Objectives = Objectives()
    contacts: dict[str, str] = {}  # for the runbook: who -> how to reach them

    def voters(self) -> tuple[NodeName, ...]:
        """Every node votes; the order is by name so that it is the same everywhere."""
        return tuple(sorted(self.nodes))

    def majority(self) -> int:
        return len(self.nodes) // 2 + 1

    def devices_for(self, target: NodeName) -> tuple[FenceDeviceSpec, ...]:
        """Devices that can fence `target`, by level, then by name."""
        return tuple(sorted((d for d in self.fencing.values() if target in d.targets), key=lambda d: (d.level, d.name)))

    def fence_executors(self, device: FenceDeviceSpec, target: NodeName) -> tuple[NodeName, ...]:
        """Nodes that may run the fence agent: never the target, never a witness (it has no executor)."""
        allowed = device.executors or tuple(sorted(self.nodes))
        return tuple(n for n in allowed if n != target and n in self.nodes and not self.nodes[n].witness)

    def fence_ways(self, target: NodeName) -> int:
        """How many (device, executing node) there are to fence `target`; at least 1."""
        return max(1, sum(len(self.fence_executors(d, target)) for d in self.devices_for(target)))
