"""Frames on the unix socket between hamaild and the executor: 4-byte big-endian length, then msgpack of one struct."""

import asyncio
from typing import Any

import msgspec

from hamail.model.actions import AnyNotice, AnyRequest
from hamail.model.fingerprint import fingerprint

PROTOCOL = fingerprint(AnyRequest, AnyNotice)  # another one: hamaild and executor do not understand each other
MAX_FRAME_BYTES = 1 << 20
_LENGTH_BYTES = 4

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[AnyRequest] = msgspec.msgpack.Decoder(AnyRequest)
_notices: msgspec.msgpack.Decoder[AnyNotice] = msgspec.msgpack.Decoder(AnyNotice)


class WireError(Exception):
    """The peer sent what is no frame or no message of the closed set; the connection is of no more use."""


def encode(message: Any) -> bytes:
    """One frame. Raises WireError when the message is larger than the cap: then surely nothing was sent."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise WireError(f"a message of {len(body)} bytes is over the cap of {MAX_FRAME_BYTES}")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def read_request(reader: asyncio.StreamReader) -> AnyRequest | None:
    """The next request; None at a clean end. Raises WireError."""
    body = await _read_frame(reader)
    return None if body is None else _decode(_requests, body)


async def read_notice(reader: asyncio.StreamReader) -> AnyNotice | None:
    """The next notice; None at a clean end. Raises WireError."""
    body = await _read_frame(reader)
    return None if body is None else _decode(_notices, body)


async def _read_frame(reader: asyncio.StreamReader) -> bytes | None:
    try:
        head = await reader.readexactly(_LENGTH_BYTES)
        length = int.from_bytes(head, "big")
        if not 0 < length <= MAX_FRAME_BYTES:
            raise WireError(f"a frame of {length} bytes is outside 1..{MAX_FRAME_BYTES}")
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise WireError("the connection ended within a frame") from error
        return None


def _decode(decoder: Any, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a known message: {error}") from error
