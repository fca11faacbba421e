"""The agent server as a service of its own: handed a socket, one executor after the other, root on both sides."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from executor_world import _remove_cgroups, root_folder, write_agent

from hamail.executor import agent_server, spawn
from hamail.executor.cgroups import detect
from hamail.executor.processes import Job, Processes

pytestmark = pytest.mark.root
WAIT_S = 8.0
ECHO = "#!/bin/sh\necho said $1\n"
NOBODY = 65534


class Activated:
    """systemd's part: it listens, and starts a server whenever somebody calls and none is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = folder / "agents.sock"
        (folder / "node.toml").write_text(f'node = "n1"\nagent_dirs = ["{folder / "agents"}"]\n')
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.address))
        self.listener.listen()
        self.servers: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        # LISTEN_PID is only known to the child itself
        script = (
            f"import os, sys; os.dup2({self.listener.fileno()}, 3); "
            "os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())}; "
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        )
        words = ["-m", "hamail.executor.main", "--config", str(self.folder / "node.toml"), "--serve-agents"]
        server = subprocess.Popen(
            [sys.executable, "-c", script, *words],
            pass_fds=(self.listener.fileno(),),
            env=os.environ | {"PYTHONPATH": os.getcwd()},
            stderr=subprocess.PIPE,
        )
        self.servers.append(server)
        return server


@pytest.fixture
def activated() -> Iterator[Activated]:
    with root_folder() as folder:
        made = Activated(folder)
        yield made
        made.listener.close()
        for server in made.servers:
            server.kill()
            server.communicate()


async def run(processes: Processes, folder: Path) -> str:
    sets = detect(folder)
    try:
        job = Job(
            path=write_agent(folder, "agents/x", "echo", ECHO),
            arguments=("start",),
            environment={"PATH": "/usr/bin:/bin"},
            processes=sets.get("x"),
            timeout_ms=5000,
        )
        finished = await processes.run(job)
        return finished.stdout.strip() or finished.why
    finally:
        _remove_cgroups(sets)


async def test_an_executor_is_served_and_the_next_one_gets_a_fresh_server(activated: Activated) -> None:
    for _executor in range(2):
        server = activated.start()
        processes = Processes.connect(activated.address)
        processes.attach()
        assert await run(processes, activated.folder) == "said start"
        processes.close()
        assert await asyncio.to_thread(server.wait, WAIT_S) == 0


async def test_a_server_that_dies_is_replaced_at_the_next_run(activated: Activated) -> None:
    server = activated.start()
    processes = Processes.connect(activated.address)
    processes.attach()
    assert await run(processes, activated.folder) == "said start"
    server.kill()
    await asyncio.to_thread(server.wait, WAIT_S)
    await asyncio.sleep(0.05)  # the executor sees it and calls again: the connection waits for the next server
    activated.start()
    assert await run(processes, activated.folder) == "said start"
    processes.close()


async def test_without_any_server_a_run_says_that_it_was_not_begun(activated: Activated) -> None:
    server = activated.start()
    processes = Processes.connect(activated.address)
    processes.attach()
    assert await run(processes, activated.folder) == "said start"
    activated.listener.close()
    server.kill()
    await asyncio.to_thread(server.wait, WAIT_S)
    await asyncio.sleep(0.05)
    assert "not run" in await run(processes, activated.folder)


def test_the_server_hangs_up_on_whoever_is_not_root(activated: Activated) -> None:
    activated.address.chmod(0o666)  # as if the file's own mode had failed to keep them out
    server = activated.start()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
                caller.connect(str(activated.address))
                caller.recv(1)
        os._exit(0)
    _out, errors = server.communicate(timeout=WAIT_S)
    os.waitpid(child, 0)
    assert server.returncode != 0 and f"belongs to user {NOBODY}, not to root" in errors.decode()


async def test_the_executor_does_not_talk_to_a_server_that_is_not_root_s(tmp_path: Path) -> None:
    address = tmp_path / "agents.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(address))
        os.seteuid(NOBODY)
        try:
            listener.listen()  # the kernel notes who listens
        finally:
            os.seteuid(0)
        with pytest.raises(PermissionError, match=f"user {NOBODY}, not to root"):
            Processes.connect(address)


@pytest.mark.parametrize("spoil", [lambda d: d.chmod(0o777), lambda d: os.chown(d, NOBODY, 0)], ids=["mode", "owner"])
def test_a_folder_that_others_can_write_is_refused(spoil: Callable[[Path], None]) -> None:
    """They could put a link there that root follows, or a note that root believes."""
    with root_folder() as folder:
        (folder / "node.toml").write_text(f'node = "n1"\nrun_dir = "{folder}/run"\n')
        (folder / "run-executor").mkdir()
        spoil(folder / "run-executor")
        words = ["-m", "hamail.executor.main", "--config", str(folder / "node.toml"), "--no-systemd"]
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, timeout=WAIT_S, check=False, cwd=os.getcwd()
        )
        assert done.returncode == 1 and "only root can write" in done.stderr
        assert list((folder / "run-executor").iterdir()) == []


