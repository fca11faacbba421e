"""What the kernel says: mounts, addresses, processes; and the police that acts on it. In a network of its own."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from executor_world import root_folder, world, write_agent

from hamail.executor import verify
from hamail.executor.kinds import MountPoint
from hamail.executor.police import NETLINK_READS_MAX, AddressEvents, Police
from hamail.model.actions import (
    GroupDown,
    GroupStopFailed,
    GroupUp,
    Maintain,
    ResourceFailed,
    ResourceRestarted,
    RestartResource,
    StopGroup,
    Stray,
)
from hamail.model.spec import GroupSpec, ResourceSpec

pytestmark = pytest.mark.root
CLONE_NEWNET = 0x40000000
VIP = "192.0.2.77"
LYING = """\
#!/bin/sh
case $1 in
meta-data) echo '<resource-agent name="IPaddr2"><parameters><parameter name="ip"/></parameters><actions/>
</resource-agent>';;
monitor) exit 7;;
esac
exit 0
"""  # every action says that it is done
STAYING = LYING.replace("monitor)", f"start) ip address add {VIP}/24 dev v0;;\nmonitor)")
AGENTS = Path(__file__).parents[2] / "agents"


@pytest.fixture
def network():
    """This process, and what it forks, in a network namespace of its own with one interface `v0`."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    assert libc.unshare(CLONE_NEWNET) == 0
    try:
        ip("link", "set", "lo", "up")
        ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
        ip("link", "set", "v0", "up")
        ip("link", "set", "v1", "up")
        ip("address", "add", "192.0.2.1/24", "dev", "v0")
        yield
    finally:
        assert libc.setns(before, CLONE_NEWNET) == 0
        os.close(before)


def mounts_left(mount):
    return asyncio.run(verify.mounts_left(mount))


def ip(*words):
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def folder():
    with root_folder() as made:
        (made / "agents" / "hamail").mkdir(parents=True)
        shutil.copy(AGENTS / "vip", made / "agents" / "hamail" / "vip")
        (made / "agents" / "hamail" / "vip").chmod(0o755)
        yield made


def vip(w, name="vip", **fields):
    parameters = {"address": f"{VIP}/24", "interface": "v0", "conflict_wait_ms": "10", "arp_repeat": "1"}
    return w.resource(name, agent="hamail:vip", parameters=parameters, **fields)


