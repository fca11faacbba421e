"""The executor's end of the agent server's socket, with a test as the server: words that come late, twice or never."""

import asyncio
import os
import socket

import pytest
from executor_world import root_folder, write_agent

from hamail.executor import spawn
from hamail.executor.cgroups import MarkedSet
from hamail.executor.processes import Job, Processes

pytestmark = pytest.mark.root


class Server:
    """It listens as systemd does: when a server has ended, the executor can call the next one."""

    def __init__(self, folder):
        self.path = write_agent(folder, "scripts", "x", "#!/bin/sh\n")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(folder / "agents.sock"))
        self.listener.listen()
        self.processes = Processes.connect(folder / "agents.sock")
        self.processes.attach()
        self.end, _ = self.listener.accept()

    def close(self):
        self.processes.close()
        self.end.close()
        self.listener.close()

    def begin(self):
        processes = MarkedSet("nobody runs in this")
        job = Job(path=self.path, arguments=("start",), environment={}, processes=processes, timeout_ms=5000)
        return asyncio.create_task(self.processes.run(job))

    async def order(self):
        """The number of the order that has come."""
        await asyncio.sleep(0.05)
        body, descriptors, _flags, _address = socket.recv_fds(self.end, spawn.MESSAGE_BYTES_MAX, 3)
        for descriptor in descriptors:
            os.close(descriptor)
        return spawn.decode_spawn(body).id

    def say(self, reply, *descriptors):
        socket.send_fds(self.end, [spawn.encode(reply)], descriptors)

    async def called_again(self):
        self.end, _ = await asyncio.to_thread(self.listener.accept)

    async def works(self):
        task = self.begin()
        self.say(spawn.Exited(id=await self.order(), exit_code=4))
        return (await task).exit_code == 4


@pytest.fixture
async def server():
    with root_folder() as folder:
        made = Server(folder)
        yield made
        made.close()


async def test_words_about_a_run_that_nobody_knows_leave_nothing(server):
    before = len(os.listdir("/proc/self/fd"))
    pidfd = os.pidfd_open(os.getpid())
    server.say(spawn.Spawned(id=99, pid=1), pidfd)
    os.close(pidfd)
    server.say(spawn.Exited(id=99, exit_code=0))
    server.say(spawn.SpawnFailed(id=99, why="x"))
    await asyncio.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) == before
    assert await server.works()


@pytest.mark.parametrize("again", [spawn.Exited(id=1, exit_code=1), spawn.SpawnFailed(id=1, why="no memory")])
async def test_the_first_end_that_is_told_counts(server, again):
    task = server.begin()
    assert await server.order() == 1
    for said in (spawn.Exited(id=1, exit_code=0), again):
        server.say(said)
        server.processes._receive()  # both before the run itself has its turn
    done = await task
    assert (done.exit_code, done.why) == (0, "")


async def test_a_wake_up_for_nothing_changes_nothing(server):
    server.processes._receive()
    assert await server.works()


async def test_a_server_that_ends_with_an_order_unread_is_called_again(server):
    """The kernel resets such a connection instead of ending it."""
    task = server.begin()
    await asyncio.sleep(0.05)
    server.end.close()
    done = await task
    assert done.exit_code is None and "outcome unknown" in done.why
    await server.called_again()
    assert await server.works()


async def test_an_order_to_a_server_that_has_just_died_was_not_run_and_the_next_one_is(server):
    task = server.begin()
    server.end.close()  # before the executor could see it
    done = await task
    assert done.exit_code is None and "not run: the agent server does not answer" in done.why
    await server.called_again()
    assert await server.works()


async def test_closing_twice_is_closing_once(server):
    server.processes.close()
    server.processes.close()
    assert server.end.recv(1) == b""
