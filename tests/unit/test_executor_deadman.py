"""The dead-man's switch: the bookkeeping alone, and with real processes and a watchdog."""

import asyncio
import errno
import os
import resource
import struct
import time

import pytest
from executor_world import root_folder, world, write_agent

from hamail.executor.clock import BootTimer, boottime_ns
from hamail.executor.deadman import Deadman
from hamail.executor.ledger import Ledger, Page
from hamail.executor.watchdog import WDIOC_GETSUPPORT, WDIOC_GETTIMEOUT, WDIOC_KEEPALIVE, Watchdog
from hamail.model.actions import (
    Cleaned,
    CleanUp,
    DeadlinePassed,
    Extend,
    GroupDown,
    GroupStopFailed,
    GroupUp,
    Maintain,
    ResourceFailed,
    ResourceUp,
    StopGroup,
)

S = 10**9


class Recorder:
    def __init__(self):
        self.soft, self.hard = [], []
        self.deadman = Deadman(lambda g, _d: self.soft.append(g), lambda g, _d: self.hard.append(g))


def test_deadlines_pass_once_and_in_order():
    r = Recorder()
    assert r.deadman.arm("g", 1, 10 * S, 20 * S, 0) == ""
    assert r.deadman.next_ns() == 10 * S
    r.deadman.check(10 * S - 1)
    assert (r.soft, r.hard) == ([], [])
    r.deadman.check(10 * S)
    r.deadman.check(11 * S)
    assert (r.soft, r.hard) == (["g"], [])
    assert r.deadman.next_ns() == 20 * S
    assert r.deadman.overdue(19 * S) == []
    r.deadman.check(20 * S)
    r.deadman.check(30 * S)
    assert (r.soft, r.hard) == (["g"], ["g"])
    assert r.deadman.overdue(20 * S) == ["g"]
    assert r.deadman.next_ns() is None


def test_both_deadlines_missed_at_once_act_in_order():
    r = Recorder()
    r.deadman.arm("g", 1, 10 * S, 20 * S, 0)
    r.deadman.check(100 * S)  # as after a suspend
    assert (r.soft, r.hard) == (["g"], ["g"])


def test_extend_only_the_held_epoch_only_forward_only_in_time():
    r = Recorder()
    r.deadman.arm("g", 5, 10 * S, 20 * S, 0)
    assert r.deadman.extend("g", 5, 12 * S, 22 * S, 1 * S) == ""
    assert "not 4" in r.deadman.extend("g", 4, 13 * S, 23 * S, 1 * S)
    assert "not 6" in r.deadman.extend("g", 6, 13 * S, 23 * S, 1 * S)
    assert "forward" in r.deadman.extend("g", 5, 11 * S, 23 * S, 1 * S)
    assert "forward" in r.deadman.extend("g", 5, 13 * S, 21 * S, 1 * S)
    assert "not held" in r.deadman.extend("h", 5, 13 * S, 23 * S, 1 * S)
    assert "after the hard one" in r.deadman.extend("g", 5, 25 * S, 24 * S, 1 * S)
    assert "ahead" in r.deadman.extend("g", 5, 13 * S, 4000 * S, 1 * S)
    assert "just passed" in r.deadman.extend("g", 5, 40 * S, 50 * S, 12 * S)
    r.deadman.check(12 * S)
    assert "being stopped" in r.deadman.extend("g", 5, 40 * S, 50 * S, 12 * S)


def test_past_deadline_is_not_armed():
    r = Recorder()
    assert "passed 2.000 s ago" in r.deadman.arm("g", 1, 8 * S, 20 * S, 10 * S)
    assert r.deadman.get("g") is None


def test_maintenance_suspends_and_ends_in_passing():
    r = Recorder()
    r.deadman.arm("g", 1, 10 * S, 20 * S, 0)
    r.deadman.suspend(on=True)
    r.deadman.check(30 * S)
    assert (r.soft, r.deadman.next_ns(), r.deadman.overdue(30 * S)) == ([], None, [])
    assert r.deadman.extend("g", 1, 40 * S, 50 * S, 30 * S) == ""
    r.deadman.suspend(on=False)
    r.deadman.check(39 * S)
    assert r.soft == []
    r.deadman.check(40 * S)
    assert r.soft == ["g"]


async def test_boot_timer_is_exact():
    fired = asyncio.Event()
    timer = BootTimer(asyncio.get_running_loop(), fired.set)
    at = boottime_ns() + 100_000_000
    timer.set(at)
    await fired.wait()
    assert 0 <= boottime_ns() - at < 60_000_000  # a few ms; the machine may be busy
    fired.clear()
    timer.set(boottime_ns() - S)  # past: at once
    await asyncio.wait_for(fired.wait(), 0.5)
    fired.clear()
    timer.set(boottime_ns() + 50_000_000)
    timer.set(None)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fired.wait(), 0.1)
    timer.close()


