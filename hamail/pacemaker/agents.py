"""From Pacemaker's agents to hamail's: what has an own agent here gets it, the rest is run as it is."""

import ipaddress
import re

from hamail.config.duration import format_duration
from hamail.config.rules.secrets import looks_secret
from hamail.pacemaker.cib import Primitive
from hamail.pacemaker.draft import Draft, Kind, Resource, unwritable

OWN_FILE_SYSTEMS = ("ext4", "xfs", "")
MAIL = {"postfix": "hamail:postfix", "dovecot": "hamail:dovecot"}
_UNSTABLE = re.compile(r"/dev/(sd|hd|vd|xvd)[a-z]+\d*$|/dev/nvme\d")
_TIME = re.compile(r"\s*(\d{1,7})\s*(ms|msec|s|sec|m|min|h|hr)?\s*")
_UNIT_MS = {"ms": 1, "msec": 1, "s": 1000, "sec": 1000, "": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000}
_UNIT_MS["hr"] = _UNIT_MS["h"]
MONITOR_MS = (200, 3_600_000)
ACTION_MS = (100, 3_600_000)
META_SILENT = {"resource-stickiness", "priority", "migration-threshold", "failure-timeout", "critical", "target-role"}


def duration_ms(text: str) -> int | None:
    """Pacemaker's "20", "20s", "1min" (no unit: seconds)."""
    found = _TIME.fullmatch(text.lower())
    return int(found[1]) * _UNIT_MS[found[2] or ""] if found else None


def resource(draft: Draft, primitive: Primitive, name: str) -> Resource | None:
    """None where hamail has no way to run it: the note says why."""
    kind = primitive.type.lower()
    if primitive.standard in ("systemd", "service", "upstart"):
        made = _unit(primitive, name)
    elif primitive.standard == "ocf" and primitive.provider == "heartbeat" and kind == "ipaddr2":
        made = _address(draft, primitive, name)
    elif primitive.standard == "ocf" and primitive.provider == "heartbeat" and kind == "filesystem":
        made = _file_system(draft, primitive, name)
    elif primitive.standard == "ocf" and primitive.provider == "heartbeat" and kind in MAIL:
        made = _mail(draft, primitive, name)
    elif primitive.standard == "ocf" and primitive.provider:
        made = _foreign(draft, primitive, name)
    else:
        why = (
            f"{primitive.agent}: hamail runs OCF agents and systemd units; make it a unit and add it as hamail:systemd"
        )
        draft.note(Kind.LEFT_OUT, primitive.id, why)
        return None
    for key in [key for key, value in made.parameters.items() if unwritable(value)]:
        del made.parameters[key]
        draft.note(Kind.LEFT_OUT, primitive.id, f"the value of {key} has control characters in it, or is too long")
    made.origin = primitive.agent
    _meta(draft, primitive, made)
    _operations(draft, primitive, made)
    return made


def _unit(primitive: Primitive, name: str) -> Resource:
    unit = primitive.type.removesuffix(".service")
    plain = unit.partition("@")[0]
    if plain in MAIL:
        own = {} if unit in (plain, "postfix@-") else {"unit": f"{unit}.service"}
        return Resource(name, MAIL[plain], own)
    return Resource(name, "hamail:systemd", {"unit": unit if "." in unit else f"{unit}.service"})


def _address(draft: Draft, primitive: Primitive, name: str) -> Resource:
    given = dict(primitive.parameters)
    ip = given.pop("ip", "")
    mask, nic = given.pop("cidr_netmask", ""), given.pop("nic", "")
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        draft.note(Kind.TO_DO, primitive.id, f"its address {ip!r} is not numeric; put the right one there")
        address = ipaddress.ip_address("192.0.2.100")
    prefix = _prefix(mask, address.version)
    if prefix is None:
        prefix = 24 if address.version == 4 else 64
        draft.note(Kind.TO_DO, primitive.id, f"no usable cidr_netmask ({mask!r}): /{prefix} was assumed")
    if not nic:
        nic = "eth0"
        draft.note(Kind.TO_DO, primitive.id, "no nic is named there: put the right interface in place of eth0")
    made = Resource(name, "hamail:vip", {"address": f"{address}/{prefix}", "interface": nic.partition(":")[0]})
    _dropped(draft, primitive, given, "hamail:vip announces the address by itself")
    return made


def _prefix(mask: str, version: int) -> int | None:
    longest = 32 if version == 4 else 128
    if mask.isdigit():
        return int(mask) if 0 < int(mask) <= longest else None
    try:
        return ipaddress.ip_network(f"0.0.0.0/{mask}").prefixlen if mask and version == 4 else None
    except ValueError:
        return None


