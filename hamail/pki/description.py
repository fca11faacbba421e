"""What a certificate says, for display."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from msgspec import Struct

from hamail.pki.files import PkiError, read

DAYS_TO_WARN = 30
SECONDS_PER_DAY = 86_400


class Description(Struct, frozen=True, kw_only=True):
    """`name` is the URI of a node, or the subject of an authority."""

    name: str
    authority: bool
    expires_at: datetime
    days_left: int  # negative: expired that many days ago
    sentence: str


def describe(certificate: Path | bytes | x509.Certificate, *, now: datetime | None = None) -> Description:
    """Of a file, of PEM text, or of a loaded certificate. Raises PkiError on what is none."""
    if isinstance(certificate, x509.Certificate):
        return _describe(certificate, now or datetime.now(UTC))
    place = str(certificate) if isinstance(certificate, Path) else "certificate"
    pem = read(certificate) if isinstance(certificate, Path) else certificate
    try:
        loaded = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise PkiError(f"{place}: is not a PEM certificate") from error
    return _describe(loaded, now or datetime.now(UTC))


def _describe(certificate: x509.Certificate, now: datetime) -> Description:
    expires = certificate.not_valid_after_utc
    days = int((expires - now).total_seconds() // SECONDS_PER_DAY)
    name = _name(certificate)
    if expires <= now:
        ending = f"EXPIRED on {expires:%Y-%m-%d}"
    elif days < DAYS_TO_WARN:
        ending = f"expires in {days} days, on {expires:%Y-%m-%d}: renew it"
    else:
        ending = f"valid until {expires:%Y-%m-%d}"
    return Description(
        name=name,
        authority=_is_authority(certificate),
        expires_at=expires,
        days_left=days,
        sentence=f"{name}: {ending}",
    )


def _name(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return certificate.subject.rfc4514_string()
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0] if uris else certificate.subject.rfc4514_string()


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
