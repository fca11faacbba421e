"""Is there what a start says that it did? As the kernel shows it, independent of any agent.

Every function returns what is wrong as words for a sentence, "" when all is there. What cannot be seen raises OSError.
"""

import ipaddress
import os
from pathlib import Path

import psutil

from hamail.executor import hostmounts, verify
from hamail.executor.kinds import MountPoint
from hamail.ocf import claim as claims
from hamail.ocf.claim import Claim, ClaimError
from hamail.ocf.mounts import Mount, parse_line


def addresses_missing(addresses: frozenset[str], interface: str) -> str:
    """`interface` "": on whichever. One that goes by another name here is not insisted on."""
    found = psutil.net_if_addrs()
    chosen = {n: entries for n, entries in found.items() if n.partition(":")[0] == interface} or found
    here = {_canonical(entry.address) for entries in chosen.values() for entry in entries}
    missing = ", ".join(sorted(addresses - here))
    where = interface if chosen is not found else "this node"
    return f"address {missing} is not on {where}" if missing else ""


def _canonical(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return text  # a MAC address


def mount_wrong(mount: MountPoint) -> str:
    """For our own agent, which mounts a block device at a directory for reading and writing, and nothing else."""
    wanted = os.path.normpath(mount.directory)
    seen = _seen_at(wanted)
    if seen is None:
        return f"nothing is mounted at {wanted}"
    number = verify.number_of(mount.device)
    if number is None:
        return f"{mount.device} is no block device any more"
    if "{}:{}".format(*seen.device) != number:
        return f"{wanted} carries {seen.source}, not {mount.device}"
    return "" if seen.writable else f"{wanted} is mounted read-only"


def _seen_at(point: str) -> Mount | None:
    """What one sees there: a later mount hides an earlier one."""
    text = Path(f"/proc/{hostmounts.owner()}/mountinfo").read_text(errors="surrogateescape")
    likely = [line for line in text.splitlines() if f" {point} " in line or "\\" in line]  # to read all takes longer
    found = [m for m in map(parse_line, likely) if m is not None and m.point == point]
    return found[-1] if found else None


async def claim_wrong(mount: MountPoint, ours: Claim) -> str:
    """Is the storage claimed for this grant? Asked in a thread: reading from it may take for ever."""
    directory = f"/proc/{hostmounts.owner()}/root{os.path.normpath(mount.directory)}"
    answer = await verify.ask(f"claim {mount.directory}", lambda: _claim_wrong(directory, ours))
    return "the claim on the storage cannot be read: no answer in time" if answer is None else answer


def _claim_wrong(directory: str, ours: Claim) -> str:
    try:
        found = claims.load(directory)
    except (OSError, ClaimError) as error:
        return f"the claim on the storage cannot be read: {error}"
    if found == ours:
        return ""
    if found is None:
        return "the storage is not claimed"
    return f"the storage is claimed for {found.group} by {found.node} under epoch {found.epoch}"
