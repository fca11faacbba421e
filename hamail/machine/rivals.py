"""Who else on this machine might hold a floating address, or start what belongs to a group."""

import ipaddress
import re
from pathlib import Path

import psutil

from hamail.machine.run import text
from hamail.model.machine import LINES_MAX
from hamail.model.spec import GroupSpec

# What holds static addresses here: each name in them would come back at boot, or by itself.
FILES = (
    *("etc/network/interfaces", "etc/keepalived/keepalived.conf", "etc/ucarp", "etc/rc.local", "etc/vip-manager.yml"),
    *("etc/corosync/corosync.conf", "var/lib/pacemaker/cib/cib.xml", "etc/drbd-reactor.toml", "etc/ha.d/haresources"),
)
FOLDERS = (
    *("etc/network/interfaces.d", "etc/systemd/network", "run/systemd/network", "etc/netplan"),
    *("etc/NetworkManager/system-connections", "etc/keepalived", "etc/drbd-reactor.d"),
    *("etc/sysconfig/network-scripts", "etc/cloud/cloud.cfg.d"),
)
MANAGERS = {
    "keepalived": "Keepalived",
    "pacemakerd": "Pacemaker",
    "pacemaker-execd": "Pacemaker",
    "corosync": "Corosync",
    "ucarp": "ucarp",
    "drbd-reactor": "drbd-reactor",
    "heartbeat": "Heartbeat",
    "vip-manager": "vip-manager",
}
FILES_MAX = 200


def addresses(groups: tuple[GroupSpec, ...]) -> tuple[str, ...]:
    """The floating addresses, without prefix."""
    found = []
    for r in (r for g in groups for r in g.resources):
        kind = r.agent.partition(":")[2]
        given = {"vip": r.parameters.get("address", ""), "IPaddr2": r.parameters.get("ip", "")}.get(kind, "")
        found += [word.partition("/")[0] for word in given.replace(",", " ").split()]
    return tuple(dict.fromkeys(found))


def networks() -> dict[str, tuple[str, ...]]:
    """Interface -> its addresses with prefix."""
    found: dict[str, tuple[str, ...]] = {}
    for name, entries in psutil.net_if_addrs().items():
        listed = []
        for entry in entries:
            try:
                ip = ipaddress.ip_address(entry.address.partition("%")[0])
                bits = int(ipaddress.ip_address(entry.netmask or "")).bit_count()
            except ValueError:
                continue
            listed.append(f"{ip}/{bits}")
        if listed:
            found[name] = tuple(sorted(listed))[:LINES_MAX]
    return found


def look(groups: tuple[GroupSpec, ...], root: Path = Path("/")) -> tuple[str, ...]:
    return (*running(), *naming(addresses(groups), root))[:LINES_MAX]


def running() -> tuple[str, ...]:
    found = set()
    for process in psutil.process_iter(["name"]):
        name = MANAGERS.get(process.info.get("name") or "")
        if name:
            found.add(f"{name} is running (process {process.info['name']})")
    return tuple(sorted(found))


def naming(wanted: tuple[str, ...], root: Path) -> tuple[str, ...]:
    """Configuration files that name one of the addresses outside of a comment."""
    found = []
    for path in candidates(root):
        lines = [line.split("#")[0] for line in text(path).splitlines()]
        for address in wanted:
            if re.search(rf"(?<![0-9a-fA-F:.]){re.escape(address)}(?![0-9a-fA-F:.])", "\n".join(lines)):
                found.append(f"/{path.relative_to(root)} names {address}")
    return tuple(found)


def candidates(root: Path) -> list[Path]:
    found = [root / name for name in FILES if (root / name).is_file()]
    for folder in FOLDERS:
        try:
            found += [path for path in sorted((root / folder).iterdir()) if path.is_file()]
        except OSError:
            continue
    return list(dict.fromkeys(found))[:FILES_MAX]
