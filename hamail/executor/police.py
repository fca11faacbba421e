"""Keeps what belongs to groups off a node that does not hold them: addresses are removed, other things reported."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from hamail.executor import verify
from hamail.executor.kinds import addresses_of_group, mount_of
from hamail.model.actions import Stray
from hamail.model.spec import GroupSpec

TICK_S = 1.0
DEBOUNCE_S = 0.01
NETLINK_READ_BYTES = 64 << 10
NETLINK_READS_MAX = 64
_RTMGRP_IPV4_IFADDR = 0x10
_RTMGRP_IPV6_IFADDR = 0x100

log = logging.getLogger("hamail.executor.police")


class AddressEvents:
    """Calls back when any address of this machine has changed. What changed is for the caller to look up."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        if self._timer is not None:
            self._timer.cancel()

    def _readable(self) -> None:
        for _read in range(NETLINK_READS_MAX):
            try:
                self._socket.recv(NETLINK_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                break  # ENOBUFS: events were lost, which is a change as well
        if self._timer is None:  # a burst of changes is looked at once
            self._timer = self._loop.call_later(DEBOUNCE_S, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._changed()


class Police:
    """`free_groups` gives the configured groups that are neither held nor being cleaned here; `evict` removes."""

    def __init__(
        self,
        free_groups: Callable[[], list[GroupSpec]],
        evict: Callable[[GroupSpec, frozenset[str]], Awaitable[list[str]]],
        tell: Callable[[Stray], None],
    ) -> None:
        self._free_groups = free_groups
        self._evict = evict
        self._tell = tell
        self._reported: set[tuple[str, str]] = set()
        self._unremovable: set[str] = set()
        self._at_work: set[str] = set()  # groups whose addresses are being removed

    async def look(self, present: frozenset[str]) -> None:
        """One round, over all groups at once: an agent that hangs holds up only its own."""
        groups = [group for group in self._free_groups() if group.name not in self._at_work]
        self._mounts(groups)
        await asyncio.gather(*(self._addresses(group, present) for group in groups))

    async def _addresses(self, group: GroupSpec, present: frozenset[str]) -> None:
        strays = addresses_of_group(group) & present
        if not strays:
            self._unremovable.discard(group.name)
        if not strays or group.name in self._at_work:
            return
        for ip in sorted(strays):
            log.warning("address %s of group %s is on this node, which does not hold it: removing", ip, group.name)
        self._at_work.add(group.name)
        try:
            left = await self._evict(group, strays)
        finally:
            self._at_work.discard(group.name)
        for ip in sorted(strays):
            self._tell_once(Stray(group=group.name, what=f"address {ip}", removed=not left))

    def _tell_once(self, stray: Stray) -> None:
        """What cannot be removed is tried every tick, but told once."""
        if stray.removed:
            self._unremovable.discard(stray.group)
        elif stray.group in self._unremovable:
            return
        else:
            self._unremovable.add(stray.group)
        self._tell(stray)

    def _mounts(self, groups: list[GroupSpec]) -> None:
        seen = {(name, what) for name, what in self._reported if name in self._at_work}
        for group in groups:
            for mount in (m for r in group.resources if (m := mount_of(r)) is not None):
                try:
                    seen.update((group.name, what) for what in verify.visible_mounts(mount))
                except OSError as error:
                    log.warning("mounts of group %s cannot be looked at: %s", group.name, error)
        for group_name, what in sorted(seen - self._reported):
            log.warning("group %s is not held here, yet %s", group_name, what)
            self._tell(Stray(group=group_name, what=what, removed=False))
        self._reported = seen
