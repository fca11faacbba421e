"""Resource agents (OCF): where they are, what they are given, and what their answers mean."""

import asyncio
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hamail.executor.cgroups import ProcessSets
from hamail.executor.kinds import short_name
from hamail.executor.metadata import METADATA_BYTES_MAX, BadMetadata, Metadata, parse
from hamail.executor.policy import Policy
from hamail.executor.processes import Finished, Job, Processes
from hamail.executor.trust import Untrusted, trusted_executable
from hamail.model.ids import NAME_PATTERN
from hamail.model.spec import ResourceSpec

SUCCESS, GENERIC, UNIMPLEMENTED, INSTALLED, NOT_RUNNING = 0, 1, 3, 5, 7
DEGRADED = 190
METADATA_TIMEOUT_MS = 10_000
REASON_CHARS_MAX = 500
WATCHED_MAX = 32
CACHED_AGENTS_MAX = 256
NAME = re.compile(NAME_PATTERN)
_AGENT_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_WATCH_LINE = re.compile(r"^hamail-watch: pid=(\d{1,10}) start=(\d{1,20})\s*$", re.MULTILINE)
_CGROUP_LINE = re.compile(r"^hamail-cgroup: (\S.{0,500}?)\s*$", re.MULTILINE)
_EXIT_REASON = "ocf-exit-reason:"
_EXIT_NAMES = {
    1: "failed",
    2: "invalid parameters on this node",
    3: "action not supported",
    4: "not permitted",
    5: "software not installed on this node",
    6: "parameters are wrong everywhere",
    7: "not running",
    8: "running as promoted",
    9: "promoted but failed",
}


class Severity(Enum):
    """How an exit code is recovered: soft by a restart or a move, hard not on this node, fatal nowhere."""

    OK = "ok"
    SOFT = "soft"
    HARD = "hard"
    FATAL = "fatal"


def severity(exit_code: int | None) -> Severity:
    """The recovery class of an agent's exit code; None (killed, timed out, not run) is soft."""
    if exit_code in (SUCCESS, DEGRADED):
        return Severity.OK
    if exit_code in (2, 3, 4, 5):
        return Severity.HARD
    return Severity.FATAL if exit_code == 6 else Severity.SOFT


class AgentError(Exception):
    """The agent cannot be used; nothing was run."""


@dataclass(frozen=True)
class Context:
    """What an agent learns about the grant under which it acts."""

    group: str
    epoch: int
    evidence: str
    cluster: str
    node: str


@dataclass(frozen=True, kw_only=True)
class ActionResult:
    """What one action of an agent came to."""

    action: str
    exit_code: int | None
    detail: str  # a sentence for the operator
    timed_out: bool
    took_ms: int
    watched: tuple[tuple[int, int], ...] = ()  # (pid, start time in clock ticks)
    cgroups: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        return severity(self.exit_code)


class Agents:
    """Finds agents below the configured folders and keeps their meta-data."""

    def __init__(self, folders: tuple[Path, ...], processes: Processes, sets: ProcessSets, policy: Policy) -> None:
        self._folders = folders
        self._policy = policy
        self._processes = processes
        self._sets = sets
        self._cache: dict[tuple[str, int, int, int], Metadata] = {}
        self._reading: dict[str, asyncio.Lock] = {}  # one reader per agent: they share a process set

    def locate(self, name: str) -> Path:
        """The executable of "provider:type". Raises AgentError: unknown, or could be changed by others than root."""
        provider, _, kind = short_name(name).partition(":")
        if not _AGENT_PART.fullmatch(provider) or not _AGENT_PART.fullmatch(kind):
            raise AgentError(f"{name!r} is no agent name of the form provider:type")
        if refused := self._policy.refuse_agent(name):
            raise AgentError(refused)
        for folder in self._folders:
            path = folder / provider / kind
            if path.exists():
                try:
                    trusted_executable(path)
                except Untrusted as error:
                    raise AgentError(f"agent {name} is not run: {error}") from error
                return path
        where = ", ".join(str(folder / provider) for folder in self._folders)
        raise AgentError(f"there is no agent {name}: looked in {where}")

    async def metadata(self, name: str) -> Metadata:
        """The agent's meta-data, cached until its file changes. Raises AgentError."""
        path = self.locate(name)
        try:
            found = path.stat()
        except OSError as error:
            raise AgentError(f"agent {name} is not run: {error}") from error
        key = (str(path), found.st_ino, found.st_mtime_ns, found.st_size)
        async with self._reading.setdefault(name, asyncio.Lock()):
            if key not in self._cache:
                parsed = await self._read(name, path)
                if len(self._cache) >= CACHED_AGENTS_MAX:
                    self._cache.clear()
                self._cache[key] = parsed
            return self._cache[key]

    async def _read(self, name: str, path: Path) -> Metadata:
        processes = self._sets.get(f"meta-data:{name}")  # no group's name has a colon
        finished = await self._processes.run(
            Job(
                path=path,
                arguments=("meta-data",),
                environment=base_environment(path),
                processes=processes,
                timeout_ms=METADATA_TIMEOUT_MS,
                stdout_bytes_max=METADATA_BYTES_MAX,
            )
        )
        processes.remove()
        if finished.exit_code != 0:
            raise AgentError(f"agent {name} gives no meta-data: {explain('meta-data', finished)}")
        try:
            return parse(finished.stdout)
        except BadMetadata as error:
            raise AgentError(f"agent {name}: {error}") from error

    async def check(self, spec: ResourceSpec) -> Metadata:
        """Is this resource usable as configured? Raises AgentError with the reason before anything is run."""
        if not NAME.fullmatch(spec.name):
            raise AgentError(f"{spec.name!r} is no resource name")
        for key, value in spec.parameters.items():
            if not _PARAMETER.fullmatch(key) or "\0" in value:
                raise AgentError(f"parameter {key!r} of {spec.name} cannot be passed on")
        metadata = await self.metadata(spec.agent)
        refused = metadata.refuse(spec.parameters) or self._policy.refuse_resource(spec)
        if refused:
            raise AgentError(f"resource {spec.name}: {refused}")
        return metadata


