"""Records, from outside the nodes and from the kernel alone, which node holds what. Runs as a process of its own.

`Recorder(...)` starts and stops it; `python -m tests.lab.recorder` is that process. Per mail node it follows
- power: a pidfd of the node's init. It becomes readable only when every process of the node's PID namespace is gone;
- each floating address: rtnetlink events from a socket in the node's network namespace, and a dump at every sample;
- the mount: whether the kernel has a live ext4 on the node's own loop device, in whatever mount namespace, and the
  mount table of the node's init, which wakes us when it changes;
- Postfix and Dovecot: the children of the node's init (daemons, and orphans of a killed master) at every sample, every
  process of the node at every tenth;
and on the switch the frames that claim a floating address. Everything is stamped by one CLOCK_MONOTONIC.
"""

import argparse
import errno
import json
import os
import select
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.lab import kernel
from tests.lab.background import Background
from tests.lab.evidence import BLIND_LIMIT_NS, Evidence
from tests.lab.intervals import NS_PER_MS, Hold, Track

SAMPLE_NS = 20 * NS_PER_MS
BEAT_NS = 200 * NS_PER_MS
POWER_SEARCH_NS = 100 * NS_PER_MS  # how often an absent node's init is looked for
DEEP_EVERY_SAMPLES = 10
YOUNG_NS = 1000 * NS_PER_MS  # a process may still exec into something else
ANNOUNCEMENTS_KEPT = 20_000
# Daemons live here; the commands that agents run (postfix, postconf, doveadm) live elsewhere.
SERVICES = (("/usr/lib/postfix/", "postfix"), ("/usr/sbin/dovecot", "dovecot"), ("/usr/lib/dovecot/", "dovecot"))
ASKING = frozenset(
    {b"-t", b"-n", b"-a", b"--version", b"--build-options"}
)  # a daemon's binary that only answers and ends


