"""Links between honest nodes: order, no duplicates, one live connection, quick return."""

import asyncio
import contextlib

import pytest
from structlog.testing import capture_logs
from transport_kit import HOSTS, Client, Node, context, make_pki, message, until

from hamail.model.messages import Raft
from hamail.transport import CertificateError, Certificates
from hamail.transport.channel import QUEUE_BYTES_MAX
from hamail.transport.dialer import WELCOME

PORTS = {"n1": 17461, "n2": 17461, "n3": 17461}


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return make_pki(tmp_path_factory.mktemp("pki"))


async def pair(stack, pki):
    one = await stack.enter_async_context(Node(pki, "n1", PORTS))
    two = await stack.enter_async_context(Node(pki, "n2", PORTS))
    await until(lambda: one.up("n2") and two.up("n1"))
    return one, two


async def test_three_nodes_hear_each_other_by_name(pki):
    async with Node(pki, "n1", PORTS) as one, Node(pki, "n2", PORTS) as two, Node(pki, "n3", PORTS) as three:
        nodes = [one, two, three]
        await until(lambda: all(n.up(*(set(PORTS) - {n.name})) for n in nodes))
        for node in nodes:
            for peer in set(PORTS) - {node.name}:
                assert node.transport.send(peer, message(int(node.name[1])))
        await until(lambda: all(len(n.received) == 2 for n in nodes))
        assert sorted((p, m.nonce) for p, m in one.received) == [("n2", 2), ("n3", 3)]
        assert one.transport.links()["n2"].received == 1 == one.transport.links()["n2"].sent
        assert "GMT" in one.transport.links()["n2"].certificate_expires


async def test_each_pair_is_up_at_once_although_one_side_starts_late(pki):
    """The late one dials, and the early one must not sit out its backoff."""
    async with Node(pki, "n1", PORTS) as one:
        await asyncio.sleep(1.0)  # n1's backoff has reached its cap
        async with Node(pki, "n2", PORTS) as two:
            assert await until(lambda: one.up("n2") and two.up("n1")) < 0.2


async def test_nothing_is_sent_without_a_link(pki):
    async with Node(pki, "n1", PORTS) as one:
        assert not one.transport.send("n2", message(1))
        assert not one.transport.send("nobody", message(1))
        async with Node(pki, "n2", PORTS) as two:
            await until(lambda: one.up("n2") and two.up("n1"))
            one.transport.send("n2", message(2))
            await until(lambda: two.received)
            assert two.nonces("n1") == [2]  # what was refused does not come later


async def test_order_holds_and_nothing_comes_twice_across_reconnects(pki):
    async with contextlib.AsyncExitStack() as stack:
        one, two = await pair(stack, pki)
        accepted = []
        for nonce in range(2000):
            if nonce % 250 == 249:
                await until(lambda: one.up("n2"))
                one.transport._dialers["n2"]._link.close("cut by the test", abort=True)
            if one.transport.send("n2", message(nonce)):
                accepted.append(nonce)
            if nonce % 10 == 0:
                await asyncio.sleep(0.001)
        await until(lambda: two.nonces("n1") and two.nonces("n1")[-1] == accepted[-1])
        got = two.nonces("n1")
        assert got == sorted(set(got)) and set(got) <= set(accepted)
        assert sum(1 for _, up, _ in one.events if not up) >= 5


async def test_a_new_connection_supersedes_the_old_before_it_delivers(pki):
    async with Node(pki, "n1", PORTS) as one:
        tls = context(pki, "n2")
        async with Client(one, tls, HOSTS["n2"]) as old:
            assert await old.welcomed()
            async with Client(one, tls, HOSTS["n2"]) as new:
                assert await new.welcomed()
                old.send(message(1))
                new.send(message(2))
                await until(lambda: one.received)
                await old.ended()
                new.send(message(3))
                await until(lambda: len(one.received) >= 2)
                assert one.nonces("n2") == [2, 3]


