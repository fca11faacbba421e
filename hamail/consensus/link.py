"""PySyncObj's idea of a transport: nothing leaves before `flush`, and nothing comes in that is late, double or foreign.

Payloads queue until the journal is durable; then `flush` hands them to hamail's transport in order.
"""

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from hamail.consensus import codec
from hamail.consensus.codec import Ack, Append, Body, CodecError, Envelope, Forward
from hamail.consensus.port import Send
from hamail.model.ids import LogIndex, NodeName

# Terms grow by one with each election. One message that could take the whole cluster near the last term that can be
# written down would end all elections, for good: terms are durable.
TERM_LEAP_MAX = 2**32

log = structlog.get_logger(__name__)


class Link:
    ready = True  # PySyncObj: there is no port to bind

    def __init__(self, peers: Mapping[NodeName, Any], incarnation: int, current_term: Callable[[], int]) -> None:
        self.ack_limit: LogIndex | None = None  # while an append is handled: the last entry its leader vouches for
        self.mute = False  # a replaced disk: it follows, but no majority may count on it
        self._peers = peers
        self._incarnation = incarnation
        self._term = current_term
        self._sequence = dict.fromkeys(peers, 0)
        self._seen = dict.fromkeys(peers, (0, 0))  # incarnation and sequence of the last payload from each peer
        self._outbox: list[tuple[NodeName, bytes, int]] = []  # the number: of a forwarded command, else 0
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
        payload = codec.encode_envelope(Envelope(self._incarnation, self._sequence[peer], self._term(), body))
        if len(payload) > codec.MAX_PAYLOAD_BYTES:
            kind = f"{len(body.entries)} entries" if isinstance(body, Append) else type(body).__name__
            log.error("payload too large, not sent", peer=peer, bytes=len(payload), kind=kind)
            return
        self._outbox.append((peer, payload, body.number if isinstance(body, Forward) else 0))

    def flush(self, send: Send) -> list[tuple[NodeName, int]]:
        """Only when everything that these payloads depend on is durable. Returns the forwarded commands that were
        surely not sent; of everything else, Raft itself repeats what matters to a peer that is not connected.
        """
        if not self._outbox:
            return []
        outbox, self._outbox = self._outbox, []
        return [(peer, number) for peer, payload, number in outbox if not send(peer, payload) and number]

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
        if term > self._term() + TERM_LEAP_MAX:
            log.warning("consensus payload of an impossible term dropped", peer=peer, term=term)
            return None
        stamp = (envelope.incarnation, envelope.sequence)
        if stamp <= self._seen[peer]:
            log.warning("late or doubled consensus payload dropped", peer=peer, stamp=stamp, seen=self._seen[peer])
            return None
        self._seen[peer] = stamp
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
