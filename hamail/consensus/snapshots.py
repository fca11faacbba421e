"""Snapshots as PySyncObj wants them: made in process, kept in the journal, sent to a node that lags in chunks.

Takes the place of `pysyncobj.serializer.Serializer`: no gzip, no pickle, no fork, no second file.
"""

from typing import Any

import structlog

from hamail.consensus.codec import (
    BATCH_BYTES,
    MAX_SNAPSHOT_BYTES,
    SNAPSHOT_CHUNK_BYTES,
    CodecError,
    decode_snapshot,
    encode_snapshot,
)
from hamail.consensus.journal import Journal
from hamail.consensus.port import Machine
from hamail.consensus.records import Entry, Snapshot
from hamail.model.ids import LogIndex

log = structlog.get_logger(__name__)

NOT_SERIALIZING, SUCCESS = 0, 2  # pysyncobj.config.SERIALIZER_STATE
COMPACT_ENTRIES = 2000


class MachineFailed(Exception):
    """The state machine raised. The message says what and where."""


class Snapshots:
    batch_bytes = BATCH_BYTES

    def __init__(self, journal: Journal, machine: Machine, compact_entries: int = COMPACT_ENTRIES) -> None:
        self.compact_entries = compact_entries
        self.applied: LogIndex = 1  # kept by the adapter
        self.failure = ""  # PySyncObj swallows what `deserialize` raises, so the reason is kept here
        self.installed = 0
        self._journal = journal
        self._machine = machine
        self._done: LogIndex | None = None
        self._blob = b""  # of the journal's snapshot, made when first needed
        self._sending: dict[Any, tuple[bytes, int]] = {}
        self._incoming = bytearray()
        self._received: Snapshot | None = None

    # ------------------------------------------------------------------ making

    def serialize(self, data: Any, _id: LogIndex) -> None:
        """`data` holds the last applied entry and the one before it; the state comes from the machine."""
        last, previous = data[1], data[2]
        try:
            state = self._machine.snapshot()
        except Exception as error:  # fail-stop, whatever it is
            raise MachineFailed(f"state machine raised {error!r} making a snapshot at log index {last[1]}") from error
        if len(state) > MAX_SNAPSHOT_BYTES // 2:
            raise MachineFailed(f"the state has grown to {len(state)} bytes, over the limit of a snapshot")
        self._journal.compact(Snapshot(Entry(*previous), Entry(*last), state))
        self._blob = b""
        self._sending.clear()
        self._done = previous[1]

    def checkSerializing(self) -> tuple[int, LogIndex | None]:  # noqa: N802
        if self._done is None:
            return NOT_SERIALIZING, None
        done, self._done = self._done, None
        return SUCCESS, done

    # ------------------------------------------------------------------ sending

    def getTransmissionData(self, peer: Any) -> tuple[bytes, int, bool] | None:  # noqa: N802
        """The next chunk for a peer: data, its offset, and whether it is the last."""
        if self._journal.snapshot is None:
            return None
        if not self._blob:
            self._blob = encode_snapshot(self._journal.snapshot)
        blob, offset = self._sending.pop(peer, (self._blob, 0))
        end = offset + SNAPSHOT_CHUNK_BYTES
        last = end >= len(blob)
        if not last:
            self._sending[peer] = (blob, end)
        return blob[offset:end], offset, last

    def cancelTransmisstion(self, peer: Any) -> None:  # noqa: N802
        self._sending.pop(peer, None)

    # ------------------------------------------------------------------ receiving

    def setTransmissionData(self, chunk: tuple[bytes, int, bool] | None) -> bool:  # noqa: N802
        """True when a whole snapshot is there that is worth installing."""
        if chunk is None:
            return False
        data, offset, last = chunk
        if offset == 0:
            self._incoming.clear()
        if offset != len(self._incoming) or offset + len(data) > MAX_SNAPSHOT_BYTES:
            self._incoming.clear()
            return False  # a piece is missing; the leader begins again when it sees that we still lag
        self._incoming += data
        if not last:
            return False
        blob = bytes(self._incoming)
        self._incoming.clear()
        try:
            snapshot = decode_snapshot(blob)
        except CodecError as error:
            log.warning("snapshot refused", reason=str(error))
            return False
        if not self._is_news(snapshot):
            return False
        self._received = snapshot
        return True

    def _is_news(self, snapshot: Snapshot) -> bool:
        """An older snapshot, or one that the log already reaches past, must not throw acknowledged entries away."""
        last = snapshot.last
        return last.index > self.applied and self._journal.term_at(last.index) != last.term

    def deserialize(self) -> tuple[Any, ...]:
        """Put the received snapshot in place; PySyncObj then adds its two entries to the (cleared) log."""
        snapshot = self._received
        assert snapshot is not None
        self._received = None
        try:
            self._machine.restore(snapshot.data)
            self._journal.install(snapshot)
        except Exception as error:
            self.failure = f"state machine raised {error!r} restoring a snapshot at log index {snapshot.last.index}"
            raise
        self._blob = b""
        self._sending.clear()
        self.installed += 1
        self.applied = snapshot.last.index
        last, previous = snapshot.last, snapshot.previous
        return (
            None,
            (last.command, last.index, last.term),
            (previous.command, previous.index, previous.term),
            (),
        )
