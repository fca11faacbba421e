"""A kernel in memory: processes, descriptors, pidfds, pipes, addresses, mounts, timers and a watchdog device.

It is the physical truth of a run. What the executor learns of it goes through the same calls as on a machine.
"""

import errno
import itertools
import os
import signal
import stat
import struct
from dataclasses import dataclass, field
from types import SimpleNamespace

from tests.simulation.executor.loop import VIRTUAL_FD

MAJOR = 252
_RELEASE_S = 0.0005  # the kernel's own time to end a process


@dataclass(eq=False)
class Proc:
    pid: int
    ticks: int
    set: str  # the process set that it inherited
    cgroup: str = ""
    owner: tuple = ("", "")  # (group, resource)
    role: str = "service"  # service | action | child
    session: int = 0
    deaf: bool = False  # ignores SIGTERM
    stuck_until_s: float = 0.0  # in the kernel: not even SIGKILL ends it before that
    doomed: bool = False
    gone: bool = False
    ended: object = None  # called with the wait status
    held: list = field(default_factory=list)  # write ends of pipes that it has open


@dataclass(eq=False)
class Pipe:
    data: bytearray = field(default_factory=bytearray)
    writers: set = field(default_factory=set)
    reader_fd: int = -1

    def readable(self):
        return bool(self.data) or not self.writers


@dataclass(eq=False)
class PipeEnd:
    pipe: Pipe
    writes: bool

    def readable(self):
        return not self.writes and self.pipe.readable()


@dataclass(eq=False)
class PidFd:
    proc: Proc

    def readable(self):
        return self.proc.gone


@dataclass(eq=False)
class TimerFd:
    at_ns: int | None = None
    expired: bool = False
    serial: int = 0

    def readable(self):
        return self.expired


@dataclass(eq=False)
class Wire:
    """One end of the socket pair to the agent server, or of a netlink socket: messages that wait to be read."""

    inbox: list = field(default_factory=list)
    closed: bool = False
    server: object = None

    def readable(self):
        return bool(self.inbox) or self.closed


@dataclass(eq=False)
class Plain:
    """A descriptor of which only its existence counts."""

    def readable(self):
        return False


