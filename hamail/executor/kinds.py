"""What a resource is, as far as the executor must know for itself: an address, a storage, or a service."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from hamail.model.spec import GroupSpec, ResourceSpec

_ADDRESS_TYPES = frozenset({"vip", "ipaddr", "ipaddr2"})
_STORAGE_TYPES = frozenset({"filesystem", "lvm-activate", "lvm", "zfs", "drbd", "iscsi", "mdraid", "rbd"})
_ADDRESS_KEYS = ("address", "ip")


class Kind(StrEnum):
    ADDRESS = "address"
    STORAGE = "storage"
    SERVICE = "service"


@dataclass(frozen=True)
class MountPoint:
    device: str
    directory: str


def short_name(agent: str) -> str:
    """ "provider:type", also where the standard was named as in "ocf:provider:type"."""
    return agent.removeprefix("ocf:")


def is_own(agent: str) -> bool:
    """One of hamail's own agents, whose answers are trusted further than those of others."""
    return short_name(agent).startswith("hamail:")


def kind_of(spec: ResourceSpec) -> Kind:
    kind = spec.agent.rpartition(":")[2].lower()
    if kind in _ADDRESS_TYPES:
        return Kind.ADDRESS
    return Kind.STORAGE if kind in _STORAGE_TYPES else Kind.SERVICE


def addresses_of(spec: ResourceSpec) -> frozenset[str]:
    """The IPs that an address resource brings up, in canonical form; empty for what is no address resource."""
    if kind_of(spec) is not Kind.ADDRESS:
        return frozenset()
    words = " ".join(spec.parameters.get(key, "") for key in _ADDRESS_KEYS).replace(",", " ").split()
    found = set()
    for word in words:
        try:
            found.add(str(ipaddress.ip_address(word.partition("/")[0])))
        except ValueError:
            continue  # the agent's own validation tells the operator
    return frozenset(found)


def mount_of(spec: ResourceSpec) -> MountPoint | None:
    """Where a filesystem resource mounts what; None for what mounts nothing."""
    directory = spec.parameters.get("directory", "")
    if kind_of(spec) is not Kind.STORAGE or not directory:
        return None
    return MountPoint(spec.parameters.get("device", ""), directory)


def addresses_of_group(group: GroupSpec) -> frozenset[str]:
    return frozenset().union(*(addresses_of(r) for r in group.resources))
