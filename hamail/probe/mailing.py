"""Sends one message and says what became of it: acknowledged, surely not taken, or unknown. Blocks."""

import hashlib
import secrets
import smtplib
import ssl
from dataclasses import dataclass

from hamail.probe.services import NEEDS_LOGIN, Account, Service

DOMAIN = "probe.hamail.invalid"  # right-hand side of the ids; a name that nobody can own
TIMEOUT_S = 10.0
BODY_LINES = 6
OK, FAIL, INFO = "ok", "fail", "info"
WHY_CHARS_MAX = 200


@dataclass(frozen=True)
class Message:
    id: str
    digest: str  # of the body
    data: bytes


def compose(run: str, number: int, account: Account) -> Message:
    """A message of its own. Its lines are hexadecimal: none begins with a dot, none is changed on the way."""
    message_id = f"{run}.{number}@{DOMAIN}"
    body = "".join(f"{secrets.token_hex(32)}\r\n" for _ in range(BODY_LINES)).encode()
    sender = account.sender or f"probe@{DOMAIN}"
    head = (
        f"From: <{sender}>\r\nTo: <{account.recipient}>\r\nSubject: hamail probe {run}\r\n"
        f"Message-ID: <{message_id}>\r\nAuto-Submitted: auto-generated\r\nPrecedence: bulk\r\n\r\n"
    ).encode()
    return Message(message_id, digest_of(body), head + body)


def digest_of(body: bytes) -> str:
    """Of what matters: servers may change the ends of lines and add empty ones."""
    return hashlib.sha256(b"".join(body.split())).hexdigest()


def deliver(service: Service, account: Account, message: Message) -> tuple[str, str]:
    """One attempt on a new connection: (outcome, why). Never raises for what a network or a server does."""
    sent_all = False
    try:
        with _connected(service, account) as link:
            _expect(link.mail(account.sender), 250)
            _expect(link.rcpt(account.recipient), 250, 251)
            _expect(link.docmd("DATA"), 354)
            sent_all = True  # from here on the server may have it all, whatever we hear
            link.send(message.data + b".\r\n")
            _expect(link.getreply(), 250)
            return OK, ""
    except _Answered as error:
        return FAIL, str(error)[:WHY_CHARS_MAX]
    except (OSError, smtplib.SMTPException, ValueError) as error:
        return (INFO if sent_all else FAIL), f"{type(error).__name__}: {error}"[:WHY_CHARS_MAX]


class _Answered(Exception):
    """The server answered, and not as hoped: the message was surely not taken."""


def _expect(reply: tuple[int, bytes], *codes: int) -> None:
    if reply[0] not in codes:
        raise _Answered(f"{reply[0]} {reply[1].decode(errors='replace')}")


class _Link(smtplib.SMTP):
    """Leaves without waiting for the answer: what matters was said."""

    def __exit__(self, *_args: object) -> None:
        try:
            if self.sock is not None:
                self.send(b"QUIT\r\n")
        except (OSError, smtplib.SMTPException):
            pass  # it is gone already
        finally:
            self.close()


class _LmtpLink(_Link):
    ehlo_msg = "lhlo"


class _TlsLink(_Link, smtplib.SMTP_SSL):
    pass


def _connected(service: Service, account: Account) -> _Link:
    context = ssl.create_default_context()
    if service.name == "lmtp":
        return _greeted(_LmtpLink(timeout=TIMEOUT_S), service)
    if service.kind.tls:
        link: _Link = _TlsLink(timeout=TIMEOUT_S, context=context)
    else:
        link = _Link(timeout=TIMEOUT_S)
    link._host = account.tls_name or service.host  # type: ignore[attr-defined]  # the name that TLS checks
    _greeted(link, service)
    try:
        if service.name in NEEDS_LOGIN:
            _log_in(link, service, account, context)
    except BaseException:
        link.close()
        raise
    return link


def _greeted(link: _Link, service: Service) -> _Link:
    try:
        if service.is_path:
            _connect_path(link, service.host)
        else:
            _expect(link.connect(service.host, service.port), 220)
        link.ehlo_or_helo_if_needed()
    except BaseException:
        link.close()
        raise
    return link


def _connect_path(link: _Link, path: str) -> None:
    import socket

    link.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.sock.settimeout(TIMEOUT_S)
    link.sock.connect(path)
    link.file = None
    _expect(link.getreply(), 220)


def _log_in(link: _Link, service: Service, account: Account, context: ssl.SSLContext) -> None:
    if not service.kind.tls and link.has_extn("starttls"):
        link.starttls(context=context)
        link.ehlo()
    elif not service.kind.tls and not account.plain:
        raise _Answered(f"{service.place} offers no TLS: the password was not sent (--plain sends it all the same)")
    if account.user:
        link.login(account.user, account.password)
