"""Shared storage: one LUN per group. It serves whoever can reach it; only the claim on it says whose it is.

What it does not do is as important: the claim is read when a node mounts, not when it writes. A node that has the file
system mounted can write until it unmounts, loses its power or is cut off, whatever others have claimed meanwhile; two
nodes that write at once damage each other's files. So it is with ext4 on a real LUN.
"""

import random
from collections.abc import Hashable
from typing import TYPE_CHECKING, TypeAlias

from hamail.model.ids import Epoch, GroupName, NodeName
from hamail.ocf.claim import Claim, conflict

if TYPE_CHECKING:
    from hamail.simulation.checkers.gate import Gate

Key: TypeAlias = Hashable
DAMAGED = "damaged"


class StorageError(Exception):
    """The storage cannot be reached, or refuses: surely nothing was written."""


class Mount:
    """A file system that one node has mounted. Reads see what this node wrote; others see only what has landed."""

    def __init__(self, lun: "Lun", node: NodeName, epoch: Epoch, *, read_only: bool) -> None:
        self.lun = lun
        self.node = node
        self.epoch = epoch  # under which its node mounted; every write carries it
        self.read_only = read_only
        self.dirty: dict[Key, object] = {}  # written, but not yet on the disk; None: removed
        self.written: set[Key] = set()  # what has landed through this mount

    def write(self, key: Key, value: object) -> None:
        """Into the page cache: lost at a power cut. Raises StorageError."""
        if self.read_only:
            raise StorageError("read-only file system")
        self.dirty[key] = value

    def read(self, key: Key) -> object:
        return self.dirty[key] if key in self.dirty else self.lun.durable.get(key)

    def view(self) -> dict[Key, object]:
        return {k: v for k, v in {**self.lun.durable, **self.dirty}.items() if v is not None}

    def sync(self) -> None:
        """fsync: all that was written has landed when this returns. Raises StorageError; then nothing has."""
        if self.node in self.lun.cut_off:
            self.read_only = True  # errors=remount-ro
            self.dirty.clear()  # the kernel marks the failed pages clean: they are gone
            raise StorageError("input/output error")
        self.lun.land(self, self.dirty)
        self.dirty.clear()

    @property
    def hangs(self) -> bool:
        return self.node in self.lun.hung


class Lun:
    """`gate` judges every write that lands and every new claim; it prevents nothing."""

    def __init__(self, group: GroupName, rng: random.Random, gate: "Gate") -> None:
        self.group = group
        self._rng = rng
        self._gate = gate
        self.durable: dict[Key, object] = {}
        self.claim: Claim | None = None
        self.mounts: dict[NodeName, Mount] = {}
        self.newest: Epoch = 0  # of all writes that have landed
        self.cut_off: set[NodeName] = set()  # for these every access fails
        self.hung: set[NodeName] = set()  # for these no access ends
        self.mounted_read_only: set[NodeName] = set()  # a mount there comes up read-only

    def refusal(self, ours: Claim) -> str:
        """What the agent reads before it mounts. Raises StorageError."""
        if ours.node in self.cut_off:
            raise StorageError("the device is not there")
        return conflict(self.claim, ours)

    def mount(self, node: NodeName, epoch: Epoch) -> Mount:
        """For writing, and so it writes at once: the journal is replayed, the superblock marked. Nobody is asked."""
        if node in self.cut_off:
            raise StorageError("the device is not there")
        mount = Mount(self, node, epoch, read_only=node in self.mounted_read_only)
        self.mounts[node] = mount
        if not mount.read_only:
            self.land(mount, {})
        return mount

    def settle(self, ours: Claim) -> str:
        """Mounted: the claim is compared once more, then ours is made durable. Returns why not, "" when done."""
        mount = self.mounts.get(ours.node)
        if mount is None or mount.read_only:
            return "it was mounted, but not writable"
        refused = conflict(self.claim, ours)
        if not refused:
            self._gate.claimed(self.group, self.claim, ours)
            self.claim = ours
            self.land(mount, {})
        return refused

    def unmount(self, node: NodeName) -> None:
        """In order: what is dirty lands first, where it can."""
        mount = self.mounts.pop(node, None)
        if mount is not None and mount.dirty and not mount.read_only and node not in self.cut_off:
            self.land(mount, mount.dirty)

    def power_lost(self, node: NodeName) -> None:
        """Of what was dirty the kernel may have written back any part."""
        mount = self.mounts.pop(node, None)
        if mount is None or mount.read_only or node in self.cut_off:
            return
        kept = {k: v for k, v in mount.dirty.items() if self._rng.random() < 0.5}
        if kept:
            self.land(mount, kept)

    def land(self, mount: Mount, what: dict[Key, object]) -> None:
        """A write reaches the disk; nothing here asks whether it should."""
        if mount.epoch < self.newest:
            why = f"{mount.node} writes to {self.group} under epoch {mount.epoch} after a write under {self.newest}"
            self._gate.late_write(self.group, why)
        self.newest = max(self.newest, mount.epoch)
        for key, value in what.items():
            if value is None:
                self.durable.pop(key, None)
            else:
                self.durable[key] = value
        mount.written.update(what)
        for other in self.mounts.values():  # two caches that know nothing of each other
            if other is not mount and not other.read_only:
                self.durable.update(dict.fromkeys(other.written, DAMAGED))
