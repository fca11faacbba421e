"""Ethernet frames by which a machine claims an address, or asks who has it (RFC 826, 4861, 5227). Pure."""

import ipaddress
import struct
from dataclasses import dataclass

BROADCAST = b"\xff" * 6
ETH_ARP = 0x0806
ETH_IPV6 = 0x86DD
ARP_REQUEST = 1
ARP_REPLY = 2
ICMPV6 = 58
NEIGHBOUR_SOLICITATION = 135
NEIGHBOUR_ADVERTISEMENT = 136
OVERRIDE = 0x20000000
TARGET_LINK_ADDRESS = 2
HOP_LIMIT = 255  # receivers drop neighbour messages with any other: they came through a router
ALL_NODES = ipaddress.IPv6Address("ff02::1")
ALL_NODES_MAC = b"\x33\x33\x00\x00\x00\x01"
UNSPECIFIED = ipaddress.IPv6Address("::")
ARP_FORMAT = "!HHBBH6s4s6s4s"
ARP_START = 14
IPV6_START = 14
ICMP_START = IPV6_START + 40


def arp(operation: int, mac: bytes, sender: bytes, target_mac: bytes, target: bytes) -> bytes:
    body = struct.pack(ARP_FORMAT, 1, 0x0800, 6, 4, operation, mac, sender, target_mac, target)
    return (BROADCAST + mac + struct.pack("!H", ETH_ARP) + body).ljust(60, b"\0")


def gratuitous_arp(address: ipaddress.IPv4Address, mac: bytes) -> tuple[bytes, bytes]:
    """Request and reply: some stacks heed only the one, some only the other."""
    ip = address.packed
    return arp(ARP_REQUEST, mac, ip, b"\0" * 6, ip), arp(ARP_REPLY, mac, ip, BROADCAST, ip)


def arp_probe(address: ipaddress.IPv4Address, mac: bytes) -> bytes:
    """Who has it? The sender address is empty, so that nobody's table is changed by asking."""
    return arp(ARP_REQUEST, mac, b"\0" * 4, b"\0" * 6, address.packed)


def unsolicited_advertisement(address: ipaddress.IPv6Address, mac: bytes) -> bytes:
    body = struct.pack("!I", OVERRIDE) + address.packed + bytes((TARGET_LINK_ADDRESS, 1)) + mac
    return _icmp6(mac, ALL_NODES_MAC, address, ALL_NODES, NEIGHBOUR_ADVERTISEMENT, body)


def solicitation_probe(address: ipaddress.IPv6Address, mac: bytes) -> bytes:
    """Duplicate address detection's question: from nobody, so the owner answers to all nodes."""
    group = ipaddress.IPv6Address(b"\xff\x02" + b"\0" * 9 + b"\x01\xff" + address.packed[-3:])
    group_mac = b"\x33\x33" + group.packed[-4:]
    body = struct.pack("!I", 0) + address.packed
    return _icmp6(mac, group_mac, UNSPECIFIED, group, NEIGHBOUR_SOLICITATION, body)


def _icmp6(
    mac: bytes, to_mac: bytes, source: ipaddress.IPv6Address, to: ipaddress.IPv6Address, kind: int, body: bytes
) -> bytes:
    message = struct.pack("!BBH", kind, 0, 0) + body
    pseudo = source.packed + to.packed + struct.pack("!I3xB", len(message), ICMPV6)
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    header = struct.pack("!IHBB", 0x60000000, len(message), ICMPV6, HOP_LIMIT) + source.packed + to.packed
    return to_mac + mac + struct.pack("!H", ETH_IPV6) + header + message


def checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True)
class Claim:
    """Somebody on the wire says: this address is at my MAC."""

    ip: ipaddress.IPv4Address | ipaddress.IPv6Address
    mac: bytes


def read_claim(frame: bytes) -> Claim | None:
    """The claim a frame makes, or None. Foreign and malformed frames are no claims.

    Probes of others (empty sender) are ignored: switches that track devices send them too, so they prove nothing.
    """
    if len(frame) < ARP_START:
        return None
    kind = int.from_bytes(frame[12:14], "big")
    if kind == ETH_ARP:
        return _arp_claim(frame)
    if kind == ETH_IPV6:
        return _advertisement_claim(frame)
    return None


def _arp_claim(frame: bytes) -> Claim | None:
    size = struct.calcsize(ARP_FORMAT)
    if len(frame) < ARP_START + size:
        return None
    hardware, protocol, mac_size, ip_size, _, mac, ip, _, _ = struct.unpack_from(ARP_FORMAT, frame, ARP_START)
    if (hardware, protocol, mac_size, ip_size) != (1, 0x0800, 6, 4) or ip == b"\0" * 4:
        return None
    return Claim(ipaddress.IPv4Address(ip), mac)


def _advertisement_claim(frame: bytes) -> Claim | None:
    if len(frame) < ICMP_START + 24 or frame[IPV6_START + 6] != ICMPV6 or frame[IPV6_START + 7] != HOP_LIMIT:
        return None
    if frame[ICMP_START] != NEIGHBOUR_ADVERTISEMENT:
        return None
    target = ipaddress.IPv6Address(frame[ICMP_START + 8 : ICMP_START + 24])
    option = frame[ICMP_START + 24 : ICMP_START + 32]
    stated = len(option) == 8 and option[0] == TARGET_LINK_ADDRESS
    return Claim(target, option[2:8] if stated else frame[6:12])
