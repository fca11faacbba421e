"""Tell the neighbours where an address lives now: at once, and again, because their tables ignore quick changes."""

import ipaddress
import time
from collections.abc import Callable, Sequence

from hamail.network.addresses import Address
from hamail.network.frames import gratuitous_arp, unsolicited_advertisement
from hamail.network.wire import Wire

# A Linux neighbour entry ignores changes for about a second after it was set (locktime), hence the 1.1 s steps.
REPEAT_AT_MS = (1100, 2200, 3300, 4400)
LATE_MS = 400  # later than this we were paused; the address may have gone elsewhere meanwhile


def claim_frames(address: Address, mac: bytes) -> tuple[bytes, ...]:
    if isinstance(address.ip, ipaddress.IPv4Address):
        return gratuitous_arp(address.ip, mac)
    return (unsolicited_advertisement(address.ip, mac),)


def announce(addresses: Sequence[Address], wire: Wire) -> None:
    """One round for all addresses: request and reply for IPv4, advertisement with Override for IPv6.

    Raises NetworkError when a frame could not be sent (the neighbours may or may not have heard others).
    """
    for address in addresses:
        for frame in claim_frames(address, wire.link.mac):
            wire.send(frame)


def repeat(
    send: Callable[[], bool],
    schedule_ms: Sequence[int] = REPEAT_AT_MS,
    sleep: Callable[[float], None] = time.sleep,
    now_s: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
) -> int:
    """Call `send` at each point of the schedule (from now) until it returns False; how often it was called.

    Gives up when it finds itself late: a machine that was paused must not claim an address that it may have lost.
    """
    began_s = now_s()
    for count, at_ms in enumerate(schedule_ms):
        rest_s = began_s + at_ms / 1000 - now_s()
        if rest_s > 0:
            sleep(rest_s)
        if now_s() - began_s > (at_ms + LATE_MS) / 1000:
            return count
        if not send():
            return count + 1
    return len(schedule_ms)
