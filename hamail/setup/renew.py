"""A node asks whoever keeps the authority: what am I to trust, and is it time for a new certificate?"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from msgspec import Struct

from hamail.disk import RealDisk, write_whole
from hamail.enrol.client import Ask, AskError, Pair, anyone, by_token
from hamail.enrol.messages import (
    DEFAULT_PORT,
    Check,
    Credential,
    Join,
    Joined,
    Noted,
    Orders,
    Renew,
    Renewed,
    Welcome,
)
from hamail.enrol.names import node_of
from hamail.enrol.token import Token
from hamail.model.ids import NodeName
from hamail.model.spec import ClusterSpec
from hamail.pki.keep import fingerprint
from hamail.pki.request import new_request
from hamail.setup.node import GROUP_READS
from hamail.setup.problem import SetupError


class Renewal(Struct, frozen=True, kw_only=True):
    trust_changed: bool
    renewed: bool
    phase: str
    expires: str  # ISO 8601


class Own(Struct, frozen=True):
    """Where a node's certificates lie, and the group that reads them: hamaild's."""

    folder: Path
    group_id: int

    @property
    def authorities(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def certificate(self) -> Path:
        return self.folder / "node.pem"

    @property
    def old_key(self) -> Path:
        """Of a certificate that was made by hand."""
        return self.folder / "node.key"


def renew(own: Own, spec: ClusterSpec, node: NodeName, *, force: bool, port: int = DEFAULT_PORT) -> Renewal:
    """hamaild notices by itself what was renewed. Raises SetupError; what was there goes on to count then.

    One at a time: of two certificates that were issued at once the issuer takes the later one only.
    """
    with _alone(own):
        return _renew(own, spec, node, force=force, port=port)


def begin_anew(own: Own, spec: ClusterSpec, node: NodeName, token: Token) -> Renewal:
    """A certificate by a token, for a node that is set up but whose own certificate is believed no more: revoked,
    expired, or of a backup. Its journal and its configuration stay. Raises SetupError."""
    with _alone(own):
        key, request = new_request(spec.name, node)
        credential = Credential(id=token.id.hex(), secret=token.secret.hex())
        join = Join(credential=credential, node=node, request=request, witness=spec.nodes[node].witness)
        if token.cluster != spec.name:
            raise SetupError(f"this token is of cluster {token.cluster}, this node of {spec.name}")
        try:
            welcome = by_token(token)(join, Welcome)
        except AskError as error:
            raise SetupError(error.reason, error.hint) from error
        certificate = _take(own, key, welcome.certificate, welcome.authorities, spec.name, node)
        pair = Pair(pem=key + welcome.certificate)
        with contextlib.suppress(AskError):  # the next question says it as well: that this certificate has arrived
            Ask((token.host, token.port), spec.name, welcome.authorities, pair)(Joined(), Noted)
        expires = certificate.not_valid_after_utc.isoformat()
        return Renewal(trust_changed=True, renewed=True, phase="", expires=expires)


def _renew(own: Own, spec: ClusterSpec, node: NodeName, *, force: bool, port: int) -> Renewal:
    authorities = _read(own.authorities)
    pem = _read(own.certificate)
    pair = Pair(pem=pem if "PRIVATE KEY-----" in pem else _read(own.old_key) + pem)
    addresses = [(n.address, port) for _, n in sorted(spec.nodes.items())]
    try:
        ask = anyone(addresses, spec.name, authorities, pair)
        orders = ask(Check(trusts=_fingerprints(authorities)), Orders)
        certificate = _certificate(pem)
        if changed := orders.authorities != authorities:
            _require_trusted(certificate, orders.authorities)
            _write(own, own.authorities, orders.authorities)
        if wanted := orders.renew or force:
            certificate = _new_certificate(own, ask, spec.name, node)
    except AskError as error:
        raise SetupError(error.reason, error.hint) from error
    expires = certificate.not_valid_after_utc.isoformat()
    return Renewal(trust_changed=changed, renewed=wanted, phase=orders.phase, expires=expires)


@contextlib.contextmanager
def _alone(own: Own) -> Iterator[None]:
    descriptor = -1
    try:
        descriptor = os.open(own.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise SetupError("another renewal is under way on this node", "Wait a moment, then ask again") from error
    except FileNotFoundError as error:
        raise SetupError(f"{own.folder}: cannot be read: {error.strerror}") from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _new_certificate(own: Own, ask: Ask, cluster: str, node: NodeName) -> x509.Certificate:
    key, request = new_request(cluster, node)
    answer = ask(Renew(request=request), Renewed)
    return _take(own, key, answer.certificate, answer.authorities, cluster, node)


def _take(own: Own, key: str, pem: str, authorities: str, cluster: str, node: NodeName) -> x509.Certificate:
    certificate = _certificate(pem)
    public = serialization.load_pem_private_key(key.encode(), None).public_key()
    if node_of(certificate, cluster) != node or certificate.public_key() != public:
        raise SetupError(f"the issuer sent a certificate that is not for {node}; the old one stays")
    _require_trusted(certificate, authorities)
    # Trust first: whoever shows a certificate of a new authority must be believed by this node as well.
    _write(own, own.authorities, authorities)
    _write(own, own.certificate, key + pem)
    own.old_key.unlink(missing_ok=True)  # it is of no use any more, and lies about which key counts
    return certificate


def _require_trusted(certificate: x509.Certificate, authorities: str) -> None:
    """A node that did not believe itself would not start again."""
    for authority in _authorities(authorities):
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return
    raise SetupError("the issuer no longer trusts the authority that certified this node; nothing was changed")


def _authorities(pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise SetupError("the authority's certificates cannot be read") from error


def _fingerprints(pem: str) -> tuple[str, ...]:
    return tuple(fingerprint(certificate) for certificate in _authorities(pem))


def _certificate(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise SetupError("this node's certificate cannot be read") from error


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise SetupError(f"{path}: cannot be read: {error.strerror}") from error


def _write(own: Own, path: Path, text: str) -> None:
    """The group is set before the name is there: hamaild may look at any moment."""
    new = path.with_name(path.name + ".next")
    try:
        write_whole(RealDisk(), new, text.encode(), mode=GROUP_READS)
        os.chown(new, os.geteuid(), own.group_id)
        new.replace(path)
        RealDisk().sync_directory(path.parent)
    except OSError as error:
        raise SetupError(f"{path}: cannot be written: {error.strerror}") from error
