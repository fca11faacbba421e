"""Frames: what goes in comes out, and nothing else does."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hamail.model.messages import Heartbeat, LeaseRequest, Raft
from hamail.transport.frames import FRAME_BYTES_MAX, HEADER_BYTES, FrameError, FrameReader, encode

MESSAGES = [
    LeaseRequest(group="mail", epoch=7, nonce=9),
    Raft(payload=b"\0" * 40_000),
    Heartbeat(sequence=1, incarnation=None, silent_ms={"n2": 3}, applied=5, ready=True),
]


def taken(reader):
    found = []
    while (message := reader.take()) is not None:
        found.append(message)
    return found


@given(st.lists(st.integers(1, 50_000), max_size=8))
def test_frames_survive_any_cutting(cuts):
    stream = b"".join(encode(m) for m in MESSAGES)
    reader, found, at = FrameReader(), [], 0
    for cut in [*cuts, len(stream)]:
        reader.feed(stream[at : at + cut])
        found += taken(reader)
        at += cut
    assert found == MESSAGES and reader.unfinished == 0


@pytest.mark.parametrize("length", [FRAME_BYTES_MAX + 1, 2**31 - 1, 2**32 - 1])
def test_oversize_is_refused_before_anything_is_buffered(length):
    reader = FrameReader()
    reader.feed(length.to_bytes(HEADER_BYTES, "big"))
    with pytest.raises(FrameError, match=f"a frame of {length} bytes is over the limit"):
        reader.take()


def test_a_message_over_the_limit_is_not_encoded():
    with pytest.raises(FrameError, match="over the limit"):
        encode(Raft(payload=b"\0" * FRAME_BYTES_MAX))
    encode(Raft(payload=b"\0" * (FRAME_BYTES_MAX - 100)))


BODIES = {
    "empty": b"",
    "garbage": b"\xc1\xff\x00garbage",
    "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
    "unknown type": msgspec.msgpack.encode({"type": "launch", "group": "mail"}),
    "unknown field": msgspec.msgpack.encode({"type": "release_request", "group": "mail", "epoch": 1, "x": 1}),
    "missing field": msgspec.msgpack.encode({"type": "release_request", "group": "mail"}),
    "wrong type of a field": msgspec.msgpack.encode({"type": "release_request", "group": "mail", "epoch": "1"}),
    "two messages in one frame": encode(MESSAGES[0])[HEADER_BYTES:] * 2,
    "no map": msgspec.msgpack.encode([1, 2, 3]),
    "deep": b"\x91" * 100_000,
    "invalid utf-8": msgspec.msgpack.encode({"type": "release_request", "group": "mail", "epoch": 1}).replace(
        b"mail", b"\xff\xfe\xfd\xfc"
    ),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_what_is_no_message_is_refused(body):
    reader = FrameReader()
    reader.feed(len(body).to_bytes(HEADER_BYTES, "big") + body)
    with pytest.raises(FrameError, match="not a message"):
        reader.take()


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_any_bytes_give_messages_or_a_frame_error(data):
    reader = FrameReader()
    reader.feed(data)
    try:
        taken(reader)
    except FrameError:
        return
    assert reader.unfinished <= len(data)
