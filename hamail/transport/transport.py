"""Links between the hamaild processes of one cluster: mutual TLS 1.3, typed frames, identity = certificate.

What holds on every ordered pair of nodes: messages arrive in the order sent, none twice, and after a gap none from
before it. At most one connection lives; a newer one supersedes the older before anything of it is delivered. Each
node dials each other one and sends only on connections that it dialled.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from functools import partial

import structlog
from msgspec import Struct

from hamail.model.ids import NodeName
from hamail.model.messages import AnyMessage
from hamail.transport.certificates import (
    CertificateError,
    Certificates,
    Identity,
    client_context,
    identity,
    own_identity,
    revocation_of,
    server_context,
)
from hamail.transport.channel import Channel
from hamail.transport.dialer import REASON_BYTES_MAX, REFUSED, REPEAT_LOG_NS, WELCOME, Dialer
from hamail.transport.frames import FrameError, FrameReader, encode
from hamail.transport.links import LinkStatus
from hamail.transport.listener import Listener
from hamail.transport.quiet import QuietLog
from hamail.transport.sockets import Address, family

SWEEP_S = 0.2
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to  # nosec B104


class Fresh(Struct, frozen=True):
    """Certificates that were read again."""

    own: Identity
    server: ssl.SSLContext
    client: ssl.SSLContext


class _Incoming:
    """The live connection from one peer."""

    def __init__(self) -> None:
        self.channel: Channel | None = None
        self.reader = FrameReader()
        self.since_ns = 0
        self.received = 0
        self.last_heard_ns = 0
        self.found: Identity | None = None  # as its certificate said


class Transport:
    """All callbacks run in the event loop. `on_message` must not block; if it raises, the link is closed and the
    exception goes to the loop's exception handler. `on_link(peer, up, why)` tells when sending to a peer becomes
    possible and when it ends; it is never called from inside `send`.
    """

    def __init__(
        self,
        *,
        me: NodeName,
        cluster: str,
        peers: Mapping[NodeName, Address],
        bind: Address,
        certificates: Certificates,
        on_message: Callable[[NodeName, AnyMessage], None],
        on_link: Callable[[NodeName, bool, str], None],
        now_ns: Callable[[], int],
    ) -> None:
        """`peers` are the other members; `bind` is where we listen, and (unless a wildcard) what we dial from.

        Raises ValueError for an address that is not numeric.
        """
        for host, _ in (bind, *peers.values()):
            family(host)
        self._me = me
        self._cluster = cluster
        self._peers = {name: address for name, address in peers.items() if name != me}
        self._bind = bind
        self._certificates = certificates
        self._on_message = on_message
        self._on_link = on_link
        self._now_ns = now_ns
        self._log = structlog.get_logger("hamail.transport")
        self._strangers_log = QuietLog()
        self._members_log = QuietLog()  # apart, so that strangers cannot drown what members do
        self._dialers: dict[NodeName, Dialer] = {}
        self._below: dict[NodeName, int] = {}  # whose certificates count from which number on
        self._revoked_logged_ns: dict[NodeName, int] = {}
        self._incoming = {name: _Incoming() for name in self._peers}
        self._listener: Listener | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.address = bind

    async def start(self) -> Identity:
        """Listen and begin to dial. Returns what our own certificate says.

        Raises CertificateError or OSError, with the file or address and the reason; nothing is running then.
        """
        own = self._own()
        self._loop = loop = asyncio.get_running_loop()
        listener = Listener(
            loop,
            self._bind,
            server_context(self._certificates),
            members=frozenset(host for host, _ in self._peers.values()),
            on_ready=self._admit,
            now_ns=self._now_ns,
            log=self._strangers_log,
        )
        self.address = listener.open()
        self._listener = listener
        context = client_context(self._certificates)
        for name, address in self._peers.items():
            self._dialers[name] = Dialer(
                loop,
                name,
                address,
                context,
                cluster=self._cluster,
                source=None if self._bind[0] in _WILDCARDS else self._bind[0],
                revoked=self._revoked,
                on_link=self._link_changed,
                now_ns=self._now_ns,
                log=self._members_log,
            )
        for dialer in self._dialers.values():
            dialer.start()
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)
        return own

    def _own(self) -> Identity:
        own = own_identity(self._certificates)
        if (own.cluster, own.node) != (self._cluster, self._me):
            raise CertificateError(
                f"{self._certificates.certificate}: is for node {own.node} of cluster {own.cluster}, "
                f"but this is node {self._me} of cluster {self._cluster}"
            )
        return own

    def read_again(self) -> Fresh:
        """The certificates as the files have them now, proved to work. May run in a thread. Raises CertificateError."""
        return Fresh(self._own(), server_context(self._certificates), client_context(self._certificates))

    def use(self, fresh: Fresh) -> None:
        """From now on with these. No link is dropped: each goes on until one made with the new ones takes over."""
        if self._listener is None:
            return
        self._listener.use(fresh.server)
        for dialer in self._dialers.values():
            dialer.use(fresh.client)

    def revoke(self, below: Mapping[NodeName, int]) -> None:
        """From now on a node's certificate with a lower number is nothing: its links end here and are not made anew."""
        self._below = dict(below)
        for dialer in self._dialers.values():
            dialer.look_again()
        for name, incoming in self._incoming.items():
            if incoming.channel is not None and incoming.found is not None and self._revoked(incoming.found):
                incoming.channel.close(revocation_of(name))

    def _revoked(self, found: Identity) -> bool:
        return found.number < self._below.get(found.node, 0)

    async def stop(self) -> None:
        """Close everything. What the kernel has taken is still sent; no callback is called any more."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._loop = None
        for dialer in self._dialers.values():
            dialer.stop()
        if self._listener is not None:
            self._listener.close()
        for incoming in self._incoming.values():
            if incoming.channel is not None:
                incoming.channel.close("stopping")
        self._dialers.clear()
        self._listener = None

    def send(self, peer: NodeName, message: AnyMessage) -> bool:
        """Never blocks. False: surely not sent. True: on its way, and lost if the link is."""
        dialer = self._dialers.get(peer)
        if dialer is None or not dialer.up:
            return False
        try:
            frame = encode(message)
        except FrameError as error:
            self._log.error("message not sent", peer=peer, reason=str(error))
            return False
        return dialer.send(frame)

    def links(self) -> dict[NodeName, LinkStatus]:
        return {name: self._status(dialer, self._incoming[name]) for name, dialer in self._dialers.items()}

    @staticmethod
    def _status(dialer: Dialer, incoming: _Incoming) -> LinkStatus:
        return LinkStatus(
            up=dialer.up,
            why=dialer.why,
            since_ns=dialer.since_ns,
            sent=dialer.sent,
            queued_bytes=dialer.queued_bytes,
            hears=incoming.channel is not None,
            hears_since_ns=incoming.since_ns,
            received=incoming.received,
            last_heard_ns=incoming.last_heard_ns,
            certificate_expires=incoming.found.expires if incoming.found is not None else "",
        )

    def _sweep(self) -> None:
        if self._loop is None or self._listener is None:
            return
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)
        now_ns = self._now_ns()
        self._listener.sweep(now_ns)
        for dialer in list(self._dialers.values()):
            dialer.sweep(now_ns)

    def _link_changed(self, peer: NodeName, up: bool, why: str) -> None:
        """Told from the loop: `send` may find a link dead, and its caller is not ready for a callback."""
        if self._loop is None:
            return
        self._log.info("link up" if up else "link down", peer=peer, reason=why)
        self._loop.call_soon(self._tell_link, peer, up, why)

    def _tell_link(self, peer: NodeName, up: bool, why: str) -> None:
        if self._loop is not None:
            self._on_link(peer, up, why)

    def _admit(self, channel: Channel, host: str) -> None:
        """TLS has proved that the certificate is our authority's; now whose it is decides."""
        try:
            found = identity(channel.tls)
        except CertificateError as error:
            self._refuse(channel, host, str(error))
            return
        if found.cluster != self._cluster:
            self._refuse(channel, host, f"certificate is for cluster {found.cluster}, this is {self._cluster}")
        elif found.node == self._me:
            self._refuse(channel, host, f"certificate is for {self._me}, which is this node")
        elif found.node not in self._peers:
            self._refuse(channel, host, f"{found.node} is not a member")
        elif self._revoked(found):
            self._refuse_revoked(channel, host, found.node)
        else:
            self._supersede(channel, host, found)

    def _refuse(self, channel: Channel, host: str, why: str) -> None:
        channel.write(REFUSED + why.encode()[: REASON_BYTES_MAX - 1])
        channel.close(why)

    def _refuse_revoked(self, channel: Channel, host: str, peer: NodeName) -> None:
        """It dials again and again: that is no reason to write a line each time."""
        now_ns = self._now_ns()
        if now_ns - self._revoked_logged_ns.get(peer, -REPEAT_LOG_NS) < REPEAT_LOG_NS:
            channel.on_closed = None
        else:
            self._revoked_logged_ns[peer] = now_ns
        self._refuse(channel, host, revocation_of(peer))

    def _supersede(self, channel: Channel, host: str, found: Identity) -> None:
        peer = found.node
        incoming = self._incoming[peer]
        welcomed = channel.write(WELCOME)  # before the old one ends: who renews its link then has no time without one
        if incoming.channel is not None:
            # Before anything of the new connection is read: nothing of the old one may come in between.
            incoming.channel.close(f"superseded by a new connection from {host}")
        incoming.channel = channel
        incoming.reader = FrameReader()
        incoming.since_ns = self._now_ns()
        incoming.found = found
        channel.on_data = partial(self._receive, peer, incoming)
        channel.on_closed = partial(self._hung_up, peer, host, incoming)
        if welcomed:
            self._dialers[peer].peer_is_there()

    def _receive(self, peer: NodeName, incoming: _Incoming, channel: Channel, data: bytes) -> None:
        reader = incoming.reader
        reader.feed(data)
        incoming.last_heard_ns = self._now_ns()
        while not channel.closed:
            try:
                message = reader.take()
            except FrameError as error:
                channel.close(str(error))
                return
            if message is None:
                return
            incoming.received += 1
            try:
                self._on_message(peer, message)
            except BaseException:
                channel.close("the receiver failed")  # the frames behind it must not wait for the next read
                raise

    def _hung_up(self, peer: NodeName, host: str, incoming: _Incoming, _: Channel, why: str) -> None:
        unfinished = incoming.reader.unfinished
        incoming.channel = None
        incoming.reader = FrameReader()
        if self._loop is None:
            return
        reason = f"{why}, in the middle of a frame" if unfinished else why
        self._members_log.warning(self._now_ns(), "connection from peer closed", peer=peer, host=host, reason=reason)
