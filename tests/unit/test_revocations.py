"""A revoked certificate: links end and are not made anew, the nodes tell each other, nobody but the authority can."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs
from transport_kit import HOSTS, Node, message, until

from hamail.daemon.revocations import Revocations
from hamail.model.messages import Revoked
from hamail.model.serials import number_of, serial_of
from hamail.pki import create_authority
from hamail.pki.authority import load_authority, new_key, private_pem, public_pem, sign_node
from hamail.pki.files import write
from hamail.pki.keep import Keep, Phase, Standing
from hamail.pki.revocations import KEPT, NODES_MAX, STATEMENT_BYTES_MAX, merged, statement, statements
from hamail.transport import Certificates, Identity
from hamail.transport.certificates import server_context
from hamail.transport.channel import Channel

PORTS = {"n1": 17481, "n2": 17481, "n3": 17481}
SAID = "the certificate of n2 was revoked"


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    keep = Keep(tmp_path / "keep")
    keep.create("mail")
    for node in HOSTS:
        certify(keep, tmp_path, node)
    return keep


def certify(keep: Keep, folder: Path, node: str) -> None:
    key = new_key()
    certificate = keep.certify(node, key.public_key(), days=99)
    (folder / node).mkdir(exist_ok=True)
    write(folder / node / "node.pem", private_pem(key) + public_pem(certificate), 0o640)
    write(folder / node / "ca.pem", keep.bundle().encode(), 0o644)


class Member:
    """A node as hamaild composes it."""

    def __init__(self, folder: Path, name: str, understands: bool = True) -> None:
        self.folder, self.name = folder / name, name
        self.node = Node(folder, name, PORTS, on_message=self._message)
        self.revocations = Revocations(
            "mail",
            Certificates.of(self.folder),
            self.folder,
            revoke=self.node.transport.revoke,
            links=self.node.transport.links,
            send=self.node.transport.send,
            understands=lambda _: understands,
            look_s=0.02,
        )

    def _message(self, sender: str, heard: object) -> None:
        if isinstance(heard, Revoked):
            self.revocations.hear(heard)
        else:
            self.node.received.append((sender, heard))

    async def __aenter__(self) -> "Member":
        self.revocations.begin()
        await self.node.transport.start()
        self.revocations.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.revocations.stop()
        await self.node.transport.stop()

    def link(self, peer: str):
        return self.node.transport.links()[peer]

    def cut(self, peer: str) -> bool:
        return not self.link(peer).up and not self.link(peer).hears


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[dict[str, Member]]:
    async with contextlib.AsyncExitStack() as stack:
        members = {name: await stack.enter_async_context(Member(folder, name)) for name in HOSTS}
        for name, one in members.items():
            await until(lambda one=one, name=name: one.node.up(*(set(HOSTS) - {name})))
        yield members


async def test_links_end_everywhere_although_one_node_only_was_told(keep: Keep, tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        n1, n2, n3 = (members[name] for name in HOSTS)
        keep.revoke("n2", "stolen")
        with capture_logs() as logs:
            write(tmp_path / "n1" / "ca.pem", keep.bundle().encode(), 0o644)
            await until(lambda: n1.cut("n2") and n3.cut("n2"))
            await asyncio.sleep(0.6)  # n2 dials again and again
        refused = [line for line in logs if line["event"] == "connection refused" and line["reason"] == SAID]
        assert 0 < len(refused) <= 2, "one line of each node"
        assert n1.cut("n2") and n3.cut("n2") and n1.node.up("n3") and n3.node.up("n1")
        assert n1.link("n2").why == SAID and SAID in n2.link("n1").why
        assert not n2.node.transport.send("n3", message(1)) and not n3.node.received
        assert n2.revocations.below == n3.revocations.below == n1.revocations.below
        await until((tmp_path / "n3" / KEPT).exists)

        certify(keep, tmp_path, "n2")  # it joins again
        n2.node.transport.use(n2.node.transport.read_again())
        await until(lambda: n2.node.up("n1", "n3") and n1.node.up("n2") and n3.node.up("n2"))


async def test_a_restarted_node_remembers_what_another_one_has_told(keep: Keep, tmp_path: Path) -> None:
    keep.revoke("n2", "stolen")
    async with Member(tmp_path, "n3") as n3:
        assert not n3.revocations.below
        n3.revocations.hear(Revoked(statement=keep.state.statement))
        await until((tmp_path / "n3" / KEPT).exists)
    async with Member(tmp_path, "n3") as n3, Member(tmp_path, "n2") as n2:
        await until(lambda: SAID in n2.link("n3").why)
        assert n3.cut("n2")


async def test_an_older_hamaild_is_not_told(keep: Keep, tmp_path: Path) -> None:
    """It would drop the link."""
    keep.revoke("n2", "stolen")
    write(tmp_path / "n1" / "ca.pem", keep.bundle().encode(), 0o644)
    async with Member(tmp_path, "n1", understands=False) as n1, Member(tmp_path, "n3") as n3:
        await until(lambda: n1.node.up("n3") and n3.node.up("n1"))
        await asyncio.sleep(0.1)
        assert not n3.revocations.below and n3.link("n1").received == 0


async def test_who_is_told_after_the_link_comes_up(keep: Keep, tmp_path: Path) -> None:
    async with Member(tmp_path, "n1") as n1:
        keep.revoke("n2", "stolen")
        write(tmp_path / "n1" / "ca.pem", keep.bundle().encode(), 0o644)
        await until(lambda: n1.revocations.below)
        async with Member(tmp_path, "n3") as n3:
            await until(lambda: n3.revocations.below)
            await asyncio.sleep(0.2)
            assert n3.link("n1").received == 1, "once for each link"


async def test_only_the_authority_s_word_counts(keep: Keep, tmp_path: Path) -> None:
    keep.revoke("n2", "stolen")
    good = keep.state.statement
    create_authority(tmp_path / "other", "mail")
    create_authority(tmp_path / "post", "post")
    below = {"n1": 1 << 39}
    forged = statement(load_authority(tmp_path / "other"), below)
    elsewhere = statement(load_authority(tmp_path / "post"), below)
    body = msgspec.json.encode({"cluster": "mail", "below": below})
    async with Member(tmp_path, "n3") as n3:
        n3.revocations.hear(Revoked(statement=good))
        before = n3.revocations.below
        for text in (forged, elsewhere, altered(good), "", "x", good.replace("A", "B"), good[:-40], body.decode()):
            n3.revocations.hear(Revoked(statement=text))
        n3.revocations.hear(Revoked(statement="\n" * STATEMENT_BYTES_MAX + good))
        assert n3.revocations.below == before and set(before) == {"n2"}


def altered(text: str) -> str:
    """The same signature under another name."""
    import base64

    lines = text.splitlines()
    body, signature = msgspec.msgpack.decode(base64.b64decode("".join(lines[1:-1])))
    raw = msgspec.msgpack.encode([body.replace(b"n2", b"n1"), signature])
    return "\n".join([lines[0], base64.encodebytes(raw).decode().strip(), lines[-1], ""])


async def test_an_older_statement_takes_nothing_back(keep: Keep, tmp_path: Path) -> None:
    keep.revoke("n2", "stolen")
    first = keep.state.statement
    keep.revoke("n1", "a drill")
    second = keep.state.statement
    async with Member(tmp_path, "n3") as n3:
        for text in (first, second, first):
            n3.revocations.hear(Revoked(statement=text))
        assert set(n3.revocations.below) == {"n1", "n2"} and tuple(n3.revocations._said) == (second,)
        write(tmp_path / "n3" / "ca.pem", (keep.bundle().replace(second, "")).encode(), 0o644)
        await asyncio.sleep(0.1)
        assert set(n3.revocations.below) == {"n1", "n2"}, "also when root's file does not know of it"


async def test_what_a_former_authority_has_revoked_stays_so_while_hamaild_runs(keep: Keep, tmp_path: Path) -> None:
    keep.revoke("n2", "stolen")
    create_authority(tmp_path / "next", "mail")
    async with Member(tmp_path, "n3") as n3:
        n3.revocations.hear(Revoked(statement=keep.state.statement))
        write(tmp_path / "n3" / "ca.pem", (tmp_path / "next" / "ca.pem").read_bytes(), 0o644)
        await until(lambda: not n3.revocations._said)
        second = statement(load_authority(tmp_path / "next"), {"n1": 5})
        n3.revocations.hear(Revoked(statement=second))
        assert set(n3.revocations.below) == {"n1", "n2"}


async def test_the_number_itself_counts_again(keep: Keep, tmp_path: Path) -> None:
    async with Member(tmp_path, "n3") as n3:
        n3.node.transport.revoke({"n2": 7})
        revoked = [n3.node.transport._revoked(Identity("mail", "n2", "", number)) for number in (0, 6, 7, 8)]
        assert revoked == [True, True, False, False]


async def test_a_link_that_is_being_made_meanwhile(keep: Keep, tmp_path: Path) -> None:
    """It has shown its certificate, and has not welcomed us yet."""
    theirs = server_context(Certificates.of(tmp_path / "n2"))
    silent = await asyncio.start_server(lambda *_: asyncio.sleep(9), HOSTS["n2"], PORTS["n2"], ssl=theirs)
    async with silent, Member(tmp_path, "n1") as n1:
        dialer = n1.node.transport._dialers["n2"]
        await until(lambda: isinstance(dialer._attempt, Channel) and dialer._attempt.ready)
        attempt = dialer._attempt
        n1.node.transport.revoke({"n2": 1 << 39})
        assert attempt.closed and dialer.why == SAID


# The authority's side


def test_what_was_revoked_and_what_comes_after(keep: Keep) -> None:
    old = int(keep.state.lines["n2"].newest, 16)
    by_hand = sign_node(keep.authority(), "n2", new_key().public_key(), days=9).serial_number
    keep.revoke("n2", "stolen")
    before_they_counted = (1 << 158) + 5
    for serial in (old, by_hand, before_they_counted):
        assert keep.shown("n2", serial, "h") is Standing.REVOKED
    again = keep.certify("n2", new_key().public_key(), days=9).serial_number
    assert keep.shown("n2", again, "h") is Standing.GOOD and keep.shown("n2", old, "h") is Standing.REVOKED
    assert keep.shown("n1", int(keep.state.lines["n1"].newest, 16), "h") is Standing.GOOD
    (said,) = statements(keep.bundle(), "mail", keep.bundle()).values()
    assert number_of(old) < said["n2"] <= number_of(again)


def test_a_change_of_the_authority_keeps_what_is_revoked_and_does_not_wait_for_it(keep: Keep) -> None:
    keep.revoke("n2", "stolen")
    keep.begin_change()
    assert keep.waiting_for(("n1", "n2", "n3")) == ("n1", "n3")
    first = keep.bundle()
    assert len(statements(first, "mail", first)) == 1
    keep.advance(())
    assert keep.state.phase is Phase.CHANGING
    second = keep.bundle()
    assert len(statements(second, "mail", second)) == 1 and not statements(second, "mail", old_only(first))
    keep.certify("n2", new_key().public_key(), days=9)
    assert "n2" in keep.waiting_for(("n2",)), "it is back"
    keep.advance(())
    assert len(statements(keep.bundle(), "mail", keep.bundle())) == 1


def old_only(bundle: str) -> str:
    end = "-----END CERTIFICATE-----\n"
    return bundle.split(end, maxsplit=1)[0] + end


def test_a_crash_while_it_is_revoked(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list and what is told to the nodes are one file: both or neither."""
    from hamail.pki import keep as keep_module
    from hamail.pki.files import PkiError

    before = keep.state
    with monkeypatch.context() as patch:
        patch.setattr(keep_module, "write", lambda *_: (_ for _ in ()).throw(PkiError("the power is gone")))
        with pytest.raises(PkiError):
            keep.revoke("n2", "stolen")
    assert keep.state == before
    keep.revoke("n2", "stolen")
    keep.revoke("n2", "again")
    assert keep.state.revoked["n2"].reason == "again" and len(statements(keep.bundle(), "mail", keep.bundle())) == 1


