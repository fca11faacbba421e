"""Whoever is not a member, or does not behave, loses its own connection and harms nobody else's."""

import asyncio
import contextlib
import os
import pickle
import resource
import socket
import ssl

import msgspec
import pytest
from structlog.testing import capture_logs
from transport_kit import HOSTS, Client, Node, context, make_pki, message, until

from hamail.transport import dialer, listener
from hamail.transport.dialer import WELCOME
from hamail.transport.frames import FRAME_BYTES_MAX

PORTS = {"n1": 17471, "n2": 17471, "n3": 17471}  # n3 never runs: its place is for the attackers


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def nodes(pki):
    async with Node(pki, "n1", PORTS) as one, Node(pki, "n2", PORTS) as two:
        await until(lambda: one.up("n2") and two.up("n1"))
        yield one, two


class Unharmed:
    """Inside, n1 and n2 keep the very connections they had; at the end they can still talk, and n3 said nothing."""

    def __init__(self, nodes):
        self.one, self.two = nodes

    def marks(self):
        return [
            (link.since_ns, link.hears_since_ns, link.up, link.hears)
            for link in (self.one.transport.links()["n2"], self.two.transport.links()["n1"])
        ]

    async def __aenter__(self):
        self.before = self.marks()
        self.capture = capture_logs()
        self.logs = self.capture.__enter__()
        return self

    def reasons(self):
        return [log["reason"] for log in self.logs if log["event"] != "cannot connect"]

    async def __aexit__(self, kind, *_):
        self.capture.__exit__(None, None, None)
        if kind is not None:
            return
        assert self.marks() == self.before
        nonce = len(self.one.received) + 1
        assert self.two.transport.send("n1", message(nonce))
        await until(lambda: ("n2", message(nonce)) in self.one.received)
        assert self.one.nonces("n3") == []