def base_environment(path: Path) -> dict[str, str]:
    """The clean environment of every agent: nothing of the executor's own is inherited."""
    root = path.parents[2] if len(path.parents) > 2 else path.parent
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C",
        "HOME": "/root",
        "OCF_ROOT": str(root),
        "OCF_FUNCTIONS_DIR": str(root / "lib" / "heartbeat"),
        "OCF_RA_VERSION_MAJOR": "1",
        "OCF_RA_VERSION_MINOR": "1",
        "OCF_RESOURCE_PROVIDER": path.parent.name,
        "OCF_RESOURCE_TYPE": path.name,
        "OCF_OUTPUT_FORMAT": "text",
        "OCF_EXIT_REASON_PREFIX": _EXIT_REASON,
        "OCF_CHECK_LEVEL": "0",
        "HA_LOGFACILITY": "none",
    }


def action_environment(
    path: Path, spec: ResourceSpec, context: Context, action: str, *, timeout_ms: int, interval_ms: int, level: int = 0
) -> dict[str, str]:
    """The environment of one action; `interval_ms` 0 on a monitor means a probe."""
    return base_environment(path) | {
        "OCF_RESOURCE_INSTANCE": spec.name,
        "OCF_CHECK_LEVEL": str(level),
        "OCF_RESKEY_CRM_meta_timeout": str(timeout_ms),
        "OCF_RESKEY_CRM_meta_interval": str(interval_ms),
        "OCF_RESKEY_CRM_meta_name": action,
        "OCF_RESKEY_CRM_meta_on_node": context.node,
        "OCF_RESKEY_CRM_meta_on_node_uuid": context.node,
        "OCF_RESKEY_crm_feature_set": "3.19.0",
        "OCF_RESKEY_CRM_meta_hamail_cluster": context.cluster,
        "OCF_RESKEY_CRM_meta_hamail_group": context.group,
        "OCF_RESKEY_CRM_meta_hamail_node": context.node,
        "OCF_RESKEY_CRM_meta_hamail_epoch": str(context.epoch),
        "OCF_RESKEY_CRM_meta_hamail_evidence": context.evidence,
        **{f"OCF_RESKEY_{key}": value for key, value in spec.parameters.items()},
    }


def result_of(action: str, finished: Finished) -> ActionResult:
    """Read an agent's answer: exit code, reason, and the lines that say what to watch."""
    watched = tuple((int(pid), int(start)) for pid, start in _WATCH_LINE.findall(finished.stdout)[:WATCHED_MAX])
    return ActionResult(
        action=action,
        exit_code=finished.exit_code,
        detail=explain(action, finished),
        timed_out=finished.timed_out,
        took_ms=finished.took_ms,
        watched=watched,
        cgroups=tuple(dict.fromkeys(_CGROUP_LINE.findall(finished.stdout)))[:WATCHED_MAX],
        left_behind=finished.left_behind,
        stuck=finished.stuck,
    )


def explain(action: str, finished: Finished) -> str:
    """One sentence: how the action ended and what the agent said about it."""
    if finished.exit_code is None:
        how = f"{action} {finished.why}"
    elif finished.exit_code == 0:
        how = f"{action} done"
    else:
        named = _EXIT_NAMES.get(finished.exit_code, "unknown exit code")
        how = f"{action} ended with {finished.exit_code} ({named})"
    if finished.stuck:
        how += f"; processes stuck in the kernel: {', '.join(finished.stuck)}"
    said = "" if finished.exit_code == 0 else exit_reason(finished.stderr)
    return f"{how}: {said}" if said else how


def exit_reason(stderr: str) -> str:
    """The last `ocf-exit-reason:` line; without one the last line that says anything."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    reasons = [line.removeprefix(_EXIT_REASON).strip() for line in lines if line.startswith(_EXIT_REASON)]
    chosen = (reasons or lines or [""])[-1]
    return "".join(c if c.isprintable() else "?" for c in chosen[:REASON_CHARS_MAX])
