"""What the consensus adapter says: envelopes and commands as they are decoded, and what PySyncObj is then told."""

from random import Random

from hamail.consensus.codec import (
    Ack,
    Append,
    Body,
    Chunk,
    CodecError,
    Envelope,
    Forward,
    Proposal,
    RequestVote,
    TimeoutNow,
    Vote,
    decode_command,
    decode_envelope,
    encode_command,
    encode_envelope,
    from_library,
    to_library,
)
from hamail.consensus.records import Entry
from hamail.model.commands import AnyCommand
from tests.fuzz.structs import sample

INSTRUMENT = ("hamail.consensus.codec",)
FOR_LIBRARY = (RequestVote, Vote, Append, Ack, TimeoutNow)


def seeds() -> list[bytes]:
    rng = Random(2)
    commands = [encode_command(Proposal("n1", 1, i, sample(AnyCommand, rng))) for i in range(60)]
    bodies: list[Body] = [Append(5, 3, 4, 2, [Entry(c, 5 + i, 3 + i // 30) for i, c in enumerate(commands[:3])])]
    bodies += [Forward(i, command) for i, command in enumerate(commands)]
    bodies += [Chunk(5, b"abc", 0, True), Chunk(5, None, 0, False)]
    bodies += [body for _ in range(40) if not isinstance(body := sample(Body, rng), Append | Forward)]
    found = [encode_envelope(Envelope(1, 3, 7, 5, body)) for body in bodies]
    return [b"e" + x for x in found] + [b"c" + x for x in commands]


def one(data: bytes) -> None:
    try:
        if data[:1] == b"c":
            proposal = decode_command(data[1:])
            assert decode_command(encode_command(proposal)) == proposal
            return
        envelope = decode_envelope(data[1:])
    except CodecError:
        return
    assert decode_envelope(encode_envelope(envelope)) == envelope
    if isinstance(envelope.body, FOR_LIBRARY):
        assert from_library(to_library(envelope.body)) == envelope.body
