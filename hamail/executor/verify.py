"""What the kernel says about a resource, independent of any agent: processes, mounts, addresses.

Every function returns what is left as words for a sentence; an empty result means that nothing is left. What cannot be
seen (no free descriptor, no memory) raises OSError: it must not be taken for nothing.
"""

import asyncio
import errno
import ipaddress
import os
import stat
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import psutil

from hamail.executor import hostmounts
from hamail.executor.cgroups import ProcessSet, cgroup_dirs, describe, pids_below
from hamail.executor.kinds import MountPoint

HOLDERS_NAMED_MAX = 8
STORAGE_TIMEOUT_S = 0.5
T = TypeVar("T")
_asking: dict[str, Future[Any]] = {}  # device or claim -> the question that is put to it just now, in a thread
_DEVICE_LINKS = {
    "UUID": "by-uuid",
    "LABEL": "by-label",
    "PARTUUID": "by-partuuid",
    "PARTLABEL": "by-partlabel",
    "ID": "by-id",
}


def alive(pid: int, start_ticks: int) -> bool:
    """Does this very process (not another one with its number) still run? A zombie does not.

    Raises OSError when that cannot be seen.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0] not in "ZX" and int(fields[19]) == start_ticks
    except (FileNotFoundError, ProcessLookupError, IndexError, ValueError):
        return False


def processes_left(watched: Iterable[tuple[int, int]], sets: Iterable[ProcessSet], cgroups: Iterable[str]) -> list[str]:
    """Processes that a resource still has."""
    pids = {pid for pid, start in watched if alive(pid, start)}
    for processes in sets:
        pids.update(processes.pids())
    for name in cgroups:
        for folder in cgroup_dirs(name):
            pids.update(pids_below(folder))
    return [f"process {describe(pid)}" for pid in sorted(pids)[:HOLDERS_NAMED_MAX]]


def local_addresses() -> frozenset[str]:
    """Every IP on this machine, in canonical form."""
    found = set()
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            try:
                found.add(str(ipaddress.ip_address(entry.address.partition("%")[0])))
            except ValueError:
                continue  # a MAC address
    return frozenset(found)


def addresses_left(addresses: frozenset[str]) -> list[str]:
    return [f"address {ip}" for ip in sorted(addresses & local_addresses())] if addresses else []


async def mounts_left(mount: MountPoint | None) -> list[str]:
    """Mounts of the device or on the directory, here or (as far as the kernel tells) in another namespace."""
    if mount is None:
        return []
    found = visible_mounts(mount)
    if found:
        return found
    device = mount.device
    claimed = await ask(device, lambda: _claimed(device))
    if claimed is None:
        return [f"device {mount.device} does not answer: whether the kernel still uses it is unknown"]
    if claimed:
        return [f"device {mount.device} is still in use by the kernel: mounted in another mount namespace, or held"]
    return []


def mount_holders(mount: MountPoint | None) -> list[str]:
    """Who keeps it mounted, for the operator. Looks at every process: only for the failure's sentence."""
    if mount is None:
        return []
    if visible_mounts(mount):
        return _users_of(mount)
    return [f"mounted for {holder}" for holder in _namespaces_with(mount)]


def visible_mounts(mount: MountPoint) -> list[str]:
    """Mounts where agents act. Cheap: one read of mountinfo."""
    return _mounts_in(hostmounts.owner(), mount, number_of(mount.device))


def _mounts_in(process: str, mount: MountPoint, number: str | None) -> list[str]:
    found = []
    for line in Path(f"/proc/{process}/mountinfo").read_text(errors="surrogateescape").splitlines():
        head, _, tail = line.partition(" - ")
        fields = head.split()
        where, source = _unescape(fields[4]), _unescape(tail.split()[1])
        same_device = (number is not None and fields[2] == number) or (mount.device and source == mount.device)
        if same_device or where == os.path.normpath(mount.directory):
            found.append(f"{source} is mounted on {where}")
    return found


def number_of(device: str) -> str | None:
    """ "7:1" for a block device given by path or as UUID=..., None where there is none to be found."""
    path = block_path(device)
    try:
        found = Path(path).stat() if path else None
    except OSError:
        return None
    if found is None or not stat.S_ISBLK(found.st_mode):
        return None
    return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"


def block_path(device: str) -> str | None:
    if device.startswith("/"):
        return device
    key, _, value = device.partition("=")
    folder = _DEVICE_LINKS.get(key.upper())
    return f"/dev/disk/{folder}/{value}" if folder and value and "/" not in value else None


async def ask(about: str, question: Callable[[], T]) -> T | None:
    """The answer of what must not raise, or None when there is none in time.

    Opening, reading or closing what lies on hung storage can block for ever, and then must not take the dead-man's
    switch along. While one question hangs no other about the same is put, so that threads do not pile up.
    """
    try:
        async with asyncio.timeout(STORAGE_TIMEOUT_S):
            while (earlier := _asking.get(about)) is not None:
                await asyncio.wrap_future(earlier)  # it was put before ours, so its answer is not ours
            return await asyncio.wrap_future(_put_question(about, question))
    except TimeoutError:
        return None


def _put_question(about: str, question: Callable[[], T]) -> Future[T]:
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()  # who asks may give up; the question goes on

    def put() -> None:
        try:
            value = question()
        finally:
            del _asking[about]
        answer.set_result(value)

    _asking[about] = answer
    threading.Thread(target=put, daemon=True).start()  # a daemon: a stuck one must not keep the process from ending
    return answer


def _claimed(device: str) -> bool:
    """Does the kernel hold the block device exclusively? It does while any namespace has it mounted."""
    path = block_path(device)
    if path is None or number_of(device) is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return error.errno == errno.EBUSY  # anything else says nothing about a mount
    os.close(descriptor)
    return False


def _namespaces_with(mount: MountPoint) -> list[str]:
    number = number_of(mount.device)
    seen: set[int] = set()
    holders: list[str] = []
    for pid in psutil.pids():
        try:
            namespace = Path(f"/proc/{pid}/ns/mnt").stat().st_ino
            if namespace in seen:
                continue
            seen.add(namespace)
            if _mounts_in(str(pid), mount, number):
                holders.append(describe(pid))
        except OSError:
            continue  # it ended meanwhile
        if len(holders) >= HOLDERS_NAMED_MAX:
            break
    return holders


def _users_of(mount: MountPoint) -> list[str]:
    """Who has something open below the directory: the reason why an unmount is refused."""
    prefix = os.path.normpath(mount.directory)
    users = []
    for pid in psutil.pids():
        if _uses(pid, prefix):
            users.append(f"used by {describe(pid)}")
            if len(users) >= HOLDERS_NAMED_MAX:
                break
    return users


def _uses(pid: int, prefix: str) -> bool:
    try:
        links = [Path(f"/proc/{pid}/{name}") for name in ("cwd", "root", "exe")]
        links += Path(f"/proc/{pid}/fd").iterdir()
    except OSError:
        return False
    for link in links:
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target == prefix or target.startswith(prefix + "/"):
            return True
    return False


def _unescape(field: str) -> str:
    return field.encode(errors="surrogateescape").decode("unicode_escape") if "\\" in field else field
