"""TLS contexts from a node's certificate files, and whose certificate the other side has shown."""

import re
import ssl
from pathlib import Path

from msgspec import Struct

from hamail.model.ids import CERTIFICATE_URI, NAME_PATTERN, NodeName
from hamail.model.serials import number_of

PROTOCOL = "hamail/1"  # negotiated by ALPN: another wire format gets another number
FILE_BYTES_MAX = 256 << 10
UNSAFE_KEY_MODE = 0o027  # a group may read the key (root:hamail 0640), nobody else may touch it
_URI = re.compile(CERTIFICATE_URI.format(cluster=f"(?P<cluster>{NAME_PATTERN})", node=f"(?P<node>{NAME_PATTERN})"))


class CertificateError(Exception):
    """A file cannot be used, or a certificate does not name who it should. The sentence says which and why."""


class Certificates(Struct, frozen=True, kw_only=True):
    """The files of a node. `key` counts unless the certificate's file has the key in it as well.

    Certificates that renew themselves are kept like that: both are then replaced by one rename, and whenever hamaild
    starts they belong together.
    """

    authority: Path
    certificate: Path
    key: Path

    @property
    def holder(self) -> Path:
        """The file with the key in it. Raises CertificateError."""
        return self.certificate if b"PRIVATE KEY-----" in _content(self.certificate) else self.key

    @classmethod
    def of(cls, directory: Path) -> "Certificates":
        return cls(authority=directory / "ca.pem", certificate=directory / "node.pem", key=directory / "node.key")


class Identity(Struct, frozen=True):
    """Who a certificate says its holder is."""

    cluster: str
    node: NodeName
    expires: str  # as OpenSSL prints it, for display
    number: int = 0  # of its serial: see hamail.model.serials


def server_context(files: Certificates) -> ssl.SSLContext:
    context = _context(files, ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # no session survives its connection
    return context


def client_context(files: Certificates) -> ssl.SSLContext:
    return _context(files, ssl.PROTOCOL_TLS_CLIENT)


def _context(files: Certificates, protocol: int) -> ssl.SSLContext:
    key = _readable_key(files)
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # names are checked by `identity`: they are node names, not host names
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols([PROTOCOL])
    try:
        context.load_verify_locations(cafile=str(files.authority))
    except ssl.SSLError as error:
        raise CertificateError(f"{files.authority}: is not a PEM certificate") from error
    try:
        context.load_cert_chain(files.certificate, key)
    except ssl.SSLError as error:
        raise CertificateError(
            f"{files.certificate}, {key}: are not a certificate and its private key in PEM ({explain(error)})"
        ) from error
    return context


def _readable_key(files: Certificates) -> Path:
    key = files.holder
    for path in (files.authority, files.certificate, key):
        _content(path)
    mode = key.stat().st_mode
    if mode & UNSAFE_KEY_MODE:
        raise CertificateError(
            f"{key}: mode {mode & 0o777:04o} lets others use this node's key; expected 0600, or 0640 for a group"
        )
    return key


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror}") from error


def identity(tls: ssl.SSLSocket | ssl.SSLObject) -> Identity:
    """Of the other side of a finished handshake. Raises CertificateError."""
    if tls.selected_alpn_protocol() != PROTOCOL:
        raise CertificateError(f"does not speak {PROTOCOL}")
    certificate = tls.getpeercert() or {}
    names = certificate.get("subjectAltName", ())
    match = _URI.fullmatch(str(names[0][1])) if len(names) == 1 and names[0][0] == "URI" else None
    if match is None:
        raise CertificateError(f"certificate names no hamail node: {names!r:.200}")
    number = number_of(int(str(certificate.get("serialNumber", "0")), 16))
    return Identity(match["cluster"], match["node"], str(certificate.get("notAfter", "")), number)


def revocation_of(node: NodeName) -> str:
    return f"the certificate of {node} was revoked"


def own_identity(files: Certificates) -> Identity:
    """Shake hands with ourselves, in memory: proves that the chain, the dates, the key and the name can work at all."""
    ends = (ssl.MemoryBIO(), ssl.MemoryBIO())
    server = server_context(files).wrap_bio(ends[0], ends[1], server_side=True)
    client = client_context(files).wrap_bio(ends[1], ends[0])
    try:
        for _ in range(3):  # a TLS 1.3 handshake is over after three flights
            for side in (client, server):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        return identity(client)
    except (ssl.SSLError, CertificateError, ValueError) as error:
        raise CertificateError(f"{files.certificate}: {explain(error)}") from error


def explain(error: Exception) -> str:
    """The reason in an exception of TLS or of a socket, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "connection ended during the handshake"
    if isinstance(error, ssl.SSLError):
        return str(error.reason or error).lower().replace("_", " ")
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
