"""What only this node knows: /etc/hamail/node.toml."""

import logging
from pathlib import Path

from msgspec import Struct

from hamail.config.allow import Allow, read_allow
from hamail.config.cluster import watchdog_timeout_s
from hamail.config.doctor import DoctorConfig, read_doctor
from hamail.config.rules.cluster import numeric
from hamail.config.section import Section, wrong_path
from hamail.model.ids import NodeName

LOG_LEVELS = ("debug", "info", "warning", "error")
assert all(level.upper() in logging.getLevelNamesMapping() for level in LOG_LEVELS)


class NodeConfig(Struct, frozen=True, kw_only=True):
    """Paths are absolute. `bind_address` None: the node's address in the cluster's configuration."""

    node: NodeName
    state_dir: Path = Path("/var/lib/hamail")
    run_dir: Path = Path("/run/hamail")
    certificates: Path = Path("/etc/hamail/pki")
    cluster_file: Path = Path("/etc/hamail/cluster.toml")
    control_socket: Path = Path("/run/hamail/control.sock")
    control_group: str = "hamail"
    executor_dir: Path = Path("/run/hamail-executor")
    executor_socket: Path = Path("/run/hamail-executor/executor.sock")
    watchdog_device: str | None = None
    watchdog_timeout_s: int = 5
    agent_dirs: tuple[Path, ...] = (Path("/usr/lib/ocf/resource.d"),)
    bind_address: str | None = None
    allow: Allow = Allow()
    doctor: DoctorConfig = DoctorConfig()
    log_level: str = "info"


def read_node(root: Section) -> NodeConfig:
    """The sockets follow `run_dir` unless they are given.

    The executor's files have a folder of their own beside it: `run_dir` belongs to the user of hamaild, who could put
    links there for root to follow.
    """
    run_dir = _path(root, "run_dir", "/run/hamail")
    executor_dir = run_dir.with_name(f"{run_dir.name}-executor")
    config = NodeConfig(
        node=root.name("node"),
        state_dir=_path(root, "state_dir", "/var/lib/hamail"),
        run_dir=run_dir,
        certificates=_path(root, "certificates", "/etc/hamail/pki"),
        cluster_file=_path(root, "cluster_file", "/etc/hamail/cluster.toml"),
        control_socket=_path(root, "control_socket", str(run_dir / "control.sock")),
        control_group=root.text("control_group", "hamail"),
        executor_dir=executor_dir,
        executor_socket=_path(root, "executor_socket", str(executor_dir / "executor.sock")),
        watchdog_device=root.optional_path("watchdog_device"),
        watchdog_timeout_s=watchdog_timeout_s(root),
        agent_dirs=_folders(root),
        bind_address=_bind_address(root),
        allow=read_allow(root),
        doctor=read_doctor(root),
        log_level=root.one_of("log_level", LOG_LEVELS, "info"),
    )
    root.finish()
    return config


def _path(root: Section, key: str, default: str) -> Path:
    return Path(root.optional_path(key, default) or default)


def _folders(root: Section) -> tuple[Path, ...]:
    folders = root.names("agent_dirs")
    for folder in folders:
        if why := wrong_path(folder):
            root.problem("agent_dirs", why)
    if root.has("agent_dirs") and not folders:
        root.problem("agent_dirs", "names no folder: no agent could be found")
    return tuple(Path(f) for f in folders) or (Path("/usr/lib/ocf/resource.d"),)


def _bind_address(root: Section) -> str | None:
    address = root.optional_text("bind_address")
    if address is not None and numeric(address) is None:
        root.problem("bind_address", f"{address!r} is not a numeric IP address")
        return None
    return address
