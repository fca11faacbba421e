"""Frames, claims, addresses and the schedule of announcements: pure."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hamail.network.addresses import parse_addresses
from hamail.network.announce import LATE_MS, REPEAT_AT_MS, claim_frames, repeat
from hamail.network.frames import (
    ALL_NODES_MAC,
    ARP_REPLY,
    ARP_REQUEST,
    BROADCAST,
    Claim,
    arp_probe,
    checksum,
    read_claim,
    solicitation_probe,
    unsolicited_advertisement,
)

MAC = bytes.fromhex("0200000000aa")
V4 = ipaddress.IPv4Interface("10.0.0.100/24")
V6 = ipaddress.IPv6Interface("fd00::100/64")


def test_ipv4_is_claimed_by_request_and_reply() -> None:
    frames = claim_frames(V4, MAC)
    assert [int.from_bytes(f[20:22]) for f in frames] == [ARP_REQUEST, ARP_REPLY]
    for frame in frames:
        assert frame[:6] == BROADCAST
        assert frame[28:32] == frame[38:42] == V4.ip.packed  # sender and target are the address itself
        assert read_claim(frame) == Claim(V4.ip, MAC)


def test_ipv6_is_claimed_with_override_to_all_nodes() -> None:
    (frame,) = claim_frames(V6, MAC)
    assert frame[:6] == ALL_NODES_MAC
    assert frame[21] == 255  # hop limit
    assert frame[54] == 136
    assert frame[58] == 0x20  # Override, neither Router nor Solicited
    assert read_claim(frame) == Claim(V6.ip, MAC)


@pytest.mark.parametrize("frame", [unsolicited_advertisement(V6.ip, MAC), solicitation_probe(V6.ip, MAC)])
def test_icmp_checksum_holds(frame: bytes) -> None:
    message = frame[54:]
    pseudo = frame[22:54] + len(message).to_bytes(4) + b"\0\0\0\x3a"
    assert checksum(pseudo + message) == 0


def test_asking_claims_nothing() -> None:
    assert read_claim(arp_probe(V4.ip, MAC)) is None
    assert read_claim(solicitation_probe(V6.ip, MAC)) is None


def test_routed_advertisement_is_no_claim() -> None:
    frame = bytearray(unsolicited_advertisement(V6.ip, MAC))
    frame[21] = 254
    assert read_claim(bytes(frame)) is None


@given(st.binary(max_size=120))
def test_garbage_never_raises(frame: bytes) -> None:
    read_claim(frame)
    read_claim(bytes(12) + b"\x08\x06" + frame)
    read_claim(bytes(12) + b"\x86\xdd" + frame)


def test_addresses_are_parsed_exactly() -> None:
    assert parse_addresses("10.0.0.100/24  fd00::100/64") == (V4, V6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.100", "no prefix length"),
        ("10.0.0.300/24", "is not an address"),
        ("10.0.0.1/33", "is not an address"),
        ("", "no address"),
        ("10.0.0.1/24 10.0.0.1/32", "twice"),
        ("224.0.0.1/24", "cannot be owned"),
    ],
)
def test_bad_addresses_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_addresses(text)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.pause = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds + self.pause


def test_announcements_are_repeated_above_the_neighbours_lock_time() -> None:
    clock = Clock()
    at = []
    assert repeat(lambda: at.append(round(clock.now - 100, 3)) or True, sleep=clock.sleep, now_s=lambda: clock.now) == 4
    assert at == [1.1, 2.2, 3.3, 4.4]


def test_a_paused_machine_does_not_announce_late() -> None:
    clock = Clock()
    clock.pause = LATE_MS / 1000 + 1
    assert repeat(lambda: pytest.fail("announced"), REPEAT_AT_MS, clock.sleep, lambda: clock.now) == 0


def test_announcing_ends_when_the_address_is_gone() -> None:
    clock = Clock()
    assert repeat(lambda: False, REPEAT_AT_MS, clock.sleep, lambda: clock.now) == 1