class Kernel:
    def __init__(self, world):
        self.world = world
        self._pids = itertools.count(100)
        self._fds = itertools.count(VIRTUAL_FD)
        self.procs = {}
        self.fds = {}
        self._watched = {}
        self._poked = set()
        self.addresses = set()
        self.mounts = {}  # device -> Mount
        self.devices = {}  # device -> minor number
        self.claims = {}  # device -> the claim on the storage
        self.hung_until_s = 0.0  # storage does not answer before that
        self.blind_until_s = 0.0  # reading /proc or netlink fails until then
        self.netlinks = []

    # -- descriptors -----------------------------------------------------------------------------------------------

    def open(self, thing):
        fd = next(self._fds)
        self.fds[fd] = thing
        return fd

    def get(self, fd):
        try:
            return self.fds[fd]
        except KeyError:
            raise OSError(errno.EBADF, "Bad file descriptor") from None

    def close(self, fd):
        if self.world.buried:
            return
        thing = self.get(fd)
        del self.fds[fd]
        if fd in self._watched:
            raise AssertionError(f"descriptor {fd} is closed while the loop still watches it")
        if isinstance(thing, PipeEnd) and thing.writes:
            thing.pipe.writers.discard(fd)
            self.poke_pipe(thing.pipe)
        if isinstance(thing, Wire):
            thing.closed = True
            if thing in self.netlinks:
                self.netlinks.remove(thing)
            if thing.server is not None:
                thing.server.hung_up()

    def forget_descriptors(self):
        """The process has ended: the kernel closes what it had open."""
        for fd in list(self.fds):
            self._watched.pop(fd, None)
            self.close(fd)
        self._poked.clear()

    def watch(self, fd, callback, args):
        self.get(fd)
        self._watched[fd] = (callback, args)
        self.poke(fd)

    def unwatch(self, fd):
        return self._watched.pop(fd, None) is not None

    def poke(self, fd):
        """Level-triggered: whoever watches is called as long as there is something to read."""
        if fd in self._watched and fd not in self._poked and self.world.loop is not None and self.fds[fd].readable():
            self._poked.add(fd)
            self.world.loop.call_soon(self._wake, fd)

    def _wake(self, fd):
        self._poked.discard(fd)
        found = self._watched.get(fd)
        if found is None or self.world.buried or not self.fds[fd].readable():
            return
        callback, args = found
        callback(*args)
        if fd in self.fds:
            self.poke(fd)

    def pipe2(self, _flags=0):
        self.blind()
        pipe = Pipe()
        read_fd, write_fd = self.open(PipeEnd(pipe, False)), self.open(PipeEnd(pipe, True))
        pipe.writers.add(write_fd)
        pipe.reader_fd = read_fd
        return read_fd, write_fd

    def poke_pipe(self, pipe):
        if pipe.reader_fd in self.fds:
            self.poke(pipe.reader_fd)

    def put(self, pipe, data):
        if pipe.reader_fd in self.fds:  # else EPIPE
            pipe.data += data
            self.poke_pipe(pipe)

    def read(self, fd, size):
        thing = self.get(fd)
        if isinstance(thing, TimerFd):
            if not thing.expired:
                raise BlockingIOError
            thing.expired = False
            return b"\1" + b"\0" * 7
        pipe = thing.pipe
        if not pipe.data:
            if pipe.writers:
                raise BlockingIOError
            return b""
        data = bytes(pipe.data[:size])
        del pipe.data[:size]
        return data

    def write(self, fd, data):
        thing = self.get(fd)
        if isinstance(thing, Wire):
            return len(data)
        if isinstance(thing, PipeEnd):
            self.put(thing.pipe, data)
        else:
            thing.write(data)
        return len(data)

    # -- processes -------------------------------------------------------------------------------------------------

    def fork(self, set_, owner, role, **named):
        pid = next(self._pids)
        proc = self.procs[pid] = Proc(pid, pid * 7, set_, owner=owner, role=role, **named)
        proc.session = proc.session or pid
        return proc

    def members(self, set_):
        return [p.pid for p in self.procs.values() if p.set == set_]

    def inside(self, cgroup):
        return [p.pid for p in self.procs.values() if p.cgroup == cgroup]

    def kill(self, pid, number):
        proc = self.procs.get(pid)
        if proc is None:
            raise ProcessLookupError
        if number == 0 or proc.doomed or (number == signal.SIGTERM and proc.deaf):
            return
        left_s = proc.stuck_until_s - self.world.agenda.now_s
        if left_s > 0 and number != signal.SIGKILL:
            return
        proc.doomed = True
        self.world.agenda.after(max(left_s, 0.0) + _RELEASE_S, lambda: self.end(proc, -number))

    def killpg(self, session, number):
        found = [p for p in self.procs.values() if p.session == session]
        if not found:
            raise ProcessLookupError
        for proc in found:
            self.kill(proc.pid, number)

    def end(self, proc, status):
        if proc.gone:
            return
        proc.gone = True
        del self.procs[proc.pid]
        for pipe in proc.held:
            pipe.writers.discard(proc.pid)
            self.poke_pipe(pipe)
        proc.held.clear()
        for fd, thing in list(self.fds.items()):
            if isinstance(thing, PidFd) and thing.proc is proc:
                self.poke(fd)
        if proc.ended is not None:
            proc.ended(status)

    def pidfd_open(self, pid):
        if pid not in self.procs:
            raise ProcessLookupError
        self.blind()
        return self.open(PidFd(self.procs[pid]))

    def pidfd(self, proc):
        return self.open(PidFd(proc))

    def open_plain(self):
        return self.open(Plain())

    def pidfd_send_signal(self, fd, number):
        if self.world.buried:
            return
        proc = self.get(fd).proc
        if proc.gone:
            raise ProcessLookupError
        self.kill(proc.pid, number)

    # -- addresses, mounts -----------------------------------------------------------------------------------------

    def add_address(self, ip):
        self.addresses.add(ip)
        self._tell_netlink()

    def drop_address(self, ip):
        self.addresses.discard(ip)
        self._tell_netlink()

    def _tell_netlink(self):
        for wire in self.netlinks:
            wire.inbox.append(b"address")
            for fd, thing in self.fds.items():
                if thing is wire:
                    self.poke(fd)

    def mount(self, device, directory, *, hidden=False):
        self.mounts[device] = SimpleNamespace(directory=directory, hidden=hidden)

    def umount(self, device):
        self.mounts.pop(device, None)

    def claim_at(self, directory):
        """Of what is mounted at a directory, by its path below the root of a process."""
        self.blind()
        at = [d for d, mount in self.mounts.items() if directory == f"/proc/self/root{mount.directory}"]
        return self.claims.get(at[-1]) if at else None

    def blind(self):
        if self.world.agenda.now_s < self.blind_until_s:
            raise OSError(errno.EMFILE, "Too many open files")

    def net_if_addrs(self):
        self.blind()
        return {"eth0": [SimpleNamespace(address=ip) for ip in sorted(self.addresses)]}

    def mountinfo(self):
        self.blind()
        lines = ["1 0 8:1 / / rw - ext4 /dev/root rw"]
        for device, mount in self.mounts.items():
            if not mount.hidden:
                minor = self.devices[device]
                lines.append(f"{minor + 10} 1 {MAJOR}:{minor} / {mount.directory} rw - ext4 {device} rw")
        return "\n".join(lines) + "\n"

    def open_device(self, path, flags):
        if path in self.devices:
            if flags & os.O_EXCL and path in self.mounts:
                raise OSError(errno.EBUSY, "Device or resource busy")
            return self.open(Plain())
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    # -- timers ----------------------------------------------------------------------------------------------------

    def timerfd_create(self, _clock, _flags):
        return self.open(TimerFd())

    def timerfd_settime(self, fd, _flags, value, _old):
        if self.world.buried:
            return 0
        timer = self.get(fd)
        _i, _j, seconds, nanoseconds = struct.unpack("=qqqq", value)
        at_ns = seconds * 1_000_000_000 + nanoseconds
        timer.serial += 1
        timer.expired = False
        timer.at_ns = at_ns or None
        self._await_timer(fd, timer, timer.serial)
        return 0

    def _await_timer(self, fd, timer, serial):
        if timer.at_ns is None or timer.serial != serial or self.fds.get(fd) is not timer:
            return
        left_ns = timer.at_ns - self.world.boottime_ns()
        if left_ns <= 0:
            timer.expired = True
            timer.at_ns = None
            self.poke(fd)
        else:
            due_s = left_ns / 1e9 / self.world.rate + 1e-7
            self.world.agenda.after(due_s, lambda: self._await_timer(fd, timer, serial))

    def clock_jumped(self):
        """The machine was suspended: timers on CLOCK_BOOTTIME fire at once where their time is over."""
        for fd, thing in list(self.fds.items()):
            if isinstance(thing, TimerFd):
                self._await_timer(fd, thing, thing.serial)

    # -- death of the machine --------------------------------------------------------------------------------------

    def power_off(self):
        """Everything volatile is gone. Who waits for a process hears nothing any more."""
        for proc in list(self.procs.values()):
            proc.ended = None
            self.end(proc, -9)
        self.addresses.clear()
        self.mounts.clear()
        self.hung_until_s = self.blind_until_s = 0.0


