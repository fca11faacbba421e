"""Certificates are renewed under running links: nothing is dropped, and what cannot be used changes nothing."""

import asyncio
import shutil
from pathlib import Path

import pytest
from transport_kit import HOSTS, Node, message, until

from hamail.daemon.certificate_watch import CertificateWatch
from hamail.pki import create_authority, issue
from hamail.pki.authority import load_authority, new_key, private_pem, public_pem, sign_node
from hamail.pki.files import write
from hamail.transport import CertificateError, Certificates

PORTS = {"n1": 17471, "n2": 17471}


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    create_authority(tmp_path / "ca", "mail")
    create_authority(tmp_path / "next", "mail")
    for node in HOSTS:
        issue(tmp_path / "ca", "mail", node, tmp_path / node, days=40)
    return tmp_path


def renew(pki: Path, node: str, authority: str = "ca", days: int = 400) -> None:
    """As it is done on a node: certificate and key are one file, replaced in one rename."""
    key = new_key()
    certificate = sign_node(load_authority(pki / authority), node, key.public_key(), days=days)
    write(pki / node / "node.pem", private_pem(key) + public_pem(certificate), 0o640)


def watched(node: Node, pki: Path) -> CertificateWatch:
    return CertificateWatch(node.transport, Certificates.of(pki / node.name), look_s=0.02)


class Talk:
    """Both send all the time, as heartbeats and leases do."""

    def __init__(self, one: Node, two: Node) -> None:
        self.refused = 0
        self.task = asyncio.create_task(self._talk(one, two))

    async def _talk(self, one: Node, two: Node) -> None:
        for nonce in range(10_000):
            self.refused += not one.transport.send("n2", message(nonce))
            self.refused += not two.transport.send("n1", message(nonce))
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def expires(node: Node, peer: str) -> str:
    return node.transport.links()[peer].certificate_expires


async def test_renewed_without_a_gap(pki: Path) -> None:
    async with Node(pki, "n1", PORTS) as one, Node(pki, "n2", PORTS) as two:
        await until(lambda: one.up("n2") and two.up("n1"))
        watch = watched(one, pki)
        watch.start(one.transport.read_again().own)
        old = expires(two, "n1")
        before = watch.expiries()
        talk = Talk(one, two)
        renew(pki, "n1")
        await until(lambda: expires(two, "n1") != old)
        await asyncio.sleep(0.1)
        await talk.stop()
        assert talk.refused == 0, "there was a time without a link"
        for node, peer in ((one, "n2"), (two, "n1")):
            heard = node.nonces(peer)
            assert heard == sorted(set(heard)) and heard[-1] > heard[0]
        assert watch.expiries()["n1"] > before["n1"]
        assert watch.expiries()["n2"] == before["n2"], "the other one has not renewed"
        await watch.stop()


@pytest.mark.parametrize("what", ["half a file", "another node", "expired", "of strangers"])
async def test_what_cannot_be_used_changes_nothing(pki: Path, what: str) -> None:
    async with Node(pki, "n1", PORTS) as one, Node(pki, "n2", PORTS) as two:
        await until(lambda: one.up("n2") and two.up("n1"))
        watch = watched(one, pki)
        watch.start(one.transport.read_again().own)
        old, events = expires(two, "n1"), len(one.events)
        if what == "half a file":
            text = (pki / "n1" / "node.pem").read_bytes()
            (pki / "n1" / "node.pem").write_bytes(text[: len(text) // 2])
        elif what == "another node":
            shutil.copyfile(pki / "n2" / "node.pem", pki / "n1" / "node.pem")
        elif what == "expired":
            renew(pki, "n1", days=-1)
        else:
            renew(pki, "n1", authority="next")
        await asyncio.sleep(0.2)
        with pytest.raises(CertificateError):
            one.transport.read_again()
        assert one.up("n2") and two.up("n1") and len(one.events) == events and expires(two, "n1") == old
        renew(pki, "n1")  # and then it is put right
        await until(lambda: expires(two, "n1") != old)
        await watch.stop()


async def test_another_authority_under_running_links(pki: Path) -> None:
    """Both trusted first, then certified by the new one, then the old one forgotten."""
    both = (pki / "ca" / "ca.pem").read_bytes() + (pki / "next" / "ca.pem").read_bytes()
    async with Node(pki, "n1", PORTS) as one, Node(pki, "n2", PORTS) as two:
        await until(lambda: one.up("n2") and two.up("n1"))
        talk = Talk(one, two)
        for node in (one, two):
            write(pki / node.name / "ca.pem", both, 0o640)
            node.transport.use(node.transport.read_again())
            await asyncio.sleep(0.1)
        for node, other in ((one, two), (two, one)):
            old = expires(other, node.name)
            renew(pki, node.name, authority="next")
            node.transport.use(node.transport.read_again())
            await until(lambda o=other, n=node, old=old: expires(o, n.name) != old)
        for node in (one, two):
            write(pki / node.name / "ca.pem", (pki / "next" / "ca.pem").read_bytes(), 0o640)
            node.transport.use(node.transport.read_again())
            await asyncio.sleep(0.1)
        assert one.up("n2") and two.up("n1")
        await talk.stop()
        assert talk.refused == 0, "there was a time without a link"


def test_certificate_and_key_in_one_file_must_be_kept_from_others(pki: Path) -> None:
    renew(pki, "n1")
    files = Certificates.of(pki / "n1")
    assert files.holder == pki / "n1" / "node.pem", "the key beside it is of the certificate before"
    files.certificate.chmod(0o644)
    with pytest.raises(CertificateError, match=r"node\.pem: mode 0644 lets others use"):
        from hamail.transport.certificates import server_context

        server_context(files)


async def test_the_status_knows_when_certificates_end(pki: Path) -> None:
    async with Node(pki, "n1", {"n1": 17471}) as one:
        watch = watched(one, pki)
        own = one.transport.read_again().own
        from msgspec.structs import replace

        watch.start(replace(own, expires="Nov 18 12:06:40 2026 GMT"))
        assert watch.expiries() == {"n1": 1_795_003_600_000}
        await watch.stop()
