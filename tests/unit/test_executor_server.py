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
    Stray,
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


@pytest.mark.parametrize("gid", [0, 12_345])
async def test_the_socket_is_for_root_and_the_group_of_hamaild(folder, monkeypatch, gid):
    monkeypatch.setattr(server_module, "_service_gid", lambda: gid)
    async with world(folder) as w:
        server = await serve(w.executor, folder / "executor.sock")
        found = (folder / "executor.sock").stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, gid, 0o660)
        await server.close()


async def test_a_greeting_comes_once(folder):
    async with world(folder) as w:
        server = await serve(w.executor, folder / "executor.sock")
        client = await Client.connect(folder / "executor.sock")
        client.send(Hello(id=5, version="again"))
        refused = await client.next(Refused)
        assert (refused.id, refused.why) == (5, "already greeted")
        await server.close()


async def test_a_request_of_a_connection_that_was_replaced_meanwhile_is_not_done(folder, monkeypatch):
    async with world(folder) as w:
        path = folder / "executor.sock"
        server = await serve(w.executor, path)
        read = server_module.read_request

        async def slowly(reader):
            request = await read(reader)
            if isinstance(request, Configure):
                await asyncio.sleep(0.2)
            return request

        monkeypatch.setattr(server_module, "read_request", slowly)
        first = await Client.connect(path)
        first.send(Configure(id=2, cluster="c", groups=(w.group(w.resource("smtp")),)))
        await asyncio.sleep(0.05)
        second = await Client.connect(path)
        await asyncio.sleep(0.3)
        assert w.executor._configured == {}
        second.send(Configure(id=3, cluster="c", groups=()))
        assert (await second.next(Accepted)).id == 3
        await server.close()


def down(epoch):
    return GroupDown(group="mail", epoch=epoch, took_ms=1)


async def test_who_does_not_read_is_dropped_and_what_matters_is_kept_for_the_next(folder, monkeypatch):
    monkeypatch.setattr(server_module, "UNSENT_BYTES_MAX", 1000)
    async with world(folder) as w:
        path = folder / "executor.sock"
        server = await serve(w.executor, path)
        deaf = await Client.connect(path)
        deaf.reader._transport.pause_reading()
        for _notice in range(50):
            server.tell(Stray(group="mail", what="x" * 100_000, removed=True))
        server.tell(down(7))
        second = await Client.connect(path)
        assert (await second.next(GroupDown)).epoch == 7
        server.tell(down(8))
        assert (await second.next(GroupDown)).epoch == 8
        await server.close()


async def test_who_does_not_read_the_last_words_holds_up_no_end(folder, monkeypatch, caplog):
    monkeypatch.setattr(server_module, "FAREWELL_TIMEOUT_S", 0.05)
    async with world(folder) as w:
        path = folder / "executor.sock"
        server = await serve(w.executor, path)
        deaf = await Client.connect(path)
        deaf.reader._transport.pause_reading()
        for _notice in range(10):
            server.tell(Stray(group="mail", what="x" * 200_000, removed=True))
        async with asyncio.timeout(2):
            await server.close()
        assert "has not read the last notices" in caplog.text and not path.exists()


async def test_a_server_that_never_listened_can_be_closed(folder):
    async with world(folder) as w:
        await server_module.Server(w.executor, folder / "executor.sock").close()


async def test_a_notice_that_is_too_large_ends_nothing(folder, caplog):
    async with world(folder) as w:
        server = await serve(w.executor, folder / "executor.sock")
        client = await Client.connect(folder / "executor.sock")
        server.tell(Stray(group="mail", what="x" * (MAX_FRAME_BYTES + 1), removed=True))
        server.tell(down(9))
        assert (await client.next(GroupDown)).epoch == 9
        assert "a notice cannot be sent" in caplog.text
        await server.close()
