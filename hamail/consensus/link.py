"""PySyncObj's idea of a transport: nothing leaves before `flush`, and nothing comes in that is late, double or foreign.

Payloads queue until the journal is durable; then `flush` hands them to hamail's transport in order. Which lives of a
peer are listened to, `standing` says.
"""

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from hamail.consensus import codec
from hamail.consensus.codec import Ack, Append, Body, CodecError, Envelope, Forward
from hamail.consensus.journal import Journal
from hamail.consensus.port import Send
from hamail.model.ids import LogIndex, NodeName

# Terms grow by one with each election. One message that could take the whole cluster near the last term that can be
# written down would end all elections, for good: terms are durable.
TERM_LEAP_MAX = 2**32

log = structlog.get_logger(__name__)


class Link:
    ready = True  # PySyncObj: there is no port to bind

    def __init__(self, peers: Mapping[NodeName, Any], journal: Journal) -> None:
        self.ack_limit: LogIndex | None = None  # while an append is handled: the last entry its leader vouches for
        self.mute = False  # a disk that is new or in doubt: it follows, but no majority may count on it
        self._peers = peers
        self._journal = journal
        self._sequence = dict.fromkeys(peers, 0)
        self._outbox: list[tuple[NodeName, int, int, Body]] = []  # with sequence and term
        self._on_message: Callable[[Any, dict[str, Any]], None] | None = None
        self._on_connected: Callable[[Any], None] | None = None

    # ------------------------------------------------------------------ out

    def send(self, member: Any, message: dict[str, Any]) -> bool:
        """PySyncObj says something to a peer."""
        body = codec.from_library(message)
        if isinstance(body, Ack) and body.success:
            limit = body.next_index if self.ack_limit is None else min(body.next_index, self.ack_limit + 1)
            body = Ack(limit, body.reset, not self.mute)
        self.post(member.id, body)
        return True

    def post(self, peer: NodeName, body: Body) -> None:
        self._sequence[peer] += 1
        self._outbox.append((peer, self._sequence[peer], self._journal.term, body))

    def flush(self, send: Send) -> list[tuple[NodeName, int]]:
        """Only when everything that these payloads depend on is durable. Returns the forwarded commands that were
        surely not sent; of everything else, Raft itself repeats what matters to a peer that is not connected.
        """
        if not self._outbox:
            return []
        outbox, self._outbox = self._outbox, []
        life, position = self._journal.incarnation, self._journal.position
        unsent = []
        for peer, sequence, term, body in outbox:
            payload = codec.encode_envelope(Envelope(life, position, sequence, term, body))
            if len(payload) > codec.MAX_PAYLOAD_BYTES:
                kind = f"{len(body.entries)} entries" if isinstance(body, Append) else type(body).__name__
                log.error("payload too large, not sent", peer=peer, bytes=len(payload), kind=kind)
            elif not send(peer, payload) and isinstance(body, Forward):
                unsent.append((peer, body.number))
        return unsent

    def discard(self) -> None:
        self._outbox.clear()

    # ------------------------------------------------------------------ in

    def accept(self, peer: NodeName, payload: bytes) -> Envelope | None:
        """The payload's content, or None where it must be dropped."""
        if peer not in self._peers:
            log.warning("consensus payload of a node that is no voter dropped", peer=peer)
            return None
        try:
            envelope = codec.decode_envelope(payload)
        except CodecError as error:
            log.warning("consensus payload refused", peer=peer, reason=str(error))
            return None
        term = max(envelope.term, getattr(envelope.body, "term", 0))
        if term > self._journal.term + TERM_LEAP_MAX:
            log.warning("consensus payload of an impossible term dropped", peer=peer, term=term)
            return None
        return envelope

    def hand_over(self, member: Any, message: dict[str, Any]) -> None:
        assert self._on_message is not None
        self._on_message(member, message)

    # ------------------------------------------------------------------ what PySyncObj calls

    def setOnMessageReceivedCallback(self, callback: Callable[[Any, dict[str, Any]], None]) -> None:  # noqa: N802
        self._on_message = callback

    def setOnNodeConnectedCallback(self, callback: Callable[[Any], None]) -> None:  # noqa: N802
        self._on_connected = callback

    def connect_all(self) -> None:
        """For PySyncObj every voter is always connected; who is really there is the transport's business."""
        assert self._on_connected is not None
        for member in self._peers.values():
            self._on_connected(member)

    def _ignore(self, *_: object) -> None:
        pass

    setOnNodeDisconnectedCallback = _ignore  # noqa: N815
    setOnReadonlyNodeConnectedCallback = _ignore  # noqa: N815
    setOnReadonlyNodeDisconnectedCallback = _ignore  # noqa: N815
    setOnUtilityMessageCallback = _ignore  # noqa: N815
    tryGetReady = _ignore  # noqa: N815
    destroy = _ignore
