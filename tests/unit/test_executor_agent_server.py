"""The agent server as a service of its own: handed a socket, one executor after the other, root on both sides."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from executor_world import _remove_cgroups, root_folder, write_agent

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