class Journal:
    """The history file."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "w", buffering=1)
        self._seq = 0

    def write(self, t: int, kind: str, node: str = "", src: str = "recorder", **data: object) -> None:
        self._seq += 1
        record = {"t": t, "seq": self._seq, "src": src, "node": node, "kind": kind, "data": data}
        self._file.write(json.dumps(record, separators=(",", ":")) + "\n")


class NodeWatch:
    """One mail node through its power cycles."""

    def __init__(self, name: str, netns: str, addresses: tuple[str, ...], lun: str, journal: Journal) -> None:
        self.name, self.netns, self.addresses, self.lun, self.journal = name, netns, addresses, lun, journal
        components = [f"vip {a}" for a in addresses] + ["mount", "postfix", "dovecot"]
        self.tracks = {c: Track(name, c) for c in components}
        self.init = 0
        self.pidfd = -1
        self.watch: kernel.AddressWatch | None = None
        self.mounts: object | None = None
        self._search_at = 0
        self._device = ""  # "loop3", once the node's LUN device is known
        self._in_table = False
        self._table_changed = True
        self._strangers: dict[str, int] = {}  # pid -> first seen, of processes that are no mail service
        self._last_pids: dict[str, set[str]] = {}
        self._samples = 0
        self._deep = False  # this sample looks at every process of the node

    def descriptors(self) -> dict[int, int]:
        """File descriptors to wait on, with their epoll events."""
        if not self.init:
            return {}
        mounts = {self.mounts.fileno(): select.EPOLLPRI | select.EPOLLERR} if self.mounts else {}
        return {self.pidfd: select.EPOLLIN, self.watch.events.fileno(): select.EPOLLIN, **mounts}

    def find(self, now: int) -> bool:
        """Look for the node's init when it is off. True when it was found."""
        if self.init or now < self._search_at:
            return False
        self._search_at = now + POWER_SEARCH_NS
        init = kernel.find_init(self.netns)
        if not init:
            for track in self.tracks.values():
                self._note(track.observe(now, now, False), track)
            return False
        try:
            self.pidfd = os.pidfd_open(init)
            self.watch = kernel.AddressWatch(f"/proc/{init}/ns/net", self.addresses)
            self.mounts = open(f"/proc/{init}/mountinfo", "rb", buffering=0)
        except OSError:
            self._close()
            return False
        self.init = init
        self._device, self._in_table, self._table_changed = "", False, True
        self._strangers, self._last_pids, self._samples = {}, {}, 0
        self.journal.write(now, "power", self.name, "power", on=True, init=init)
        return True

    def gone(self, now: int) -> None:
        """Every process of the node is gone: it holds nothing."""
        self._close()
        self.init, self._search_at = 0, 0
        for track in self.tracks.values():
            self._note(track.observe(now, now, False), track)
        self.journal.write(now, "power", self.name, "power", on=False)

    def address_events(self, now: int) -> None:
        try:
            changes = self.watch.changes()
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self.journal.write(now, "blind", self.name, "netlink", why="netlink overrun", **{"from": now - SAMPLE_NS})
            return
        for address, added in changes:
            self._observe(now, f"vip {address}", added, True)

    def mount_event(self, now: int) -> None:
        self._table_changed = True
        self._sample_mount(now)

    def sample(self, now: int) -> None:
        self._samples += 1
        self.address_events(now)
        present = self.watch.present()
        for address in self.addresses:
            self._observe(now, f"vip {address}", address in present, True)
        self._sample_mount(time.monotonic_ns())
        self._sample_services(time.monotonic_ns())

    def _sample_mount(self, now: int) -> None:
        changed = self._table_changed
        if not self._device:
            self._device = self._find_device()
        if self._table_changed and self._device:
            self._table_changed = False
            self._in_table = self._listed()
        alive = bool(self._device) and (self._in_table or os.path.exists(f"/sys/fs/ext4/{self._device}"))
        self._observe(now, "mount", alive, not changed)

    def _find_device(self) -> str:
        try:
            number = os.stat(f"/proc/{self.init}/root{self.lun}").st_rdev
            return os.path.basename(os.readlink(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"))
        except OSError:
            return ""

    def _listed(self) -> bool:
        """Whether the mount table of the node's init has the LUN. The read also re-arms the change event."""
        try:
            self.mounts.seek(0)
            table = b"".join(iter(lambda: self.mounts.read(1 << 16), b""))
            number = os.stat(f"/proc/{self.init}/root{self.lun}").st_rdev
        except OSError:
            return False
        return f" {os.major(number)}:{os.minor(number)} ".encode() in table

    def _sample_services(self, before: int) -> None:
        pids = set(kernel.children(self.init))
        self._deep = self._samples % DEEP_EVERY_SAMPLES == 1
        if self._deep:
            pids.update(self._descendants(pids))
            self._strangers = {pid: since for pid, since in self._strangers.items() if pid in pids}
        found: dict[str, set[str]] = {"postfix": set(), "dovecot": set()}
        for pid in pids:
            service = self._service(pid, before)
            if service:
                found[service].add(pid)
        for service, holders in found.items():
            last = self._last_pids.get(service, set())
            if not holders:  # none on the top level any more, but perhaps below it
                holders.update(pid for pid in last if self._service(pid, before) == service)
            self._observe(before, service, bool(holders), bool(last & holders))
            self._last_pids[service] = holders

    def _descendants(self, pids: Iterable[str]) -> list[str]:
        found, level = [], list(pids)
        while level:
            level = [child for pid in level for child in kernel.children(int(pid))]
            found += level
        return found

    def _service(self, pid: str, now: int) -> str:
        """Which mail service this process belongs to; a zombie has no executable any more and belongs to none."""
        stranger_since = self._strangers.get(pid)
        if stranger_since and now - stranger_since > YOUNG_NS and not self._deep:
            return ""
        service = kernel.service_of(pid, SERVICES, ASKING)
        if service:
            self._strangers.pop(pid, None)
        else:
            self._strangers.setdefault(pid, now)
        return service

    def _observe(self, before: int, component: str, held: bool, continuous: bool) -> None:
        """`before`: taken before the kernel was asked."""
        track = self.tracks[component]
        was = track.held
        ended = track.observe(before, time.monotonic_ns(), held, continuous)
        self._note(ended, track)
        if track.held and (not was or ended):
            self.journal.write(track.first_seen, "held", self.name, component=component,
                               possible_start=track.possible_start, certain_start=track.first_seen)  # fmt: skip

    def _note(self, ended: Hold | None, track: Track) -> None:
        if ended:
            self.journal.write(ended.possible_end, "released", self.name, component=track.component,
                               possible_start=ended.possible_start, certain_start=ended.certain_start,
                               certain_end=ended.certain_end, possible_end=ended.possible_end)  # fmt: skip

    def _close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
        for held in (self.watch, self.mounts):
            if held:
                held.close()
        self.pidfd, self.watch, self.mounts = -1, None, None


class Loop:
    """Waits for events, samples every 20 ms, and says every 200 ms that it is awake."""

    def __init__(self, watches: list[NodeWatch], announce: kernel.AnnounceWatch | None, journal: Journal) -> None:
        self.watches, self.announce, self.journal = watches, announce, journal
        self.epoll = select.epoll()
        self.handlers: dict[int, tuple[NodeWatch | None, str]] = {}
        self.registered: dict[str, dict[int, int]] = {w.name: {} for w in watches}
        self.announcements = 0
        self.running = True
        if announce:
            self.epoll.register(announce.frames.fileno(), select.EPOLLIN)

    def run(self) -> None:
        next_sample = last_sample = next_beat = time.monotonic_ns()
        while self.running:
            now = time.monotonic_ns()
            if now >= next_sample:
                if now - last_sample > BLIND_LIMIT_NS:
                    self.journal.write(now, "blind", why="late", **{"from": last_sample})
                last_sample = now
                next_sample = max(next_sample + SAMPLE_NS, now + SAMPLE_NS // 2)
                self._sample_all(now)
            if now >= next_beat:
                self.journal.write(time.monotonic_ns(), "beat", cpu_s=round(time.process_time(), 3))
                next_beat = now + BEAT_NS
            wait_ns = max(0, next_sample - time.monotonic_ns())
            for fd, _ in self.epoll.poll(wait_ns / 1e9):
                self._handle(fd, time.monotonic_ns())
        self.journal.write(time.monotonic_ns(), "beat", cpu_s=round(time.process_time(), 3), end=True)

    def _sample_all(self, now: int) -> None:
        for watch in self.watches:
            if watch.find(now):
                self._register(watch)
            if watch.init:
                watch.sample(time.monotonic_ns())

    def _register(self, watch: NodeWatch) -> None:
        fds = watch.descriptors()
        self.registered[watch.name] = fds
        kinds = ("power", "address", "mount")
        for (fd, events), kind in zip(fds.items(), kinds, strict=False):
            self.epoll.register(fd, events)
            self.handlers[fd] = (watch, kind)

    def _unregister(self, watch: NodeWatch) -> None:
        for fd in self.registered[watch.name]:
            self.epoll.unregister(fd)
            del self.handlers[fd]
        self.registered[watch.name] = {}

    def _handle(self, fd: int, now: int) -> None:
        watch, kind = self.handlers.get(fd, (None, ""))
        if watch is None:
            self._announcement(fd, now)
        elif kind == "power":
            self._unregister(watch)
            watch.gone(now)
        elif kind == "address":
            watch.address_events(now)
        else:
            watch.mount_event(now)

    def _announcement(self, fd: int, now: int) -> None:
        if self.announce is None or fd != self.announce.frames.fileno():
            return  # an event of a node that went in the same round
        for port, mac, address, how in self.announce.read():
            self.announcements += 1
            if self.announcements <= ANNOUNCEMENTS_KEPT:
                self.journal.write(now, "announce", src="switch", port=port, mac=mac, address=address, how=how)


class Recorder(Background):
    """The recording process, seen from the one that wants the evidence.

    `nodes` maps the name of each mail node to its network namespace (a path), `switch` is the switch's or None.
    """

    def __init__(
        self,
        path: Path,
        nodes: Mapping[str, str],
        addresses: tuple[str, ...],
        switch: str | None,
        lun: str = "/dev/lun",
    ) -> None:
        arguments = ["--out", str(path), "--lun", lun, *(f"--node={name}={netns}" for name, netns in nodes.items())]
        arguments += [f"--vip={a}" for a in addresses] + ([f"--switch={switch}"] if switch else [])
        super().__init__("evidence recorder", "tests.lab.recorder", arguments, path)

    def stop(self) -> Evidence:
        """End the record and read it. Raises RuntimeError when the recorder died on the way."""
        self.end()
        return self.read()

    def read(self) -> Evidence:
        self.require_sound()
        return Evidence.load(self.path)


def main() -> None:
    parser = argparse.ArgumentParser(description="kernel evidence recorder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--node", action="append", required=True, help="NAME=NETNS_PATH")
    parser.add_argument("--vip", action="append", default=[])
    parser.add_argument("--switch")
    parser.add_argument("--lun", default="/dev/lun")
    options = parser.parse_args()
    kernel.die_with_parent()
    kernel.hurry()
    journal = Journal(options.out)
    addresses = tuple(options.vip)
    watches = [NodeWatch(n, ns, addresses, options.lun, journal) for n, ns in (o.split("=", 1) for o in options.node)]
    announce = kernel.AnnounceWatch(options.switch, addresses) if options.switch else None
    loop = Loop(watches, announce, journal)

    def stop(*_: object) -> None:
        loop.running = False

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    loop.run()


if __name__ == "__main__":
    main()
