"""A bare mount point is a trap: services would build a fresh queue on the root disk. So it is locked meanwhile."""

import fcntl
import os
import struct
from pathlib import Path

FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_IMMUTABLE_FL = 0x10


def protect(directory: str) -> str:
    """Mode 000 and immutable. Best effort: returns "" or what could not be done (some file systems cannot)."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        return f"cannot open {directory}: {error.strerror}"
    try:
        if _is_mount(handle, directory):
            return ""  # mounted a moment ago: what is seen there now is the storage itself
        flags = _flags(handle)
        if flags & FS_IMMUTABLE_FL:
            return ""
        os.fchmod(handle, 0)
        fcntl.ioctl(handle, FS_IOC_SETFLAGS, struct.pack("l", flags | FS_IMMUTABLE_FL))
    except OSError as error:
        return f"cannot make {directory} immutable while it is not mounted: {error.strerror}"
    finally:
        os.close(handle)
    return ""


def _is_mount(handle: int, directory: str) -> bool:
    """Is the open directory the root of a mount, rather than the bare mount point?"""
    above = os.open(Path(directory).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _mount_id(handle) != _mount_id(above)
    finally:
        os.close(above)


def _mount_id(handle: int) -> str:
    lines = Path(f"/proc/self/fdinfo/{handle}").read_text().splitlines()
    return next(line for line in lines if line.startswith("mnt_id:"))


def _flags(handle: int) -> int:
    answer = fcntl.ioctl(handle, FS_IOC_GETFLAGS, struct.pack("l", 0))
    return int(struct.unpack("l", answer)[0])
