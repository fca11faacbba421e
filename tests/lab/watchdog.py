"""A node's watchdog, served from outside it as a FUSE file that is bind-mounted on /dev/watchdog.

It speaks the Linux watchdog protocol: a write or WDIOC_KEEPALIVE feeds it, a close disarms it only after a written 'V',
a second open is EBUSY. Not fed in time, it cuts the node's power, and with `reset` puts it on again as a board's would.
SIGUSR1 stops its clock and SIGUSR2 lets it go on: the pause of a virtual machine.
Run as `python -m tests.lab.watchdog FILE LAB NODE POWER_ON`.
"""

import errno
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

from tests.lab.fuse import DIRECT_IO, IOCTL, NON_SEEKABLE, OPEN, RELEASE, WRITE, FuseFile, boottime_s

DEFAULT_TIMEOUT_S = 10
IDENTITY = b"hamail lab watchdog"
OPTIONS = 0x8000 | 0x0100 | 0x0080  # keepalive, magic close, set timeout
IOCTLS = {
    0x80285700: "support",
    0x80045701: "status",
    0x80045702: "boot status",
    0x80045705: "keepalive",
    0xC0045706: "set timeout",
    0x80045707: "get timeout",
    0x8004570A: "time left",
}


class Watchdog(FuseFile):
    longest_wait_ms = 200

    def __init__(self, path: Path, expire: list[str]) -> None:
        super().__init__(path)
        self.expire = expire
        self.timeout_s = DEFAULT_TIMEOUT_S
        self.opened = False
        self.magic = False
        self.left_s: float | None = None  # while the clock is stopped

    def expired(self) -> None:
        print(f"{time.monotonic_ns()} watchdog expired: cutting the power", flush=True)
        # A process of its own: the cut ends this server.
        subprocess.Popen(self.expire, start_new_session=True)

    def feed(self) -> None:
        self.expires_s = boottime_s() + self.timeout_s

    def pause(self) -> None:
        if self.expires_s is not None:
            self.left_s, self.expires_s = self.expires_s - boottime_s(), None

    def resume(self) -> None:
        if self.left_s is not None:
            self.expires_s, self.left_s = boottime_s() + self.left_s, None

    def handle(self, opcode: int, body: memoryview) -> bytes:
        if opcode == OPEN:
            if self.opened:
                raise OSError(errno.EBUSY, "already open")
            self.opened, self.magic = True, False
            self.feed()
            return struct.pack("<QII", 1, DIRECT_IO | NON_SEEKABLE, 0)
        if opcode == WRITE:
            (length,) = struct.unpack_from("<I", body, 16)
            self.magic = b"V" in bytes(body[40 : 40 + length])
            self.feed()
            return struct.pack("<II", length, 0)
        if opcode == RELEASE:
            self.opened = False
            if self.magic:
                self.expires_s = None
        if opcode == IOCTL:
            return self._ioctl(body)
        return b""

    def _ioctl(self, body: memoryview) -> bytes:
        (command,) = struct.unpack_from("<I", body, 12)
        (out_bytes,) = struct.unpack_from("<I", body, 28)
        name = IOCTLS.get(command)
        if name is None:
            raise OSError(errno.ENOTTY, "not a watchdog ioctl")
        if name == "set timeout":
            (wanted_s,) = struct.unpack_from("<i", body, 32)
            if wanted_s < 1:
                raise OSError(errno.EINVAL, "timeout below a second")
            self.timeout_s = wanted_s
        if name in ("set timeout", "keepalive"):
            self.feed()
        left_s = 0 if self.expires_s is None else max(0, int(self.expires_s - boottime_s()))
        numbers = {"status": 0, "boot status": 0, "keepalive": 0, "time left": left_s}
        data = (
            struct.pack("<II32s", OPTIONS, 1, IDENTITY)
            if name == "support"
            else struct.pack("<i", numbers.get(name, self.timeout_s))
        )
        return struct.pack("<iIII", 0, 0, 0, 0) + data[:out_bytes]


def main() -> None:
    path, lab, node, generation = sys.argv[1:]
    order = ["-m", "tests.lab", "--lab", lab, "watchdog-expired", node, generation]
    watchdog = Watchdog(Path(path), [sys.executable, *order])
    signal.signal(signal.SIGUSR1, lambda *_: watchdog.pause())
    signal.signal(signal.SIGUSR2, lambda *_: watchdog.resume())
    watchdog.serve()


if __name__ == "__main__":
    main()
