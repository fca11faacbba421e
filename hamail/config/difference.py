"""What changes between two configurations, in lines that a person checks before applying them."""

from enum import Enum
from typing import Any

import msgspec

from hamail.config.duration import format_duration
from hamail.model.spec import Budget, ClusterSpec

OFF_IF_EMPTY = ("quarantine", "failovers")  # as the file says it: without the key there is a default


def diff(old: ClusterSpec, new: ClusterSpec) -> list[str]:
    """Empty when nothing changes. Parameters are shown; secrets are never in a configuration."""
    return _fields("", "cluster", _plain(old), _plain(new))


def _plain(spec: ClusterSpec) -> dict[str, Any]:
    """Resources by name: a changed order alone changes nothing, since only `after` orders them."""
    plain: dict[str, Any] = msgspec.structs.asdict(spec)
    plain["nodes"] = {name: msgspec.structs.asdict(node) for name, node in spec.nodes.items()}
    plain["objectives"] = msgspec.structs.asdict(spec.objectives)
    plain["fencing"] = {name: msgspec.structs.asdict(device) for name, device in spec.fencing.items()}
    plain["groups"] = {
        name: msgspec.structs.asdict(group)
        | {"resources": {r.name: msgspec.structs.asdict(r) for r in group.resources}}
        for name, group in spec.groups.items()
    }
    return plain


def _fields(path: str, what: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    lines = []
    for key in [*old, *(k for k in new if k not in old)]:
        before, after = old.get(key), new.get(key)
        here = f"{path}.{key}" if path else key
        if before == after:
            continue
        if key not in new:
            lines.append(f"{here}: removed" + _value_of(key, before, "was "))
        elif key not in old:
            lines.append(f"{here}: added" + _value_of(key, after, ""))
        elif isinstance(before, dict) and isinstance(after, dict):
            lines += _fields(here, key, before, after)
        else:
            shown = f"{path}.{_shown_name(key)}" if path else f"cluster.{_shown_name(key)}"
            lines.append(f"{shown}: {_shown(key, before)} -> {_shown(key, after)}")
    return lines


def _value_of(key: str, value: Any, prefix: str) -> str:
    return "" if isinstance(value, dict) else f" ({prefix}{_shown(key, value)})"


def _shown_name(key: str) -> str:
    return key.removesuffix("_ms").removesuffix("_s")


def _shown(key: str, value: Any) -> str:
    if key in OFF_IF_EMPTY and not value:
        return "off"
    if value is None:
        return "not set"
    if key.endswith("_ms"):
        return format_duration(value)
    if key.endswith("_s"):
        return f"{value}s"
    if isinstance(value, Budget):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value) if isinstance(value, int) else repr(value)
