"""A journal file of any bytes: it opens, or says that it is damaged. Every second input has its checksums put right,
so that the search gets past them.
"""

import struct
import zlib
from pathlib import Path
from random import Random

from hamail.consensus.codec import Proposal, encode_command
from hamail.consensus.journal import FILE, Journal, JournalError, initialise
from hamail.consensus.memory_disk import MemoryDisk
from hamail.consensus.records import ALIGN, HEADER, NONCE_BITS, PAD
from hamail.model.commands import AnyCommand
from tests.fuzz.structs import sample

INSTRUMENT = ("hamail.consensus.journal", "hamail.consensus.records")
PLACE = Path("/journal")
LENGTH_MAX = 6000


def seeds() -> list[bytes]:
    rng = Random(4)
    disk = MemoryDisk()
    initialise(PLACE, "c", "n1", disk=disk)
    journal = Journal(PLACE, "c", "n1", disk=disk)
    for index in range(1, 4):
        journal.add(encode_command(Proposal("n1", 1, index, sample(AnyCommand, rng))), journal.last_index + 1, 1)
        journal.setCurrentTerm(index, "n2")
        journal.introduce("n2", (index << NONCE_BITS, index))
        journal.hear("n2", (index << NONCE_BITS, index + 5))
        if index == 2:
            journal.doubt((7 << NONCE_BITS, 3))
        work = journal.take()
        assert work is not None
        work()
    whole = bytes(disk.read(PLACE / FILE)).rstrip(b"\0")
    return [flag + whole[:end] for end in (len(whole), len(whole) // 2, 40) for flag in (b"r", b"m")]


def one(data: bytes) -> None:
    image = _mended(data[1:]) if data[:1] == b"m" else data[1:]
    disk = MemoryDisk()
    initialise(PLACE, "c", "n1", disk=disk)
    disk.damage(PLACE / FILE, 0, image.ljust(len(disk.read(PLACE / FILE)), b"\0"))
    before = disk.read(PLACE / FILE)
    try:
        journal = Journal(PLACE, "c", "n1", disk=disk)
    except JournalError:
        assert disk.read(PLACE / FILE) == before, "a journal that was refused was changed"
        return
    found, mark = _seen(journal), (journal.incarnation, journal.position)
    disk.process_death()
    try:
        again = Journal(PLACE, "c", "n1", disk=disk)
    except JournalError as error:
        assert "out of range" in str(error), error  # its lives are used up
        return
    assert found == _seen(again)
    assert again.holds(mark) and not again.holds((mark[0], mark[1] + 1))


def _seen(journal: Journal) -> tuple[object, ...]:
    logged = (journal.term, journal.vote, journal.last_index, journal.first_index, len(journal))
    return (*logged, journal.rejoining, journal.heard, journal.overruled)


def _mended(image: bytes) -> bytes:
    """The same batches with right lengths, numbers and checksums."""
    out, offset, number = bytearray(), 0, 1
    while offset + HEADER.size < len(image):
        length = min(struct.unpack_from("<I", image, offset)[0], len(image) - offset - HEADER.size)
        payload = image[offset + HEADER.size : offset + HEADER.size + length]
        if not payload:
            break
        checksum = zlib.crc32(payload, zlib.crc32(struct.pack("<I", number)))
        head = struct.pack("<III", length, number, checksum)
        padding = ALIGN - length % ALIGN
        out += head + struct.pack("<I", zlib.crc32(head)) + payload + bytes([PAD]) * padding
        offset += HEADER.size + length + padding
        number += 1
    return bytes(out)
