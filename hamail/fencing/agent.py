"""The standard protocol of fence agents: one action, parameters as key=value lines on standard input.

An agent that finds no `action=` on its input runs its default, which is usually a reboot. So the action is always the
first line, and is never left out; passwords go the same way and never into arguments, environment or a log.
"""

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

ON, FAILED, OFF = 0, 1, 2  # exit codes of `status`
METADATA_TIMEOUT_MS = 15_000
METADATA_CHARS_MAX = 512 << 10
REASON_CHARS_MAX = 300
SEARCHED = (Path("/usr/sbin"), Path("/sbin"))
CACHED_AGENTS_MAX = 64
_ACTIONS = frozenset({"off", "on", "status", "monitor", "metadata"})
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_AGENT = re.compile(r"fence_[A-Za-z0-9_.-]{1,60}")
_ALWAYS = frozenset({"action", "nodename", "password", "port", "plug"})  # known to all, whatever they list
_CLUSTER_SIDE = "pcmk_"  # settings of other cluster managers for themselves, never passed to an agent
_EXIT_NAMES = {
    1: "failed",
    3: "login denied",
    4: "connection lost",
    5: "timed out at the device",
    6: "still waiting for power on",
    7: "still waiting for power off",
    8: "no status from the device",
    10: "no password",
    11: "not enough privileges",
}


class FenceError(Exception):
    """The agent cannot be called as configured; surely nothing was done."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run of the agent ended; `exit_code` None: not by itself, `why` says what happened."""

    exit_code: int | None
    why: str
    stdout: str
    stderr: str


Run = Callable[[Path, bytes, int], Awaitable[Ended]]
"""Runs a program: (path, standard input, time limit in ms). The executor's, with all its checks and limits."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A fence device as far as its agent must know it. `secrets` are parameters that must never be shown."""

    name: str
    agent: str
    parameters: Mapping[str, str]
    secrets: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class FenceMetadata:
    parameters: frozenset[str]
    actions: frozenset[str]

    def refuse(self, device: Device) -> str:
        """Why the agent cannot be called with these parameters; "" when it can."""
        given = [name for name in (*device.parameters, *device.secrets) if not name.startswith(_CLUSTER_SIDE)]
        unknown = sorted(name for name in given if name not in self.parameters | _ALWAYS)
        return f"{device.agent} has no parameter {', '.join(unknown)}" if unknown else ""

    @property
    def host_argument(self) -> str:
        """The parameter that names the target on the device; "" where a device has one target only."""
        for name in ("port", "plug"):
            if name in self.parameters:
                return name
        return ""


def locate(agent: str) -> Path:
    """The program of a fence agent. Raises FenceError. Whether it can be trusted is checked where it is run."""
    if agent.startswith("/"):
        return Path(agent)
    if not _AGENT.fullmatch(agent):
        raise FenceError(f"{agent!r} is no fence agent: give a name that begins with fence_, or an absolute path")
    for folder in SEARCHED:
        if (folder / agent).exists():
            return folder / agent
    raise FenceError(f"there is no {agent} in {' or '.join(map(str, SEARCHED))}: install its package")


def compose(action: str, device: Device, target: str, host_argument: str, plug: str) -> bytes:
    """The agent's standard input, `action=` first. Raises FenceError."""
    if action not in _ACTIONS:
        raise FenceError(f"action {action!r} is not one of {', '.join(sorted(_ACTIONS))}")
    lines = [f"action={action}"]
    pairs = {k: v for k, v in device.parameters.items() if not k.startswith(_CLUSTER_SIDE)} | dict(device.secrets)
    if action != "metadata" and target:
        pairs.setdefault("nodename", target)
        if host_argument and pairs.get(host_argument, "dynamic") == "dynamic":
            pairs[host_argument] = plug
    for key, value in pairs.items():
        if key == "action":
            raise FenceError(f"device {device.name}: `action` cannot be configured: it is given by what has to be done")
        if not _KEY.fullmatch(key):
            raise FenceError(f"device {device.name}: {key!r} is no parameter name")
        if any(c in value for c in "\n\r\0"):
            raise FenceError(f"device {device.name}: the value of {key} has a line break or a zero byte in it")
        lines.append(f"{key}={value}")
    return ("\n".join(lines) + "\n").encode()


