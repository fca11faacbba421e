"""Certificate requests: the key is made on the node that will use it, and never leaves it."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hamail.model.ids import CERTIFICATE_URI, NodeName
from hamail.pki.authority import new_key, private_pem
from hamail.pki.files import PkiError

REQUEST_BYTES_MAX = 4096
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def new_request(cluster: str, node: NodeName) -> tuple[str, str]:
    """A new private key and the request to certify it for this name; both PEM."""
    key = new_key()
    uri = CERTIFICATE_URI.format(cluster=cluster, node=node)
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return private_pem(key).decode(), request.public_bytes(serialization.Encoding.PEM).decode()


def requested_key(request: str, cluster: str, node: NodeName) -> ec.EllipticCurvePublicKey:
    """The key of a request that was made by its holder, for this name and nothing else. Raises PkiError.

    Nothing of the request gets into a certificate but the key. That it must name its node all the same turns a request
    which was swapped or altered on the way into a refusal.
    """
    if len(request) > REQUEST_BYTES_MAX:
        raise PkiError(f"the certificate request is over {REQUEST_BYTES_MAX} bytes")
    try:
        loaded = x509.load_pem_x509_csr(request.encode())
        genuine = loaded.is_signature_valid
        names = _names(loaded)
        key = loaded.public_key()
    except _UNREADABLE as error:
        raise PkiError("the certificate request cannot be read") from error
    if not genuine:
        raise PkiError("the certificate request is not signed with its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PkiError("the certificate request is not for a key on the curve P-256")
    if names != [CERTIFICATE_URI.format(cluster=cluster, node=node)]:
        raise PkiError(
            f"the certificate request names {', '.join(names) or 'nobody'}, not node {node} of {cluster}"[:300]
        )
    return key


def _names(request: x509.CertificateSigningRequest) -> list[str]:
    """Every name and every further wish in it, in words; a good request has one."""
    names: list[str] = []
    for extension in request.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            names += [str(name.value) for name in value]
        else:
            names.append(f"extension {extension.oid.dotted_string}")
    return names