async def connect_and_wait(one, tls, host=HOSTS["n3"]):
    """Until n1 has closed; the TLS 1.3 client learns of a refusal only with its first read."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        async with Client(one, tls, host) as client:
            return await client.ended()
    return b""


BAD_CERTIFICATES = {
    "other-authority": "certificate refused",
    "expired": "certificate refused: certificate has expired",
    "signed-by-a-node": "certificate refused: invalid CA certificate",
    "other-cluster": "certificate is for cluster post, this is mail",
    "not-a-member": "n9 is not a member",
    "n1": "certificate is for n1, which is this node",
    "two-names": "certificate names no hamail node",
    "no-name": "certificate names no hamail node",
    "odd-name": "certificate names no hamail node",
}


@pytest.mark.parametrize(("who", "reason"), BAD_CERTIFICATES.items())
async def test_wrong_certificates(nodes, pki, who, reason):
    async with Unharmed(nodes) as check:
        answer = await connect_and_wait(nodes[0], context(pki, who))
        await until(check.reasons)
        assert len(check.reasons()) == 1 and check.reasons()[0].startswith(reason)
        assert WELCOME not in answer[:1]


async def test_no_certificate(nodes, pki):
    async with Unharmed(nodes) as check:
        await connect_and_wait(nodes[0], context(pki, None))
        await until(check.reasons)
        assert check.reasons() == ["peer did not return a certificate"]


async def test_tls_1_2(nodes, pki):
    async with Unharmed(nodes) as check:
        await connect_and_wait(nodes[0], context(pki, "n3", newest=ssl.TLSVersion.TLSv1_2))
        await until(check.reasons)
        assert check.reasons() == ["unsupported protocol"]


@pytest.mark.parametrize("alpn", [None, "http/1.1", "hamail/2"])
async def test_another_protocol(nodes, pki, alpn):
    async with Unharmed(nodes) as check:
        await connect_and_wait(nodes[0], context(pki, "n3", alpn=alpn))
        await until(check.reasons)
        assert check.reasons() == ["does not speak hamail/1"]


PLAINTEXT = {
    "http": b"GET / HTTP/1.1\r\nHost: n1\r\n\r\n",
    "garbage": bytes(range(255, 0, -1)) * 16,
    "oversize length": b"\x7f\xff\xff\xff" + b"\0" * 100_000,
    "pickle": b"\x40\0\0\0" + pickle.dumps({"type": "request_vote", "term": 10**6}),
}


@pytest.mark.parametrize("data", PLAINTEXT.values(), ids=PLAINTEXT.keys())
async def test_no_tls_at_all(nodes, data):
    async with Unharmed(nodes) as check:
        async with Client(nodes[0], None) as client:
            client.writer.write(data)
            await client.ended()
        await until(check.reasons)
        assert len(check.reasons()) == 1


def framed(body):
    return len(body).to_bytes(4, "big") + body


MISBEHAVIOUR = {
    "garbage": (b"\xff" * 64, "is over the limit"),
    "oversize": ((FRAME_BYTES_MAX + 1).to_bytes(4, "big"), "is over the limit"),
    "wrong type": (framed(msgspec.msgpack.encode({"type": "launch"})), "not a message"),
    "unknown field": (framed(msgspec.msgpack.encode({"type": "raft", "payload": b"", "x": 1})), "not a message"),
    "pickle": (framed(pickle.dumps({"type": "append_entries", "term": 10**9})), "not a message"),
}


@pytest.mark.parametrize(("data", "reason"), MISBEHAVIOUR.values(), ids=MISBEHAVIOUR.keys())
async def test_a_member_that_misbehaves_loses_its_connection(nodes, pki, data, reason):
    async with Unharmed(nodes) as check:
        async with Client(nodes[0], context(pki, "n3")) as client:
            assert await client.welcomed()
            client.writer.write(data)
            await client.ended()
        await until(check.reasons)
        assert len(check.reasons()) == 1 and reason in check.reasons()[0]


async def test_a_frame_cut_short(nodes, pki):
    async with Unharmed(nodes) as check:
        async with Client(nodes[0], context(pki, "n3")) as client:
            assert await client.welcomed()
            client.writer.write(b"\0\0\1\0half")
            await client.writer.drain()
            await until(lambda: nodes[0].transport._incoming["n3"].reader.unfinished)
        await until(check.reasons)
        assert len(check.reasons()) == 1 and check.reasons()[0].endswith("in the middle of a frame")


async def test_an_unfinished_frame_costs_no_more_than_the_limit(nodes, pki):
    async with Unharmed(nodes), Client(nodes[0], context(pki, "n3")) as client:
        assert await client.welcomed()
        client.writer.write(FRAME_BYTES_MAX.to_bytes(4, "big") + b"\0" * (FRAME_BYTES_MAX - 1))
        await client.writer.drain()
        reader = nodes[0].transport._incoming["n3"].reader
        await until(lambda: reader.unfinished == FRAME_BYTES_MAX + 3)


async def test_frames_before_the_refusal_are_never_delivered(nodes, pki):
    """A non-member may send as soon as its side of the handshake is done."""
    async with Unharmed(nodes):
        with contextlib.suppress(OSError):
            async with Client(nodes[0], context(pki, "not-a-member")) as client:
                client.send(message(1), message(2))
                await client.ended()
        assert [p for p, _ in nodes[0].received if p != "n2"] == []


async def test_idle_handshakes_end(nodes, monkeypatch):
    monkeypatch.setattr(listener, "HANDSHAKE_MAX_NS", 200_000_000)
    async with Unharmed(nodes) as check:
        async with Client(nodes[0], None) as silent, Client(nodes[0], None) as dribbling:
            dribbling.writer.write(b"\x16\x03\x01\x02\x00")  # the first bytes of a ClientHello, then nothing
            await silent.ended()
            await dribbling.ended()
        assert check.reasons() == ["handshake not finished in time"] * 2


async def test_unproven_connections_are_capped_per_address_and_in_all(nodes, pki, monkeypatch):
    monkeypatch.setattr(listener, "STRANGERS_PER_SECOND", 1000)
    async with Unharmed(nodes), contextlib.AsyncExitStack() as stack:
        held = nodes[0].transport._listener._unproven
        for _ in range(listener.UNPROVEN_PER_ADDRESS_MAX + 5):
            await stack.enter_async_context(Client(nodes[0], None, "127.0.0.77"))
        await until(lambda: len(held) == listener.UNPROVEN_PER_ADDRESS_MAX)
        for host in range(100, 150):
            await stack.enter_async_context(Client(nodes[0], None, f"127.0.0.{host}"))
        await until(lambda: len(held) == listener.UNPROVEN_MAX)
        # A member gets in all the same.
        client = await stack.enter_async_context(Client(nodes[0], context(pki, "n3")))
        assert await client.welcomed()


async def test_strangers_are_limited_in_rate_and_in_log_lines(nodes):
    async with Unharmed(nodes) as check:
        for _ in range(4 * listener.STRANGERS_PER_SECOND):
            async with Client(nodes[0], None, "127.0.0.77"):
                pass
        await asyncio.sleep(0.05)
        reasons = check.reasons()
        assert "too many connections from strangers" in reasons or len(reasons) == 20
        assert len(reasons) <= 21


async def test_listening_survives_a_lack_of_descriptors(nodes, pki):
    """The stock transport stops listening for ever here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Unharmed(nodes) as check:
        waiting = [socket.socket() for _ in range(4)]
        taken = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, hard))
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
            for client in waiting:
                client.setblocking(False)
                client.connect_ex(nodes[0].transport.address)
            await until(lambda: any(log["event"].startswith("cannot accept") for log in check.logs))
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        async with Client(nodes[0], context(pki, "n3")) as client:
            assert await client.welcomed()
        for client in waiting:
            client.close()


