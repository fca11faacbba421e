"""Frames on a link: 4 bytes of length, big-endian, then one message as msgpack. Sans-I/O."""

import msgspec

from hamail.model.messages import AnyMessage

FRAME_BYTES_MAX = 1 << 20  # of the message; more is never buffered
HEADER_BYTES = 4

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


class FrameError(Exception):
    """What came is not a frame, or not one of our messages: nothing after it on this link can be trusted."""


def encode(message: AnyMessage) -> bytes:
    """Raises FrameError when the message is over the cap; nothing was sent then."""
    body = _encoder.encode(message)
    if len(body) > FRAME_BYTES_MAX:
        raise FrameError(f"a message of {len(body)} bytes is over the limit of {FRAME_BYTES_MAX}")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


class FrameReader:
    """Feed bytes as they come, then take messages until there is none."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def unfinished(self) -> int:
        """Bytes of a frame that has begun and is not complete; bounded by the cap plus one read."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take(self) -> AnyMessage | None:
        """The next message, or None when more bytes are needed. Raises FrameError."""
        buffer = self._buffer
        if len(buffer) < HEADER_BYTES:
            return None
        length = int.from_bytes(buffer[:HEADER_BYTES], "big")
        if length > FRAME_BYTES_MAX:
            raise FrameError(f"a frame of {length} bytes is over the limit of {FRAME_BYTES_MAX}")
        end = HEADER_BYTES + length
        if len(buffer) < end:
            return None
        body = bytes(buffer[HEADER_BYTES:end])
        del buffer[:end]
        try:
            return _decoder.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: text that is not UTF-8
            raise FrameError(f"not a message: {error!s:.200}") from error
