"""Puts the kernel in memory under the executor's modules: the same calls, another world behind them."""

import contextlib
import errno
import os
import signal
import socket
import struct
import subprocess
import time
from types import SimpleNamespace

from hamail.executor import (
    agents,
    clock,
    executor,
    fences,
    police,
    presence,
    processes,
    resource,
    verify,
    watch,
    watchdog,
)
from hamail.fencing import agent as fence_agent
from tests.simulation.executor.kernel import KernelPath, Sock, Wire, netlink


class Proxy:
    """A module with some of its names replaced."""

    def __init__(self, real, **replaced):
        self.__dict__.update(replaced)
        self._real = real

    def __getattr__(self, name):
        return getattr(self._real, name)


class WorldSet:
    """A process set: strict membership, as in a cgroup."""

    def __init__(self, world, name):
        self.name = name
        self._world = world

    def join_files(self):
        return (f"set:{self.name}",)

    def environment(self):
        return {}

    def pids(self):
        if self._world.buried:
            return []
        self._world.kernel.blind()
        return self._world.kernel.members(self.name)

    def signal(self, number):
        if not self._world.buried:
            for pid in self._world.kernel.members(self.name):
                self._world.kernel.kill(pid, number)

    def remove(self):
        return


class WorldSets:
    detail = "in memory"

    def __init__(self, world):
        self._world = world

    def get(self, name):
        return WorldSet(self._world, name)


class _Thread:
    """A thread that asks the storage: it hangs as long as the storage does."""

    def __init__(self, world, target):
        self._world = world
        self._target = target

    def start(self):
        world = self._world
        life = world.life_number

        def answer():
            if world.life_number == life and not world.buried:
                self._target()

        world.agenda.at(max(world.agenda.now_s + 0.0005, world.kernel.hung_until_s), answer)


def _remembering(world, real):
    """The real look at a file and its folders, once until the world changes a mode: the walk is slow."""

    def look(path):
        kept = world.trusted.get(path)
        if kept is None:
            kept = world.trusted[path] = real(path)
        return kept

    return look


def _time(world):
    def clock_gettime_ns(which):
        return world.boottime_ns() if which == time.CLOCK_BOOTTIME else int(world.monotonic_s() * 1e9)

    return Proxy(
        time,
        monotonic=world.monotonic_s,
        monotonic_ns=lambda: int(world.monotonic_s() * 1e9),
        time=world.wall_s,
        time_ns=lambda: int(world.wall_s() * 1e9),
        clock_gettime_ns=clock_gettime_ns,
        sleep=lambda s: None,
    )


def _socket(world):
    def send_fds(sock, buffers, fds):
        if world.buried:
            raise BrokenPipeError
        sock.wire.server.take(buffers[0], fds)

    def recv_fds(sock, _size, _count):
        wire = sock.wire
        if wire.inbox:
            body, proc = wire.inbox.pop(0)
            blind = world.agenda.now_s < world.kernel.blind_until_s  # no descriptor is free: it is cut off
            return body, [world.kernel.pidfd(proc)] if proc is not None and not blind else [], 0, None
        if wire.closed:
            return b"", [], 0, None
        raise BlockingIOError

    def socketpair(_family, _kind):
        ours = Sock(world.kernel, Wire())
        return ours, SimpleNamespace(fileno=lambda: 3, close=lambda: None, ours=ours)

    return Proxy(socket, send_fds=send_fds, recv_fds=recv_fds, socketpair=socketpair)


def _popen(world):
    def popen(arguments, **_named):
        world.attach_server()
        return SimpleNamespace(pid=2)

    return Proxy(subprocess, Popen=popen)


def _processes_os(world):
    kernel = world.kernel

    def waitpid(_pid, _options):
        raise ChildProcessError

    def killpg(session, number):
        if not world.buried:
            kernel.killpg(session, number)

    def opened(path, _flags):
        assert path == os.devnull
        return kernel.open_plain()

    return Proxy(
        os,
        pipe2=kernel.pipe2,
        open=opened,
        read=kernel.read,
        write=kernel.write,
        close=kernel.close,
        waitpid=waitpid,
        killpg=killpg,
    )


class RunDisk:
    """The run directory: files of one boot in memory, on a disk that may be full."""

    def __init__(self, world):
        self._world = world
        self.files = {}

    def _check(self):
        if self._world.buried:
            raise OSError(errno.EIO, "this process is dead")
        if self._world.agenda.now_s < self._world.disk_full_until_s:
            raise OSError(errno.ENOSPC, "No space left on device")

    def read(self, path):
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return self.files[path]

    def open(self, path, *, create=False, mode=0o600):
        assert create and mode == 0o600
        self._check()
        self.files[path] = b""

        def write_at(offset, data):
            self._check()
            assert offset == 0
            self.files[path] = bytes(data)

        return SimpleNamespace(write_at=write_at, close=lambda: None)

    def replace(self, source, target):
        self._check()
        self.files[target] = self.files.pop(source)