class KernelPath:
    """What the executor reads below /proc and /dev."""

    def __init__(self, kernel, *parts):
        self.kernel = kernel
        self.text = "/".join(str(p) for p in parts)

    def read_text(self, *_args, **_named):
        kernel = self.kernel
        if self.text.endswith("/mountinfo"):
            return kernel.mountinfo()
        pid = self._pid()
        kernel.blind()
        if self.text.endswith("/stat") and pid in kernel.procs:
            fields = ["S", *["0"] * 18, str(kernel.procs[pid].ticks), "0"]
            return f"{pid} (a b) c) {' '.join(fields)}"
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", self.text)

    def stat(self):
        if self.text in self.kernel.devices:
            rdev = os.makedev(MAJOR, self.kernel.devices[self.text])
            return SimpleNamespace(st_mode=stat.S_IFBLK | 0o600, st_rdev=rdev)
        if self.text.endswith("/ns/mnt") and self._pid() in self.kernel.procs:
            return SimpleNamespace(st_ino=1)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", self.text)

    def iterdir(self):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", self.text)

    def readlink(self):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", self.text)

    def _pid(self):
        part = self.text.split("/")[2] if self.text.startswith("/proc/") else ""
        return int(part) if part.isdigit() else 0


class Sock:
    """What stands for a socket object: the executor's end of the pair to the agent server, or netlink."""

    def __init__(self, kernel, wire):
        self._kernel = kernel
        self.wire = wire
        self._fd = kernel.open(wire)

    def fileno(self):
        return self._fd

    def setblocking(self, _on):
        return

    def bind(self, _address):
        return

    def recv(self, _size):
        if not self.wire.inbox:
            raise BlockingIOError
        return self.wire.inbox.pop(0)

    def close(self):
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._kernel.close(fd)


def netlink(kernel):
    def make(_family, _kind, _protocol):
        wire = Wire()
        kernel.netlinks.append(wire)
        return Sock(kernel, wire)

    return make
