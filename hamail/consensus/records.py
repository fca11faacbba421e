"""The journal's bytes: records, and the checksummed batches that carry them.

A batch is what one fdatasync makes durable: a 16-byte header, the records as one msgpack array, and padding of
0xA5 up to the next multiple of 16. Beyond the last batch the file is zeros. A batch is written only after the one
before it is durable. This is what lets `scan` tell a torn tail (never synced, so nobody relied on it: dropped) from
damage (was synced, somebody may have relied on it: refused).
"""

import struct
import zlib
from typing import TypeAlias

import msgspec
from msgspec import Struct

from hamail.model.ids import LogIndex, NodeName

FORMAT = 2
READABLE = (1, 2)
NONCE_BITS = 30
NUMBER_MAX = 2**62  # of what is counted: no cluster gets there, and what follows still fits the wire
ALIGN = 16  # divides a sector, so a header is written whole or not at all
SECTOR = 512
PAD = 0xA5
HEADER = struct.Struct("<IIII")  # payload length, batch number, CRC of number + payload, CRC of the first 12 bytes
MAX_BATCH_BYTES = 256 * 1024 * 1024


class BadJournal(Exception):
    """The bytes cannot be what was once made durable. The message says where and why."""


class Identity(Struct, frozen=True, array_like=True, tag="identity", forbid_unknown_fields=True):
    format: int
    cluster: str
    node: NodeName


class Opened(Struct, frozen=True, array_like=True, tag="opened", forbid_unknown_fields=True):
    """One per life of the daemon: a count, and below it a random number, which tells it from the same life of another
    line that began at a copy of this journal.
    """

    incarnation: int
    position: int = 0  # of the batch that holds this record (see `Journal.position`)


class Written(Struct, frozen=True, array_like=True, tag="written", forbid_unknown_fields=True):
    """How many batches stood in the files that this one has taken the place of."""

    batches: int


class Heard(Struct, frozen=True, array_like=True, tag="heard", forbid_unknown_fields=True):
    """The newest life of a peer that this node has listened to, and how far its journal was when it last spoke."""

    peer: NodeName
    incarnation: int
    position: int


class Doubted(Struct, frozen=True, array_like=True, tag="doubted", forbid_unknown_fields=True):
    """A peer knew more of this node than this journal. Whatever a life up to this count said is to be overruled."""

    count: int


class Ballot(Struct, frozen=True, array_like=True, tag="ballot", forbid_unknown_fields=True):
    term: int
    vote: NodeName | None


class Entry(Struct, frozen=True, array_like=True, tag="entry", forbid_unknown_fields=True):
    command: bytes
    index: LogIndex
    term: int


class Truncated(Struct, frozen=True, array_like=True, tag="truncated", forbid_unknown_fields=True):
    """Entries from this index on contradicted the leader's and are gone."""

    index: LogIndex


class Rejoining(Struct, frozen=True, array_like=True, tag="rejoining", forbid_unknown_fields=True):
    """The disk of a known member was replaced: no vote until `above_term` is set and passed (see `syncobj`)."""

    pending: bool
    above_term: int


class Snapshot(Struct, frozen=True, array_like=True, tag="snapshot", forbid_unknown_fields=True):
    """State after `last` was applied. The two entries anchor the log that follows."""

    previous: Entry
    last: Entry
    data: bytes


Record: TypeAlias = Identity | Opened | Written | Heard | Doubted | Ballot | Entry | Truncated | Rejoining | Snapshot

_decoder = msgspec.msgpack.Decoder(list[Record])
_encoder = msgspec.msgpack.Encoder()


def batch(number: int, records: list[Record]) -> bytes:
    payload = _encoder.encode(records)
    if len(payload) > MAX_BATCH_BYTES:
        raise BadJournal(f"a batch of {len(payload)} bytes is over the limit of {MAX_BATCH_BYTES}")
    head = struct.pack("<III", len(payload), number, _checksum(number, payload))
    return head + struct.pack("<I", zlib.crc32(head)) + payload + bytes([PAD]) * _padding(len(payload))


def scan(data: bytes) -> tuple[list[Record], int, int, bool]:
    """All records, the end offset, the next batch number, and whether a torn tail begins at the end offset.

    Raises BadJournal on anything that a crash cannot explain.
    """
    records: list[Record] = []
    offset, number = 0, 1
    while True:
        found = _batch_at(data, offset)
        if found is None:
            break
        its_number, payload, end = found
        if its_number != number:
            raise BadJournal(f"batch {its_number} stands at byte {offset} where batch {number} belongs")
        try:
            records.extend(_decoder.decode(payload))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadJournal(f"batch {number} at byte {offset} holds a record of no known kind ({error})") from None
        offset, number = end, number + 1
    torn = any_nonzero(data, offset)
    if torn:
        _must_be_torn(data, offset, number)
    return records, offset, number, torn


def any_nonzero(data: bytes, start: int) -> bool:
    return len(data) - start != data.count(0, start)


def _padding(length: int) -> int:
    return ALIGN - length % ALIGN  # 1..16: the last byte of a batch is never zero


def _checksum(number: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack("<I", number)))


def _header_at(data: bytes, offset: int) -> tuple[int, int, int] | None:
    if offset + HEADER.size > len(data):
        return None
    length, number, checksum, header_checksum = HEADER.unpack_from(data, offset)
    if length == 0 or zlib.crc32(data[offset : offset + 12]) != header_checksum:
        return None
    return length, number, checksum


def _batch_at(data: bytes, offset: int) -> tuple[int, bytes, int] | None:
    """Batch number, payload and end offset of a valid batch; None if there is none."""
    header = _header_at(data, offset)
    if header is None:
        return None
    length, number, checksum = header
    start = offset + HEADER.size
    end = start + length + _padding(length)
    payload = data[start : start + length]
    if end > len(data) or _checksum(number, payload) != checksum:
        return None
    if data[start + length : end].count(PAD) != end - start - length:
        return None
    return number, payload, end


def _must_be_torn(data: bytes, offset: int, number: int) -> None:
    """Raise BadJournal unless what is at `offset` can be the unsynced rest of one interrupted write.

    An interrupted write into zeroed space leaves whole sectors unwritten, or an unwritten end. Flipped bits leave
    neither; and a valid later batch proves that this one had been made durable.
    """
    if number == 1:
        raise BadJournal("the first batch is damaged: not a journal, or its start was overwritten")
    for later in range(offset + ALIGN, len(data.rstrip(b"\0")), ALIGN):
        if _batch_at(data, later) is not None:
            raise BadJournal(f"batch {number} at byte {offset} is damaged, but a good batch follows at byte {later}")
    header = _header_at(data, offset)
    if header is None:
        begun = any(data[offset : offset + HEADER.size])
        if begun and any_nonzero(data, offset + HEADER.size):
            raise BadJournal(f"the header of batch {number} at byte {offset} is damaged")
        return  # the sector with the header was never written, or the write ended inside of the header
    end = offset + HEADER.size + header[0] + _padding(header[0])
    if end > len(data):
        return
    if any_nonzero(data, end) and len(data) > end:
        raise BadJournal(f"batch {number} at byte {offset} is damaged and other data follows it")
    if data[end - 1] == 0 or _has_unwritten_sector(data, offset, end):
        return
    raise BadJournal(f"batch {number} at byte {offset} fails its checksum although it was written whole")


def _has_unwritten_sector(data: bytes, start: int, end: int) -> bool:
    position = start
    while position < end:
        boundary = min(end, (position // SECTOR + 1) * SECTOR)
        if data.count(0, position, boundary) == boundary - position:
            return True
        position = boundary
    return False
