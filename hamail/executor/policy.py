"""What this node lets hamaild ask of root at all, whatever the cluster's configuration says: `[allow]` of node.toml.

The configuration comes through hamaild, which faces the network. An agent's meta-data bounds the form of a parameter
only; here is what a parameter may reach. The defaults fit a mail pair with hamail's own agents, so that nobody has to
write an `[allow]`; whoever uses more says so on each node, as root.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from hamail.executor.kinds import is_own, mount_of, short_name
from hamail.executor.trust import Untrusted, trusted_path
from hamail.model.spec import ResourceSpec

EVERYTHING = "*"
DRILL_AGENT = "hamail:drill"
_UNIT_WORDS = frozenset({"auto", "none"})  # what the mail agents take for `unit` besides a name
_OTHER_UNITS = frozenset(
    {"target", "slice", "scope", "socket", "timer", "path", "mount", "automount", "swap", "device", "snapshot"}
)
_FENCE_NAME = re.compile(r"fence_[A-Za-z0-9_.-]{1,60}")
# Fence agents build command lines of what they are given. No blanks, quotes or shell signs, and no option in front.
_FENCE_VALUE = re.compile(r"(?!-)[A-Za-z0-9_.,:/@%+=\[\]*#-]{0,256}")
# Programs to run, files to write and options for ssh: each is root for whoever may choose it.
_FENCE_DANGEROUS = re.compile(r".*(path|file|log|options|script|command|cmd)|debug.*|verbose.*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Every refusal is a sentence that names the setting to change; "" means that it is allowed."""

    agents: tuple[str, ...]
    mounts: tuple[str, ...]
    units: tuple[str, ...]
    secrets: tuple[str, ...]
    fence_parameters: tuple[str, ...]
    drills: bool = False

    def refuse_agent(self, agent: str) -> str:
        """May this agent be run at all?"""
        if short_name(agent) == DRILL_AGENT and not self.drills:
            return "drills are not allowed on this node: [allow] drills = true in its node.toml"
        if _matches(short_name(agent), self.agents):
            return ""
        return f"agent {agent} is not allowed on this node: name it in allow.agents of node.toml"

    def refuse_resource(self, spec: ResourceSpec) -> str:
        """May the agent be run with these parameters? Looks at folders on the way to a mount point."""
        if short_name(spec.agent) == DRILL_AGENT:
            return f"{DRILL_AGENT} is a fault for practice and no resource of a group: see hamailctl drill"
        given, mount = spec.parameters, mount_of(spec)
        refused = self._refuse_names(spec)
        if not refused and mount is not None and EVERYTHING not in self.mounts:
            refused = _led_astray(Path(os.path.normpath(mount.directory)))
        if refused or not is_own(spec.agent):
            return refused
        for key in ("config_dir", "config_file"):
            refused = refused or self._refuse_configuration(given.get(key, ""))
        return refused or self._refuse_secret(given.get("probe_password_file", ""))

    def foresee(self, spec: ResourceSpec) -> str:
        """What would surely be refused, judged by names alone: for hamaild, which may not look at every folder."""
        return self.refuse_agent(spec.agent) or self._refuse_names(spec)

    def refuse_fence(
        self, agent: str, parameters: Mapping[str, str], plugs: Mapping[str, str], secret_files: Mapping[str, str]
    ) -> str:
        """May the fence agent be run with these? `plugs`: target -> plug."""
        if not _FENCE_NAME.fullmatch(agent.rpartition("/")[2]):
            return f"{agent} is no fence agent: their names begin with fence_"
        for key, value in parameters.items():
            if key in self.fence_parameters or EVERYTHING in self.fence_parameters:
                continue
            where = f"name {key} in allow.fence_parameters of node.toml if it is meant"
            if _FENCE_DANGEROUS.fullmatch(key):
                return f"the parameter {key} of {agent} can make root run or write anything: {where}"
            if not _FENCE_VALUE.fullmatch(value):
                return f"the value of {key} has signs in it that {agent} may take for more than a value: {where}"
        free = {"plug", "port", EVERYTHING} & set(self.fence_parameters)
        for name in () if free else (*plugs, *plugs.values()):
            if not _FENCE_VALUE.fullmatch(name):
                return f"plug {name!r} has unusual signs in it: name plug in allow.fence_parameters of node.toml"
        return next((why for name in secret_files.values() if (why := self._refuse_secret(name))), "")

    def _refuse_names(self, spec: ResourceSpec) -> str:
        mount, unit = mount_of(spec), spec.parameters.get("unit", "")
        refused = self._refuse_mount(mount.device, mount.directory) if mount is not None else ""
        if refused or not is_own(spec.agent) or not unit or unit in _UNIT_WORDS:
            return refused
        return self._refuse_unit(unit)

    def _refuse_mount(self, device: str, directory: str) -> str:
        if EVERYTHING in self.mounts:
            return ""
        plain = os.path.normpath(directory)
        if plain != directory.rstrip("/") or not plain.startswith("/") or plain.startswith("//"):
            return f"the mount point {directory!r} is no plain absolute path"
        if not _below(plain, self.mounts):
            return f"nothing may be mounted at {plain} on this node: name its folder in allow.mounts of node.toml"
        if device and ("/../" in device or not device.startswith("/dev/")) and not re.fullmatch(r"[A-Z]+=\S+", device):
            return f"{device!r} is no device below /dev"
        return ""

    def _refuse_unit(self, unit: str) -> str:
        """A pattern without a type means services only: a target or a slice of that name may take in the machine."""
        name, _, kind = unit.rpartition(".")
        other = kind if name and kind in _OTHER_UNITS else ""
        patterns = tuple(p for p in self.units if not other or p == EVERYTHING or p.endswith(f".{other}"))
        if _matches(unit.removesuffix(".service"), patterns):
            return ""
        return f"unit {unit} may not be moved by hamail on this node: name it in allow.units of node.toml"

    def _refuse_configuration(self, path: str) -> str:
        """A service that root starts does what its configuration says. On storage that is not mounted yet it cannot be
        looked at; who may write there is then root's choice."""
        if not path or EVERYTHING in self.mounts:
            return ""
        try:
            trusted_path(Path(path))
        except Untrusted as error:
            if not os.path.lexists(path) and _below(os.path.normpath(path), self.mounts):
                return ""
            return f"configuration that others than root can change is not used: {error}"
        return ""

    def _refuse_secret(self, path: str) -> str:
        if not path or EVERYTHING in self.secrets:
            return ""
        if os.path.normpath(path) == path and _below(path, self.secrets):
            return ""
        return f"{path} is not in a folder of secrets: put it into {self.secrets[0] if self.secrets else 'one'}"


# No bounds; for tests, and for nodes whose root says so.
ANYTHING = Policy(
    agents=(EVERYTHING,),
    mounts=(EVERYTHING,),
    units=(EVERYTHING,),
    secrets=(EVERYTHING,),
    fence_parameters=(EVERYTHING,),
    drills=True,
)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _led_astray(mount_point: Path) -> str:
    """A folder on the way that others can change could lead root to mount somewhere else."""
    for folder in reversed(mount_point.parents):
        if not os.path.lexists(folder):
            return ""  # root makes it
        try:
            trusted_path(folder)
        except Untrusted as error:
            return f"mount point {mount_point}: {error}"
    if mount_point.is_symlink():
        return f"mount point {mount_point} is a symbolic link"
    return ""
