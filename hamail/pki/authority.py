"""Create the cluster's authority; issue a certificate to a node.

A certificate says one thing: its holder is node N of cluster C (`hamail://C/N` as its only alternative name).
Validity begins in 1970 on purpose: a machine whose clock battery is empty must still be able to join its cluster.
"""

import re
import secrets
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from hamail.model.ids import CERTIFICATE_URI, ISSUER_URI, NAME_PATTERN, NodeName
from hamail.model.serials import RANDOM_BITS, serial_of
from hamail.pki.files import PUBLIC_MODE, SECRET_MODE, PkiError, make_folder, read, require_absent, write

AUTHORITY_DAYS = 7300
NODE_DAYS = 3650
VALID_FROM = datetime(1970, 1, 1, tzinfo=UTC)
CA_CERTIFICATE = "ca.pem"
CA_KEY = "ca.key"
NODE_CERTIFICATE = "node.pem"
NODE_KEY = "node.key"

__all__ = ["Authority", "PkiError", "cluster_of", "create_authority", "issue", "load_authority"]


class Authority(Struct, frozen=True):
    """An authority with its key: whoever holds it can make nodes."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cluster: str


def create_authority(directory: Path, cluster: str, *, days: int = AUTHORITY_DAYS) -> Path:
    """Write `ca.pem` and `ca.key` (0600) for a new cluster; returns the certificate's path.

    Raises PkiError; an authority that exists is never overwritten, since all its nodes would be locked out.
    """
    require_name("cluster", cluster)
    certificate_path, key_path = directory / CA_CERTIFICATE, directory / CA_KEY
    require_absent(certificate_path, key_path)
    key = new_key()
    name = _subject(cluster, f"{cluster} cluster authority")
    builder = (
        _builder(name, name, key.public_key(), days, x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    make_folder(directory)
    write(key_path, private_pem(key), SECRET_MODE)
    write(certificate_path, public_pem(builder.sign(key, hashes.SHA256())), PUBLIC_MODE)
    return certificate_path


def issue(
    authority: Path, cluster: str, node: NodeName, out: Path, *, days: int = NODE_DAYS, replace: bool = False
) -> Path:
    """Write `ca.pem`, `node.pem` and `node.key` (0600) for one node to `out`; returns the certificate's path.

    `replace` allows a renewal in place: a new key and certificate take the old ones' names. Raises PkiError.
    """
    require_name("node", node)
    ours = load_authority(authority)
    if ours.cluster != cluster:
        raise PkiError(
            f"{authority / CA_CERTIFICATE}: is the authority of cluster {ours.cluster!r}, not of {cluster!r}"
        )
    if not replace:
        require_absent(out / NODE_CERTIFICATE, out / NODE_KEY)
    node_key = new_key()
    signed = sign_node(ours, node, node_key.public_key(), days=days)
    make_folder(out)
    write(out / NODE_KEY, private_pem(node_key), SECRET_MODE)
    write(out / NODE_CERTIFICATE, public_pem(signed), PUBLIC_MODE)
    write(out / CA_CERTIFICATE, public_pem(ours.certificate), PUBLIC_MODE)
    return out / NODE_CERTIFICATE


def sign_node(
    authority: Authority, node: NodeName, key: ec.EllipticCurvePublicKey, *, days: int, number: int = 0
) -> x509.Certificate:
    """A certificate that says: its holder is this node. Whoever calls this has made sure of it. Raises PkiError.

    `number`: see `serials`; 0: the seconds since 1970.
    """
    require_name("node", node)
    uri = CERTIFICATE_URI.format(cluster=authority.cluster, node=node)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    serial = serial_of(number or int(time.time()), secrets.randbits(RANDOM_BITS))
    return _sign(authority, _subject(authority.cluster, node), uri, key, usages, days, serial)


def sign_issuer(authority: Authority, key: ec.EllipticCurvePublicKey, *, days: int) -> x509.Certificate:
    """The certificate by which whoever keeps the authority is known to those who ask it. No node can show it."""
    uri = ISSUER_URI.format(cluster=authority.cluster)
    subject = _subject(authority.cluster, f"{authority.cluster} issuer")
    serial = x509.random_serial_number()
    return _sign(authority, subject, uri, key, [ExtendedKeyUsageOID.SERVER_AUTH], days, serial)


def _sign(
    authority: Authority,
    subject: x509.Name,
    uri: str,
    key: ec.EllipticCurvePublicKey,
    usages: list[x509.ObjectIdentifier],
    days: int,
    serial: int,
) -> x509.Certificate:
    issuer_key = authority.key.public_key()
    return (
        _builder(subject, authority.certificate.subject, key, days, serial)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def load_authority(directory: Path) -> Authority:
    """What `create_authority` has written. Raises PkiError that names the file."""
    certificate, key = _load(directory)
    return Authority(certificate, key, _cluster(certificate, directory / CA_CERTIFICATE))


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def cluster_of(authority: Path) -> str:
    """The cluster that an authority was made for. Raises PkiError."""
    return load_authority(authority).cluster


def require_name(what: str, name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise PkiError(f"{what} name {name!r}: only a-z, 0-9 and - inside, at most 32 characters")


def _load(authority: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate_path, key_path = authority / CA_CERTIFICATE, authority / CA_KEY
    try:
        certificate = x509.load_pem_x509_certificate(read(certificate_path))
    except ValueError as error:
        raise PkiError(f"{certificate_path}: is not a PEM certificate") from error
    try:
        key = serialization.load_pem_private_key(read(key_path), password=None)
    except (ValueError, TypeError) as error:
        raise PkiError(f"{key_path}: is not an unencrypted PEM private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise PkiError(f"{key_path}: is not the key of {certificate_path}")
    return certificate, key


def _cluster(certificate: x509.Certificate, path: Path) -> str:
    organisations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    if [o.value for o in organisations] != ["hamail"] or len(units) != 1:
        raise PkiError(f"{path}: is not the authority of a hamail cluster")
    return str(units[0].value)


def _subject(cluster: str, name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "hamail"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, cluster),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int, serial: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(VALID_FROM)
        .not_valid_after(datetime.now(UTC) + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