def _file_system(draft: Draft, primitive: Primitive, name: str) -> Resource:
    given = dict(primitive.parameters)
    fstype = given.get("fstype", "")
    device, directory = given.get("device", ""), given.get("directory", "")
    if fstype not in OWN_FILE_SYSTEMS or not device.startswith("/") or not directory.startswith("/"):
        why = f"{fstype or 'this'} is mounted by Pacemaker's agent: no claim on the storage keeps an old owner away"
        draft.note(Kind.CHANGED, primitive.id, why)
        return _foreign(draft, primitive, name)
    kept = {key: given.pop(key) for key in ("device", "directory", "fstype", "options") if given.get(key)}
    kept["directory"] = kept["directory"].rstrip("/") or "/"
    kept.setdefault("fstype", "ext4")
    if not fstype:
        draft.note(Kind.TO_DO, primitive.id, "no fstype is named there: ext4 was assumed")
    if _UNSTABLE.match(device):
        draft.note(Kind.TO_DO, primitive.id, f"{device} may be another disk tomorrow; use /dev/disk/by-id or by-uuid")
    _dropped(draft, primitive, given, "hamail:filesystem checks, and unmounts honestly, by itself")
    return Resource(name, "hamail:filesystem", kept)


def _mail(draft: Draft, primitive: Primitive, name: str) -> Resource:
    given = dict(primitive.parameters)
    kept = {}
    wanted = "config_dir" if primitive.type == "postfix" else "config_file"
    if given.get(wanted):
        kept[wanted] = given.pop(wanted)
    _dropped(draft, primitive, given, f"hamail's own {primitive.type} agent finds it out by itself")
    return Resource(name, MAIL[primitive.type], kept)


def _foreign(draft: Draft, primitive: Primitive, name: str) -> Resource:
    kept = {}
    for key, value in primitive.parameters.items():
        if looks_secret(key):
            why = f"{key} is a secret, which has no place in a file that all may read; give the agent a file"
            draft.note(Kind.LEFT_OUT, primitive.id, why)
        elif re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", key):
            kept[key] = value
        else:
            draft.note(Kind.LEFT_OUT, primitive.id, f"the parameter {key!r} has a name that cannot be written")
    agent = f"{primitive.provider}:{primitive.type}"
    why = f'allow it on each mail node: agents = ["{agent}"] under [allow] of /etc/hamail/node.toml'
    draft.note(Kind.TO_DO, primitive.id, why)
    return Resource(name, agent, kept)


def _dropped(draft: Draft, primitive: Primitive, rest: dict[str, str], why: str) -> None:
    if rest:
        draft.note(Kind.CHANGED, primitive.id, f"without {', '.join(sorted(rest))}: {why}")


def _meta(draft: Draft, primitive: Primitive, made: Resource) -> None:
    meta = primitive.meta
    if meta.get("critical", "").lower() == "false":
        made.plain["critical"] = False
    if meta.get("is-managed", "true").lower() == "false":
        draft.note(Kind.LEFT_OUT, primitive.id, "is-managed=false: hamail manages whatever is in a group")
    if meta.get("target-role", "").lower() in ("stopped", "slave", "unpromoted"):
        why = f"target-role={meta['target-role']}: hamail would start it: take it out of the file, or use maintenance"
        draft.note(Kind.LEFT_OUT, primitive.id, why)
    rest = sorted(key for key in meta if key not in META_SILENT | {"is-managed"})
    if rest:
        draft.note(Kind.LEFT_OUT, primitive.id, f"meta attributes {', '.join(rest)} mean nothing here")


def _operations(draft: Draft, primitive: Primitive, made: Resource) -> None:
    """Intervals come along; time limits only for agents of others, since hamail's own advise better ones."""
    own = made.agent.startswith("hamail:")
    for op in primitive.operations:
        interval_ms, timeout_ms = duration_ms(op.interval or "0"), duration_ms(op.timeout or "")
        if op.name == "monitor" and interval_ms and MONITOR_MS[0] <= interval_ms <= MONITOR_MS[1] and not own:
            made.settings["monitor_interval"] = format_duration(interval_ms)
        if op.name in ("start", "stop", "monitor") and timeout_ms and not own:
            shown = format_duration(max(ACTION_MS[0], min(ACTION_MS[1], timeout_ms)))
            made.settings[f"{op.name}_timeout"] = shown
        if op.on_fail and op.on_fail not in ("restart", "fence", "block"):
            why = f"on-fail={op.on_fail} of {op.name}: hamail restarts, then moves the group; a failed stop is fenced"
            draft.note(Kind.LEFT_OUT, primitive.id, why)
    if own and any(op.timeout or op.interval for op in primitive.operations if op.interval != "0"):
        why = f"operations of {made.agent} keep hamail's own intervals and time limits"
        draft.note(Kind.CHANGED, primitive.id, why)
