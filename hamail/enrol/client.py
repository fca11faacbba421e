"""Asking the issuer. It is believed by the token's fingerprint, or by the authority that a node trusts already.

Nothing secret is sent before the other side has shown the issuer's certificate of that authority.
"""

import os
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography import x509

from hamail.enrol.messages import LINE_BYTES_MAX, Answer, Authorities, Refused, Request, WhoAreYou
from hamail.enrol.names import is_issuer
from hamail.enrol.token import Token
from hamail.pki.authority import public_pem
from hamail.pki.keep import fingerprint

CONNECT_S = 5.0
ANSWER_S = 15.0
A = TypeVar("A")
_ANSWER = msgspec.json.Decoder(Answer)


class AskError(Exception):
    """No answer, or a refusal: the sentence, and what to do next. `refused`: the issuer itself said no."""

    def __init__(self, reason: str, hint: str = "", *, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.hint, self.refused = reason, hint, refused


class Pair:
    """A node's certificate and key, as files or as text that is on no disk yet."""

    def __init__(self, certificate: Path | None = None, key: Path | None = None, pem: str = "") -> None:
        self.certificate, self.key, self.pem = certificate, key, pem

    def load(self, context: ssl.SSLContext) -> None:
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
            return
        descriptor = os.memfd_create("node", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, self.pem.encode())
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)


class Ask:
    """`address`: of the issuer. `authorities`: PEM, what its certificate is checked against."""

    def __init__(self, address: tuple[str, int], cluster: str, authorities: str, pair: Pair | None = None) -> None:
        self._address, self._cluster, self._authorities, self._pair = address, cluster, authorities, pair

    def __call__(self, request: Request, kind: type[A]) -> A:
        """Raises AskError. When the answer is lost, the issuer may have done it all the same."""
        context = _context(ssl.CERT_REQUIRED)
        try:
            context.load_verify_locations(cadata=self._authorities)
            if self._pair is not None:
                self._pair.load(context)
        except (OSError, ValueError) as error:
            raise AskError(f"the certificates here cannot be used: {error}") from error
        return _talk(self._address, context, request, kind, self._cluster)


def by_token(token: Token) -> Ask:
    """First the authority's certificate, which anybody may hand over; it counts if it has the token's fingerprint."""
    address = (token.host, token.port)
    told = _talk(address, _context(ssl.CERT_NONE), WhoAreYou(), Authorities)
    try:
        certificates = x509.load_pem_x509_certificates(told.certificates.encode())
    except ValueError as error:
        raise AskError(f"{token.host} port {token.port} gave no certificates") from error
    for certificate in certificates:
        if fingerprint(certificate) == token.fingerprint.hex():
            return Ask(address, token.cluster, public_pem(certificate).decode())
    raise AskError(
        f"{token.host} port {token.port} is not the machine that made this token: its authority is another one",
        "The secret was not sent. Is the token of this cluster, and is nobody in between? On the first node:"
        " hamailctl token create",
    )


def anyone(addresses: Iterable[tuple[str, int]], cluster: str, authorities: str, pair: Pair) -> Ask:
    """Whoever of these keeps the authority. Raises AskError with what each one said."""
    said = []
    for address in addresses:
        ask = Ask(address, cluster, authorities, pair)
        try:
            ask(WhoAreYou(), Authorities)
        except AskError as error:
            said.append(f"{address[0]}: {error.reason}")
            continue
        return ask
    raise AskError(f"no node keeps the authority where it can be asked ({'; '.join(said)})")


def _context(verify: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the name is compared in `_talk`: it is no host name
    context.verify_mode = verify
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def _talk(address: tuple[str, int], context: ssl.SSLContext, request: Request, kind: type[A], cluster: str = "") -> A:
    """`cluster` empty: whoever answers, since nothing secret is said. Raises AskError."""
    where = f"{address[0]} port {address[1]}"
    try:
        with socket.create_connection(address, CONNECT_S) as plain, context.wrap_socket(plain) as tls:
            if cluster:
                shown = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
                if not is_issuer(shown, cluster):
                    raise AskError(f"{where} does not keep the authority of cluster {cluster}")
            tls.settimeout(ANSWER_S)
            tls.sendall(msgspec.json.encode(request) + b"\n")
            line = _line(tls)
    except ssl.SSLCertVerificationError as error:
        raise AskError(f"{where} is not the issuer: certificate refused: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise AskError(f"{where}: {str(error.reason or error).lower().replace('_', ' ')}") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "no answer"
        raise AskError(
            f"{where} cannot be reached: {why}",
            "Is hamail-issuer.socket running there, and does its packet filter let this port in?",
        ) from error
    try:
        answer = _ANSWER.decode(line)
    except msgspec.MsgspecError as error:
        raise AskError(f"{where} gave an answer that is none; is hamail of the same version there?") from error
    if isinstance(answer, Refused):
        raise AskError(answer.reason, answer.hint, refused=True)
    if not isinstance(answer, kind):
        raise AskError(f"{where} answered something else than what it was asked")
    return answer


def _line(tls: ssl.SSLSocket) -> bytes:
    """Up to the first newline. Raises OSError, ValueError."""
    data = b""
    while b"\n" not in data:
        more = tls.recv(65_536)
        if not more:
            raise ValueError("it hung up without an answer")
        data += more
        if len(data) > LINE_BYTES_MAX:
            raise ValueError("its answer is too long")
    return data.partition(b"\n")[0]
