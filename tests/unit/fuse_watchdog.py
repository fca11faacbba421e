"""A watchdog device for tests: a FUSE file that speaks the watchdog protocol and writes what happens to a log.

python fuse_watchdog.py FILE LOG: serves FILE until it is unmounted. Lines in LOG: open, settimeout N, feed, close
(disarmed or not), expired.
"""

import ctypes
import errno
import os
import select
import struct
import sys
import time

OPCODES = {"getattr": 3, "setattr": 4, "open": 14, "write": 16, "statfs": 17, "release": 18, "flush": 25, "init": 26}
OPCODES |= {"access": 34, "destroy": 38, "ioctl": 39}
NAMES = {number: name for name, number in OPCODES.items()}
SILENT = {2, 36, 42}  # forget, interrupt, batch forget: have no answer
INT_IOCTLS = {0x80045705: "keepalive", 0xC0045706: "settimeout", 0x80045707: "gettimeout"}
SUPPORT = 0x80285700


class FuseWatchdog:
    def __init__(self, path: str, log: str) -> None:
        open(path, "a").close()
        self.log_file = open(log, "a", buffering=1)
        self.fuse = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.fuse},rootmode=100666,user_id=0,group_id=0,allow_other".encode()
        if ctypes.CDLL(None, use_errno=True).mount(b"watchdog", path.encode(), b"fuse.watchdog", 0, options):
            raise OSError(ctypes.get_errno(), "mount")
        self.timeout = 60
        self.opened = self.magic = False
        self.expires: float | None = None
        self.log("ready")

    def log(self, line: str) -> None:
        self.log_file.write(f"{time.monotonic():.3f} {line}\n")

    def serve(self) -> None:
        while True:
            wait = None if self.expires is None else max(0.0, self.expires - time.monotonic())
            if not select.select([self.fuse], [], [], wait)[0]:
                self.expires = None
                self.log("expired")
                continue
            try:
                request = os.read(self.fuse, 1 << 18)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                continue
            number, unique = struct.unpack_from("<IQ", request, 4)
            if number in SILENT:
                continue
            answer = getattr(self, "do_" + NAMES.get(number, "unknown"), lambda _body: errno.ENOSYS)(request[40:])
            data, error_number = (b"", answer) if isinstance(answer, int) else (answer, 0)
            os.write(self.fuse, struct.pack("<IiQ", 16 + len(data), -error_number, unique) + data)

    def do_init(self, body: bytes) -> bytes:
        return struct.pack("<IIIIHHIIHH8I", 7, 31, 0, 0, 12, 9, 131072, 1, 1, 0, *[0] * 8)

    def do_getattr(self, body: bytes) -> bytes:
        attributes = struct.pack("<QQQQQQIIIIIIIIII", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o100666, 1, 0, 0, 0, 4096, 0)
        return struct.pack("<QII", 0, 0, 0) + attributes

    do_setattr = do_getattr

    def do_statfs(self, body: bytes) -> bytes:
        return struct.pack("<5Q10I", 0, 0, 0, 0, 0, 4096, 255, 4096, *[0] * 7)

    def do_access(self, body: bytes) -> int:
        return 0

    do_flush = do_access

    def do_open(self, body: bytes) -> bytes | int:
        if self.opened:
            return errno.EBUSY
        self.opened, self.magic = True, False
        self.feed("open")
        return struct.pack("<QII", 1, 1 | 4, 0)  # direct I/O, not seekable

    def do_write(self, body: bytes) -> bytes:
        (size,) = struct.unpack_from("<I", body, 16)
        self.magic = b"V" in body[40 : 40 + size]
        self.feed("write")
        return struct.pack("<II", size, 0)

    def do_release(self, body: bytes) -> int:
        self.opened = False
        self.expires = None if self.magic else self.expires
        self.log("closed, disarmed" if self.magic else "closed, still armed")
        return 0

    def do_ioctl(self, body: bytes) -> bytes | int:
        (command,) = struct.unpack_from("<I", body, 12)
        (size,) = struct.unpack_from("<I", body, 28)
        if command == SUPPORT:
            data = struct.pack("<II32s", 0x8180, 1, b"test watchdog")
        elif command in INT_IOCTLS:
            if INT_IOCTLS[command] == "settimeout":
                self.timeout = max(1, struct.unpack_from("<i", body, 32)[0])
                self.log(f"settimeout {self.timeout}")
            if INT_IOCTLS[command] != "gettimeout":
                self.feed(INT_IOCTLS[command])
            data = struct.pack("<i", self.timeout)
        else:
            return errno.ENOTTY
        return struct.pack("<iIII", 0, 0, 0, 0) + data[:size]

    def feed(self, how: str) -> None:
        self.expires = time.monotonic() + self.timeout
        self.log(how)


if __name__ == "__main__":
    FuseWatchdog(sys.argv[1], sys.argv[2]).serve()
