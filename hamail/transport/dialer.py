"""My one-way connection to one peer: dial, prove who answers, wait for its welcome, dial again when it is lost."""

import asyncio
import secrets
import socket
import ssl
from collections.abc import Callable

from hamail.model.ids import NodeName
from hamail.transport.certificates import CertificateError, Identity, explain, identity, revocation_of
from hamail.transport.channel import Channel
from hamail.transport.quiet import QuietLog
from hamail.transport.sockets import UNACKED_MAX_MS, Address, Progress, begin_connect, outcome

BACKOFF_FIRST_MS = 50
BACKOFF_CAP_MS = 400  # under half a second, so that a peer that comes back is found within that
CONNECT_MAX_MS = 400  # the kernel repeats a lost SYN only after a second: a new attempt is faster
HANDSHAKE_MAX_MS = 1000
STALL_MS = 400  # unacknowledged for this long: try a second connection beside the first
RESTART_AFTER_MS = 100  # an attempt older than this is dropped when the peer shows that it is there
STEADY_NS = 1_000_000_000  # a link that lived this long was a good one: its successor starts without backoff
REPEAT_LOG_NS = 60 * 1_000_000_000

WELCOME = b"\x01"  # what the accepting side says once, before it reads our first frame
REFUSED = b"\x00"  # followed by why, in at most REASON_BYTES_MAX bytes
REASON_BYTES_MAX = 200


