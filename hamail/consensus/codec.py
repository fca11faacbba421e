"""Strict typed msgpack for what crosses the wire and what stands in the log. No pickle, no unknown fields, hard caps.

Raft messages are structs on the wire and the dicts of PySyncObj inside; `to_library` and `from_library` are the only
places that know both. Every payload carries its sender's incarnation, sequence and term.
"""

from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from hamail.consensus.records import NUMBER_MAX, Entry, Snapshot
from hamail.model.commands import AnyCommand
from hamail.model.ids import LogIndex, NodeName

MAX_COMMAND_BYTES = 128 * 1024
MAX_PAYLOAD_BYTES = 512 * 1024
MAX_ENTRIES = 4096  # in one message
MAX_SNAPSHOT_BYTES = 64 * 1024 * 1024
SNAPSHOT_CHUNK_BYTES = 128 * 1024
BATCH_BYTES = MAX_COMMAND_BYTES + 1024  # above any command, so that PySyncObj never cuts one into `transmission`s
MAX_NUMBER = 2**63 - 1

T = TypeVar("T")

REGULAR, NO_OP = b"\x00", b"\x01"  # PySyncObj's command types; MEMBERSHIP (2) and VERSION (3) are refused


class CodecError(Exception):
    """Not something that a node of this cluster says. The message names what is wrong."""