async def until(condition, seconds=3.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def test_lost_address_is_seen_at_once_and_restored(network, folder):
    async with world(folder) as w:
        group = w.group(w.resource("smtp"), vip(w, after=("smtp",)))
        assert (await w.clean(group)).ok
        assert w.start(group) == ""
        up = await w.wait_for(GroupUp)
        assert VIP in verify.local_addresses()
        assert set(up.stamps) == {"services", "address"}
        removed = time.monotonic()
        ip("address", "del", f"{VIP}/24", "dev", "v0")
        failed = await w.wait_for(ResourceFailed)
        assert time.monotonic() - removed < 0.2
        assert failed.resource == "vip" and VIP in failed.detail
        assert w.ask(RestartResource, group="mail", epoch=1, resource="vip") == ""
        assert (await w.wait_for(ResourceRestarted)).ok
        assert VIP in verify.local_addresses()
        assert w.ask(StopGroup, group="mail", epoch=1, why="test") == ""
        await w.wait_for(GroupDown)
        assert VIP not in verify.local_addresses()


async def test_stray_address_is_removed_at_once(network, folder):
    async with world(folder) as w:
        group = w.group(vip(w))
        assert (await w.clean(group)).ok
        ip("address", "add", f"{VIP}/24", "dev", "v0")
        added = time.monotonic()
        await until(lambda: VIP not in verify.local_addresses())
        assert time.monotonic() - added < 0.3
        stray = await w.wait_for(Stray)
        assert stray == Stray(group="mail", what=f"address {VIP}", removed=True)
        assert "192.0.2.1" in verify.local_addresses()  # what is not ours stays


async def test_maintenance_leaves_a_stray_address_alone(network, folder):
    async with world(folder) as w:
        assert (await w.clean(w.group(vip(w)))).ok
        assert w.ask(Maintain, on=True) == ""
        ip("address", "add", f"{VIP}/24", "dev", "v0")
        await asyncio.sleep(1.2)
        assert VIP in verify.local_addresses() and not w.notices
        assert w.ask(Maintain, on=False) == ""
        await until(lambda: VIP not in verify.local_addresses())


async def test_stray_that_cannot_be_removed_is_told_once(network, folder):
    write_agent(folder / "agents", "other", "IPaddr2", LYING)
    async with world(folder) as w:
        group = w.group(w.resource("vip", agent="other:IPaddr2", parameters={"ip": VIP}))
        assert (await w.clean(group)).ok
        ip("address", "add", f"{VIP}/24", "dev", "v0")
        stray = await w.wait_for(Stray)
        assert not stray.removed
        await asyncio.sleep(2.5)
        assert not [n for n in w.notices if isinstance(n, Stray)]
        # a stop that says "done" while the address is there is no stop
        assert w.ask(StopGroup, group="mail", epoch=1, why="test") == ""
        assert f"address {VIP}" in (await w.wait_for(GroupStopFailed)).detail
        ip("address", "del", f"{VIP}/24", "dev", "v0")


async def test_emergency_stop_takes_the_address_away_first(network, folder):
    async with world(folder) as w:
        # the service stands on the address and its stop hangs: in a planned stop the address would have to wait for it
        group = w.group(vip(w), w.resource("smtp", after=("vip",), mode="stop-hang"))
        assert (await w.clean(group)).ok
        assert w.start(group, soft_s=0.8, hard_s=3.8) == ""
        await w.wait_for(GroupUp)
        soft = w.executor.welcome().groups["mail"].soft_ns
        await until(lambda: VIP not in verify.local_addresses())
        assert time.clock_gettime_ns(time.CLOCK_BOOTTIME) - soft < 150_000_000
        assert w.executor.welcome().groups["mail"].state == "stopping"
        await w.wait_for(GroupDown)


async def test_emergency_stop_does_not_wait_for_an_address_that_stays(network, folder):
    """The services and the storage have the rest of the lease: no time of theirs is spent on looking again."""
    write_agent(folder / "agents", "other", "IPaddr2", STAYING)
    async with world(folder) as w:
        address = w.resource("vip", agent="other:IPaddr2", parameters={"ip": VIP})
        assert (await w.clean(group := w.group(address, w.resource("smtp")))).ok
        assert w.start(group, soft_s=0.8, hard_s=2.05) == ""
        await w.wait_for(GroupUp)
        soft = w.executor.welcome().groups["mail"].soft_ns
        await until(lambda: "stop" in w.log("smtp"))
        assert time.clock_gettime_ns(time.CLOCK_BOOTTIME) - soft < 700_000_000
        ip("address", "del", f"{VIP}/24", "dev", "v0")
        await w.wait_for(GroupDown)


async def test_emergency_stop_gives_a_slow_agent_its_time_in_the_end(network, folder):
    """Past the hard deadline nothing is won by hurry: a stop that takes 0.6 s must succeed at some time."""
    slow = STAYING.replace("monitor)", f"stop) sleep 0.6; ip address del {VIP}/24 dev v0;;\nmonitor)")
    write_agent(folder / "agents", "other", "IPaddr2", slow)
    async with world(folder) as w:
        group = w.group(w.resource("vip", agent="other:IPaddr2", parameters={"ip": VIP}))
        assert (await w.clean(group)).ok
        assert w.start(group, soft_s=0.3, hard_s=0.6) == ""
        await w.wait_for(GroupUp)
        await w.wait_for(GroupDown)


@contextlib.contextmanager
def image(folder):
    file = folder / "image"
    with file.open("wb") as made:
        made.truncate(8 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(file)], check=True)
    loop = subprocess.run(["losetup", "-f", "--show", str(file)], check=True, capture_output=True, text=True)
    device = loop.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=False)


