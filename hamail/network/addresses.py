"""Addresses of this machine over netlink: look, add, remove. Addresses and prefixes are compared exactly."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

Address: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface

IFA_F_NODAD = 0x02
IFA_F_DADFAILED = 0x08
IFA_F_TENTATIVE = 0x40
IFF_UP = 0x1
IFF_LOWER_UP = 0x10000
ARPHRD_ETHER = 1
ABSENT_ERRNOS = frozenset({3, 19, 99})  # ESRCH, ENODEV, EADDRNOTAVAIL
EXISTS_ERRNO = 17
ADDRESSES_PER_VIP = 16


class NetworkError(OSError):
    """The kernel refused; surely not done."""


@dataclass(frozen=True)
class Link:
    index: int
    name: str
    mac: bytes
    up: bool
    carrier: bool
    ethernet: bool  # False: nobody to announce to (loopback, tunnels)


@dataclass(frozen=True)
class Present:
    """An address as the kernel has it."""

    address: Address
    index: int
    flags: int

    @property
    def tentative(self) -> bool:
        return bool(self.flags & IFA_F_TENTATIVE)

    @property
    def dad_failed(self) -> bool:
        return bool(self.flags & IFA_F_DADFAILED)


def parse_addresses(text: str) -> tuple[Address, ...]:
    """ "10.0.0.100/24 fd00::100/64" -> addresses. Raises ValueError with the word that is wrong and why."""
    found: list[Address] = []
    for word in text.split():
        if "/" not in word:
            raise ValueError(f"{word!r} has no prefix length; write it as in 10.0.0.100/24")
        try:
            address = ipaddress.ip_interface(word)
        except ValueError as error:
            raise ValueError(f"{word!r} is not an address: {error}") from None
        if address.ip.is_multicast or address.ip.is_unspecified:
            raise ValueError(f"{word!r} cannot be owned by one machine")
        if any(address.ip == other.ip for other in found):
            raise ValueError(f"{word!r} is given twice")
        found.append(address)
    if not found:
        raise ValueError("no address is given")
    if len(found) > ADDRESSES_PER_VIP:
        raise ValueError(f"more than {ADDRESSES_PER_VIP} addresses")
    return tuple(found)


class Netlink:
    """One conversation with the kernel. Use as `with opened() as netlink`."""

    def __init__(self, route: Any) -> None:
        self._route = route

    def link(self, name: str) -> Link | None:
        # /sys would be that of the wrong network namespace in some containers, so ask netlink
        try:
            found = list(self._route.get_links(ifname=name))
        except NetlinkError as error:
            if error.code in ABSENT_ERRNOS:
                return None
            raise NetworkError(f"cannot look up interface {name}: {error}") from error
        if not found:
            return None
        message = found[0]
        mac = bytes.fromhex((message.get_attr("IFLA_ADDRESS") or "").replace(":", ""))
        flags = message["flags"]
        kind = message["ifi_type"]
        return Link(
            index=message["index"],
            name=name,
            mac=mac,
            up=bool(flags & IFF_UP),
            carrier=bool(flags & IFF_LOWER_UP),
            ethernet=kind == ARPHRD_ETHER and len(mac) == 6,
        )

    def addresses(self, index: int | None = None) -> list[Present]:
        """All addresses, or those of one interface."""
        found = []
        for message in self._route.get_addr():
            if index is not None and message["index"] != index:
                continue
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if text is None:
                continue
            address = ipaddress.ip_interface(f"{text}/{message['prefixlen']}")
            flags = message.get_attr("IFA_FLAGS")
            found.append(Present(address, message["index"], message["flags"] if flags is None else flags))
        return found

    def find(self, address: Address) -> list[Present]:
        """Every appearance of this IP on this machine, whatever the interface or prefix."""
        return [p for p in self.addresses() if p.address.ip == address.ip]

    def add(self, address: Address, link: Link) -> None:
        """Add it (present already: fine). IPv6 without duplicate detection: we have asked before, and fast."""
        options: dict[str, Any] = {"family": _family(address), "index": link.index}
        if address.version == 6:
            # IFA_FLAGS is the 32-bit field; NODAD makes the address usable at once
            options["IFA_FLAGS"] = IFA_F_NODAD
        elif address.network.prefixlen < 31:
            options["broadcast"] = str(address.network.broadcast_address)
        try:
            self._route.addr("add", address=str(address.ip), prefixlen=address.network.prefixlen, **options)
        except NetlinkError as error:
            if error.code != EXISTS_ERRNO:
                raise NetworkError(f"cannot add {address} to {link.name}: {error}") from error

    def remove(self, address: Address, index: int) -> None:
        """Remove exactly this address and prefix; absent is fine."""
        try:
            self._route.addr(
                "del",
                index=index,
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
                family=_family(address),
            )
        except NetlinkError as error:
            if error.code not in ABSENT_ERRNOS:
                raise NetworkError(f"cannot remove {address}: {error}") from error


@contextmanager
def opened() -> Iterator[Netlink]:
    route = IPRoute()
    try:
        yield Netlink(route)
    finally:
        route.close()


def ipv6_disabled(interface: str) -> bool:
    """True when the kernel would refuse any IPv6 address on this interface."""
    try:
        return Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").read_text().strip() == "1"
    except OSError:
        return False


def _family(address: Address) -> int:
    return int(socket.AF_INET if address.version == 4 else socket.AF_INET6)
