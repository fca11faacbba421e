"""hamailctl against something on the socket that is no hamaild, or a broken one: any answer becomes a sentence."""

import socket

from hamail.control import client as module
from hamail.control.client import ControlClient, ControlError

INSTRUMENT = ("hamail.control.client",)
LENGTH_MAX = 4096
CALLS = (
    lambda c: c.status(),
    lambda c: c.state(),
    lambda c: c.events(3, 10),
    lambda c: c.history(),
    lambda c: c.why("mail"),
    lambda c: c.metrics(),
    lambda c: c.check_move("mail"),
    lambda c: c.request_move("mail", "n2", request="ctl-12345678"),
    lambda c: c.config(),
    lambda c: c.timings(),
)


class _Connection(module._UnixConnection):
    """The answer is there before the question."""

    answer = b""

    def connect(self) -> None:
        self.sock, far = socket.socketpair()
        self.sock.settimeout(1.0)
        far.setblocking(False)
        try:
            far.send(self.answer)
            far.shutdown(socket.SHUT_WR)
            self.far = far
        except OSError:
            far.close()

    def close(self) -> None:
        super().close()
        if getattr(self, "far", None) is not None:
            self.far.close()


module._UnixConnection = _Connection


def seeds() -> list[bytes]:
    bodies = [
        b'{"schema":1,"config":{"revision":1,"index":1,"applied_at_ms":1,"actor":"","reason":"","source":""}}',
        b'{"schema":1,"events":[],"next":3,"complete":true}',
        b'{"schema":1,"moves":[]}',
        b'{"schema":1,"group":"mail","sentences":["a"]}',
        b'{"code":"refused","error":"no","reasons":["a"],"request":"x","schema":1}',
        b"hamail_active 1\n\xff",
        b"[" * 1100,
        b'{"code":"\xff"}',
    ]
    found = []
    for status in (b"200 OK", b"409 Conflict", b"500 x"):
        for body in bodies:
            head = b"HTTP/1.1 " + status + b"\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n"
            found.append(head + body)
    found += [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n", b"", b"SSH-2.0-x\r\n"]
    found += [b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc", b"HTTP/1.1 99999999999 OK\r\n\r\n"]
    return [bytes([i % len(CALLS)]) + x for i, x in enumerate(found * 3)]


def one(data: bytes) -> None:
    _Connection.answer = data[1:]
    client = ControlClient("/nowhere", timeout_ms=1000)
    try:
        CALLS[data[0] % len(CALLS) if data else 0](client)
    except ControlError as error:
        assert error.error
        assert error.error.strip()