async def test_half_a_frame_does_not_survive_its_connection(pki):
    async with Node(pki, "n1", PORTS) as one:
        async with Client(one, context(pki, "n2"), HOSTS["n2"]) as old:
            assert await old.welcomed()
            old.writer.write(b"\0\0\0\x64half a frame")
            await until(lambda: one.transport._incoming["n2"].reader.unfinished)
            with capture_logs() as logs:
                async with Client(one, context(pki, "n2"), HOSTS["n2"]) as new:
                    assert await new.welcomed()
                    new.send(message(5))
                    await until(lambda: one.received)
        assert one.nonces("n2") == [5]
        assert any("superseded" in log.get("reason", "") for log in logs)


async def test_large_messages_pass(pki):
    async with contextlib.AsyncExitStack() as stack:
        one, two = await pair(stack, pki)
        big = Raft(payload=bytes(range(256)) * 4000)
        for _ in range(3):
            assert one.transport.send("n2", big)
        await until(lambda: len(two.received) == 3)
        assert all(m == big for _, m in two.received)


async def test_a_message_over_the_limit_is_surely_not_sent_and_harms_nothing(pki):
    async with contextlib.AsyncExitStack() as stack:
        one, two = await pair(stack, pki)
        with capture_logs() as logs:
            assert not one.transport.send("n2", Raft(payload=b"\0" * (1 << 20)))
        assert "over the limit" in logs[0]["reason"]
        assert one.transport.send("n2", message(1))
        await until(lambda: two.received)


async def test_what_was_sent_before_stop_arrives(pki):
    """A daemon that announces its restart says so just before it goes."""
    async with Node(pki, "n2", PORTS) as two:
        async with Node(pki, "n1", PORTS) as one:
            await until(lambda: one.up("n2"))
            one.transport.send("n2", message(77))
        await until(lambda: two.nonces("n1") == [77])
        await until(lambda: not two.transport.links()["n1"].hears)


async def test_no_callback_after_stop(pki):
    async with contextlib.AsyncExitStack() as stack:
        one, two = await pair(stack, pki)
        await one.transport.stop()
        events, received = len(one.events), len(one.received)
        two.transport.send("n1", message(1))
        await asyncio.sleep(0.1)
        assert (len(one.events), len(one.received)) == (events, received)


async def test_link_events_tell_up_and_down(pki):
    async with Node(pki, "n1", PORTS) as one:
        async with Node(pki, "n2", PORTS):
            await until(lambda: ("n2", True, "connected") in one.events)
        await until(lambda: ("n2", False, "closed by the other side") in one.events)
        assert one.transport.links()["n2"].why != "connected"


async def test_on_link_is_not_called_from_inside_send(pki):
    async with contextlib.AsyncExitStack() as stack:
        one, _ = await pair(stack, pki)
        one.transport._dialers["n2"]._link.tls.shutdown(2)  # the next write fails
        before = len(one.events)
        while one.transport.send("n2", message(0)):
            pass
        assert len(one.events) == before
        await until(lambda: len(one.events) > before and not one.events[before][1])


async def test_a_peer_that_does_not_read_costs_a_bounded_queue(pki):
    """n2 accepts and welcomes, then never reads again."""

    async def welcome(_, writer):
        writer.transport.pause_reading()
        writer.write(WELCOME)

    server = await asyncio.start_server(welcome, HOSTS["n2"], 17461, ssl=context(pki, "n2", server=True), limit=1)
    async with server, Node(pki, "n1", PORTS) as one:
        await until(lambda: one.transport.links()["n2"].up)
        payload = Raft(payload=b"\0" * 500_000)
        sent, peak = 0, 0
        while one.transport.send("n2", payload):
            sent += 1
            peak = max(peak, one.transport.links()["n2"].queued_bytes)
            assert sent < 1000
        assert QUEUE_BYTES_MAX - 600_000 <= peak <= QUEUE_BYTES_MAX
        await until(lambda: any("does not read" in why for _, up, why in one.events if not up))
        server.close()


