"""The executor's socket server: it serves nobody who has not greeted, hands on only requests of the closed set, and
answers each of them; a broken frame ends the connection and nothing else.
"""

import asyncio
import logging
import socket
from pathlib import Path
from random import Random
from typing import get_args

from hamail.executor.server import Server
from hamail.executor.wire import MAX_FRAME_BYTES, encode
from hamail.model.actions import Accepted, AnyRequest, GroupDown, Hello, WatchdogStatus, Welcome
from hamail.model.state import Incarnation
from tests.fuzz.structs import sample

INSTRUMENT = ("hamail.executor.server", "hamail.executor.wire")
logging.getLogger("hamail").setLevel(logging.CRITICAL + 1)
_loop = asyncio.new_event_loop()
_ours, _theirs = socket.socketpair()  # the kernel says that we are on both ends
HELLO = encode(Hello(id=0, version="1"))


class _Executor:
    def __init__(self) -> None:
        self.handled: list[AnyRequest] = []

    def listen(self, _tell) -> None:
        pass

    def welcome(self) -> Welcome:
        life = Incarnation("boot", "executor")
        return Welcome(incarnation=life, groups={}, watchdog=WatchdogStatus(), clean=False)

    def handle(self, request: AnyRequest) -> str:
        self.handled.append(request)
        return "" if request.id % 2 else "not now"


class _Transport:
    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        pass


class _Writer:
    transport = _Transport()

    def __init__(self) -> None:
        self.sent = bytearray()
        self.closed = False

    def get_extra_info(self, _name: str) -> socket.socket:
        return _ours

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        assert not self.closed, "it talks on a closed connection"
        self.sent += data

    def close(self) -> None:
        self.closed = True


def seeds() -> list[bytes]:
    rng = Random(7)
    requests = [encode(sample(AnyRequest, rng)) for _ in range(40)]
    return [*(HELLO + r for r in requests), HELLO + b"".join(requests[:5]), HELLO, requests[0], HELLO + b"\xff" * 9]


def one(data: bytes) -> None:
    executor = _Executor()
    server = Server(executor, Path("/nowhere"))
    server.tell(GroupDown(group="mail", epoch=7, took_ms=1))
    _serve(server, data)
    assert all(isinstance(r, get_args(AnyRequest)) for r in executor.handled)
    if executor.handled:
        assert data[4 : 4 + int.from_bytes(data[:4], "big")].find(b"hello") >= 0, "it serves whoever has not greeted"
    executor.handled.clear()
    healthy = _serve(server, HELLO + encode(Hello(id=3, version="1")))
    assert [r.id for r in executor.handled] == [3], "it does not answer any more"
    assert bytes(healthy.sent).endswith(encode(Accepted(id=3)))


def _serve(server: Server, data: bytes) -> _Writer:
    reader, writer = asyncio.StreamReader(limit=MAX_FRAME_BYTES, loop=_loop), _Writer()
    reader.feed_data(data)
    reader.feed_eof()
    _loop.run_until_complete(server._connected(reader, writer))
    assert writer.closed
    return writer
