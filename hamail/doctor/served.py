"""The certificates that the floating addresses show: gathering (SMTP and IMAP, with STARTTLS), and the judge."""

import imaplib
import smtplib
import ssl
from datetime import UTC, datetime

from cryptography import x509

from hamail.doctor.findings import Findings, Served
from hamail.doctor.line import Opinions, fail, ok, unknown, warn

TIMEOUT_S = 5.0
SMTP_PORT, IMAP_PORT = 25, 143


def look(
    addresses: tuple[str, ...], smtp: bool, imap: bool, ports: tuple[int, int] = (SMTP_PORT, IMAP_PORT)
) -> dict[str, Served]:
    """Ask every address; "SMTP 10.0.0.100:25" -> what it shows."""
    found = {}
    for address in addresses:
        if smtp:
            found[f"SMTP {address}:{ports[0]}"] = _of_smtp(address, ports[0])
        if imap:
            found[f"IMAP {address}:{ports[1]}"] = _of_imap(address, ports[1])
    return found


def _any_certificate() -> ssl.SSLContext:
    """It is looked at here, not trusted."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _of_smtp(address: str, port: int) -> Served:
    try:
        with smtplib.SMTP(address, port, timeout=TIMEOUT_S) as connection:
            connection.ehlo()
            if not connection.has_extn("starttls"):
                return Served(why="offers no STARTTLS")
            connection.starttls(context=_any_certificate())
            assert isinstance(connection.sock, ssl.SSLSocket)
            return Served(der=connection.sock.getpeercert(binary_form=True))
    except (OSError, smtplib.SMTPException, ValueError) as error:
        return Served(why=f"does not answer: {error}")


def _of_imap(address: str, port: int) -> Served:
    try:
        connection = imaplib.IMAP4(address, port, timeout=TIMEOUT_S)
    except (OSError, imaplib.IMAP4.error) as error:
        return Served(why=f"does not answer: {error}")
    try:
        if "STARTTLS" not in connection.capabilities:
            return Served(why="offers no STARTTLS")
        connection.starttls(_any_certificate())
        assert isinstance(connection.sock, ssl.SSLSocket)
        return Served(der=connection.sock.getpeercert(binary_form=True))
    except (OSError, imaplib.IMAP4.error, ValueError) as error:
        return Served(why=f"STARTTLS fails: {error}")
    finally:
        connection.shutdown()


def shown(f: Findings) -> Opinions:
    """Is what clients see what is configured, and does it carry the service's name?"""
    configured = {use: c.der for machine in f.machines().values() for use, c in machine.certificates.items() if c.der}
    for place, served in f.served.items():
        if served.der is None:
            yield unknown(place, served.why)
            continue
        try:
            certificate = x509.load_der_x509_certificate(served.der)
        except ValueError as error:
            yield fail(place, f"shows a certificate that cannot be read: {error}", "put a valid one there")
            continue
        names = dns_names(certificate)
        until = certificate.not_valid_after_utc
        hostname = f.dns.hostname if f.dns else ""
        use = place.partition(" ")[0]
        if until <= datetime.fromtimestamp(f.at_ms / 1000, UTC):
            yield fail(place, f"its certificate has ended on {until:%Y-%m-%d}", "renew it, on both nodes, and reload")
        elif hostname and not any(_covers(name, hostname) for name in names):
            text = f"its certificate is for {', '.join(names) or 'no name'}, not for {hostname}"
            yield warn(place, text, f"get one that names {hostname}")
        elif use in configured and configured[use] != served.der:
            yield warn(place, "shows another certificate than is configured", "reload the service; see what renewed it")
        else:
            yield ok(place, f"shows the certificate for {', '.join(names[:3]) or 'no name'}")


def dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(name) for name in names.value.get_values_for_type(x509.DNSName)]


def _covers(pattern: str, host: str) -> bool:
    pattern, host = pattern.lower(), host.lower()
    return pattern == host or (pattern.startswith("*.") and host.partition(".")[2] == pattern[2:])