def _watchdog_os(world):
    def opened(path, _flags):
        if path == world.dog.path:
            return world.dog.open()
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    return Proxy(os, open=opened, write=world.kernel.write, close=world.kernel.close)


def _verify_os(world):
    def opened(path, flags):
        world.kernel.blind()
        return world.kernel.open_device(path, flags)

    return Proxy(os, open=opened, close=world.kernel.close)


class _Libc:
    def __init__(self, kernel):
        self.timerfd_create = kernel.timerfd_create
        self.timerfd_settime = kernel.timerfd_settime


def _replacements(world):
    kernel = world.kernel
    virtual_time = _time(world)

    def describe(pid):
        return f"{pid} (program)"

    def signals():
        return Proxy(signal, pidfd_send_signal=kernel.pidfd_send_signal)

    def kill_cgroup(name):
        for pid in kernel.inside(name):
            kernel.kill(pid, signal.SIGKILL)

    def cgroup_dirs(name):
        return [name] if kernel.inside(name) else []

    def pids_below(name):
        kernel.blind()
        return kernel.inside(name)

    yield clock, "time", virtual_time
    yield clock, "ctypes", SimpleNamespace(CDLL=lambda *_a, **_n: _Libc(kernel), get_errno=lambda: 0)
    yield clock, "os", Proxy(os, read=kernel.read, close=kernel.close)
    for module in (processes, resource, watchdog, fences, fence_agent):
        yield module, "time", virtual_time
    yield processes, "os", _processes_os(world)
    yield processes, "socket", _socket(world)
    for module in (processes, agents):
        yield module, "trusted_executable", _remembering(world, module.trusted_executable)
    yield processes, "signal", signals()
    yield processes, "fcntl", SimpleNamespace(fcntl=lambda *_a: 0, F_SETFL=0)
    yield processes, "subprocess", _popen(world)
    for module in (processes, verify, watch):
        yield module, "describe", describe
    yield watch, "os", Proxy(os, pidfd_open=kernel.pidfd_open, close=kernel.close)
    yield watch, "signal", signals()
    yield verify, "os", _verify_os(world)
    yield verify, "Path", lambda *parts: KernelPath(kernel, *parts)
    net = SimpleNamespace(net_if_addrs=kernel.net_if_addrs, pids=lambda: sorted(kernel.procs))
    for module in (verify, presence):
        yield module, "psutil", net
    yield presence, "Path", lambda *parts: KernelPath(kernel, *parts)
    yield presence, "claims", SimpleNamespace(load=kernel.claim_at)
    yield verify, "threading", SimpleNamespace(Thread=lambda target, daemon: _Thread(world, target))
    yield verify, "pids_below", pids_below
    for module in (verify, resource):
        yield module, "cgroup_dirs", cgroup_dirs
    yield resource, "kill_cgroup", kill_cgroup
    yield police, "socket", Proxy(socket, socket=netlink(kernel))
    yield watchdog, "os", _watchdog_os(world)
    yield executor, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=world.new_id()))


@contextlib.contextmanager
def borders(world):
    """While inside, the executor's modules live in this world."""
    before = []
    try:
        for module, name, value in _replacements(world):
            before.append((module, name, getattr(module, name)))
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in reversed(before):
            setattr(module, name, value)
        verify._asking.clear()


class Dog:
    """The watchdog: resets the machine when its food does not come in time. It outlives the executor."""

    path = "/dev/watchdog"

    def __init__(self, world):
        self._world = world
        self.timeout_s = 0
        self.armed = False
        self.present = True
        self.fed_s = 0.0
        self._magic = False

    def open(self):
        if not self.present:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        self.armed, self._magic = True, False
        self._feed()
        return self._world.kernel.open(self)

    def readable(self):
        return False

    def ioctl(self, _fd, number, data):
        if self._world.buried:
            return data
        if number == watchdog.WDIOC_GETSUPPORT:
            return struct.pack("=II32s", 0, 0, b"in memory")
        if number == watchdog.WDIOC_SETTIMEOUT:
            (self.timeout_s,) = struct.unpack("=i", data)
            self._feed()
        elif number == watchdog.WDIOC_GETTIMEOUT:
            return struct.pack("=i", self.timeout_s)
        elif number == watchdog.WDIOC_KEEPALIVE:
            self._world.judge.fed()
            self._feed()
        return data

    def write(self, data):
        if self._world.buried:
            return
        if data == b"V":
            self.armed = False
            self._world.judge.disarmed()
        else:
            self._world.judge.fed()
            self._feed()

    def _feed(self):
        self.fed_s = self._world.agenda.now_s
        if self.timeout_s:
            self._world.agenda.after(self.timeout_s, self._look)

    def _look(self):
        if self.armed and self._world.agenda.now_s >= self.fed_s + self.timeout_s - 1e-6:
            self.armed = False
            self._world.reset("the watchdog resets the machine")

    def boot(self):
        self.armed = False
