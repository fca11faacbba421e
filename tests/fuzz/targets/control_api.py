"""The control API: any bytes on a connection to the real server. It answers in HTTP, never with an internal error, acts
for root only, and answers the next client as before.
"""

import asyncio
import json
import logging
import re
import socket
import sys
from pathlib import Path

import structlog

from hamail.control import actions, server
from hamail.control.peer import Peer

sys.path.append(str(Path(__file__).parents[2] / "unit"))
from control_fake import FakeBackend

INSTRUMENT = ("hamail.control",)
LENGTH_MAX = 6000
TURNS_MAX = 60  # of the loop, until a request has been answered; what waits longer is hung up on
structlog.configure(processors=[lambda *_: ""], logger_factory=structlog.ReturnLoggerFactory())
logging.getLogger("aiohttp").setLevel(logging.CRITICAL + 1)
ROOT, LOOKER, STRANGER = (Peer(pid=1, uid=u, gids=frozenset({g})) for u, g in ((0, 0), (1000, 7), (1001, 8)))
LOOKERS_GID = 7
_STATUS = re.compile(rb"HTTP/[0-9]\.[0-9] (\d{3}) ")


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closed = False

    def write(self, data) -> None:
        self.sent += data

    def writelines(self, parts) -> None:
        for part in parts:
            self.sent += part

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def get_extra_info(self, name, default=None):
        return _socket if name == "socket" else default

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading

    def set_write_buffer_limits(self, high=None, low=None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


_socket = socket.socket(socket.AF_UNIX)
_loop = asyncio.new_event_loop()
_who = [ROOT]
actions.peer_behind = server.peer_behind = lambda _request: _who[0]


class _Backend(FakeBackend):
    """Orders are carried out at once, or their outcome stays unknown."""

    async def submit(self, command):
        self.submitted.append(command)
        return actions.commands.Unknown(why="nobody knows")


async def _start():
    """The real application and protocol of a server that listens nowhere."""
    backend = _Backend()
    control = server.ControlServer(backend, Path("/nowhere"), LOOKERS_GID)
    control._gid = LOOKERS_GID
    control._runner = server.web.AppRunner(control._app, access_log=None, handler_cancellation=True)
    await control._runner.setup()
    return backend, control


_backend, _control = _loop.run_until_complete(_start())


async def _at_once(function, *arguments):
    return function(*arguments)


actions.asyncio.to_thread = _at_once


def seeds() -> list[bytes]:
    looks = [
        "status", "state", "events?after=3&wait_ms=1", "events?after=-1", "history", "history/17", "why/mail", "config",
        "timings", "metrics", "active/mail", "why/%00", "history/" + "9" * 4400, "events?after=" + "9" * 44, "no",
    ]  # fmt: skip
    orders = {
        "moves": {"group": "mail", "to": "n2", "reason": "r", "request": "ctl-12345678"},
        "moves/check": {"group": "mail", "to": None},
        "standby": {"node": "n1", "standby": True, "force": True},
        "maintenance": {"on": True, "reason": "\ud800"},
        "clear": {"group": "mail"},
        "fence": {"node": "n1"},
        "fence/confirm": {"node": "n1", "typed": "n1"},
        "config": {"source": "[cluster]", "expected_revision": 3},
        "config/check": {"source": "x"},
        "failover": {"group": "mail", "to": "n2", "force": True},
        "restart": {"group": "mail", "resource": "postfix"},
        "scheduled": {"group": "mail", "to": None, "in_ms": 2**62, "at_ms": 0},
        "cancel": {"order": 2**62},
    }
    found = [b"GET /v1/" + path.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n" for path in looks]
    for path, body in orders.items():
        raw = json.dumps(body).encode()
        head = (
            f"POST /v1/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\nX-Request-Id: ctl-12345678\r\n\r\n"
        )
        found.append(head.encode() + raw)
    chunked = (
        b'POST /v1/clear HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"group":"mail"}\r\n0\r\n\r\n'
    )
    odd = b"POST /v1/clear HTTP/1.1\r\nX-Request-Id: \xff\xfe345678\r\nContent-Length: 16\r\n\r\n" + b'{"group":"mail"}'
    found += [odd, chunked, b"GET / HTTP/0.9\r\n\r\n", b"\x16\x03\x01" + b"x" * 40, found[0] + found[1]]
    return [who + x for x in found for who in (b"r", b"l")] + [b"s" + found[0]]


def one(data: bytes) -> None:
    peer = _who[0] = {b"l": LOOKER, b"s": STRANGER}.get(data[:1], ROOT)
    _backend.submitted.clear()
    answers = _talk(data[1:])
    if peer is not ROOT:
        assert not _backend.submitted, f"somebody who may only look has ordered {_backend.submitted}"
    assert len(_backend.submitted) <= data.count(b"POST"), "more orders than were given"
    assert b"internal error" not in answers and b"HTTP/1.1 500 " not in answers, answers[:400]
    assert not answers or _STATUS.match(answers), answers[:100]
    _who[0] = LOOKER
    healthy = _talk(b"GET /v1/active/mail HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert _STATUS.match(healthy) and _STATUS.match(healthy)[1] == b"200", (
        f"it does not answer any more: {healthy[:200]!r}"
    )


def _talk(data: bytes) -> bytes:
    return _loop.run_until_complete(_connection(data))


async def _connection(data: bytes) -> bytes:
    transport = _Transport()
    protocol = _control._protocol()
    protocol.connection_made(transport)
    protocol.data_received(data)
    quiet = 0
    for _ in range(TURNS_MAX):
        length = len(transport.sent)
        await asyncio.sleep(0)
        quiet = quiet + 1 if len(transport.sent) == length else 0
        if transport.closed or (transport.sent and quiet > 6) or quiet > 30:
            break
    protocol.connection_lost(None)
    for _ in range(6):
        await asyncio.sleep(0)
    for task in list(_backend.tasks):
        task.cancel()
    return bytes(transport.sent)