@contextlib.asynccontextmanager
async def impostor(pki, who, behave):
    """Answers at n2's address."""
    heard = []

    async def serve(reader, writer):
        with contextlib.suppress(OSError):
            await behave(writer)
            while data := await reader.read(65_536):
                heard.append(data)

    server = await asyncio.start_server(serve, HOSTS["n2"], PORTS["n2"], ssl=context(pki, who, server=True))
    async with server:
        yield heard
        server.close()


async def welcome(writer):
    writer.write(WELCOME)


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ("n3", "answered with the certificate of n3 of cluster mail"),
        ("other-cluster", "answered with the certificate of n3 of cluster post"),
        ("expired", "certificate refused: certificate has expired"),
        ("other-authority", "certificate refused: unable to get local issuer certificate"),
        ("two-names", "certificate names no hamail node"),
    ],
)
async def test_whoever_answers_at_a_peer_s_address_must_be_that_peer(pki, who, reason):
    with capture_logs() as logs:
        async with impostor(pki, who, welcome) as heard, Node(pki, "n1", PORTS) as one:
            await until(lambda: one.transport.links()["n2"].why.startswith(reason))
            assert not one.transport.send("n2", message(1))
            assert one.events == [] and heard == []
            await asyncio.sleep(0.5)  # it dials again and again,
    lines = [log for log in logs if log.get("peer") == "n2" and log["event"] == "cannot connect"]
    assert len(lines) <= 2  # but says so once


async def test_a_peer_that_accepts_and_is_silent_is_dialled_again(pki, monkeypatch):
    monkeypatch.setattr(dialer, "HANDSHAKE_MAX_MS", 150)
    accepted = []

    async def silent(_, writer):
        accepted.append(writer)

    server = await asyncio.start_server(silent, HOSTS["n2"], PORTS["n2"])
    async with server, Node(pki, "n1", PORTS) as one:
        await until(lambda: len(accepted) >= 3)
        assert one.transport.links()["n2"].why == "handshake not finished in time"
        server.close()
        for writer in accepted:
            writer.transport.abort()


async def test_a_link_carries_one_direction_only(pki):
    async def talk(writer):
        writer.write(WELCOME)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(framed(msgspec.msgpack.encode(message(1))))

    async with impostor(pki, "n2", talk), Node(pki, "n1", PORTS) as one:
        await until(lambda: ("n2", False, "sent something on a link that is ours to send on") in one.events)
        assert one.received == []


async def test_a_refusal_is_told_to_whoever_dials(pki):
    """An operator looks for the reason on the node that does not come in."""
    stranger = Node(pki, "n1", PORTS, peers={"n3": (HOSTS["n3"], PORTS["n3"])})
    async with stranger, Node(pki, "n2", PORTS) as two:
        await until(lambda: two.transport.links()["n1"].why == "refused by n1: n2 is not a member")
