"""Why hamail has its own transport: the same expectations put to PySyncObj's TCPTransport and to ours.

Those marked as failing on the stock part are strict: should a release of the library mend one, this file says so.
"""

import asyncio
import contextlib
import os
import pickle
import resource
import socket
import struct
import sys
import zlib
from pathlib import Path

import pytest
from pysyncobj import SyncObj, SyncObjConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from transport_kit import Client, Node, context, make_pki, message, until

from hamail.transport import listener
from hamail.transport.frames import encode

PORTS = {"n1": 17481, "n2": 17481, "n3": 17481}
STOCK_PORT = 17482
LIMIT_BYTES = 2 << 20
HANDSHAKE_S = 0.3


class Stock:
    """A SyncObj with its own transport, driven by hand; n2 and n3 are members that do not run."""

    async def __aenter__(self):
        addresses = [f"127.0.0.{n}:{STOCK_PORT}" for n in (1, 2, 3)]
        conf = SyncObjConf(autoTick=False, bindAddress=addresses[0], connectionTimeout=HANDSHAKE_S, raftMaxTimeout=0.25)
        conf.raftMinTimeout, conf.appendEntriesPeriod = 0.2, 0.05
        self.obj = SyncObj(addresses[0], addresses[1:], conf=conf)
        self.transport = self.obj._SyncObj__transport
        self.received = []
        self.transport.setOnMessageReceivedCallback(
            lambda node, what: self.received.append((f"n{node.id[8]}", what["nonce"]))
        )
        self.ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_):
        self.ticking.cancel()
        self.obj.destroy()
        self.obj.doTick(0)

    async def _tick(self):
        while True:
            self.obj.doTick(0)
            await asyncio.sleep(0.002)

    def address(self):
        return ("127.0.0.1", STOCK_PORT)

    @contextlib.asynccontextmanager
    async def member(self, holder, claims):
        """A connection of whoever holds n3's secrets (the stock part has none), that says it is `claims`."""
        reader, writer = await asyncio.open_connection(*self.address(), local_addr=("127.0.0.3", 0))
        writer.write(self.frame(f"127.0.0.{claims[1]}:{STOCK_PORT}"))
        await asyncio.sleep(0.1)
        yield reader, writer
        writer.transport.abort()

    stranger = member

    @staticmethod
    def frame(what):
        data = zlib.compress(pickle.dumps(what))
        return struct.pack("i", len(data)) + data

    def say(self, nonce):
        return self.frame({"nonce": nonce})

    def oversize(self):
        return struct.pack("i", 2**31 - 1)

    def buffered(self):
        connections = [*self.transport._connections.values(), *self.transport._unknownConnections]
        return sum(len(c._TcpConnection__readBuffer) for c in connections)


class Ours:
    """hamail's transport as n1."""

    def __init__(self, pki):
        self.pki = pki
        self.node = Node(pki, "n1", PORTS)

    async def __aenter__(self):
        await self.node.__aenter__()
        return self

    async def __aexit__(self, *_):
        await self.node.__aexit__()

    def address(self):
        return self.node.transport.address

    @property
    def received(self):
        return [(peer, m.nonce) for peer, m in self.node.received]

    @contextlib.asynccontextmanager
    async def member(self, holder, claims):
        """A name cannot be claimed here, only shown by a certificate."""
        async with Client(self.node, context(self.pki, holder)) as client:
            assert await client.welcomed()
            yield client.reader, client.writer

    @contextlib.asynccontextmanager
    async def stranger(self, holder, claims):
        with contextlib.suppress(OSError):
            async with Client(self.node, context(self.pki, None)) as client:
                yield client.reader, client.writer

    def say(self, nonce):
        return encode(message(nonce))

    def oversize(self):
        return (2**31 - 1).to_bytes(4, "big")

    def buffered(self):
        return sum(i.reader.unfinished for i in self.node.transport._incoming.values())


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def subject(request, pki):
    async with Stock() if request.param == "stock" else Ours(pki) as made:
        yield made


fails_on_stock = pytest.mark.parametrize(
    "subject",
    [pytest.param("stock", marks=pytest.mark.xfail(strict=True, raises=AssertionError)), "ours"],
    indirect=True,
)


async def reachable(subject):
    try:
        _, writer = await asyncio.open_connection(*subject.address(), local_addr=("127.0.0.3", 0))
    except ConnectionRefusedError:
        return False
    writer.transport.abort()
    return True


@fails_on_stock
async def test_listening_survives_descriptor_exhaustion(subject):
    assert await reachable(subject)
    await asyncio.sleep(0.05)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = [socket.socket() for _ in range(3)]
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(subject.address())
        await asyncio.sleep(0.2)
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for client in waiting:
            client.close()
    await asyncio.sleep(0.2)
    assert await reachable(subject)


@fails_on_stock
async def test_an_unauthenticated_peer_is_not_heard(subject):
    async with subject.stranger(None, "n2") as (_, writer):
        writer.write(subject.say(666))
        await asyncio.sleep(0.2)
    assert subject.received == []


@fails_on_stock
async def test_a_member_cannot_speak_as_another_member(subject):
    async with subject.member("n3", claims="n2") as (_, writer):
        writer.write(subject.say(666))
        await asyncio.sleep(0.2)
    assert ("n2", 666) not in subject.received


@fails_on_stock
async def test_an_oversize_frame_is_not_buffered(subject):
    async with subject.member("n3", claims="n3") as (_, writer):
        writer.write(subject.oversize())
        with contextlib.suppress(OSError):
            for _ in range(80):
                writer.write(b"\0" * 65_536)
                await asyncio.wait_for(writer.drain(), 5)
                await asyncio.sleep(0.002)
        assert subject.buffered() <= LIMIT_BYTES


@fails_on_stock
async def test_a_superseded_connection_delivers_nothing(subject):
    async with subject.member("n3", claims="n3") as (_, old), subject.member("n3", claims="n3") as (_, new):
        new.write(subject.say(1))
        await until(lambda: ("n3", 1) in subject.received)
        old.write(subject.say(2))
        await asyncio.sleep(0.2)
        assert ("n3", 2) not in subject.received


@fails_on_stock
async def test_a_connection_that_says_nothing_is_closed(subject, monkeypatch):
    monkeypatch.setattr(listener, "HANDSHAKE_MAX_NS", int(HANDSHAKE_S * 1e9))
    reader, writer = await asyncio.open_connection(*subject.address(), local_addr=("127.0.0.3", 0))
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(), 4 * HANDSHAKE_S)
        assert reader.at_eof()
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("subject", ["stock", "ours"], indirect=True)
async def test_garbage_closes_the_connection(subject):
    """Not a fault of the stock part: it disconnects on garbage as well."""
    reader, writer = await asyncio.open_connection(*subject.address(), local_addr=("127.0.0.3", 0))
    writer.write(b"\x08\0\0\0garbage!" + b"\xff" * 64)
    with contextlib.suppress(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 2)
    writer.transport.abort()
    assert subject.received == []


async def test_the_stock_part_runs_what_a_stranger_sends(tmp_path):
    """The reason why no pickle comes near a socket in hamail: one frame, no authentication, code runs."""
    mark = tmp_path / "mark"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (mark,))

    async with Stock() as stock:
        _, writer = await asyncio.open_connection(*stock.address())
        writer.write(stock.frame(Payload()))
        await until(mark.exists)
        writer.transport.abort()