class FakeWatchdog:
    """An ioctl for a plain file that counts the feeds."""

    def __init__(self, path):
        path.touch()
        self.fed_at = []
        self.timeout = 0
        self.watchdog = Watchdog(str(path), 2, self.ioctl)

    def ioctl(self, _fd, request, data):
        if request == WDIOC_GETSUPPORT:
            return struct.pack("=II32s", 0x8180, 1, b"fake")
        if request == WDIOC_KEEPALIVE:
            self.fed_at.append(time.monotonic())
        elif request != WDIOC_GETTIMEOUT:
            (self.timeout,) = struct.unpack("=i", data)
        return struct.pack("=i", self.timeout)


@pytest.fixture
def folder():
    with root_folder() as made:
        yield made


async def up(w, *resources, **deadlines):
    group = w.group(*resources)
    assert (await w.clean(group)).ok
    assert w.start(group, **deadlines) == ""
    await w.wait_for(GroupUp)
    return group


@pytest.mark.root
async def test_group_is_stopped_at_its_soft_deadline(folder):
    fake = FakeWatchdog(folder / "watchdog")
    async with world(folder, fake.watchdog) as w:
        storage = w.resource("storage", agent="hamail:service")
        await up(w, storage, w.resource("smtp", after=("storage",)), soft_s=1.5, hard_s=3)
        soft = w.executor.welcome().groups["mail"].soft_ns
        await w.wait_for(DeadlinePassed)
        assert boottime_ns() - soft < 60_000_000
        down = await w.wait_for(GroupDown)
        assert boottime_ns() - soft < 400_000_000
        assert down.epoch == 1 and w.executor.welcome().groups == {}
        count = len(fake.fed_at)
        await asyncio.sleep(0.6)
        assert len(fake.fed_at) > count  # a verified stop: the machine lives on


@pytest.mark.root
async def test_extended_group_lives_on(folder):
    async with world(folder) as w:
        await up(w, w.resource("smtp"), soft_s=1, hard_s=2)
        for _round in range(6):
            await asyncio.sleep(0.3)
            now = boottime_ns()
            assert w.ask(Extend, group="mail", epoch=1, soft_ns=now + S, hard_ns=now + 2 * S) == ""
        assert w.executor.welcome().groups["mail"].state == "up"
        assert not [n for n in w.notices if isinstance(n, DeadlinePassed)]


@pytest.mark.root
async def test_hung_and_stubborn_services_are_killed_before_the_hard_deadline(folder):
    async with world(folder) as w:
        await up(w, w.resource("smtp", mode="stop-hang"), w.resource("imap", mode="stubborn"), soft_s=1.5, hard_s=3.5)
        hard = w.executor.welcome().groups["mail"].hard_ns
        pids = [w.pid("smtp"), w.pid("imap")]
        await w.wait_for(GroupDown)
        assert boottime_ns() < hard
        assert not [p for p in pids if os.path.exists(f"/proc/{p}") and "Z" not in open(f"/proc/{p}/stat").read()]


@pytest.mark.root
async def test_unverified_stop_starves_the_watchdog_for_ever(folder, monkeypatch):
    monkeypatch.setattr(
        "hamail.executor.groups.EMERGENCY_TRIES_MAX", 4
    )  # the end of the executor waits for the last one
    text = """\
        #!/bin/sh
        case $1 in
        meta-data) echo '<resource-agent name="ghost"><parameters/><actions/></resource-agent>';;
        monitor) test -e STATE || exit 7;;
        start) touch STATE;;
        stop) exit 1;;
        esac
        exit 0
        """.replace("STATE", str(folder / "ghost"))
    write_agent(folder / "agents", "other", "ghost", text)
    fake = FakeWatchdog(folder / "watchdog")
    async with world(folder, fake.watchdog) as w:
        await up(w, w.resource("ghost", agent="other:ghost", parameters={}), soft_s=0.3, hard_s=0.9)
        hard = w.executor.welcome().groups["mail"].hard_ns
        assert "cannot be verified" in (await w.wait_for(GroupStopFailed)).detail
        while boottime_ns() < hard + 50_000_000:
            await asyncio.sleep(0.01)
        count = len(fake.fed_at)
        status = w.executor.watchdog.status()
        assert not status.armed and "not verified stopped by its hard deadline" in status.detail
        await asyncio.sleep(1.2)
        assert len(fake.fed_at) == count
        w.executor.watchdog.disarm()  # refused
        assert b"V" not in (folder / "watchdog").read_bytes()
        assert not await w.executor.shutdown()