class Dialer:
    """`on_link(up, why)` is called when the link becomes usable and when it is lost.

    While an old connection has gone silent a new one is built beside it; it takes over when the peer has welcomed it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        peer: NodeName,
        address: Address,
        context: ssl.SSLContext,
        *,
        cluster: str,
        source: str | None,
        revoked: Callable[[Identity], bool],
        on_link: Callable[[NodeName, bool, str], None],
        now_ns: Callable[[], int],
        log: QuietLog,
    ) -> None:
        self._loop = loop
        self.peer = peer
        self.address = address
        self._context = context
        self._cluster = cluster
        self._source = source
        self._revoked = revoked
        self._on_link = on_link
        self._now_ns = now_ns
        self._log = log
        self._link: Channel | None = None
        self._progress: Progress | None = None
        self._attempt: Channel | socket.socket | None = None
        self._attempt_at_ns = 0
        self._timer: asyncio.TimerHandle | None = None  # of the attempt, or of the pause before the next one
        self._backoff_ms = BACKOFF_FIRST_MS
        self._stopped = False
        self._logged = ("", 0)
        self.why = "not connected yet"
        self.since_ns = now_ns()
        self.sent = 0

    @property
    def up(self) -> bool:
        return self._link is not None

    @property
    def queued_bytes(self) -> int:
        return self._link.queued_bytes if self._link is not None else 0

    def start(self) -> None:
        self._dial()

    def stop(self) -> None:
        self._stopped = True
        self._drop_attempt("stopping")
        self._cancel_timer()
        if self._link is not None:
            self._link.close("stopping")

    def send(self, frame: bytes) -> bool:
        if self._link is None or not self._link.write(frame):
            return False
        self.sent += 1
        return True

    def sweep(self, now_ns: int) -> None:
        """Called several times a second: is what we sent still being acknowledged?"""
        if self._link is None or self._progress is None:
            return
        stalled_ms = self._progress.stalled_ms(now_ns)
        if stalled_ms >= UNACKED_MAX_MS:
            self._link.close(f"nothing acknowledged for {stalled_ms} ms", abort=True)
        elif stalled_ms >= STALL_MS and self._attempt is None and self._timer is None:
            self._dial()

    def use(self, context: ssl.SSLContext) -> None:
        """From now on with these certificates. The link goes on until one that was made with them takes over."""
        self._context = context
        if not self._stopped and self._attempt is None:
            self._dial()

    def look_again(self) -> None:
        """More certificates are revoked than when this link, or the one that is being made, was proved."""
        for channel in (self._attempt, self._link):
            if isinstance(channel, Channel) and channel.ready and self._revoked(identity(channel.tls)):
                channel.close(revocation_of(self.peer))

    def peer_is_there(self) -> None:
        """The peer has just connected to us, so the path works: do not sit out a pause or a dead attempt."""
        if self._stopped:
            return
        if self._attempt is not None:
            if self._now_ns() - self._attempt_at_ns < RESTART_AFTER_MS * 1_000_000:
                return
            self._drop_attempt("dialling again")
        elif self._link is not None and not (self._progress and self._progress.retransmitting()):
            return
        self._dial()

    def _dial(self) -> None:
        assert self._attempt is None
        self._cancel_timer()
        self._attempt_at_ns = self._now_ns()
        try:
            connecting = begin_connect(self.address, self._source)
        except OSError as error:
            self._failed(explain(error))
            return
        self._attempt = connecting
        self._timer = self._loop.call_later(CONNECT_MAX_MS / 1000, self._failed, "no answer")
        self._loop.add_writer(connecting.fileno(), self._connected)

    def _connected(self) -> None:
        connecting = self._attempt
        assert isinstance(connecting, socket.socket)
        self._loop.remove_writer(connecting.fileno())
        if why := outcome(connecting):
            self._failed(why)
            return
        self._cancel_timer()
        self._timer = self._loop.call_later(HANDSHAKE_MAX_MS / 1000, self._failed, "handshake not finished in time")
        try:
            channel = Channel(
                self._loop,
                connecting,
                self._context,
                server=False,
                on_ready=self._prove,
                on_closed=lambda _, why: self._failed(why),
            )
        except (OSError, ValueError) as error:
            self._failed(str(error))
            return
        self._attempt = channel
        channel.start()

    def _prove(self, channel: Channel) -> None:
        """The address was dialled for this peer only: whoever else answers there gets nothing from us."""
        try:
            found = identity(channel.tls)
        except CertificateError as error:
            channel.close(str(error))
            return
        if (found.cluster, found.node) != (self._cluster, self.peer):
            channel.close(f"answered with the certificate of {found.node} of cluster {found.cluster}")
            return
        if self._revoked(found):
            channel.close(revocation_of(self.peer))
            return
        channel.on_data = self._answered

    def _answered(self, channel: Channel, data: bytes) -> None:
        if data == WELCOME:
            self._adopt(channel)
        elif data[:1] == REFUSED:
            channel.close(f"refused by {self.peer}: {data[1:REASON_BYTES_MAX].decode('utf-8', 'replace')}")
        else:
            _spoke_out_of_turn(channel, data)

    def _adopt(self, channel: Channel) -> None:
        if (old := self._link) is not None:
            old.on_closed = None
            old.close("replaced", abort=True)
            self._on_link(self.peer, False, "replaced by a new connection")
        now_ns = self._now_ns()
        self._cancel_timer()
        self._attempt = None
        self._link = channel
        self._progress = Progress(channel.tls, now_ns)
        channel.on_data = _spoke_out_of_turn
        channel.on_closed = self._lost
        self.why, self.since_ns, self._logged = "connected", now_ns, ("", 0)
        self._on_link(self.peer, True, self.why)

    def _lost(self, _: Channel, why: str) -> None:
        now_ns = self._now_ns()
        steady = now_ns - self.since_ns >= STEADY_NS
        self._link = self._progress = None
        self.why, self.since_ns = why, now_ns
        self._on_link(self.peer, False, why)
        if self._stopped or self._attempt is not None or self._timer is not None:
            return
        if steady:
            self._backoff_ms = BACKOFF_FIRST_MS
        self._pause(0)

    def _failed(self, why: str) -> None:
        self._drop_attempt(why)
        self._cancel_timer()
        if self._stopped:
            return
        now_ns = self._now_ns()
        if self._link is None:
            self.why = why
        if why != self._logged[0] or now_ns - self._logged[1] >= REPEAT_LOG_NS:
            self._logged = (why, now_ns)
            self._log.warning(now_ns, "cannot connect", peer=self.peer, address=self.address, reason=why)
        self._pause((now_ns - self._attempt_at_ns) // 1_000_000)

    def _pause(self, spent_ms: int) -> None:
        """Half of the backoff is jitter, so that two nodes do not dial in step; time spent failing counts as waited."""
        half = self._backoff_ms // 2
        wait_ms = max(0, half + secrets.randbelow(half + 1) - spent_ms)
        self._backoff_ms = min(self._backoff_ms * 2, BACKOFF_CAP_MS)
        self._timer = self._loop.call_later(wait_ms / 1000, self._again)

    def _again(self) -> None:
        self._timer = None
        recovered = self._progress is not None and self._progress.stalled_ms(self._now_ns()) < STALL_MS
        if not recovered:
            self._dial()

    def _drop_attempt(self, why: str) -> None:
        attempt, self._attempt = self._attempt, None
        if isinstance(attempt, Channel):
            attempt.on_closed = None
            attempt.close(why)
        elif attempt is not None and attempt.fileno() >= 0:
            self._loop.remove_writer(attempt.fileno())
            attempt.close()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _spoke_out_of_turn(channel: Channel, _: bytes) -> None:
    channel.close("sent something on a link that is ours to send on")
