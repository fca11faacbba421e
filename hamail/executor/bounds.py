"""What the agent server is willing to run: it does not take the executor's word for it, since that talks to hamaild."""

import re
from pathlib import Path

from hamail.executor.spawn import Spawn
from hamail.executor.trust import Untrusted, trusted_executable

ACTIONS = frozenset({"start", "stop", "monitor", "validate-all", "meta-data"})
_AGENT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_FENCE_NAME = re.compile(r"fence_[A-Za-z0-9_.-]{1,60}")
_VARIABLES = frozenset({"PATH", "LC_ALL", "HOME", "HA_LOGFACILITY", "HAMAIL_PROCESS_SET"})
_OCF_VARIABLE = re.compile(r"OCF_[A-Za-z0-9_-]{1,100}")
_PATH = re.compile(r"(/(usr/)?(local/)?s?bin:?)+")


def refuse(order: Spawn, agent_dirs: tuple[Path, ...]) -> str:
    """Why the order is not carried out; "" when it is. Nobody but root can change between this look and the run."""
    path = Path(order.path)
    if (
        path.parent.parent in agent_dirs
        and _AGENT_NAME.fullmatch(path.name)
        and _AGENT_NAME.fullmatch(path.parent.name)
    ):
        if len(order.arguments) != 1 or order.arguments[0] not in ACTIONS:
            return f"{path} is run for one action only, not for {' '.join(order.arguments) or 'none'}"
    elif not _FENCE_NAME.fullmatch(path.name) or order.arguments:
        return f"{path} is neither an agent in {' or '.join(map(str, agent_dirs))} nor a fence agent without arguments"
    for name in order.environment:
        if name not in _VARIABLES and not _OCF_VARIABLE.fullmatch(name):
            return f"{path} is not run with the variable {name} in its environment"
    if not _PATH.fullmatch(order.environment.get("PATH", "/bin")):
        return f"{path} is not run with a PATH of its own"
    for join in order.join_files:
        if not join.endswith("/cgroup.procs") or ".." in Path(join).parts:
            return f"{join} is no control group to join"
    try:
        trusted_executable(path)
    except Untrusted as error:
        return str(error)
    return ""
