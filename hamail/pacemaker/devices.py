"""Fence devices: which plug belongs to which node, in which order they are tried, and where their passwords go."""

import re

from hamail.config.duration import format_duration
from hamail.config.rules.fencing import OURS
from hamail.config.rules.secrets import looks_secret
from hamail.pacemaker.agents import duration_ms
from hamail.pacemaker.cib import Cib, Primitive
from hamail.pacemaker.draft import Device, Draft, Kind, plain_name, unwritable

SECRETS = "/etc/hamail/secrets"
LEVEL_MAX = 9
TIMEOUT_MS = (1000, 600_000)
DELAYS = ("pcmk_delay_base", "pcmk_delay_max", "delay")
HANDLED = ("pcmk_host_map", "pcmk_host_list", "pcmk_host_check", "pcmk_off_timeout", "pcmk_reboot_timeout")
NO_MATTER = (
    "pcmk_monitor_timeout",
    "pcmk_status_timeout",
    "pcmk_list_timeout",
    "pcmk_monitor_action",
    "pcmk_action_limit",
)


def devices(draft: Draft, cib: Cib, names: dict[str, str]) -> None:
    """`names`: Pacemaker's node -> name here."""
    used: set[str] = set()
    for primitive in cib.primitives.values():
        if primitive.standard == "stonith":
            _device(draft, cib, primitive, names, used)
    _levels(draft, cib)


def _device(draft: Draft, cib: Cib, primitive: Primitive, names: dict[str, str], used: set[str]) -> None:
    if not re.fullmatch(r"fence_[A-Za-z0-9_.-]{1,60}", primitive.type):
        why = f"stonith:{primitive.type} is no fence agent of the fence-agents family; hamail has no way to call it"
        draft.note(
            Kind.LEFT_OUT, primitive.id, f"{why}: take fence_{primitive.type.rpartition('/')[2]}, if there is one"
        )
        return
    if primitive.type == "fence_watchdog":
        draft.note(
            Kind.CHANGED, primitive.id, "hamail's executors drive the watchdogs; see watchdog_device of each node"
        )
        return
    targets = _targets(draft, primitive, names)
    if not targets:
        draft.note(Kind.LEFT_OUT, primitive.id, "it names no node of the cluster (pcmk_host_map, pcmk_host_list)")
        return
    name = plain_name(primitive.id, used)
    draft.taken[primitive.id] = name
    kept: dict[str, str] = {}
    secrets: dict[str, str] = {}
    for key, value in primitive.parameters.items():
        _parameter(draft, primitive, name, key, value, kept, secrets)
    limits = [duration_ms(primitive.parameters.get(key, "")) for key in ("pcmk_off_timeout", "pcmk_reboot_timeout")]
    limit_ms = next((ms for ms in limits if ms), None)
    timeout = format_duration(max(TIMEOUT_MS[0], min(TIMEOUT_MS[1], limit_ms))) if limit_ms else ""
    draft.devices.append(Device(name, primitive.type, targets, kept, secrets, 1, timeout, f"stonith:{primitive.type}"))


def _targets(draft: Draft, primitive: Primitive, names: dict[str, str]) -> dict[str, str]:
    given = primitive.parameters
    plug = given.get("plug") or given.get("port") or ""
    pairs: dict[str, str] = {}
    for entry in re.split(r"[;\s]+", given.get("pcmk_host_map", "")):
        node, separator, plugs = entry.partition(":")
        if not separator:
            continue
        first, _, more = plugs.partition(",")
        pairs[node] = first
        if more:
            why = f"{node} has several plugs ({plugs}): hamail cuts one plug per device; add a device of a second level"
            draft.note(Kind.LEFT_OUT, primitive.id, why)
    listed = re.split(r"[,;\s]+", given.get("pcmk_host_list", ""))
    for node in (word for word in listed if word):
        pairs.setdefault(node, plug or node)
    if not pairs:
        pairs = {node: plug or node for node in names}
        if len(names) > 1:
            why = "it does not say which nodes it can fence: all were assumed, each with its own name as the plug"
            draft.note(Kind.TO_DO, primitive.id, why)
    found = {names[node]: plug_of for node, plug_of in pairs.items() if node in names}
    for node in sorted(pairs.keys() - names.keys()):
        draft.note(Kind.LEFT_OUT, primitive.id, f"{node} is no node of the cluster")
    if len(set(found.values())) < len(found):
        draft.note(Kind.TO_DO, primitive.id, "several nodes had the same plug, which would cut off all: put them right")
        found = {node: f"{plug_of}-{node}" for node, plug_of in found.items()}
    return found


def _parameter(
    draft: Draft, primitive: Primitive, name: str, key: str, value: str, kept: dict[str, str], secrets: dict[str, str]
) -> None:
    if key in HANDLED or key in OURS:
        if key in ("action", "option") and value not in ("off", "reboot"):
            draft.note(Kind.LEFT_OUT, primitive.id, f"{key}={value}: hamail always says `off`, and asks for the state")
    elif key in DELAYS:
        draft.note(Kind.CHANGED, primitive.id, f"without {key}: the witness decides who fences, so nobody has to wait")
    elif looks_secret(key):
        file = f"{SECRETS}/{name}" if not secrets else f"{SECRETS}/{name}-{len(secrets) + 1}"
        secrets[key] = file
        draft.note(Kind.TO_DO, primitive.id, f"put its {key} into {file} on each mail node (owner root, mode 0600)")
    elif key in ("passwd_script", "password_script"):
        draft.note(Kind.LEFT_OUT, primitive.id, f"{key}: hamail runs no script for a password; use secret_files")
    elif key.startswith("pcmk_"):
        if key not in NO_MATTER:
            draft.note(Kind.LEFT_OUT, primitive.id, f"{key}={value} means nothing here")
    elif unwritable(value):
        draft.note(Kind.LEFT_OUT, primitive.id, f"the value of {key} has control characters in it, or is too long")
    elif re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", key):
        kept[key] = value
    else:
        draft.note(Kind.LEFT_OUT, primitive.id, f"the parameter {key!r} has a name that cannot be written")


def _levels(draft: Draft, cib: Cib) -> None:
    """hamail has one level per device; Pacemaker may have another for each target, and several devices in one level."""
    wanted: dict[str, set[int]] = {}
    for level in cib.levels:
        for name in level.devices:
            wanted.setdefault(draft.taken.get(name, ""), set()).add(level.index)
        if len(level.devices) > 1:
            why = f"all of {', '.join(level.devices)} must succeed there; hamail is content with the first that does"
            draft.note(Kind.LEFT_OUT, f"fencing level {level.index} of {level.target}", why)
    for device in draft.devices:
        indices = wanted.get(device.name, set())
        if indices:
            device.level = min(LEVEL_MAX, max(1, min(indices)))
        elif cib.levels:
            device.level = LEVEL_MAX
            why = f"is in no fencing level there; here it is tried last (level {LEVEL_MAX})"
            draft.note(Kind.CHANGED, device.name, why)
        if len(indices) > 1:
            why = (
                f"has level {', '.join(map(str, sorted(indices)))} depending on the target; here {device.level} for all"
            )
            draft.note(Kind.CHANGED, device.name, why)
