"""Does somebody else answer for an address? Asked before the address is added, within a few tens of milliseconds."""

import ipaddress
import time
from collections.abc import Sequence

from hamail.network.addresses import Address
from hamail.network.frames import Claim, arp_probe, read_claim, solicitation_probe
from hamail.network.wire import Wire

PROBES = 3
PROBE_GAP_MS = 20
FRAMES_READ_MAX = 2000  # a storm must not keep us here


def find_conflict(addresses: Sequence[Address], wire: Wire, wait_ms: int) -> Claim | None:
    """The first foreign claim for one of `addresses` heard within `wait_ms`, or None. 0 ms: do not ask.

    Sends up to three probes per address, 20 ms apart. A machine that is really there answers in well under a
    millisecond on a LAN; one that was fenced answers never, so the wait is kept short.
    Raises NetworkError when the wire cannot be asked: then nothing is known.
    """
    began_s = _now_s()
    end_s = began_s + wait_ms / 1000
    wanted = {address.ip for address in addresses}
    sent = heard = 0
    while heard < FRAMES_READ_MAX and _now_s() < end_s:
        due_s = began_s + sent * PROBE_GAP_MS / 1000
        if sent < PROBES and _now_s() >= due_s:
            for address in addresses:
                wire.send(probe(address, wire.link.mac))
            sent += 1
            continue
        until_s = min(end_s, due_s) if sent < PROBES else end_s
        for frame in wire.hear(until_s - _now_s()):
            heard += 1
            claim = read_claim(frame)
            if claim is not None and claim.ip in wanted and claim.mac != wire.link.mac:
                return claim
    return None


def probe(address: Address, mac: bytes) -> bytes:
    ip = address.ip
    return arp_probe(ip, mac) if isinstance(ip, ipaddress.IPv4Address) else solicitation_probe(ip, mac)


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def format_mac(mac: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in mac)
