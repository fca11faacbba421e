"""The agent server: has hamail's own agents imported, so that an action costs a fork and not an interpreter.

Under systemd it is a service of its own (hamail-agents.service), since agents need rights that the executor does not:
mounting, addresses, other users. Elsewhere the executor forks it.

It is single-threaded, has no asyncio state and does one thing: fork a child per `Spawn`, which becomes a process of its
own (session, cgroup, environment, standard streams) and then either calls the imported agent's `main` or executes
the program. Both ways look the same from outside. The server reaps its children and reports their exit codes.
"""

import contextlib
import ctypes
import gc
import io
import os
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from hamail.executor import bounds, spawn
from hamail.executor.trust import Untrusted, trusted_executable

OWN_PROVIDER = "hamail"
EXIT_CANNOT_RUN = 126
AGENTS_MAX = 64
_DESCRIPTORS_MAX = 65536
_LISTEN_DESCRIPTOR = 3
_PEERCRED = struct.Struct("=iII")
_PR_SET_PDEATHSIG = 1
_FingerPrint = tuple[int, int, int]
AgentMain = Callable[[list[str], Mapping[str, str]], int]


def fork_server(agent_dirs: tuple[Path, ...]) -> tuple[socket.socket, int]:
    """Fork the server. Call it early: no threads, no event loop. Returns (our end of the socket pair, its pid)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gc.collect()
    gc.freeze()  # the collector must not write to pages that both processes share
    pid = os.fork()
    if pid:
        theirs.close()
        return ours, pid
    code = 1
    try:
        # nothing else of the executor is inherited: a lock or a socket held here would outlive it
        kept = theirs.fileno()
        os.closerange(3, kept)
        os.closerange(kept + 1, _DESCRIPTORS_MAX)
        serve(theirs, agent_dirs)
        code = 0
    except BaseException:  # noqa: BLE001 - the forked child must never return into the caller's stack
        traceback.print_exc()
    finally:
        os._exit(code)  # also when the traceback could not be written


def serve_activated(agent_dirs: tuple[Path, ...]) -> None:
    """Serve the one executor that connects to the socket which systemd hands over; end when it has gone.

    The next executor is served by a fresh process: after an upgrade that one has the new agents. They are imported
    before the call comes: an executor that has crashed may have little time left until the watchdog bites.
    """
    if os.environ.get("LISTEN_FDS") != "1" or os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise RuntimeError("systemd hands over no socket: it is started by hamail-agents.socket")
    agents = load_agents(agent_dirs)
    with socket.socket(fileno=_LISTEN_DESCRIPTOR) as listener:
        listener.setblocking(True)
        connection, _address = listener.accept()
    refused = not_from_root(connection)
    if refused:
        raise RuntimeError(refused)
    connection.setblocking(True)
    serve(connection, agent_dirs, agents)


def not_from_root(connection: socket.socket) -> str:
    """Why the other end is not to be believed; "" when it belongs to root."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    _pid, uid, _gid = _PEERCRED.unpack(peer)
    return "" if uid == 0 else f"the other end of the agent server's socket belongs to user {uid}, not to root"