async def test_an_exception_in_the_receiver_closes_that_link_only(pki):
    raised = []
    asyncio.get_running_loop().set_exception_handler(lambda _, c: raised.append(c["exception"]))

    def explode(peer, _):
        if peer == "n2":
            raise RuntimeError("receiver")
        one.received.append(peer)

    one = Node(pki, "n1", PORTS, on_message=explode)
    async with one, Node(pki, "n2", PORTS) as two, Node(pki, "n3", PORTS) as three:
        await until(lambda: one.up("n2", "n3") and two.up("n1") and three.up("n1"))
        since = one.transport.links()["n3"].hears_since_ns
        two.transport.send("n1", message(1))
        await until(lambda: raised)
        assert str(raised[0]) == "receiver"
        three.transport.send("n1", message(2))
        await until(lambda: one.received == ["n3"])
        assert one.transport.links()["n3"].hears_since_ns == since


async def test_two_nodes_with_one_certificate_do_not_spin(pki):
    """A cloned machine: each supersedes the other, in growing intervals and with a log line that shows it."""
    clone = Node(pki, "n2", PORTS | {"n2": 17462})
    with capture_logs() as logs:
        async with Node(pki, "n1", PORTS), Node(pki, "n2", PORTS) as two, clone:
            await asyncio.sleep(1.5)
            ups = sum(1 for p, up, _ in two.events + clone.events if p == "n1" and up)
    assert 2 <= ups <= 20
    assert any("superseded by a new connection from 127.0.0.2" in log.get("reason", "") for log in logs)


BAD_OWN = {
    "expired": "certificate has expired",
    "other-authority": "certificate refused",
    "n2": "is for node n2 of cluster mail, but this is node n1 of cluster mail",
    "other-cluster": "is for node n3 of cluster post",
    "two-names": "names no hamail node",
}


@pytest.mark.parametrize(("who", "reason"), BAD_OWN.items())
async def test_a_node_does_not_start_with_a_wrong_certificate(pki, who, reason):
    files = Certificates(
        authority=pki / "ca" / "ca.pem", certificate=pki / who / "node.pem", key=pki / who / "node.key"
    )
    (pki / who / "node.key").chmod(0o600)
    node = Node(pki, "n1", PORTS, certificates=files)
    with pytest.raises(CertificateError, match=reason) as refusal:
        await node.transport.start()
    assert str(files.certificate) in str(refusal.value)


@pytest.mark.parametrize("missing", ["ca.pem", "node.pem", "node.key"])
@pytest.mark.parametrize("damage", ["missing", "garbage"])
async def test_missing_or_damaged_files_are_named(pki, tmp_path, missing, damage):
    for name in ("ca.pem", "node.pem", "node.key"):
        (tmp_path / name).write_bytes((pki / "n1" / name).read_bytes())
        (tmp_path / name).chmod(0o600)
    if damage == "missing":
        (tmp_path / missing).unlink()
    else:
        (tmp_path / missing).write_bytes(b"garbage")
    node = Node(pki, "n1", PORTS, certificates=Certificates.of(tmp_path))
    with pytest.raises(CertificateError, match=str(tmp_path / missing)):
        await node.transport.start()


async def test_a_key_that_others_can_read_is_refused(pki, tmp_path):
    for name in ("ca.pem", "node.pem", "node.key"):
        (tmp_path / name).write_bytes((pki / "n1" / name).read_bytes())
    (tmp_path / "node.key").chmod(0o644)
    node = Node(pki, "n1", PORTS, certificates=Certificates.of(tmp_path))
    with pytest.raises(CertificateError, match=r"node\.key: mode 0644 lets others"):
        await node.transport.start()
    (tmp_path / "node.key").chmod(0o640)
    async with node:
        pass


async def test_names_are_refused_as_addresses(pki):
    with pytest.raises(ValueError, match="'localhost' is not a numeric IP address"):
        Node(pki, "n1", PORTS, peers={"n2": ("localhost", 1)})


async def test_a_port_in_use_is_named(pki):
    async with Node(pki, "n1", PORTS):
        with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1 port 17461: Address already in use"):
            await Node(pki, "n1", PORTS).transport.start()
