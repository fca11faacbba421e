"""Frames on the executor's socket, both directions."""

import asyncio
from random import Random

from hamail.executor.wire import WireError, encode, read_notice, read_request
from hamail.model.actions import AnyNotice, AnyRequest
from tests.fuzz.structs import sample

INSTRUMENT = ("hamail.executor.wire",)
_loop = asyncio.new_event_loop()


def seeds() -> list[bytes]:
    rng = Random(6)
    requests = [b"r" + encode(sample(AnyRequest, rng)) for _ in range(40)]
    notices = [b"n" + encode(sample(AnyNotice, rng)) for _ in range(40)]
    return [*requests, *notices, b"r\x00\x00\x00\x00", b"r\xff\xff\xff\xff"]


def one(data: bytes) -> None:
    read = read_notice if data[:1] == b"n" else read_request
    reader = asyncio.StreamReader(loop=_loop)
    reader.feed_data(data[1:])
    reader.feed_eof()
    try:
        while (message := _now(read(reader))) is not None:
            again = asyncio.StreamReader(loop=_loop)
            again.feed_data(encode(message))
            assert _now(read(again)) == message
    except WireError:
        pass


def _now(step):
    """Run a coroutine that has nothing to wait for: all bytes are there."""
    try:
        step.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits although the stream has ended")
