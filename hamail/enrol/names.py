"""The names in certificates, as the issuer and those who ask it read them."""

import re

from cryptography import x509

from hamail.model.ids import CERTIFICATE_URI, ISSUER_URI, NAME_PATTERN, NodeName


def uri_of(certificate: x509.Certificate) -> str:
    """The only name of a certificate; empty if it has none, several, or one of another kind."""
    try:
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return ""
    return names[0].value if len(names) == 1 and isinstance(names[0], x509.UniformResourceIdentifier) else ""


def node_of(certificate: x509.Certificate, cluster: str) -> NodeName:
    """Which node of this cluster it names; empty: none. Whether it is genuine is for TLS to say."""
    pattern = CERTIFICATE_URI.format(cluster=re.escape(cluster), node=f"({NAME_PATTERN})")
    found = re.fullmatch(pattern, uri_of(certificate))
    return found[1] if found else ""


def is_issuer(certificate: x509.Certificate, cluster: str) -> bool:
    return uri_of(certificate) == ISSUER_URI.format(cluster=cluster)
