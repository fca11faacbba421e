"""The shared LUN: one image file; each node has its own path to it (a FUSE server) and its own loop device on top.

Own paths and own block caches, as separate hosts on one SAN have: killing a node's server loses what the node had not
synced and closes its path for good, stopping it hangs the node's I/O. What arrives is recorded (`arrivals`).
Run as `python -m tests.lab.lun FILE IMAGE`.
"""

import fcntl
import os
import struct
import subprocess
import sys
from pathlib import Path

from tests.lab.arrivals import Arrivals
from tests.lab.fuse import DIRECT_IO, FSYNC, OPEN, READ, WRITE, FuseFile

SIZE_BYTES = 256 << 20
LOOP_CLR_FD = 0x4C01
PRIORITY = -10  # a SAN has processors of its own: without it the replay of a journal takes seconds on a busy machine
MKE2FS_TIMEOUT_S = 60


class LunPath(FuseFile):
    def __init__(self, path: Path, image: Path) -> None:
        self.image = os.open(image, os.O_RDWR | os.O_CLOEXEC)
        self.arrivals = Arrivals(path.parent)
        super().__init__(path, os.fstat(self.image).st_size)

    def handle(self, opcode: int, body: memoryview) -> bytes:
        if opcode == OPEN:
            return struct.pack("<QII", 1, DIRECT_IO, 0)  # nothing cached outside the node
        if opcode == READ:
            offset, length = struct.unpack_from("<QI", body, 8)
            return os.pread(self.image, length, offset)
        if opcode == WRITE:
            offset, length = struct.unpack_from("<QI", body, 8)
            data = body[40 : 40 + length]
            written = os.pwrite(self.image, data, offset)
            self.arrivals.note(data)
            return struct.pack("<II", written, 0)
        if opcode == FSYNC:
            os.fdatasync(self.image)
        return b""


def create(image: Path, content: Path, mmp: bool) -> None:
    """Make the LUN: ext4 with a copy of `content`, with multi mount protection if asked for."""
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    protection = ["-O", "mmp", "-E", "mmp_update_interval=1"] if mmp else []
    command = ["mke2fs", "-q", "-F", "-t", "ext4", *protection, "-L", "mail", "-d", str(content), str(image)]
    subprocess.run(command, check=True, timeout=MKE2FS_TIMEOUT_S)


def attach(path: Path) -> str:
    """A loop device over `path`."""
    command = ["losetup", "--find", "--show", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()


def detach(path: Path) -> None:
    """Free every loop device over `path`; one that is still in use goes by itself with its last user."""
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if backing.read_text().strip().removesuffix(" (deleted)") != str(path):
                continue
            device = os.open(f"/dev/{backing.parts[-3]}", os.O_RDONLY)
        except OSError:
            continue  # freed meanwhile
        try:
            fcntl.ioctl(device, LOOP_CLR_FD)
        except OSError:
            pass
        finally:
            os.close(device)


if __name__ == "__main__":
    os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    LunPath(Path(sys.argv[1]), Path(sys.argv[2])).serve()
