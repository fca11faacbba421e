"""Nodes, certificates and hostile connections for the tests of the transport."""

import asyncio
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hamail.model.messages import LeaseRequest
from hamail.pki import create_authority, issue
from hamail.transport import Certificates, Transport
from hamail.transport.dialer import WELCOME
from hamail.transport.frames import encode

HOSTS = {"n1": "127.0.0.1", "n2": "127.0.0.2", "n3": "127.0.0.3"}
PATIENCE_S = 5.0


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def message(nonce, group="mail"):
    return LeaseRequest(group=group, epoch=1, nonce=nonce)


def make_pki(directory: Path) -> Path:
    """Good certificates for n1..n3, and one folder for each kind of bad one."""
    authority = directory / "ca"
    create_authority(authority, "mail")
    for node in HOSTS:
        issue(authority, "mail", node, directory / node)
    issue(authority, "mail", "n9", directory / "not-a-member")
    issue(authority, "mail", "n3", directory / "expired", days=-1)
    create_authority(directory / "other-ca", "mail")
    issue(directory / "other-ca", "mail", "n3", directory / "other-authority")
    forge(authority / "ca", directory / "other-cluster", ["hamail://post/n3"])
    forge(authority / "ca", directory / "two-names", ["hamail://mail/n3", "hamail://mail/n2"])
    forge(authority / "ca", directory / "no-name", [])
    forge(authority / "ca", directory / "odd-name", ["hamail://mail/n3/../n2"])
    forge(directory / "n2" / "node", directory / "signed-by-a-node", ["hamail://mail/n3"])
    return directory


def forge(signer: Path, out: Path, names: list[str]) -> None:
    """A certificate signed by the key of `signer`.key with any names at all."""
    issuer = x509.load_pem_x509_certificate(signer.with_suffix(".pem").read_bytes())
    signing_key = serialization.load_pem_private_key(signer.with_suffix(".key").read_bytes(), password=None)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "n3")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(1970, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
    )
    if names:
        uris = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(n) for n in names])
        builder = builder.add_extension(uris, critical=False)
    certificate = builder.sign(signing_key, hashes.SHA256())
    out.mkdir()
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    if signer.name == "node":
        pem += signer.with_suffix(".pem").read_bytes()  # the whole chain, as a clever forger would send it
    (out / "node.pem").write_bytes(pem)
    (out / "node.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


class Node:
    """A transport with what it has received and been told."""

    def __init__(self, pki: Path, name: str, ports: dict[str, int], **changes):
        self.name = name
        self.received = []
        self.events = []
        arguments = {
            "me": name,
            "cluster": "mail",
            "peers": {n: (HOSTS[n], ports[n]) for n in ports},
            "bind": (HOSTS[name], ports[name]),
            "certificates": Certificates.of(pki / name),
            "on_message": lambda peer, m: self.received.append((peer, m)),
            "on_link": lambda peer, up, why: self.events.append((peer, up, why)),
            "now_ns": now_ns,
        }
        self.transport = Transport(**arguments | changes)

    async def __aenter__(self):
        await self.transport.start()
        return self

    async def __aexit__(self, *_):
        await self.transport.stop()

    def nonces(self, peer):
        return [m.nonce for p, m in self.received if p == peer]

    def up(self, *peers):
        links = self.transport.links()
        return all(links[p].up and links[p].hears for p in peers)


async def until(condition, seconds=PATIENCE_S):
    """Wait until it holds; how long that took, in seconds."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, "has not come true in time"
        await asyncio.sleep(0.002)
    return time.monotonic() - begun


def context(pki: Path, who: str | None, *, server=False, alpn="hamail/1", newest=ssl.TLSVersion.TLSv1_3):
    """What a peer, or somebody who is none, might use."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED if server else ssl.CERT_NONE
    made.load_verify_locations(pki / "ca" / "ca.pem")
    made.maximum_version = newest
    if alpn:
        made.set_alpn_protocols([alpn])
    if who is not None:
        made.load_cert_chain(pki / who / "node.pem", pki / who / "node.key")
    return made


class Client:
    """A raw connection to a node's port."""

    def __init__(self, node: Node, tls: ssl.SSLContext | None, host="127.0.0.3"):
        self.target = node.transport.address
        self.tls = tls
        self.host = host

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(
            *self.target, ssl=self.tls, local_addr=(self.host, 0), server_hostname="n1" if self.tls else None
        )
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()

    async def welcomed(self):
        return await asyncio.wait_for(self.reader.read(1), PATIENCE_S) == WELCOME

    def send(self, *messages):
        self.writer.write(b"".join(encode(m) for m in messages))

    async def ended(self):
        """Everything that still came, once the other side has closed."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE_S)
        except OSError:
            return b""
