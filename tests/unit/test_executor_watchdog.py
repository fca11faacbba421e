"""The watchdog through the real ioctls of a FUSE file, and what happens when the device is missing or odd."""

import errno
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from executor_world import root_folder

from hamail.executor.watchdog import WDIOC_GETSUPPORT, WDIOC_GETTIMEOUT, WDIOC_SETTIMEOUT, Watchdog

SERVER = Path(__file__).with_name("fuse_watchdog.py")


@pytest.fixture
def device():
    if not os.path.exists("/dev/fuse"):
        pytest.fail("this machine has no /dev/fuse")
    with root_folder() as folder:
        path, log = folder / "watchdog", folder / "log"
        server = subprocess.Popen([sys.executable, str(SERVER), str(path), str(log)])
        try:
            wait_for(lambda: log.exists() and "ready" in log.read_text())
            yield path, lambda: [line.split(maxsplit=1)[1] for line in log.read_text().splitlines()]
        finally:
            subprocess.run(["umount", "-l", str(path)], check=False)
            server.terminate()
            server.wait()


def wait_for(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


@pytest.mark.root
def test_real_ioctls_feed_and_magic_close(device):
    path, log = device
    watchdog = Watchdog(str(path), 3)
    watchdog.arm()
    status = watchdog.status()
    assert (status.armed, status.timeout_s, status.identity, status.detail) == (True, 3, "test watchdog", "")
    assert watchdog.feed_interval_s == 0.75
    watchdog.feed()
    watchdog.feed()
    assert log().count("keepalive") == 2 and "settimeout 3" in log()
    watchdog.disarm()
    wait_for(lambda: log()[-1] == "closed, disarmed")
    assert not watchdog.status().armed


@pytest.mark.root
def test_starved_watchdog_expires_and_cannot_be_disarmed(device):
    path, log = device
    watchdog = Watchdog(str(path), 1)
    watchdog.arm()
    watchdog.starve("a test")
    watchdog.feed()
    watchdog.disarm()
    watchdog.starve("another reason")
    assert watchdog.status().detail == "not fed any more: a test" and not watchdog.status().armed
    wait_for(lambda: "expired" in log(), 2)
    assert "keepalive" not in log() and "write" not in log()


@pytest.mark.root
def test_busy_device(device):
    path, _log = device
    first = Watchdog(str(path), 3)
    first.arm()
    second = Watchdog(str(path), 3)
    second.arm()
    assert not second.status().armed and "cannot be opened" in second.status().detail
    assert "busy" in second.status().detail
    first.disarm()


def test_missing_device_and_none(tmp_path):
    watchdog = Watchdog(str(tmp_path / "nothing"), 5)
    watchdog.arm()
    watchdog.feed()
    assert not watchdog.status().armed and "load its driver" in watchdog.status().detail
    none = Watchdog(None, 5)
    none.arm()
    none.feed()
    none.disarm()
    assert none.status().detail == "no watchdog device is configured"


def test_timeout_is_what_the_driver_says(tmp_path):
    (tmp_path / "watchdog").touch()

    def ioctl(_fd, request, data):
        if request == WDIOC_GETSUPPORT:
            return struct.pack("=II32s", 0, 0, b"coarse")
        if request == WDIOC_GETTIMEOUT:
            return struct.pack("=i", 8)  # it can only do multiples of 8
        return data

    watchdog = Watchdog(str(tmp_path / "watchdog"), 5, ioctl)
    watchdog.arm()
    assert watchdog.status().timeout_s == 8 and watchdog.status().armed


def test_device_without_watchdog_ioctls_is_not_armed(tmp_path):
    (tmp_path / "watchdog").touch()
    watchdog = Watchdog(str(tmp_path / "watchdog"), 5)
    watchdog.arm()
    assert not watchdog.status().armed and "does not take the watchdog ioctls" in watchdog.status().detail


def test_driver_without_keepalive_is_fed_by_writing(tmp_path):
    (tmp_path / "watchdog").touch()

    def ioctl(_fd, request, data):
        if request not in (WDIOC_GETSUPPORT, WDIOC_SETTIMEOUT, WDIOC_GETTIMEOUT):
            raise OSError(errno.ENOTTY, "no such ioctl")
        return struct.pack("=II32s", 0, 0, b"old") if request == WDIOC_GETSUPPORT else struct.pack("=i", 5)

    watchdog = Watchdog(str(tmp_path / "watchdog"), 5, ioctl)
    watchdog.arm()
    watchdog.feed()
    assert (tmp_path / "watchdog").read_bytes() == b"\0"


def test_late_feed_is_warned_about(tmp_path, caplog):
    (tmp_path / "watchdog").touch()

    def ioctl(_fd, request, _data):
        return struct.pack("=II32s", 0, 0, b"x") if request == WDIOC_GETSUPPORT else struct.pack("=i", 5)

    watchdog = Watchdog(str(tmp_path / "watchdog"), 5, ioctl)
    watchdog.arm()
    watchdog._fed_at_s -= 3.5
    watchdog.feed()
    assert "fed late: after 3.50 s of 5 s" in caplog.text
