"""Kernel side of a link: non-blocking TCP sockets, tuned so that a dead path shows itself within seconds."""

import contextlib
import ipaddress
import os
import socket
import struct

UNACKED_MAX_MS = 1500  # bytes unacknowledged for this long: the path is dead
KEEPALIVE_IDLE_S = 1
KEEPALIVE_INTERVAL_S = 1
KEEPALIVE_PROBES = 3
BACKLOG = 128

# struct tcp_info (linux/tcp.h), stable since 4.6: tcpi_retransmits, tcpi_unacked, tcpi_bytes_acked, tcpi_notsent_bytes
_TCP_INFO_BYTES = 148
_RETRANSMITS = struct.Struct("2xB")
_UNACKED = struct.Struct("24xI")
_BYTES_ACKED = struct.Struct("120xQ")
_NOT_SENT = struct.Struct("144xI")

Address = tuple[str, int]


def family(host: str) -> socket.AddressFamily:
    """Raises ValueError unless `host` is a numeric address: names would make a link wait for a resolver."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError as error:
        raise ValueError(f"{host!r} is not a numeric IP address") from error
    return socket.AF_INET if version == 4 else socket.AF_INET6


def listen(address: Address) -> socket.socket:
    """Raises OSError that names the address."""
    host, port = address
    listener = socket.socket(family(host), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}") from error
    return listener


def begin_connect(address: Address, source: str | None) -> socket.socket:
    """A socket that is connecting; `outcome` tells how that ended once it is writable. Raises OSError."""
    connecting = socket.socket(family(address[0]), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        tune(connecting)
        if source is not None:
            # Peers know us by our configured address; a floating IP must not become the source by chance.
            connecting.bind((source, 0))
        with contextlib.suppress(BlockingIOError):  # in progress
            connecting.connect(address)
    except OSError:
        connecting.close()
        raise
    return connecting


def outcome(connecting: socket.socket) -> str:
    """Empty when connected, else why not."""
    failure = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return os.strerror(failure) if failure else ""


def tune(link: socket.socket) -> None:
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKED_MAX_MS)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


class Progress:
    """Whether the other machine acknowledges what we send on one socket."""

    def __init__(self, link: socket.socket, now_ns: int) -> None:
        self._link = link
        self._acked = 0
        self._moved_at_ns = now_ns

    def stalled_ms(self, now_ns: int) -> int:
        """For how long something has waited without any acknowledgement; 0 when nothing waits."""
        info = self._link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        (acked,) = _BYTES_ACKED.unpack_from(info)
        waiting = _UNACKED.unpack_from(info)[0] or _NOT_SENT.unpack_from(info)[0]
        if acked != self._acked or not waiting:
            self._acked = acked
            self._moved_at_ns = now_ns
        return (now_ns - self._moved_at_ns) // 1_000_000

    def retransmitting(self) -> bool:
        info = self._link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        return bool(_RETRANSMITS.unpack_from(info)[0])
