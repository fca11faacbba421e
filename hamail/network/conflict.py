"""Does somebody else answer for an address? Asked before the address is added, within a few tens of milliseconds."""

import select
import socket
import time
from collections.abc import Sequence

from hamail.network.addresses import Address, Link, NetworkError
from hamail.network.frames import ETH_ARP, ETH_IPV6, Claim, arp_probe, read_claim, solicitation_probe

PROBES = 3
PROBE_GAP_MS = 20
FRAME_BYTES = 2048
FRAMES_READ_MAX = 2000  # a storm must not keep us here


def find_conflict(addresses: Sequence[Address], link: Link, wait_ms: int) -> Claim | None:
    """The first foreign claim for one of `addresses` heard within `wait_ms`, or None. 0 ms: do not ask.

    Sends up to three probes per address, 20 ms apart. A machine that is really there answers in well under a
    millisecond on a LAN; one that was fenced answers never, so the wait is kept short.
    Raises NetworkError when the wire cannot be asked: then nothing is known.
    """
    if wait_ms <= 0 or not link.ethernet or not link.carrier:
        return None
    try:
        with _listen(link, ETH_ARP) as arp_wire, _listen(link, ETH_IPV6) as ipv6_wire:
            return _ask(addresses, link, (arp_wire, ipv6_wire), wait_ms)
    except OSError as error:
        raise NetworkError(f"cannot probe for address conflicts on {link.name}: {error}") from error


def _listen(link: Link, protocol: int) -> socket.socket:
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    try:
        wire.bind((link.name, protocol))
        wire.setblocking(False)
    except OSError:
        wire.close()
        raise
    return wire


def _ask(
    addresses: Sequence[Address], link: Link, wires: tuple[socket.socket, socket.socket], wait_ms: int
) -> Claim | None:
    began_s = _now_s()
    end_s = began_s + wait_ms / 1000
    wanted = {address.ip for address in addresses}
    sent = 0
    budget = FRAMES_READ_MAX
    while True:
        due_s = began_s + sent * PROBE_GAP_MS / 1000
        if sent < PROBES and _now_s() >= due_s:
            _send(addresses, link, wires)
            sent += 1
            continue
        now_s = _now_s()
        if now_s >= end_s:
            return None
        next_s = min(end_s, due_s) if sent < PROBES else end_s
        ready, _, _ = select.select(wires, [], [], max(0.0, next_s - now_s))
        for wire in ready:
            budget -= 1
            claim = read_claim(wire.recv(FRAME_BYTES))
            if claim is not None and claim.ip in wanted and claim.mac != link.mac:
                return claim
        if budget <= 0:
            return None


def _send(addresses: Sequence[Address], link: Link, wires: tuple[socket.socket, socket.socket]) -> None:
    arp_wire, ipv6_wire = wires
    for address in addresses:
        if address.version == 4:
            arp_wire.send(arp_probe(address.ip, link.mac))
        else:
            ipv6_wire.send(solicitation_probe(address.ip, link.mac))


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def format_mac(mac: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in mac)