class FenceAgents:
    """Calls fence agents; remembers their meta-data until their file changes."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._cache: dict[tuple[str, int, int], FenceMetadata] = {}

    async def fence(self, device: Device, target: str, plug: str, timeout_ms: int) -> str:
        """Switch `target` off and have the device confirm it. Returns "" only then; otherwise why it is not confirmed.

        A failure after `off` was sent leaves open whether the target is off.
        """
        clock = _Budget(timeout_ms)
        try:
            path = locate(device.agent)
            metadata = await self.metadata(path, device)
            host_argument = metadata.host_argument
            off = compose("off", device, target, host_argument, plug)
            status = compose("status", device, target, host_argument, plug)
        except (FenceError, OSError) as error:
            return f"{error}; surely not done"
        if refused := metadata.refuse(device):
            return f"{refused}; surely not done"
        if clock.left_ms() <= 0:
            return f"{device.agent} took all of {timeout_ms} ms for its meta-data; surely not done"
        ended = await self._run(path, off, clock.left_ms())
        if ended.exit_code != 0:
            return f"off {explain(device, ended)}"
        if clock.left_ms() <= 0:
            return f"off was reported, but no time was left of {timeout_ms} ms to verify it"
        ended = await self._run(path, status, clock.left_ms())
        if ended.exit_code == OFF:
            return ""
        if ended.exit_code == ON:
            return f"{device.agent} reported {target} off, yet its status says that it is still on"
        return f"off was reported, but the status {explain(device, ended)}"

    async def switch_on(self, device: Device, target: str, plug: str, timeout_ms: int) -> str:
        """Give `target` its power back. Returns why not, "" when the device says that it has."""
        clock = _Budget(timeout_ms)
        try:
            path = locate(device.agent)
            metadata = await self.metadata(path, device)
            on = compose("on", device, target, metadata.host_argument, plug)
        except (FenceError, OSError) as error:
            return str(error)
        if "on" not in metadata.actions:
            return f"{device.agent} cannot switch anything on"
        if clock.left_ms() <= 0:
            return f"{device.agent} took all of {timeout_ms} ms for its meta-data"
        ended = await self._run(path, on, clock.left_ms())
        return "" if ended.exit_code == 0 else f"on {explain(device, ended)}"

    async def no_power(self, device: Device) -> str:
        """Why the device does not switch power; "" when it does.

        Whoever is cut off from storage or network only may still run: `on` would let it write what it has in memory.
        """
        try:
            metadata = await self.metadata(locate(device.agent), device)
        except (FenceError, OSError) as error:
            return str(error)
        if "reboot" not in metadata.actions:
            return f"{device.agent} has no action reboot: it cuts nodes off, but switches no power"
        return ""

    async def check(self, device: Device, plugs: Mapping[str, str], timeout_ms: int) -> str:
        """Would a fence work? Asks the status of each plug (target -> plug). Returns "" or a sentence why not."""
        clock = _Budget(timeout_ms)
        try:
            path = locate(device.agent)
            metadata = await self.metadata(path, device)
        except (FenceError, OSError) as error:
            return str(error)
        if refused := metadata.refuse(device):
            return refused
        missing = {"off", "status"} - metadata.actions
        if missing:
            return f"{device.agent} has no action {' and '.join(sorted(missing))}: a fence could not be verified"
        for target, plug in plugs.items() or [("", "")]:
            action = "status" if target else "monitor"
            try:
                request = compose(action, device, target, metadata.host_argument, plug)
            except FenceError as error:
                return str(error)
            if clock.left_ms() <= 0:
                return f"the device did not answer for every plug within {timeout_ms} ms"
            ended = await self._run(path, request, clock.left_ms())
            if ended.exit_code not in (ON, OFF):
                return f"{action} of {target or device.name} {explain(device, ended)}"
        return ""

    async def metadata(self, path: Path, device: Device) -> FenceMetadata:
        """Raises FenceError, or OSError when the agent's file is gone."""
        found = path.stat()
        key = (str(path), found.st_ino, found.st_mtime_ns)
        if key not in self._cache:
            bare = Device(name=device.name, agent=device.agent, parameters={}, secrets={})
            ended = await self._run(path, compose("metadata", bare, "", "", ""), METADATA_TIMEOUT_MS)
            if ended.exit_code != 0:
                raise FenceError(f"meta-data {explain(device, ended)}")
            if len(self._cache) >= CACHED_AGENTS_MAX:
                self._cache.clear()
            self._cache[key] = parse_metadata(device.agent, ended.stdout)
        return self._cache[key]


def parse_metadata(agent: str, text: str) -> FenceMetadata:
    """Raises FenceError. Lenient about unknown elements; entities are not expanded."""
    if len(text) > METADATA_CHARS_MAX:
        raise FenceError(f"{agent} prints meta-data of more than {METADATA_CHARS_MAX} characters")
    names: dict[str, set[str]] = {"parameter": set(), "action": set()}

    def element(tag: str, attributes: dict[str, str]) -> None:
        if tag in names:
            names[tag].add(attributes.get("name", ""))

    def entity(*_declaration: object) -> None:
        raise FenceError(f"{agent} declares XML entities in its meta-data, which are not expanded here")

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = entity
    parser.StartElementHandler = element
    try:
        parser.Parse(text.strip(), True)
    except expat.ExpatError as error:
        raise FenceError(f"{agent} prints meta-data that is not XML: {error}") from error
    return FenceMetadata(parameters=frozenset(names["parameter"]), actions=frozenset(names["action"]))


def explain(device: Device, ended: Ended) -> str:
    """How a run ended and the agent's last words, without any secret in them."""
    if ended.exit_code is None:
        how = f"of {device.agent} {ended.why}"
    else:
        how = f"of {device.agent} ended with {ended.exit_code} ({_EXIT_NAMES.get(ended.exit_code, 'unknown code')})"
    lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    if not lines:
        return how
    said = "".join(c if c.isprintable() else "?" for c in lines[-1])
    for secret in device.secrets.values():
        said = said.replace(secret, "***") if secret else said
    return f"{how}: {said[:REASON_CHARS_MAX]}"


class _Budget:
    """One time limit over several runs."""

    def __init__(self, timeout_ms: int) -> None:
        self._until_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + timeout_ms * 1_000_000

    def left_ms(self) -> int:
        return (self._until_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) // 1_000_000
