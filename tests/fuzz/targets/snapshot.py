"""Snapshots as they come over the wire, and the state inside of them as hamaild restores it."""

from random import Random

from hamail.consensus.codec import REGULAR, CodecError, Proposal, decode_snapshot, encode_command, encode_snapshot
from hamail.consensus.records import Entry, Snapshot
from hamail.model.commands import AnyCommand
from tests.fuzz.structs import sample

INSTRUMENT = ("hamail.consensus.codec",)


def seeds() -> list[bytes]:
    rng = Random(3)
    found = []
    for i in range(20):
        first, second = (encode_command(Proposal("n2", 1, n, sample(AnyCommand, rng))) for n in (1, 2))
        found.append(encode_snapshot(Snapshot(Entry(first, i + 1, 1), Entry(second, i + 2, 2), rng.randbytes(i))))
    return [*found, REGULAR]


def one(data: bytes) -> None:
    try:
        snapshot = decode_snapshot(data)
    except CodecError:
        return
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot
