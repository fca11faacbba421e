"""The claim on a file system: who may use it, under which epoch. Kept in one small file in its root directory.

It must be readable before the file system is mounted for writing, while the last owner's journal may still be
unreplayed; a read-only mount is no way to look, since ext4 works off its orphan list even then. So:
- `store` writes the file and then has the kernel check-point the journal (ioctl, or freeze and thaw): from then on the
  inode, its block and the directory entry are in their final places on the disk, whatever the journal holds later.
- `peek` reads ext4 with debugfs: no mount, no write, no bitmaps, past the page cache. XFS is mounted `ro,norecovery` in
  a mount namespace of its own, which by definition writes nothing.
The one case that `peek` can miss (the root directory was just being re-indexed) is caught after the mount, when the
claim is compared once more before anything else may use the file system.
"""

import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

import msgspec

NAME = ".hamail-claim"
CLAIM_BYTES = 4096
EXT4_IOC_CHECKPOINT = 0x4004662B
FIFREEZE = 0xC0045877
FITHAW = 0xC0045878
CLONE_NEWNS = 0x20000
MS_RDONLY = 0x1
MS_PRIVATE_RECURSIVE = 0x40000 | 0x4000
DEBUGFS_TIMEOUT_S = 20
XFS_TYPE = "xfs"


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    cluster: str
    group: str
    epoch: int
    node: str


class ClaimError(Exception):
    """The claim cannot be read or is damaged."""


def decode(data: bytes) -> Claim | None:
    """None for an empty file (a crash while it was created: nothing had used the storage yet)."""
    text = data.rstrip(b"\0 \n")
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=Claim)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ClaimError(f"the claim on the storage ({NAME}) is damaged: {error}") from None


def encode(claim: Claim) -> bytes:
    # always the same size, so that an update never needs another block or another inode size
    return msgspec.json.encode(claim).ljust(CLAIM_BYTES - 1) + b"\n"


def conflict(found: Claim | None, ours: Claim) -> str:
    """ "" when `ours` may follow `found`, else why not."""
    if found is None:
        return ""
    if found.cluster != ours.cluster:
        return (
            f"the storage belongs to cluster {found.cluster!r}, this is {ours.cluster!r}: check `device`, "
            f"or remove {NAME} from it by hand if it was moved on purpose"
        )
    if found.group != ours.group:
        return f"the storage belongs to group {found.group!r}, not {ours.group!r}: check `device` in the configuration"
    if found.epoch > ours.epoch:
        return (
            f"node {found.node!r} has claimed the storage under epoch {found.epoch}, this start is for epoch "
            f"{ours.epoch}: it is out of date, and nothing was mounted for writing. (If the cluster was set up anew "
            f"since then, remove {NAME} from the storage by hand)"
        )
    if found.epoch == ours.epoch and found.node != ours.node:
        return f"node {found.node!r} has claimed the storage under the same epoch {found.epoch}"
    return ""


def load(directory: str) -> Claim | None:
    """From a mounted file system. Raises OSError, ClaimError."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # others may write there: no link, no pipe
    try:
        handle = os.open(Path(directory) / NAME, flags)
    except FileNotFoundError:
        return None
    try:
        return decode(os.read(handle, CLAIM_BYTES))
    finally:
        os.close(handle)


def store(directory: str, claim: Claim) -> None:
    """Durable, and readable by `peek` from now on, when this returns. Raises OSError (outcome unknown)."""
    data = encode(claim)
    handle = os.open(Path(directory) / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        if os.pwrite(handle, data, 0) != len(data):
            raise OSError(28, "no space for the claim")
        os.fsync(handle)
        checkpoint(handle)
    finally:
        os.close(handle)


def checkpoint(handle: int) -> None:
    """Bring everything the journal holds to its final place on the disk. Raises OSError."""
    try:
        fcntl.ioctl(handle, EXT4_IOC_CHECKPOINT, struct.pack("I", 0))
    except OSError as error:
        if error.errno not in {22, 25, 95}:  # EINVAL, ENOTTY, EOPNOTSUPP: XFS, or a kernel before 5.14
            raise
        fcntl.ioctl(handle, FIFREEZE, 0)
        fcntl.ioctl(handle, FITHAW, 0)


def thaw(directory: str) -> str:
    """End a freeze. Returns "" (also when it was not frozen) or why it could not be done."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(handle, FITHAW, 0)
        finally:
            os.close(handle)
    except OSError as error:
        return "" if error.errno == errno.EINVAL else f"cannot thaw {directory}: {error.strerror}"
    return ""


def peek(device: str, fstype: str) -> Claim | None:
    """The claim on a file system that is not mounted here. Writes nothing. Raises ClaimError, OSError."""
    return _peek_xfs(device) if fstype == XFS_TYPE else _peek_ext4(device)


def _peek_ext4(device: str) -> Claim | None:
    program = shutil.which("debugfs", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise ClaimError("debugfs is missing: install e2fsprogs")
    try:
        done = subprocess.run(
            [program, "-c", "-D", "-R", f"cat /{NAME}", device],
            capture_output=True,
            timeout=DEBUGFS_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise ClaimError(f"reading the claim on {device} took more than {DEBUGFS_TIMEOUT_S} s") from None
    noise = [line for line in done.stderr.decode(errors="replace").splitlines() if not line.startswith("debugfs ")]
    if not done.stdout and any("File not found" in line for line in noise):
        return None
    if done.returncode or (noise and not done.stdout):
        raise ClaimError(f"cannot read the claim on {device}: {' '.join(noise) or 'debugfs failed'}")
    return decode(done.stdout)


def _peek_xfs(device: str) -> Claim | None:
    """Call it in a child that ends soon: it moves the process to a mount namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(CLONE_NEWNS), "unshare")
    _check(libc.mount(None, b"/", None, MS_PRIVATE_RECURSIVE, None), "make / private")
    point = Path("/run/hamail-agents/peek")
    point.mkdir(parents=True, exist_ok=True)
    options = b"norecovery,nouuid"
    _check(libc.mount(device.encode(), bytes(point), b"xfs", MS_RDONLY, options), f"mount {device} read-only")
    try:
        return load(str(point))
    finally:
        _check(libc.umount2(bytes(point), 0), f"unmount {device}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
