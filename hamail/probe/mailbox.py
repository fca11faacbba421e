"""Reads the probed mailbox back. Blocks: run it in a thread. Raises OSError or imaplib.IMAP4.error."""

import contextlib
import imaplib
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field

from hamail.probe.mailing import DOMAIN, digest_of
from hamail.probe.services import Account, Service

TIMEOUT_S = 10.0
FETCHED_MAX = 500  # messages in one answer
_ID = re.compile(rb"^Message-ID:\s*<([^>\s]+)>", re.IGNORECASE | re.MULTILINE)
_UID = re.compile(rb"UID (\d+)")


@dataclass
class Place:
    """How far the mailbox has been looked at."""

    validity: bytes = b""
    uid: int = 0


@dataclass(frozen=True)
class Copies:
    """Every copy in the mailbox: id -> digests of the bodies."""

    digests: dict[str, list[str]] = field(default_factory=dict)
    uids: tuple[int, ...] = ()


class NoTls(imaplib.IMAP4.error):
    """The password was not sent."""


class _TlsLink(imaplib.IMAP4_SSL):
    """The certificate must bear `name`, which need not be the host's."""

    def __init__(self, service: Service, name: str, context: ssl.SSLContext) -> None:
        self._name = name
        super().__init__(service.host, service.port, ssl_context=context, timeout=TIMEOUT_S)

    def _create_socket(self, timeout: float | None) -> ssl.SSLSocket:
        plain = imaplib.IMAP4._create_socket(self, timeout)  # type: ignore[attr-defined]
        return self.ssl_context.wrap_socket(plain, server_hostname=self._name)  # type: ignore[no-any-return]


def news(service: Service, account: Account, run: str, place: Place) -> list[str]:
    """Ids of this run that have arrived since the last look; moves `place` on."""
    with _inbox(service, account) as link:
        validity = bytes((link.untagged_responses.get("UIDVALIDITY") or [b""])[0] or b"")  # type: ignore[arg-type]
        if validity != place.validity:
            place.validity, place.uid = validity, 0
        _, parts = link.uid("FETCH", f"{place.uid + 1}:*", "(UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
    found = []
    for head, text in (part for part in parts if isinstance(part, tuple)):
        uid = _UID.search(head)
        if uid is None or int(uid[1]) <= place.uid:
            continue  # "N:*" always gives the last message
        place.uid = max(place.uid, int(uid[1]))
        found += [i for i in (m.decode(errors="replace") for m in _ID.findall(text)) if _ours(i, run)]
    return found


def everything(service: Service, account: Account, run: str) -> Copies:
    """Every message of this run with the digest of its body."""
    digests: dict[str, list[str]] = {}
    with _inbox(service, account) as link:
        uids = _find(link, run)
        for begin in range(0, len(uids), FETCHED_MAX):
            chosen = ",".join(map(str, uids[begin : begin + FETCHED_MAX]))
            status, parts = link.uid("FETCH", chosen, "(BODY.PEEK[])")
            if status != "OK":
                raise imaplib.IMAP4.error(f"FETCH: {parts!r}"[:200])
            for _, text in (part for part in parts if isinstance(part, tuple)):
                head, _, body = text.replace(b"\r\n", b"\n").partition(b"\n\n")
                for message_id in (m.decode(errors="replace") for m in _ID.findall(head)[:1]):
                    if _ours(message_id, run):
                        digests.setdefault(message_id, []).append(digest_of(body))
    return Copies(digests, tuple(uids))


def remove(service: Service, account: Account, run: str) -> None:
    """Take the messages of this run, and no others, out of the mailbox."""
    with _inbox(service, account, readonly=False) as link:
        uids = _find(link, run)
        for begin in range(0, len(uids), FETCHED_MAX):
            chosen = ",".join(map(str, uids[begin : begin + FETCHED_MAX]))
            link.uid("STORE", chosen, "+FLAGS.SILENT", r"(\Deleted)")
            _, told = link.capability()  # anew: before the login servers tell less
            if b"UIDPLUS" in b" ".join(told).upper().split():
                link.uid("EXPUNGE", chosen)


def _find(link: imaplib.IMAP4, run: str) -> list[int]:
    status, found = link.uid("SEARCH", "HEADER", "Message-ID", f'"{run}."')
    if status != "OK":
        raise imaplib.IMAP4.error(f"SEARCH: {found!r}"[:200])
    return [int(word) for word in (found[0] or b"").split()]


def _ours(message_id: str, run: str) -> bool:
    return message_id.startswith(f"{run}.") and message_id.endswith(f"@{DOMAIN}")


@contextlib.contextmanager
def _inbox(service: Service, account: Account, readonly: bool = True) -> Iterator[imaplib.IMAP4]:
    context = ssl.create_default_context()
    link: imaplib.IMAP4
    if service.kind.tls:
        link = _TlsLink(service, account.tls_name or service.host, context)
    else:
        link = imaplib.IMAP4(service.host, service.port, timeout=TIMEOUT_S)
    try:
        if not service.kind.tls and "STARTTLS" in link.capabilities:
            link.host = account.tls_name or service.host
            link.starttls(context)
        elif not service.kind.tls and not account.plain:
            raise NoTls(f"{service.place} offers no TLS: the password was not sent (--plain sends it all the same)")
        link.login(account.user, account.password)
        status, data = link.select("INBOX", readonly=readonly)
        if status != "OK":
            raise imaplib.IMAP4.error(f"SELECT: {data!r}"[:200])
        yield link
        link.logout()
    finally:
        with contextlib.suppress(OSError):
            link.shutdown()