def serve(sock: socket.socket, agent_dirs: tuple[Path, ...], agents: "dict[str, LoadedAgent] | None" = None) -> None:
    """Serve until the executor's end closes; then kill what still runs."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it lives as long as the executor, also while that stops groups
    _name_process("hamail-agents")
    server = _Server(sock, agent_dirs, load_agents(agent_dirs) if agents is None else agents)
    gc.collect()
    gc.freeze()
    server.run()


class LoadedAgent:
    """An imported agent script and the file that it was imported from."""

    def __init__(self, main: AgentMain, fingerprint: _FingerPrint) -> None:
        self.main = main
        self.fingerprint = fingerprint


def load_agents(agent_dirs: tuple[Path, ...]) -> dict[str, LoadedAgent]:
    """Import every trusted Python agent of the provider hamail. One that cannot be imported is executed instead."""
    loaded: dict[str, LoadedAgent] = {}
    for folder in agent_dirs:
        own = folder / OWN_PROVIDER
        names = sorted(own.iterdir())[:AGENTS_MAX] if own.is_dir() else []
        for path in names:
            if path.name.startswith((".", "_")) or not path.is_file():
                continue
            try:
                loaded[str(path)] = _load(path)
            except Untrusted as error:
                print(f"agent {path} is not used: {error}", file=sys.stderr, flush=True)  # noqa: T201
            except Exception as error:  # noqa: BLE001 - one broken agent must not take the others away
                print(f"agent {path} cannot be imported: {error!r}", file=sys.stderr, flush=True)  # noqa: T201
    return loaded


def _load(path: Path) -> LoadedAgent:
    found = trusted_executable(path)
    if b"python" not in path.open("rb").readline(200):
        raise ImportError("not a Python script; it will be executed")
    name = f"hamail_agent_{path.name.replace('-', '_')}"
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # no __pycache__ among the agents
    try:
        loader = SourceFileLoader(name, str(path))
        module_spec = spec_from_loader(name, loader)
        assert module_spec is not None
        module: ModuleType = module_from_spec(module_spec)
        sys.modules[name] = module  # dataclasses and typing look a module up by its name
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    main = getattr(module, "main", None)
    if not callable(main):
        raise ImportError("it defines no main(argv, environ)")  # noqa: TRY004 - the file is wrong, not an argument
    return LoadedAgent(main, _fingerprint(found))


def _fingerprint(found: os.stat_result) -> _FingerPrint:
    return found.st_ino, found.st_mtime_ns, found.st_size


class _Server:
    def __init__(self, sock: socket.socket, agent_dirs: tuple[Path, ...], agents: dict[str, LoadedAgent]) -> None:
        self._sock = sock
        self._agent_dirs = agent_dirs
        self._agents = agents
        self._children: dict[int, tuple[int, int]] = {}  # pidfd -> (pid, id of the spawn)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def run(self) -> None:
        while True:
            for descriptor, _events in self._poll.poll():
                if descriptor == self._sock.fileno():
                    if not self._serve_one():
                        self._kill_all()
                        return
                else:
                    self._reap(descriptor)

    def _serve_one(self) -> bool:
        try:
            body, descriptors, _flags, _address = socket.recv_fds(self._sock, spawn.MESSAGE_BYTES_MAX, 3)
        except ConnectionError:
            return False
        if not body:
            return False
        order = spawn.decode_spawn(body)
        refused = bounds.refuse(order, self._agent_dirs)
        if refused:
            _close(descriptors)
            self._sock.send(spawn.encode(spawn.SpawnFailed(id=order.id, why=refused)))
            return True
        try:
            pid = os.fork()
        except OSError as error:
            _close(descriptors)
            self._sock.send(spawn.encode(spawn.SpawnFailed(id=order.id, why=str(error))))
            return True
        if pid == 0:
            self._child(order, descriptors)
        _close(descriptors)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (pid, order.id)
        self._poll.register(pidfd, select.POLLIN)
        socket.send_fds(self._sock, [spawn.encode(spawn.Spawned(id=order.id, pid=pid))], [pidfd])
        return True

    def _reap(self, pidfd: int) -> None:
        pid, order_id = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _pid, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(ConnectionError):  # the executor has gone: the next receive says so
            self._sock.send(spawn.encode(spawn.Exited(id=order_id, exit_code=code)))

    def _kill_all(self) -> None:
        for pidfd, (pid, _id) in self._children.items():
            try:
                os.killpg(pid, signal.SIGKILL)
            except OSError:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def _child(self, order: spawn.Spawn, descriptors: list[int]) -> NoReturn:
        code = EXIT_CANNOT_RUN
        try:
            _become(order, descriptors)
            agent = self._agents.get(order.path)
            if agent is not None and agent.fingerprint == _fingerprint(Path(order.path).stat()):
                code = _call(agent.main, order)
            else:
                os.execve(order.path, [order.path, *order.arguments], order.environment)  # noqa: S606 - no shell wanted
        except BaseException as error:  # noqa: BLE001 - the forked child must never return into the server's loop
            os.write(2, f"ocf-exit-reason:cannot run {order.path}: {error!r}\n".encode())
        os._exit(code)


def _become(order: spawn.Spawn, descriptors: list[int]) -> None:
    """Turn the forked child into a process of its own."""
    os.setsid()
    for join in order.join_files:
        with open(join, "w") as procs:
            procs.write("0")
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
    os.closerange(3, _DESCRIPTORS_MAX)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # an action must not go on unsupervised; what it has started by then is not concerned
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.chdir("/")
    os.umask(0o022)


def _call(main: AgentMain, order: spawn.Spawn) -> int:
    """Call an imported agent as if it had been executed."""
    os.environ.clear()
    os.environ.update(order.environment)
    sys.argv = [order.path, *order.arguments]
    sys.stdin = _stream(0, "r")
    sys.stdout = _stream(1, "w")
    sys.stderr = _stream(2, "w")
    try:
        code: Any = main(sys.argv, os.environ)
    except SystemExit as stop:
        code = stop.code
    except BaseException:  # noqa: BLE001 - an uncaught exception ends a program with a traceback and code 1
        traceback.print_exc()
        code = 1
    if code is None:
        code = 0
    elif not isinstance(code, int):
        sys.stderr.write(f"{code}\n")  # words are the reason, as in sys.exit("no such device")
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            continue  # the reader has gone; the exit code still counts
    return int(code) & 0xFF


def _stream(descriptor: int, mode: str) -> io.TextIOWrapper:
    raw = open(descriptor, f"{mode}b", closefd=False)  # noqa: SIM115 - lives as long as the process
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _name_process(name: str) -> None:
    pr_set_name = 15
    ctypes.CDLL(None).prctl(pr_set_name, name.encode(), 0, 0, 0)


if __name__ == "__main__":  # the executor's replacement for a server that died: python -m ... DESCRIPTOR DIR...
    serve(socket.socket(fileno=int(sys.argv[1])), tuple(Path(d) for d in sys.argv[2:]))