def test_without_a_socket_from_systemd_it_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, pid in (("0", os.getpid()), ("1", 1)):  # none at all, or handed over to another process
        monkeypatch.setenv("LISTEN_FDS", count)
        monkeypatch.setenv("LISTEN_PID", str(pid))
        with pytest.raises(RuntimeError, match=r"hamail-agents\.socket"):
            agent_server.serve_activated(())


def test_what_is_imported_and_what_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    with root_folder() as folder:
        script = "#!/usr/bin/env python3\ndef main(argv, environ): return 0\n"
        good = write_agent(folder, "hamail", "good", script)
        for name, text in {
            ".hidden": script,
            "_shared": script,
            "shell": "#!/bin/sh\nexit 0\n",
            "mainless": "#!/usr/bin/env python3\nmain = 1\n",
            "broken": "#!/usr/bin/env python3\nraise ValueError('a bug')\n",
        }.items():
            write_agent(folder, "hamail", name, text)
        write_agent(folder, "hamail", "writable", script).chmod(0o777)
        (folder / "hamail" / "folder").mkdir()
        assert list(agent_server.load_agents((folder, folder / "none"))) == [str(good)]
    said = capfd.readouterr().err
    assert "mainless cannot be imported" in said and "defines no main" in said
    assert "broken cannot be imported" in said and "writable is not used" in said
    assert "hidden" not in said and "_shared" not in said and "folder " not in said


ENDS = """\
#!/usr/bin/env python3
import os, sys

def main(argv, environ):
    how = environ["OCF_RESKEY_how"]
    if how == "none":
        return None
    if how == "text":
        return "a word at the end"
    if how == "exit-text":
        sys.exit("a word at the end")
    if how == "exit-7":
        raise SystemExit(7)
    if how == "big":
        return 0x1FF
    if how == "deaf":
        print("x", end="")
        os.close(1)
        return 3
    raise ValueError("a bug")

if __name__ == "__main__":
    sys.exit(main(sys.argv, os.environ))
"""


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("none", 0, ""),
        ("text", 1, "a word at the end"),
        ("exit-text", 1, "a word at the end"),
        ("exit-7", 7, ""),
        ("big", 255, ""),
        ("bug", 1, "ValueError: a bug"),
    ],
)
async def test_an_imported_agent_ends_like_an_executed_one(how: str, code: int, said: str) -> None:
    assert await ended("hamail", how) == (code, said)
    assert await ended("other", how) == (code, said)


async def test_an_agent_whose_last_words_cannot_be_written_keeps_its_exit_code() -> None:
    assert await ended("hamail", "deaf") == (3, "")


async def ended(provider: str, how: str) -> tuple[int | None, str]:
    """The exit code of an agent and its last line on stderr; those of the provider hamail are imported."""
    with root_folder() as folder:
        path = write_agent(folder, provider, "ends", ENDS)
        processes = Processes.fork((folder,))
        processes.attach()
        sets = detect(folder)
        try:
            job = Job(
                path=path,
                arguments=("start",),
                environment={"PATH": "/usr/bin:/bin", "OCF_RESKEY_how": how},
                processes=sets.get("x"),
                timeout_ms=8000,
            )
            done = await processes.run(job)
        finally:
            processes.close()
            _remove_cgroups(sets)
    assert done.why == ""
    return done.exit_code, (done.stderr.strip().splitlines() or [""])[-1]


async def test_the_server_refuses_what_is_no_agent() -> None:
    with root_folder() as folder:
        processes = Processes.fork((folder,))
        processes.attach()
        sets = detect(folder)
        try:
            made = folder / "made"
            job = Job(
                path=Path("/bin/sh"),
                arguments=("-c", f"touch {made}"),
                environment={},
                processes=sets.get("x"),
                timeout_ms=5000,
            )
            done = await processes.run(job)
            assert done.exit_code is None and "not run: /bin/sh is neither an agent" in done.why
            assert not made.exists()
        finally:
            processes.close()
            _remove_cgroups(sets)


def test_a_fork_that_fails_is_told_and_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise OSError(11, "Resource temporarily unavailable")

    with root_folder() as folder:
        path = write_agent(folder, "x", "echo", ECHO)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            server = agent_server._Server(theirs, (folder,), {})
            order = spawn.Spawn(id=4, path=str(path), arguments=("start",), environment={}, join_files=())
            before = len(os.listdir("/proc/self/fd"))
            socket.send_fds(ours, [spawn.encode(order)], [0, 1, 2])
            monkeypatch.setattr(agent_server.os, "fork", refuse)
            assert server._serve_one()
            reply = spawn.decode_reply(ours.recv(spawn.MESSAGE_BYTES_MAX))
            assert isinstance(reply, spawn.SpawnFailed) and reply.id == 4 and "temporarily unavailable" in reply.why
            assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_that_has_no_group_of_its_own_yet_ends_with_the_server_too() -> None:
    """It is forked, but has not come to its setsid."""
    child = subprocess.Popen(["sleep", "1000"])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        server = agent_server._Server(theirs, (), {})
        pidfd = os.pidfd_open(child.pid)
        server._children[pidfd] = (child.pid, 1)
        server._kill_all()
        os.close(pidfd)
    assert child.wait(WAIT_S) == -signal.SIGKILL