@pytest.mark.root
async def test_maintenance_suspends_everything(folder):
    async with world(folder) as w:
        group = await up(w, w.resource("smtp"), soft_s=0.4, hard_s=0.6)
        assert w.ask(Maintain, on=True) == ""
        w.notices.clear()
        await asyncio.sleep(0.8)
        assert w.executor.welcome().groups["mail"].state == "up"
        assert "maintenance" in w.start(group, epoch=2)
        os.kill(w.pid("smtp"), 9)  # an administrator at work
        await asyncio.sleep(0.1)
        assert not w.notices
        assert await w.executor.shutdown()  # an upgrade: leaves what runs


@pytest.mark.root
async def test_what_was_repaired_during_maintenance_counts_as_up(folder):
    async with world(folder) as w:
        sick = folder / "smtp.state.sick"
        await up(w, w.resource("smtp", mode="sick"))
        resource = w.executor._held["mail"]._resources["smtp"]
        sick.touch()
        await resource.monitor_once()
        await w.wait_for(ResourceFailed)
        assert w.ask(Maintain, on=True) == ""
        sick.unlink()
        w.notices.clear()
        assert w.ask(Maintain, on=False) == ""
        assert (await w.wait_for(ResourceUp)).resource == "smtp"


@pytest.mark.root
async def test_what_cannot_be_written_down_is_not_started(folder, monkeypatch):
    """A new life of the executor would not know of it, and nobody would mind its deadline."""
    async with world(folder) as w:
        group = w.group(w.resource("smtp"))
        assert (await w.clean(group)).ok

        def full(_page):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(w.executor._ledger, "write", full)
        assert "nothing was started" in w.start(group, epoch=1)
        assert w.executor.welcome().groups == {}
        assert w.log("smtp").count("start") == 0
        monkeypatch.undo()
        assert w.start(group, epoch=2) == ""
        await w.wait_for(GroupUp)
        monkeypatch.setattr(w.executor._ledger, "write", full)
        assert w.ask(StopGroup, group="mail", epoch=2, why="test") == ""
        await w.wait_for(GroupDown)  # a stop does not depend on it


@pytest.mark.root
async def test_the_watchdog_starves_also_when_that_cannot_be_written_down(folder, monkeypatch):
    fake = FakeWatchdog(folder / "watchdog")
    async with world(folder, fake.watchdog) as w:

        def full(_page):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(w.executor._ledger, "write", full)
        w.executor._hard_passed("mail", None)
        assert not w.executor.watchdog.status().armed


def test_a_page_that_was_cut_off_does_not_replace_the_one_before(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "held", "boot")
    ledger.write(Page(boot_id="boot", cluster="c"))
    pwrite = os.pwrite

    def little_room(descriptor, data, offset):
        if offset:
            raise OSError(28, "No space left on device")
        return pwrite(descriptor, data[:5], offset)

    monkeypatch.setattr(os, "pwrite", little_room)
    with pytest.raises(OSError, match="No space"):
        ledger.write(Page(boot_id="boot", cluster="d"))
    monkeypatch.undo()
    assert Ledger(tmp_path / "held", "boot").page.cluster == "c"


@pytest.mark.root
async def test_a_machine_that_its_watchdog_will_reset_takes_nothing_more(folder):
    """A stop that ends late does not call the reset off: what is given back until then would be lost with it."""
    fake = FakeWatchdog(folder / "watchdog")
    async with world(folder, fake.watchdog) as w:
        group = w.group(w.resource("smtp"))
        assert (await w.clean(group)).ok
        w.executor._hard_passed("mail", None)
        assert "its watchdog resets it" in (await w.wait_for(Cleaned, lambda n: not n.ok)).detail
        assert not w.executor.welcome().clean
        assert "not been cleaned up" in w.start(group)
        assert w.ask(CleanUp) == ""
        await asyncio.sleep(0.3)
        assert not w.executor.welcome().clean, "no search makes up for it"


async def test_a_boot_timer_that_cannot_be_had_or_set_is_an_error(monkeypatch):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(OSError, match="timerfd_create") as caught:
            BootTimer(asyncio.get_running_loop(), lambda: None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert caught.value.errno == errno.EMFILE
    timer = BootTimer(asyncio.get_running_loop(), lambda: None)
    timer.close()
    timer.close()
    with pytest.raises(OSError, match="timerfd_settime") as caught:
        timer.set(None)
    assert caught.value.errno == errno.EBADF


async def test_a_boot_timer_that_was_set_anew_after_its_wake_up_does_not_call():
    called = []
    timer = BootTimer(asyncio.get_running_loop(), lambda: called.append(1))
    timer.set(boottime_ns() + 60 * S)
    timer._expired()
    assert called == []
    timer.close()
