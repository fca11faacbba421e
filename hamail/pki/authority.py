"""Create the cluster's authority; issue a certificate to a node.

A certificate says one thing: its holder is node N of cluster C (`hamail://C/N` as its only alternative name).
Validity begins in 1970 on purpose: a machine whose clock battery is empty must still be able to join its cluster.
"""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hamail.model.ids import CERTIFICATE_URI, NAME_PATTERN, NodeName
from hamail.pki.files import PUBLIC_MODE, SECRET_MODE, PkiError, make_folder, read, require_absent, write

AUTHORITY_DAYS = 7300
NODE_DAYS = 3650
VALID_FROM = datetime(1970, 1, 1, tzinfo=UTC)
CA_CERTIFICATE = "ca.pem"
CA_KEY = "ca.key"
NODE_CERTIFICATE = "node.pem"
NODE_KEY = "node.key"

__all__ = ["PkiError", "cluster_of", "create_authority", "issue"]


def create_authority(directory: Path, cluster: str, *, days: int = AUTHORITY_DAYS) -> Path:
    """Write `ca.pem` and `ca.key` (0600) for a new cluster; returns the certificate's path.

    Raises PkiError; an authority that exists is never overwritten, since all its nodes would be locked out.
    """
    _require_name("cluster", cluster)
    certificate_path, key_path = directory / CA_CERTIFICATE, directory / CA_KEY
    require_absent(certificate_path, key_path)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject(cluster, f"{cluster} cluster authority")
    builder = (
        _builder(name, name, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    make_folder(directory)
    write(key_path, _private(key), SECRET_MODE)
    write(certificate_path, _public(builder.sign(key, hashes.SHA256())), PUBLIC_MODE)
    return certificate_path


def issue(
    authority: Path, cluster: str, node: NodeName, out: Path, *, days: int = NODE_DAYS, replace: bool = False
) -> Path:
    """Write `ca.pem`, `node.pem` and `node.key` (0600) for one node to `out`; returns the certificate's path.

    `replace` allows a renewal in place: a new key and certificate take the old ones' names. Raises PkiError.
    """
    _require_name("node", node)
    certificate, key = _load(authority)
    if (known := _cluster(certificate, authority / CA_CERTIFICATE)) != cluster:
        raise PkiError(f"{authority / CA_CERTIFICATE}: is the authority of cluster {known!r}, not of {cluster!r}")
    if not replace:
        require_absent(out / NODE_CERTIFICATE, out / NODE_KEY)
    node_key = ec.generate_private_key(ec.SECP256R1())
    uri = CERTIFICATE_URI.format(cluster=cluster, node=node)
    signed = (
        _builder(_subject(cluster, node), certificate.subject, node_key.public_key(), days)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    make_folder(out)
    write(out / NODE_KEY, _private(node_key), SECRET_MODE)
    write(out / NODE_CERTIFICATE, _public(signed), PUBLIC_MODE)
    write(out / CA_CERTIFICATE, _public(certificate), PUBLIC_MODE)
    return out / NODE_CERTIFICATE


def cluster_of(authority: Path) -> str:
    """The cluster that an authority was made for. Raises PkiError."""
    return _cluster(_load(authority)[0], authority / CA_CERTIFICATE)


def _require_name(what: str, name: str) -> None:
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
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
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


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
