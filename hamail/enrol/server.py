"""The issuer's door: TLS 1.3 on a port of its own, one request and one answer per connection, everything bounded.

The certificate that it shows is made anew at every start, signed by the authority for this one purpose; its key never
touches a disk. Whoever asks checks it against the token's fingerprint, or against the authority it trusts already.
"""

import asyncio
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable

import msgspec
import structlog
from cryptography import x509

from hamail.enrol.issuer import Issuer, Peer
from hamail.enrol.messages import REQUEST_BYTES_MAX, Answer, Refused, Request
from hamail.model.ids import NodeName
from hamail.pki.authority import new_key, private_pem, public_pem, sign_issuer
from hamail.pki.files import PkiError
from hamail.pki.keep import Keep

CONNECTIONS_MAX = 32
CONNECTIONS_PER_HOST_MAX = 4
HANDSHAKE_S = 5.0
REQUEST_S = 10.0  # to ask, and to take the answer
SHUTDOWN_S = 2.0
ACCEPT_PAUSE_S = 0.2
GUESS_PAUSE_S = 1.0  # before a refusal that somebody who guesses would like to have sooner
IDLE_S = 120.0  # without a connection: the process ends, systemd starts it with the next one
ISSUER_DAYS = 30  # the process lives for minutes
_REQUEST = msgspec.json.Decoder(Request)


class Server:
    """`node_of` reads the name in a certificate that TLS has verified; empty when it names no node of this cluster.

    Raises PkiError when the authority cannot be read.
    """

    def __init__(
        self,
        keep: Keep,
        issuer: Issuer,
        node_of: Callable[[x509.Certificate], NodeName],
        guess_pause_s: float = GUESS_PAUSE_S,
    ) -> None:
        self._keep = keep
        self._issuer = issuer
        self._node_of = node_of
        self._guess_pause_s = guess_pause_s
        self._hosts: Counter[str] = Counter()
        self._log = structlog.get_logger("hamail.issuer")
        self._idle_since_s: float | None = None  # not serving yet
        self._loaded: tuple[str, ...] = ()
        self._load()

    async def serve(self, sock: socket.socket) -> None:
        """On a socket that listens and does not block; until cancelled. Every connection counts from its first byte to
        its last: a handshake that is never finished costs memory like any other."""
        loop = asyncio.get_running_loop()
        self._idle_since_s = loop.time()
        tasks: set[asyncio.Task[None]] = set()
        while True:
            try:
                connection, peer = await loop.sock_accept(sock)
            except OSError as error:
                self._log.warning("cannot accept a connection, trying again", reason=error.strerror)
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            host = str(peer[0]).removeprefix("::ffff:")
            if self._hosts.total() >= CONNECTIONS_MAX or self._hosts[host] >= CONNECTIONS_PER_HOST_MAX:
                connection.close()
                continue
            self._hosts[host] += 1
            task = loop.create_task(self._connection(connection, host))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def idle_s(self) -> float:
        """For how long nobody has been connected."""
        if self._hosts.total() or self._idle_since_s is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._idle_since_s

    async def _connection(self, connection: socket.socket, host: str) -> None:
        try:
            await self._talk(connection, host)
        except (OSError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
            self._log.warning("connection ended", host=host, reason=str(error)[:200] or type(error).__name__)
        finally:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
            self._idle_since_s = asyncio.get_running_loop().time()

    async def _talk(self, connection: socket.socket, host: str) -> None:
        """Raises OSError, TimeoutError, ValueError, LimitOverrunError."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=REQUEST_BYTES_MAX)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except OSError:
            return  # not worth a line in the log each: anybody can have as many of them as he likes
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            async with asyncio.timeout(REQUEST_S):
                answer, slow = self._answer(await reader.readline(), host, writer)
                if slow:
                    await asyncio.sleep(self._guess_pause_s)
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
        finally:
            self._load()
            writer.close()
            await self._gone(writer)

    @staticmethod
    async def _gone(writer: asyncio.StreamWriter) -> None:
        """Whoever does not take the answer, or does not say goodbye, is cut off."""
        try:
            async with asyncio.timeout(SHUTDOWN_S):
                await writer.wait_closed()
        except (OSError, TimeoutError):
            writer.transport.abort()

    def _load(self) -> None:
        """After a step to another authority the next connection sees it. Raises PkiError at the start only.

        Who asks may show a node's certificate; if it does, it must be one of ours.
        """
        try:
            state = self._keep.state
            if (state.certifies, *state.trusted) == self._loaded:
                return
            key = new_key()
            certificate = sign_issuer(self._keep.authority(), key.public_key(), days=ISSUER_DAYS)
            bundle = self._keep.bundle()
        except PkiError as error:
            if not self._loaded:
                raise
            self._log.error("the authority cannot be read", reason=str(error))
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # a new one: the old one cannot forget an authority
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=bundle)
        _load(context, private_pem(key) + public_pem(certificate))
        self._context, self._loaded = context, (state.certifies, *state.trusted)

    def _answer(self, line: bytes, host: str, writer: asyncio.StreamWriter) -> tuple[Answer, bool]:
        try:
            request = _REQUEST.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return Refused(reason="this is no request that the issuer knows; is hamail of the same version?"), True
        try:
            return self._issuer.answer(request, self._peer(host, writer))
        except (OSError, PkiError) as error:
            self._log.error("cannot answer", host=host, reason=str(error))
            return Refused(reason="the issuer cannot do its work; see: journalctl -u hamail-issuer"), False

    def _peer(self, host: str, writer: asyncio.StreamWriter) -> Peer:
        tls = writer.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True)
        if not shown:
            return Peer(host)
        certificate = x509.load_der_x509_certificate(shown)
        return Peer(host, self._node_of(certificate), certificate)


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """The library reads keys from files only: this one is in memory."""
    descriptor = os.memfd_create("issuer", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
