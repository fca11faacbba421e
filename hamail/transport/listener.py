"""The listening side: takes connections in and keeps whoever has not proved a name within tight bounds."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from functools import partial

from msgspec import Struct

from hamail.transport.channel import Channel
from hamail.transport.quiet import QuietLog
from hamail.transport.sockets import Address, listen, tune

HANDSHAKE_MAX_NS = 3 * 1_000_000_000
UNPROVEN_MAX = 32  # connections that have not proved a name yet
UNPROVEN_PER_ADDRESS_MAX = 8
STRANGERS_PER_SECOND = 20  # from addresses that belong to no member; a handshake costs us a signature
ACCEPTS_PER_TURN = 16
ACCEPT_PAUSE_S = 0.1
ONE_SECOND_NS = 1_000_000_000
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class _Unproven(Struct, frozen=True):
    host: str
    deadline_ns: int


class Listener:
    """Hands each connection over to `on_ready(channel, host)` once its TLS handshake is done."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: Address,
        context: ssl.SSLContext,
        *,
        members: frozenset[str],
        on_ready: Callable[[Channel, str], None],
        now_ns: Callable[[], int],
        log: QuietLog,
    ) -> None:
        self._loop = loop
        self._address = address
        self._context = context
        self._members = members
        self._on_ready = on_ready
        self._now_ns = now_ns
        self._log = log
        self._unproven: dict[Channel, _Unproven] = {}  # oldest first
        self._socket: socket.socket | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._strangers_since_ns = 0
        self._strangers = 0

    def open(self) -> Address:
        """Raises OSError that names the address. Returns where it listens (the port may have been 0)."""
        self._socket = listen(self._address)
        self._loop.add_reader(self._socket.fileno(), self._accept)
        host, port = self._socket.getsockname()[:2]
        return host, port

    def use(self, context: ssl.SSLContext) -> None:
        """For connections from now on."""
        self._context = context

    def close(self) -> None:
        if self._resume is not None:
            self._resume.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        for channel in list(self._unproven):
            channel.close("stopping")

    def sweep(self, now_ns: int) -> None:
        """Close connections that have not finished their handshake in time."""
        for channel, unproven in list(self._unproven.items()):
            if now_ns >= unproven.deadline_ns:
                channel.close("handshake not finished in time")

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if self._socket is None:
                return
            try:
                connection, peer = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._pause(error)
                    return
                continue  # this connection died in the queue; the next one is none the worse
            self._take(connection, str(peer[0]))

    def _pause(self, error: OSError) -> None:
        """Out of descriptors: keep listening, make room, look again soon (the socket stays readable all the time)."""
        assert self._socket is not None
        self._log.warning(self._now_ns(), "cannot accept a connection, trying again", reason=error.strerror)
        self._loop.remove_reader(self._socket.fileno())
        self._resume = self._loop.call_later(ACCEPT_PAUSE_S, self._go_on)
        if self._unproven:
            next(iter(self._unproven)).close("room is needed for another connection")

    def _go_on(self) -> None:
        if self._socket is not None:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    def _take(self, connection: socket.socket, host: str) -> None:
        now_ns = self._now_ns()
        if host not in self._members and self._too_many_strangers(now_ns):
            connection.close()
            self._log.warning(now_ns, "connection refused", host=host, reason="too many connections from strangers")
            return
        self._make_room(host)
        try:
            connection.setblocking(False)
            tune(connection)
            channel = Channel(
                self._loop,
                connection,
                self._context,
                server=True,
                on_ready=partial(self._proven, host),
                on_closed=partial(self._gone, host),
            )
        except (OSError, ValueError) as error:
            connection.close()
            self._log.warning(now_ns, "connection refused", host=host, reason=str(error))
            return
        self._unproven[channel] = _Unproven(host, now_ns + HANDSHAKE_MAX_NS)
        channel.start()

    def _too_many_strangers(self, now_ns: int) -> bool:
        if now_ns - self._strangers_since_ns >= ONE_SECOND_NS:
            self._strangers_since_ns, self._strangers = now_ns, 0
        self._strangers += 1
        return self._strangers > STRANGERS_PER_SECOND

    def _make_room(self, host: str) -> None:
        """The oldest unproven one gives way: an honest handshake takes milliseconds, so it is never the oldest."""
        same = [channel for channel, unproven in self._unproven.items() if unproven.host == host]
        if len(same) >= UNPROVEN_PER_ADDRESS_MAX:
            same[0].close("too many unfinished handshakes from this address")
        elif len(self._unproven) >= UNPROVEN_MAX:
            next(iter(self._unproven)).close("too many unfinished handshakes")

    def _proven(self, host: str, channel: Channel) -> None:
        del self._unproven[channel]
        self._on_ready(channel, host)

    def _gone(self, host: str, channel: Channel, why: str) -> None:
        self._unproven.pop(channel, None)
        self._log.warning(self._now_ns(), "connection refused", host=host, reason=why)
