"""From the TOML text of a cluster to its ClusterSpec. The shape is checked here, the meaning in `rules`."""

from hamail.config import policy, promises
from hamail.config.duration import format_duration, parse_restarts
from hamail.config.section import Section
from hamail.model.ids import DeviceName, GroupName, NodeName, ResourceName
from hamail.model.spec import ClusterSpec, FenceDeviceSpec, GroupSpec, NodeSpec, Requirement, ResourceSpec

LEVEL_MAX = 9
RESTARTS_MAX = 100
MS_PER_S = 1000


def read_cluster(root: Section) -> ClusterSpec:
    cluster = root.table("cluster")
    spec = ClusterSpec(
        name=cluster.name("name"),
        detection_ms=cluster.duration_ms("detection", "1s", "1ms", "1h"),
        watchdog_timeout_s=watchdog_timeout_s(cluster),
        quarantine=policy.quarantine(cluster),
        quarantine_for_ms=cluster.duration_ms("quarantine_for", "1h", "1m", "30d"),
        nodes={name: _node(name, section) for name, section in root.tables("nodes", required=True)},
        fencing={name: _device(name, section) for name, section in root.tables("fencing")},
        groups={name: _group(name, section) for name, section in root.tables("groups")},
        objectives=promises.objectives(root),
        contacts=promises.contacts(root),
    )
    cluster.finish()
    root.finish()
    return spec


def watchdog_timeout_s(section: Section) -> int:
    """The kernel's watchdogs count in whole seconds."""
    found_ms = section.duration_ms("watchdog_timeout", "5s", "1ms", "1h")
    if found_ms % MS_PER_S:
        section.problem("watchdog_timeout", f"is {format_duration(found_ms)}; a watchdog counts in whole seconds")
    return found_ms // MS_PER_S


def _node(name: NodeName, section: Section) -> NodeSpec:
    spec = NodeSpec(
        name=name,
        address=section.text("address"),
        port=section.integer("port", 7461, 1, 65_535),
        witness=section.boolean("witness", False),
        virtual=section.boolean("virtual", False),
        watchdog_device=section.optional_path("watchdog_device"),
    )
    section.finish()
    return spec


def _device(name: DeviceName, section: Section) -> FenceDeviceSpec:
    spec = FenceDeviceSpec(
        name=name,
        agent=section.text("agent"),
        targets=section.texts("targets"),
        parameters=section.parameters("parameters"),
        secret_files=section.texts("secret_files"),
        level=section.integer("level", 1, 1, LEVEL_MAX),
        timeout_ms=section.duration_ms("timeout", "60s", "1s", "10m"),
        executors=section.names("executors"),
    )
    section.finish()
    return spec


def _group(name: GroupName, section: Section) -> GroupSpec:
    restarts, window_ms = _restarts(section)
    spec = GroupSpec(
        name=name,
        nodes=section.names("nodes", required=True),
        resources=tuple(_resource(r, s) for r, s in section.tables("resources", required=True)),
        requires=Requirement(section.one_of("requires", tuple(Requirement), Requirement.FENCING)),
        shared_storage=section.boolean("shared_storage", True),
        unsafe_reason=section.optional_text("unsafe_reason"),
        restarts=restarts,
        restarts_window_ms=window_ms,
        failovers=policy.failovers(section),
    )
    section.finish()
    return spec


def _restarts(section: Section) -> tuple[int, int]:
    default = (3, 600_000)
    text = section.text("restarts", "3 in 10m")
    try:
        restarts, window_ms = parse_restarts(text)
    except ValueError as error:
        section.problem("restarts", str(error))
        return default
    if restarts > RESTARTS_MAX or not window_ms:
        section.problem("restarts", f"is {text!r}; at most {RESTARTS_MAX} restarts, in more than no time")
        return default
    return restarts, window_ms


def _resource(name: ResourceName, section: Section) -> ResourceSpec:
    spec = ResourceSpec(
        name=name,
        agent=section.text("agent"),
        parameters=section.parameters("parameters"),
        after=section.names("after"),
        monitor_interval_ms=section.duration_ms("monitor_interval", "10s", "200ms", "1h"),
        monitor_timeout_ms=section.optional_duration_ms("monitor_timeout", "100ms", "1h"),
        start_timeout_ms=section.optional_duration_ms("start_timeout", "100ms", "1h"),
        stop_timeout_ms=section.optional_duration_ms("stop_timeout", "100ms", "1h"),
        critical=section.boolean("critical", True),
        network_check=section.one_of("network_check", ("on", "off"), "on") == "on",
    )
    section.finish()
    return spec
