"""Devices and mount points of the groups: present, the same everywhere, and safe while nothing is mounted."""

import fcntl
import os
import stat
import struct
from pathlib import Path

from hamail.machine.run import Failed, output, text
from hamail.model.machine import LINES_MAX, StorageFacts
from hamail.model.spec import GroupSpec
from hamail.ocf.mountpoint import FS_IMMUTABLE_FL, FS_IOC_GETFLAGS
from hamail.ocf.mounts import mounts

BLKGETSIZE64 = 0x80081272
MAIL_USERS_MODE = 0o222
FSTAB = Path("/etc/fstab")


def file_systems(groups: tuple[GroupSpec, ...]) -> dict[str, tuple[str, str]]:
    """ "group/resource" -> device, directory: of hamail's agent and of Pacemaker's."""
    return {
        f"{g.name}/{r.name}": (r.parameters.get("device", ""), r.parameters.get("directory", "").rstrip("/"))
        for g in groups
        for r in g.resources
        if r.agent.partition(":")[2].lower() == "filesystem" and r.parameters.get("directory")
    }


def look(groups: tuple[GroupSpec, ...]) -> dict[str, StorageFacts]:
    return {name: one(device, directory) for name, (device, directory) in file_systems(groups).items()}


def one(device: str, directory: str) -> StorageFacts:
    mounted = any(m.point == directory for m in mounts("1") or mounts())
    path, problem = resolved(device)
    facts = StorageFacts(directory=directory, device=device, mounted=mounted, problem=problem)
    size_bytes, uuid, fstype = 0, "", ""
    if path:
        try:
            size_bytes = size_of(path)
        except OSError as error:
            problem = f"{device} cannot be opened: {error.strerror}"
        try:
            uuid, fstype = tags(path)
        except Failed as error:
            problem = problem or str(error)
    return StorageFacts(
        directory=directory,
        device=device,
        present=bool(path),
        size_bytes=size_bytes,
        uuid=uuid,
        fstype=fstype,
        mounted=mounted,
        bare="hidden" if mounted else bare(Path(directory)),
        problem=problem or facts.problem,
    )


def resolved(device: str) -> tuple[str, str]:
    """The block device behind a name or a tag (UUID=...), and the problem if there is none."""
    path = device
    if "=" in device and not device.startswith("/"):
        try:
            path = output("blkid", "-t", device, "-o", "device").split("\n")[0]
        except Failed:
            return "", f"no device here has {device}"
    try:
        found = Path(path).stat()
    except OSError as error:
        return "", f"{device}: {error.strerror}"
    if not stat.S_ISBLK(found.st_mode):
        return "", f"{device} is not a block device"
    return path, ""


def size_of(path: str) -> int:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return int(struct.unpack("Q", fcntl.ioctl(handle, BLKGETSIZE64, b"\0" * 8))[0])
    finally:
        os.close(handle)


def tags(path: str) -> tuple[str, str]:
    """UUID and file system, from the disk itself and not from a cache. Raises Failed."""
    told = output("blkid", "-p", "-o", "export", path, codes=(0, 2))
    values = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    return values.get("UUID", ""), values.get("TYPE", "")


def bare(directory: Path) -> str:
    """What a service would meet there now: see StorageFacts."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return "missing"
    try:
        if immutable(handle):
            return "immutable"
        if any(os.scandir(handle)):
            return "filled"
        return "open" if os.fstat(handle).st_mode & MAIL_USERS_MODE else "unwritable"
    finally:
        os.close(handle)


def immutable(handle: int) -> bool:
    try:
        answer = fcntl.ioctl(handle, FS_IOC_GETFLAGS, struct.pack("l", 0))
    except OSError:
        return False  # this file system has no such flag
    return bool(struct.unpack("l", answer)[0] & FS_IMMUTABLE_FL)


def in_fstab(groups: tuple[GroupSpec, ...]) -> tuple[str, ...]:
    """Lines by which the boot, or a person's `mount -a`, would mount what belongs to a group."""
    found = []
    wanted = file_systems(groups).values()
    names = {device for device, _ in wanted} | {directory for _, directory in wanted}
    same = {os.path.realpath(device) for device, _ in wanted if device.startswith("/")}
    for line in text(FSTAB).splitlines():
        words = line.split()
        if len(words) < 2 or words[0].startswith("#"):
            continue
        real = os.path.realpath(words[0]) if words[0].startswith("/") else ""
        if words[0] in names or words[1].rstrip("/") in names or real in same:
            found.append(" ".join(words[:4])[:200])
    return tuple(found[:LINES_MAX])