def test_mounts_are_seen_by_device_and_by_directory(folder):
    here, other = folder / "mail", folder / "other place"
    here.mkdir()
    other.mkdir()
    with image(folder) as device:
        mount = MountPoint(device, str(here))
        assert mounts_left(mount) == [] and mounts_left(None) == []
        for place in (here, other):
            subprocess.run(["mount", device, str(place)], check=True)
            try:
                assert mounts_left(mount) == [f"{device} is mounted on {place}"]
                with (place / "file").open("w"):
                    if place == here:
                        assert any(f"used by {os.getpid()}" in line for line in verify.mount_holders(mount))
            finally:
                subprocess.run(["umount", str(place)], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", str(here)], check=True)
        try:
            assert mounts_left(mount) == [f"none is mounted on {here}"]
        finally:
            subprocess.run(["umount", str(here)], check=True)
        assert mounts_left(mount) == []


def test_mount_in_another_namespace_is_seen_by_the_kernels_claim(folder):
    here = folder / "mail"
    here.mkdir()
    with image(folder) as device:
        holder = subprocess.Popen(
            [
                "unshare",
                "-m",
                "--propagation",
                "private",
                "sh",
                "-c",
                f"mount {device} {here} && echo ok && exec sleep 1000",
            ],
            stdout=subprocess.PIPE,
        )
        try:
            assert holder.stdout.readline() == b"ok\n"
            mount = MountPoint(device, str(here))
            assert verify.visible_mounts(mount) == []
            assert "mounted in another mount namespace" in mounts_left(mount)[0]
            assert any(f"{holder.pid} (" in line for line in verify.mount_holders(mount))
        finally:
            holder.kill()
            holder.wait()
        until_s = time.monotonic() + 2
        while mounts_left(mount):
            assert time.monotonic() < until_s
            time.sleep(0.01)


async def test_storage_that_hangs_does_not_hang_us(monkeypatch, tmp_path):
    released = threading.Event()
    monkeypatch.setattr(verify, "_claimed", lambda _device: released.wait(10))
    began = time.monotonic()
    left = await verify.mounts_left(MountPoint("/dev/hung", str(tmp_path / "mail")))
    assert left == ["device /dev/hung does not answer: whether the kernel still uses it is unknown"]
    assert time.monotonic() - began < 1
    threads = threading.active_count()
    assert await verify.mounts_left(MountPoint("/dev/hung", str(tmp_path / "mail"))) == left
    assert threading.active_count() == threads  # hung storage is looked at again and again: threads must not pile up
    monkeypatch.setattr(verify, "_claimed", lambda _device: False)
    released.set()
    assert await verify.mounts_left(MountPoint("/dev/hung", str(tmp_path / "mail"))) == []


async def test_an_answer_is_never_older_than_its_question(monkeypatch, tmp_path):
    """Somebody gave up on a question that was put before the unmount; its answer says nothing about now."""
    first = threading.Event()
    answers = iter([True, False])
    monkeypatch.setattr(verify, "_claimed", lambda _device: first.wait(10) and next(answers))
    mount = MountPoint("/dev/slow", str(tmp_path / "mail"))
    given_up = asyncio.create_task(verify.mounts_left(mount))
    await asyncio.sleep(0.05)
    given_up.cancel()
    asyncio.get_running_loop().call_later(0.05, first.set)
    assert await verify.mounts_left(mount) == []


def test_devices_by_other_names():
    assert verify.block_path("/dev/x") == "/dev/x"
    assert verify.block_path("UUID=ab-c") == "/dev/disk/by-uuid/ab-c"
    assert verify.block_path("LABEL=../../x") is None
    assert verify.block_path("server:/export") is None


def test_alive_knows_a_process_by_its_start():
    child = subprocess.Popen(["sleep", "1000"])
    start = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
    assert verify.alive(child.pid, start) and not verify.alive(child.pid, start + 1)
    child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 2
    while verify.alive(child.pid, start):  # it becomes a zombie, which is dead enough
        assert time.monotonic() < deadline
    child.wait()


async def test_a_change_of_addresses_is_told_also_when_events_were_lost_or_never_end(monkeypatch):
    class Flood:
        def __init__(self, error=None):
            self.error, self.reads = error, 0

        def recv(self, _size):
            self.reads += 1
            if self.error:
                raise self.error
            return b"x"

    calls = []
    events = AddressEvents(lambda: calls.append(1))
    real = events._socket
    try:
        for flood, reads in ((Flood(OSError(105, "No buffer space available")), 1), (Flood(), NETLINK_READS_MAX)):
            events._socket = flood
            events._readable()
            events._readable()
            await asyncio.sleep(0.05)
            assert flood.reads == 2 * reads, "and then the others have their turn"
        assert len(calls) == 2, "a burst is told once"
    finally:
        events._socket = real
        events.close()


async def test_mounts_that_cannot_be_looked_at_hide_no_others(monkeypatch, caplog):
    def store(name):
        parameters = {"device": "/dev/x", "directory": f"/srv/{name}"}
        resources = (ResourceSpec(name="fs", agent="hamail:filesystem", parameters=parameters),)
        return GroupSpec(name=name, nodes=("n1",), resources=resources)

    def visible(mount):
        if mount.directory == "/srv/a":
            raise OSError(24, "Too many open files")
        return [f"/dev/x is mounted on {mount.directory}"]

    async def evict(_group, _addresses):
        raise AssertionError("nobody has an address")

    monkeypatch.setattr(verify, "visible_mounts", visible)
    told = []
    await Police(lambda: [store("a"), store("b")], evict, told.append).look(frozenset())
    assert [(s.group, s.what, s.removed) for s in told] == [("b", "/dev/x is mounted on /srv/b", False)]
    assert "mounts of group a cannot be looked at" in caplog.text


def test_only_so_many_holders_are_named(monkeypatch):
    children = [subprocess.Popen(["sleep", "1000"], cwd="/run") for _ in range(verify.HOLDERS_NAMED_MAX + 1)]
    try:
        users = verify._users_of(MountPoint("", "/run"))
        assert len(users) == verify.HOLDERS_NAMED_MAX
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_only_so_many_namespaces_are_named(monkeypatch, tmp_path):
    """Each of these has a mount namespace of its own."""
    monkeypatch.setattr(verify, "HOLDERS_NAMED_MAX", 2)
    children = [subprocess.Popen(["unshare", "-m", "sleep", "1000"]) for _ in range(3)]
    try:
        time.sleep(0.3)
        assert len(verify._namespaces_with(MountPoint("", "/proc"))) == 2
        assert verify._namespaces_with(MountPoint("", str(tmp_path))) == []
    finally:
        for child in children:
            child.kill()
            child.wait()
