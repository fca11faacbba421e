"""The socket: frames, greeting, one hamaild at a time, adoption after a reconnect, peer credentials."""

import asyncio
import os
import subprocess
import sys

import pytest
from executor_world import Client, root_folder, serve, world

from hamail.executor import server as server_module
from hamail.executor.clock import boottime_ns
from hamail.executor.wire import MAX_FRAME_BYTES, WireError, encode, read_notice, read_request
from hamail.model.actions import (
    Accepted,
    Cleaned,
    CleanUp,
    Configure,
    Extend,
    GroupDown,
    GroupUp,
    Hello,
    Refused,
    ResourceFailed,
    StartGroup,
    StopGroup,
)
from hamail.model.state import Evidence

pytestmark = pytest.mark.root
S = 10**9


@pytest.fixture
def folder():
    with root_folder() as made:
        yield made


def reader_of(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


async def test_frames_go_round():
    sent = Hello(id=3, version="1")
    reader = reader_of(encode(sent) + encode(sent))
    assert await read_request(reader) == sent
    assert await read_request(reader) == sent
    assert await read_request(reader) is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((MAX_FRAME_BYTES + 1).to_bytes(4, "big"), "outside"),
        (b"\0\0\0\0", "outside"),
        (b"\0\0\0\x05ab", "within a frame"),
        (b"\0\0", "within a frame"),
        (b"\0\0\0\x03\xff\xff\xff", "not a known message"),
        (encode({"request": "format_disk", "id": 1}), "not a known message"),
        (encode({"request": "hello", "id": 1, "version": "1", "sudo": True}), "not a known message"),
        (encode({"request": "hello", "id": "one", "version": "1"}), "not a known message"),
    ],
)
async def test_garbage_is_refused(data, said):
    with pytest.raises(WireError, match=said):
        await read_request(reader_of(data))


async def test_oversize_message_is_not_sent():
    with pytest.raises(WireError, match="over the cap"):
        encode(Hello(id=1, version="x" * (MAX_FRAME_BYTES + 1)))


def start_request(group, epoch=1):
    now = boottime_ns()
    return StartGroup(
        id=9, group=group, epoch=epoch, soft_ns=now + 60 * S, hard_ns=now + 65 * S, evidence=Evidence.NEVER_OWNED
    )


async def test_adoption_after_a_reconnect(folder):
    async with world(folder) as w:
        path = folder / "executor.sock"
        server = await serve(w.executor, path)
        first = await Client.connect(path)
        assert first.welcome.groups == {} and not first.welcome.clean
        group = w.group(w.resource("smtp"))
        first.send(start_request(group))
        assert "not been cleaned" in (await first.next(Refused)).why
        first.send(Configure(id=2, cluster="c", groups=(group,)))
        assert (await first.next(Accepted)).id == 2
        first.send(CleanUp(id=3))
        assert (await first.next(Cleaned)).ok
        first.send(start_request(group, epoch=4))
        await first.next(GroupUp)
        pid = w.pid("smtp")
        first.writer.close()
        await asyncio.sleep(0.05)
        os.kill(pid, 9)  # happens while hamaild is away
        await asyncio.sleep(0.05)
        second = await Client.connect(path)
        assert second.welcome.incarnation == first.welcome.incarnation
        held = second.welcome.groups["mail"]
        assert (held.epoch, held.state, held.resources) == (4, "up", {"smtp": "failed"})
        assert second.welcome.clean
        assert (await second.next(ResourceFailed)).resource == "smtp"
        second.send(Extend(id=5, group="mail", epoch=4, soft_ns=held.soft_ns + S, hard_ns=held.hard_ns + S))
        assert (await second.next(Accepted)).id == 5
        second.send(StopGroup(id=6, group="mail", epoch=4, why="test"))
        assert (await second.next(GroupDown)).epoch == 4
        await server.close()


async def test_newer_connection_replaces_the_older(folder):
    async with world(folder) as w:
        path = folder / "executor.sock"
        server = await serve(w.executor, path)
        first = await Client.connect(path)
        second = await Client.connect(path)
        assert await asyncio.wait_for(read_notice(first.reader), 1) is None
        second.send(Configure(id=7, cluster="c", groups=()))
        assert (await second.next(Accepted)).id == 7
        await server.close()


async def test_start_again_under_the_same_epoch_is_answered_again(folder):
    async with world(folder) as w:
        group = w.group(w.resource("smtp"))
        assert (await w.clean(group)).ok
        assert w.start(group, epoch=3) == ""
        first = await w.wait_for(GroupUp)
        assert w.start(group, epoch=3) == ""
        assert await w.wait_for(GroupUp) == first
        assert w.log("smtp").count("start") == 1
        assert "still held under epoch 3" in w.start(group, epoch=4)


async def test_no_greeting_no_service(folder, monkeypatch):
    monkeypatch.setattr(server_module, "GREETING_TIMEOUT_S", 0.1)
    async with world(folder) as w:
        path = folder / "executor.sock"
        server = await serve(w.executor, path)
        for data in (encode(CleanUp(id=1)), b"GET / HTTP/1.1\r\n\r\n", b""):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(data)
            assert await asyncio.wait_for(reader.read(), 1) == b""
            writer.close()
        await server.close()


async def test_other_users_are_turned_away(folder):
    async with world(folder) as w:
        path = folder / "executor.sock"
        server = await serve(w.executor, path)
        assert path.stat().st_mode & 0o007 == 0
        path.chmod(0o666)  # as if somebody had opened it up: credentials still count
        code = (
            "import os,socket,sys; os.setuid(65534); s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
            "s.sendall(bytes.fromhex(sys.argv[2])); print(len(s.recv(10)))"
        )
        hello = encode(Hello(id=1, version="x")).hex()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(path), hello, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await child.communicate()
        assert out.strip() == b"0" or b"ConnectionResetError" in err or b"BrokenPipeError" in err
        await server.close()