def test_the_list_is_bounded(keep: Keep) -> None:
    authority = keep.authority()
    full = statement(authority, {f"n{n:031d}": (1 << 40) - 1 for n in range(NODES_MAX)})
    assert len(full) <= STATEMENT_BYTES_MAX and len(statements(full, "mail", keep.bundle())) == 1
    assert merged([{"a": 1, "b": 5}, {"a": 3, "b": 4}]) == {"a": 3, "b": 5}


def test_a_clock_that_stands_still(tmp_path: Path) -> None:
    keep = Keep(tmp_path / "keep", lambda: datetime(2026, 1, 1, tzinfo=UTC))
    keep.create("mail")
    keep.revoke("n2", "stolen")
    for _ in range(3):
        first = keep.certify("n2", new_key().public_key(), days=9).serial_number
        assert keep.shown("n2", first, "h") is Standing.GOOD
        keep.revoke("n2", "stolen")
        assert keep.shown("n2", first, "h") is Standing.REVOKED
        assert keep.shown("n1", first, "h") is Standing.GOOD, "only the node that it is about"
        again = keep.certify("n2", new_key().public_key(), days=9).serial_number
        assert keep.shown("n2", again, "h") is Standing.GOOD


def test_a_statement_about_another_cluster(tmp_path: Path) -> None:
    create_authority(tmp_path / "post", "post")
    said = statement(load_authority(tmp_path / "post"), {"n1": 9})
    trusted = (tmp_path / "post" / "ca.pem").read_text()
    assert statements(said, "post", trusted) and not statements(said, "mail", trusted)


def test_serials() -> None:
    assert number_of(serial_of(1_700_000_000, 7)) == 1_700_000_000 and number_of(1 << 158) == 0


async def test_a_damaged_ca_pem_forgets_nothing(keep: Keep, tmp_path: Path) -> None:
    """It is half written, say, while an old copy of it is brought back."""
    path, old = tmp_path / "n1" / "ca.pem", keep.bundle()
    keep.revoke("n2", "stolen")
    path.write_text(keep.bundle())
    async with Member(tmp_path, "n1") as n1:
        known = n1.revocations.below
        await until((tmp_path / "n1" / KEPT).exists)
        for text in (old[: len(old) // 2], "", old):
            path.write_text(text)
            await asyncio.sleep(0.1)
    again = Member(tmp_path, "n1").revocations
    again.begin()
    assert again.below == known and "n2" in known
