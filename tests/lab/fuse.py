"""A FUSE file system that is one regular file, spoken straight over /dev/fuse: standard library only.

The lab serves two things this way, both from outside the node: a node's path to the shared LUN (`lun.py`) and its
watchdog device (`watchdog.py`). The server of either can be killed or stopped like the hardware that it stands for.
"""

import ctypes
import errno
import os
import select
import struct
import time
from pathlib import Path

GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE = 3, 4, 14, 15, 16, 17, 18
FSYNC, FLUSH, INIT, INTERRUPT, ACCESS, DESTROY, IOCTL = 20, 25, 26, 36, 34, 38, 39
FORGET, BATCH_FORGET = 2, 42
WITHOUT_ANSWER = (FORGET, INTERRUPT, BATCH_FORGET)
HANDLED = (OPEN, READ, WRITE, FSYNC, IOCTL, RELEASE)

MAX_TRANSFER = 128 * 1024
REQUEST_BYTES = 2 * MAX_TRANSFER  # the kernel wants room for the largest write and its header
IN_HEADER_BYTES = 40
DIRECT_IO = 1
NON_SEEKABLE = 4
FILE_MODE = 0o100666
MNT_DETACH = 2

LIBC = ctypes.CDLL(None, use_errno=True)


def boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def unmount(path: Path) -> None:
    """Detach whatever is mounted on `path`; nothing mounted there is fine."""
    while LIBC.umount2(os.fsencode(path), MNT_DETACH) == 0:
        pass


class FuseFile:
    """Serves one file. Subclasses answer `handle`; `expires_s` (CLOCK_BOOTTIME) makes `expired` be called."""

    expires_s: float | None = None
    longest_wait_ms: float | None = None  # a subclass whose signal handlers move `expires_s` looks again this often

    def __init__(self, path: Path, size: int = 0) -> None:
        self.size = size
        path.touch()
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self.fd},rootmode={FILE_MODE:o},user_id=0,group_id=0,allow_other,max_read={MAX_TRANSFER}"
        if LIBC.mount(b"hamail-lab", os.fsencode(path), b"fuse.hamail-lab", 0, options.encode()):
            raise OSError(ctypes.get_errno(), f"cannot mount a FUSE file on {path}")

    def expired(self) -> None:
        raise NotImplementedError

    def handle(self, opcode: int, body: memoryview) -> bytes:
        """Answer one of HANDLED with the reply's payload; an OSError becomes the caller's errno."""
        raise NotImplementedError

    def serve(self) -> None:
        """Until unmounted."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        while True:
            if not poll.poll(self._wait_ms()):
                if self.expires_s is not None and boottime_s() >= self.expires_s:
                    self.expires_s = None
                    self.expired()
                continue
            try:
                request = os.read(self.fd, REQUEST_BYTES)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                if error.errno == errno.ENODEV:
                    return
                raise
            opcode, unique = struct.unpack_from("<IQ", request, 4)
            if opcode == DESTROY:
                return
            if opcode not in WITHOUT_ANSWER:
                self._answer(opcode, unique, memoryview(request)[IN_HEADER_BYTES:])

    def _wait_ms(self) -> float | None:
        if self.expires_s is None:
            return self.longest_wait_ms
        left_ms = max(0.0, self.expires_s - boottime_s()) * 1000
        return left_ms if self.longest_wait_ms is None else min(left_ms, self.longest_wait_ms)

    def _answer(self, opcode: int, unique: int, body: memoryview) -> None:
        if opcode == INIT:
            (readahead,) = struct.unpack_from("<I", body, 8)
            self._reply(
                unique, struct.pack("<IIIIHHIIHH8I", 7, 31, readahead, 0, 12, 9, MAX_TRANSFER, 1, 1, 0, *[0] * 8)
            )
        elif opcode in (GETATTR, SETATTR):
            self._reply(unique, struct.pack("<QII", 0, 0, 0) + self._attributes())
        elif opcode == STATFS:
            self._reply(unique, struct.pack("<5Q10I", 0, 0, 0, 0, 0, 4096, 255, 4096, *[0] * 7))
        elif opcode in (FLUSH, ACCESS):
            self._reply(unique)
        elif opcode in HANDLED:
            try:
                self._reply(unique, self.handle(opcode, body))
            except OSError as error:
                self._reply(unique, error=error.errno or errno.EIO)
        else:
            self._reply(unique, error=errno.ENOSYS)

    def _attributes(self) -> bytes:
        return struct.pack(
            "<QQQQQQIIIIIIIIII", 1, self.size, self.size // 512, 0, 0, 0, 0, 0, 0, FILE_MODE, 1, 0, 0, 0, 4096, 0
        )

    def _reply(self, unique: int, data: bytes = b"", error: int = 0) -> None:
        try:
            os.write(self.fd, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)
        except OSError as failure:
            if failure.errno != errno.ENOENT:  # ENOENT: the asking process was interrupted and has gone
                raise
