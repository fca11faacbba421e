"""Runs one program or agent action as a process with limits: time, output, and what it may leave behind."""

import asyncio
import contextlib
import fcntl
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from hamail.executor import spawn
from hamail.executor.agent_server import fork_server, not_from_root
from hamail.executor.cgroups import ProcessSet, describe
from hamail.executor.trust import Untrusted, trusted_executable

OUTPUT_BYTES_MAX = 64 << 10
INPUT_BYTES_MAX = 32 << 10  # fits into a pipe, so that writing it never blocks
ENVIRONMENT_BYTES_MAX = 64 << 10
GRACE_MS = 500  # between SIGTERM and SIGKILL of an action past its time
KILL_WAIT_MS = 1_000  # how long SIGKILL may take before a process counts as stuck in the kernel
SERVER_STARTS_MAX = 5
CONNECT_TIMEOUT_S = 1.0
_READ_BYTES = 64 << 10
_SEND_RETRY_S = 0.005
_SETTLE_S = 0.005

log = logging.getLogger("hamail.executor.processes")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to run. `keep_children`: what a successful run leaves behind in its set is meant to stay (a service)."""

    path: Path
    arguments: tuple[str, ...]
    environment: dict[str, str]
    processes: ProcessSet
    timeout_ms: int
    stdin: bytes = b""
    keep_children: bool = False
    stdout_bytes_max: int = OUTPUT_BYTES_MAX
    grace_ms: int = GRACE_MS


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How it ended. `exit_code` is None when it did not end by itself; then `why` says what happened."""

    exit_code: int | None
    why: str = ""
    timed_out: bool = False
    stdout: str = ""
    stderr: str = ""
    took_ms: int = 0
    left_behind: tuple[str, ...] = ()  # processes found after the end; killed
    stuck: tuple[str, ...] = ()  # processes that even SIGKILL did not end


@dataclass
class _Capture:
    """Keeps the first (stdout) or the last (stderr) bytes of a stream and goes on draining the rest."""

    limit: int
    keep_last: bool
    kept: bytearray = field(default_factory=bytearray)
    dropped: int = 0

    def add(self, data: bytes) -> None:
        if self.keep_last:
            self.kept += data
            excess = len(self.kept) - self.limit
            if excess > 0:
                del self.kept[:excess]
                self.dropped += excess
        else:
            room = self.limit - len(self.kept)
            self.kept += data[:room]
            self.dropped += max(0, len(data) - room)

    def text(self) -> str:
        return self.kept.decode("utf-8", errors="backslashreplace")


@dataclass
class _Running:
    exited: asyncio.Future[int]
    pid: int = 0
    pidfd: int = -1
    sent: bool = False  # the agent server has the order: it will report an end
    doomed: bool = False  # cancelled before the server said that it runs


class Lost(Exception):
    """The agent server failed: whether the program ran is unknown."""


