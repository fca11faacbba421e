"""The few facts of an ext4 superblock that decide how to mount it. Read straight from the device, never written."""

import mmap
import os
import struct
from dataclasses import dataclass

SUPERBLOCK_AT = 1024
READ_BYTES = 4096
MAGIC = 0xEF53
STATE_ERROR = 0x0002
INCOMPAT_RECOVER = 0x0004
INCOMPAT_MMP = 0x0100
MMP_MAGIC = 0x004D4D50
MMP_CLEAN = 0xFF4D4D50


@dataclass(frozen=True)
class Superblock:
    uuid: str
    has_error: bool  # the kernel has found damage: fsck first
    dirty_journal: bool
    mmp_block: int  # 0: no multiple mount protection
    block_bytes: int


class NotExt4(Exception):
    """The device holds no ext file system."""


def read_superblock(device: str) -> Superblock:
    """Raises OSError, or NotExt4."""
    data = read_device(device, 0, READ_BYTES)[SUPERBLOCK_AT:]
    (magic, state) = struct.unpack_from("<HH", data, 0x38)
    if magic != MAGIC:
        raise NotExt4(f"{device} holds no ext4 file system (no such superblock)")
    (log_block,) = struct.unpack_from("<I", data, 0x18)
    (incompatible,) = struct.unpack_from("<I", data, 0x60)
    (mmp_block,) = struct.unpack_from("<Q", data, 0x168)
    return Superblock(
        uuid=data[0x68:0x78].hex(),
        has_error=bool(state & STATE_ERROR),
        dirty_journal=bool(incompatible & INCOMPAT_RECOVER),
        mmp_block=mmp_block if incompatible & INCOMPAT_MMP else 0,
        block_bytes=1024 << log_block,
    )


def mmp_in_use(device: str, superblock: Superblock) -> bool:
    """True when a mount of this file system was not ended cleanly, or is alive on another machine."""
    if not superblock.mmp_block:
        return False
    at = superblock.mmp_block * superblock.block_bytes
    magic, sequence = struct.unpack_from(
        "<II", read_device(device, at // READ_BYTES * READ_BYTES, READ_BYTES), at % 4096
    )
    return bool(magic != MMP_MAGIC or sequence != MMP_CLEAN)


def read_device(device: str, offset: int, size: int) -> bytes:
    """Past the page cache: what another machine wrote a moment ago must be seen. Raises OSError."""
    handle = os.open(device, os.O_RDONLY | os.O_DIRECT)
    try:
        buffer = mmap.mmap(-1, size)  # page-aligned, as direct I/O wants it
        try:
            count = os.preadv(handle, [buffer], offset)
            if count != size:
                raise OSError(5, f"short read of {device} at {offset}")
            return bytes(buffer[:size])
        finally:
            buffer.close()
    finally:
        os.close(handle)