class Wire(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class RequestVote(Wire, frozen=True, tag="v"):
    term: int
    last_index: LogIndex
    last_term: int


class Vote(Wire, frozen=True, tag="V"):
    term: int


class Append(Wire, frozen=True, tag="a"):
    term: int
    commit: LogIndex
    previous_index: LogIndex
    previous_term: int
    entries: list[Entry]


class Chunk(Wire, frozen=True, tag="s"):
    """A piece of a snapshot, or none (then it is only a sign of life of the leader)."""

    term: int
    data: bytes | None
    offset: int
    last: bool


class Ack(Wire, frozen=True, tag="A"):
    next_index: LogIndex
    reset: bool
    success: bool


class TimeoutNow(Wire, frozen=True, tag="t"):
    term: int


class PreVote(Wire, frozen=True, tag="p"):
    """Would you vote for me? Changes nothing on either side."""

    round: int
    term: int  # of the sender; it would campaign in the next one
    last_index: LogIndex
    last_term: int


class PreVoteAnswer(Wire, frozen=True, tag="P"):
    round: int
    granted: bool


class Forward(Wire, frozen=True, tag="f"):
    """A command for the leader's log."""

    number: int
    command: bytes


class NotLeader(Wire, frozen=True, tag="F"):
    """The forwarded command has surely not entered the log."""

    number: int


class StepDown(Wire, frozen=True, tag="d"):
    """From a node with a replaced disk: it may vote again only under a leader elected without it."""

    term: int


class Known(Wire, frozen=True, tag="k"):
    """What the sender knows of the receiver: the newest life it has heard, and how far its journal was. 0: nothing."""

    incarnation: int
    position: int


class Answer(Wire, frozen=True, tag="K"):
    """The sender's journal holds what the receiver knew of it; or it does not, and the sender is mute by now."""

    incarnation: int
    position: int


Body: TypeAlias = (
    RequestVote
    | Vote
    | Append
    | Chunk
    | Ack
    | TimeoutNow
    | PreVote
    | PreVoteAnswer
    | Forward
    | NotLeader
    | StepDown
    | Known
    | Answer
)


class Envelope(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    incarnation: int  # of the sender's daemon: another one with every start
    position: int  # of the sender's journal: how much was durable when this left
    sequence: int  # grows with every payload to this peer
    term: int  # of the sender when it said this
    body: Body


class Proposal(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A command in the log, with the mark by which its proposer knows it again."""

    proposer: NodeName
    incarnation: int
    number: int
    command: AnyCommand


_encoder = msgspec.msgpack.Encoder()
_envelopes = msgspec.msgpack.Decoder(Envelope)
_proposals = msgspec.msgpack.Decoder(Proposal)
_snapshots = msgspec.msgpack.Decoder(Snapshot)


def encode_envelope(envelope: Envelope) -> bytes:
    return _encoder.encode(envelope)


def decode_envelope(payload: bytes) -> Envelope:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise CodecError(f"a payload of {len(payload)} bytes is over the limit of {MAX_PAYLOAD_BYTES}")
    envelope = _decode(_envelopes, payload, "payload")
    body = envelope.body
    numbers = [envelope.incarnation, envelope.position, envelope.sequence, envelope.term]
    numbers += [value for name in body.__struct_fields__ if isinstance(value := getattr(body, name), int)]
    if min(numbers) < 0 or max(numbers) > MAX_NUMBER:
        raise CodecError("a number is out of range")
    stamps = [envelope.incarnation, envelope.position]
    if isinstance(body, Known | Answer):
        stamps += [body.incarnation, body.position]
    if max(stamps) > NUMBER_MAX:
        raise CodecError("a life or a position is out of range")
    if isinstance(body, Append):
        _check_entries(body)
    elif isinstance(body, Forward):
        decode_command(body.command)
    elif isinstance(body, Chunk) and body.data is not None and len(body.data) > SNAPSHOT_CHUNK_BYTES:
        raise CodecError(f"a snapshot chunk of {len(body.data)} bytes is over the limit of {SNAPSHOT_CHUNK_BYTES}")
    return envelope


def _check_entries(body: Append) -> None:
    if len(body.entries) > MAX_ENTRIES:
        raise CodecError(f"{len(body.entries)} entries in one message are over the limit of {MAX_ENTRIES}")
    if body.previous_term > body.term:
        raise CodecError("the previous entry is of a later term than the message")
    index, term = body.previous_index, body.previous_term
    for entry in body.entries:
        if entry.index != index + 1:
            raise CodecError(f"entry {entry.index} follows entry {index}")
        if not term <= entry.term <= body.term:
            raise CodecError(f"entry {entry.index} has term {entry.term} between {term} and {body.term}")
        check_logged(entry.command)
        index, term = entry.index, entry.term


def check_logged(command: bytes) -> None:
    """Raise CodecError unless the bytes may stand in the log."""
    if command != NO_OP:
        decode_command(command)


def encode_command(proposal: Proposal) -> bytes:
    """Raises CodecError if the command is too large for the log."""
    data = REGULAR + _encoder.encode(proposal)
    if len(data) > MAX_COMMAND_BYTES:
        raise CodecError(f"a command of {len(data)} bytes is over the limit of {MAX_COMMAND_BYTES}")
    return data


def decode_command(command: bytes) -> Proposal:
    if len(command) > MAX_COMMAND_BYTES:
        raise CodecError(f"a command of {len(command)} bytes is over the limit of {MAX_COMMAND_BYTES}")
    if command[:1] != REGULAR:
        raise CodecError(f"a command of type {command[:1].hex() or 'none'} is not allowed in the log")
    return _decode(_proposals, command[1:], "command")


def encode_snapshot(snapshot: Snapshot) -> bytes:
    return _encoder.encode(snapshot)


def decode_snapshot(data: bytes) -> Snapshot:
    snapshot = _decode(_snapshots, data, "snapshot")
    if not 0 < snapshot.previous.index == snapshot.last.index - 1:
        raise CodecError("the two entries of the snapshot do not follow each other")
    if not 0 <= snapshot.previous.term <= snapshot.last.term:
        raise CodecError("the terms of the snapshot's entries are out of order")
    check_logged(snapshot.previous.command)
    check_logged(snapshot.last.command)
    return snapshot


def _decode(decoder: "msgspec.msgpack.Decoder[T]", data: bytes, what: str) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CodecError(f"malformed {what}: {error}") from None


def to_library(body: RequestVote | Vote | Append | Chunk | Ack | TimeoutNow) -> dict[str, Any]:
    match body:
        case RequestVote(term, last_index, last_term):
            return {"type": "request_vote", "term": term, "last_log_index": last_index, "last_log_term": last_term}
        case Vote(term):
            return {"type": "response_vote", "term": term}
        case Append():
            return {
                "type": "append_entries",
                "term": body.term,
                "commit_index": body.commit,
                "entries": [(entry.command, entry.index, entry.term) for entry in body.entries],
                "prevLogIdx": body.previous_index,
                "prevLogTerm": body.previous_term,
            }
        case Chunk():
            # The commit index of a snapshot message says nothing about this node's own log: PySyncObj would commit
            # entries here that no leader has matched. So none is passed on.
            serialized = None if body.data is None else (body.data, body.offset, body.last)
            return {"type": "append_entries", "term": body.term, "commit_index": 0, "serialized": serialized}
        case Ack(next_index, reset, success):
            return {"type": "next_node_idx", "next_node_idx": next_index, "reset": reset, "success": success}
        case TimeoutNow(term):
            return {"type": "timeout_now", "term": term}


def from_library(message: dict[str, Any]) -> Body:
    match message["type"]:
        case "request_vote":
            return RequestVote(message["term"], message["last_log_index"], message["last_log_term"])
        case "response_vote":
            return Vote(message["term"])
        case "next_node_idx":
            return Ack(message["next_node_idx"], message["reset"], message["success"])
        case "timeout_now":
            return TimeoutNow(message["term"])
        case "append_entries" if "serialized" in message:
            data, offset, last = message["serialized"] or (None, 0, False)
            return Chunk(message["term"], data, offset, last)
        case "append_entries" if "entries" in message:
            entries = [Entry(*entry) for entry in message["entries"]]
            return Append(
                message["term"], message["commit_index"], message["prevLogIdx"], message["prevLogTerm"], entries
            )
    raise CodecError(f"PySyncObj wants to send {message['type']!r}, which is not part of hamail's protocol")