class Processes:
    """The executor's side of the agent server; starts another one if it dies, or turns to the one systemd starts."""

    def __init__(
        self, server: socket.socket, server_pid: int, agent_dirs: tuple[Path, ...], address: Path | None = None
    ) -> None:
        self._server = server
        self._server_pid = server_pid
        self._address = address
        self._replacement: subprocess.Popen[bytes] | None = None
        self._agent_dirs = agent_dirs
        self._ids = itertools.count(1)
        self._running: dict[int, _Running] = {}
        self._starts_left = SERVER_STARTS_MAX

    @classmethod
    def fork(cls, agent_dirs: tuple[Path, ...]) -> "Processes":
        """Fork the agent server now; `attach` when the event loop runs."""
        server, pid = fork_server(agent_dirs)
        return cls(server, pid, agent_dirs)

    @classmethod
    def connect(cls, address: Path) -> "Processes":
        """Use the agent server behind this socket, which systemd starts when it is called. Raises OSError."""
        return cls(_connect(address), 0, (), address)

    def attach(self) -> None:
        self._server.setblocking(False)
        asyncio.get_running_loop().add_reader(self._server.fileno(), self._receive)

    def close(self) -> None:
        """End the agent server, and with it every action still running."""
        if self._server.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._server.fileno())
            self._server.close()

    async def run(self, job: Job) -> Finished:
        """Run to the end or to the time limit. When cancelled it kills the run at once and does not wait."""
        try:
            trusted_executable(job.path)
        except Untrusted as error:
            return Finished(exit_code=None, why=f"not run: {error}")
        if sum(len(k.encode()) + len(v.encode()) for k, v in job.environment.items()) > ENVIRONMENT_BYTES_MAX:
            return Finished(exit_code=None, why=f"not run: its parameters are over {ENVIRONMENT_BYTES_MAX} bytes")
        if len(job.stdin) > INPUT_BYTES_MAX:
            return Finished(exit_code=None, why=f"not run: its input is over {INPUT_BYTES_MAX} bytes")
        started = time.monotonic()
        try:
            pipes = _Streams(job)
        except OSError as error:
            return Finished(exit_code=None, why=f"not run: no pipes for it ({error.strerror or error})")
        with pipes as streams:
            finished = await self._supervise(job, streams)
            streams.drain()
            return Finished(
                exit_code=finished.exit_code,
                why=finished.why,
                timed_out=finished.timed_out,
                stdout=streams.stdout.text(),
                stderr=streams.stderr.text(),
                took_ms=round((time.monotonic() - started) * 1000),
                left_behind=finished.left_behind,
                stuck=finished.stuck,
            )

    async def _supervise(self, job: Job, streams: "_Streams") -> Finished:
        loop = asyncio.get_running_loop()
        running = _Running(exited=loop.create_future())
        id_ = next(self._ids)
        self._running[id_] = running
        code: int | None = None
        why, timed_out = "", False
        try:
            async with asyncio.timeout(job.timeout_ms / 1000):
                await self._spawn(id_, job, streams)
                code = await asyncio.shield(running.exited)
        except TimeoutError:
            timed_out, why = True, f"timed out after {job.timeout_ms} ms"
            await self._terminate(job, running)
        except Lost as error:
            why = str(error)
        except asyncio.CancelledError:
            running.doomed = True
            _kill(running)
            job.processes.signal(signal.SIGKILL)
            raise
        finally:
            if running.exited.done() or not running.sent:
                self._retire(id_, running)
            else:
                running.doomed = True  # stuck, or cancelled: retired when the server reports its end
        if code is not None and code < 0:
            why = f"killed by signal {-code} ({_signal_name(-code)})"
            code = None
        left, stuck = await self._sweep(job, keep=job.keep_children and code == 0)
        return Finished(exit_code=code, why=why, timed_out=timed_out, left_behind=left, stuck=stuck)

    async def _spawn(self, id_: int, job: Job, streams: "_Streams") -> None:
        order = spawn.Spawn(
            id=id_,
            path=str(job.path),
            arguments=job.arguments,
            environment=job.environment | job.processes.environment(),
            join_files=job.processes.join_files(),
        )
        body = spawn.encode(order)
        while True:
            try:
                socket.send_fds(self._server, [body], streams.child_ends())
                break
            except BlockingIOError:
                await asyncio.sleep(_SEND_RETRY_S)  # bounded by the job's own time limit
            except OSError as error:
                self._reconnect()  # for the next one
                raise Lost(f"not run: the agent server does not answer ({error})") from error
        self._running[id_].sent = True
        streams.close_child_ends()

    async def _terminate(self, job: Job, running: _Running) -> None:
        """SIGTERM, a short grace, SIGKILL; returns when it is gone or is stuck."""
        _kill(running, signal.SIGTERM)
        job.processes.signal(signal.SIGTERM)
        await asyncio.wait((running.exited,), timeout=job.grace_ms / 1000)
        if not running.exited.done():
            running.doomed = True
            _kill(running)
            job.processes.signal(signal.SIGKILL)
            await asyncio.wait((running.exited,), timeout=KILL_WAIT_MS / 1000)

    async def _sweep(self, job: Job, *, keep: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Kill what the run left behind. Returns (what was found, what could not be killed)."""
        if keep:
            return (), ()
        pids = members(job.processes)
        if pids == []:
            return (), ()
        left = tuple(describe(pid) for pid in pids or ())
        stuck = await kill_set(job.processes)
        return left, stuck

    def _receive(self) -> None:
        """One message of the agent server."""
        try:
            body, descriptors, _flags, _address = socket.recv_fds(self._server, spawn.MESSAGE_BYTES_MAX, 1)
        except BlockingIOError:
            return
        except OSError as error:
            self._server_died(str(error))
            return
        if not body:
            self._server_died("it has ended")
            return
        reply = spawn.decode_reply(body)
        running = self._running.get(reply.id)
        if isinstance(reply, spawn.Spawned):
            if running is None:
                for descriptor in descriptors:
                    os.close(descriptor)
                return
            running.pid, running.pidfd = reply.pid, descriptors[0] if descriptors else -1  # none free: its set remains
            if running.doomed:
                _kill(running)
        elif running is not None:
            if isinstance(reply, spawn.Exited):
                _settle(running, reply.exit_code)
            else:
                _settle_lost(running, f"not run: {reply.why}")
            if running.doomed:
                self._retire(reply.id, running)

    def _retire(self, id_: int, running: _Running) -> None:
        self._running.pop(id_, None)
        if running.pidfd >= 0:
            os.close(running.pidfd)
            running.pidfd = -1

    def _server_died(self, why: str) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._server.fileno())
        self._server.close()
        for id_, running in list(self._running.items()):
            if not running.sent:
                continue  # it waits to be sent, and will be to the next server
            del self._running[id_]
            _settle_lost(running, f"the agent server has died ({why}): outcome unknown")
            if running.doomed:
                self._retire(id_, running)  # nobody else will: its run was given up
        if self._address is None:
            self._start_another(why)
        else:
            log.error("the agent server has died (%s)", why)
            self._reconnect()

    def _reconnect(self) -> None:
        """systemd starts another one for a new connection; where that is refused, the next run tries again."""
        if self._address is None or self._server.fileno() >= 0:
            return
        try:
            self._server = _connect(self._address)
        except OSError as error:
            log.critical("there is no agent server at %s: %s", self._address, error)
        else:
            self.attach()

    def _start_another(self, why: str) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._server_pid, os.WNOHANG)
        if self._starts_left == 0:
            log.critical("the agent server has died %d times and is not started again", SERVER_STARTS_MAX)
            return
        self._starts_left -= 1
        log.error("the agent server has died (%s): starting another one", why)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A fork of this process would take the event loop along, so the replacement is a fresh interpreter.
        self._replacement = subprocess.Popen(
            [sys.executable, "-m", "hamail.executor.agent_server", str(theirs.fileno()), *map(str, self._agent_dirs)],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._server, self._server_pid = ours, self._replacement.pid
        self.attach()


def _connect(address: Path) -> socket.socket:
    """Raises OSError, also when it is not root who listens there."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        server.settimeout(CONNECT_TIMEOUT_S)
        server.connect(str(address))
        if refused := not_from_root(server):
            raise PermissionError(refused)
    except OSError:
        server.close()
        raise
    return server


def members(processes: ProcessSet) -> list[int] | None:
    """The processes of a set; None when they cannot be seen, which is not the same as none."""
    try:
        return processes.pids()
    except OSError as error:
        log.warning("processes of %s cannot be seen: %s", processes.name, error)
        return None


async def kill_set(processes: ProcessSet, wait_ms: int = KILL_WAIT_MS) -> tuple[str, ...]:
    """SIGKILL a set until it is empty; returns who is left after `wait_ms` (stuck in the kernel)."""
    until = time.monotonic() + wait_ms / 1000
    while True:
        processes.signal(signal.SIGKILL)
        left = members(processes)
        if left == []:
            return ()
        if time.monotonic() >= until:
            return tuple(describe(pid) for pid in left) if left else ("unknown: they cannot be seen",)
        await asyncio.sleep(_SETTLE_S)


class _Streams:
    """The three pipes of a run, and what was read from two of them."""

    def __init__(self, job: Job) -> None:
        self.stdout = _Capture(job.stdout_bytes_max, keep_last=False)
        self.stderr = _Capture(OUTPUT_BYTES_MAX, keep_last=True)
        self._readers: dict[int, _Capture] = {}
        self._child: list[int] = []
        try:
            self._open(job)
        except OSError:
            self.__exit__()
            raise

    def _open(self, job: Job) -> None:
        """Raises OSError."""
        if job.stdin:
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            os.write(write_end, job.stdin)
            os.close(write_end)
            self._child.append(read_end)
        else:
            self._child.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        loop = asyncio.get_running_loop()
        for capture in (self.stdout, self.stderr):
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            fcntl.fcntl(read_end, fcntl.F_SETFL, os.O_NONBLOCK)
            self._child.append(write_end)
            self._readers[read_end] = capture
            loop.add_reader(read_end, self._read, read_end)

    def __enter__(self) -> "_Streams":
        return self

    def __exit__(self, *_exc: object) -> None:
        # A daemon that keeps the pipe open gets EPIPE from now on, as under any cluster manager.
        for descriptor in list(self._readers):
            self._close_reader(descriptor)
        self.close_child_ends()

    def child_ends(self) -> list[int]:
        return self._child

    def close_child_ends(self) -> None:
        while self._child:
            os.close(self._child.pop())

    def drain(self) -> None:
        """Read what is in the pipes now, at most one pipe's worth each."""
        for descriptor in list(self._readers):
            self._read(descriptor)

    def _read(self, descriptor: int) -> None:
        capture = self._readers[descriptor]
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            capture.add(data)
        else:
            self._close_reader(descriptor)

    def _close_reader(self, descriptor: int) -> None:
        del self._readers[descriptor]
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


def _settle(running: _Running, code: int) -> None:
    if not running.exited.done():
        running.exited.set_result(code)


def _settle_lost(running: _Running, why: str) -> None:
    if not running.exited.done():
        running.exited.set_exception(Lost(why))
        running.exited.exception()  # mark as seen: nobody may be waiting any more


def _kill(running: _Running, number: int = signal.SIGKILL) -> None:
    """Signal the leader by its pidfd and, while it surely still exists, its session's process group."""
    if running.pidfd < 0 or running.exited.done():
        return
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(running.pidfd, 0)  # not yet reaped, so the number cannot have been reused
        os.killpg(running.pid, number)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(running.pidfd, number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
