"""The doors of a mail service that can be probed, and how to reach them."""

from dataclasses import dataclass
from pathlib import Path

GREETING_BYTES_MAX = 2000


@dataclass(frozen=True)
class Kind:
    port: int
    greeting: bytes  # what a healthy server says first, unasked
    farewell: bytes
    tls: bool  # from the first byte


KINDS = {
    "smtp": Kind(25, b"220", b"QUIT\r\n", tls=False),
    "submission": Kind(587, b"220", b"QUIT\r\n", tls=False),
    "submissions": Kind(465, b"220", b"QUIT\r\n", tls=True),
    "lmtp": Kind(24, b"220", b"QUIT\r\n", tls=False),
    "imap": Kind(143, b"* OK", b"a LOGOUT\r\n", tls=False),
    "imaps": Kind(993, b"* OK", b"a LOGOUT\r\n", tls=True),
}
TAKES_MAIL = ("smtp", "submission", "submissions", "lmtp")
NEEDS_LOGIN = ("submission", "submissions")
SHOWS_MAIL = ("imap", "imaps")


@dataclass(frozen=True)
class Service:
    """One door. `host` is a name, an address, or the path of a unix socket."""

    name: str
    host: str
    port: int

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    @property
    def place(self) -> str:
        return self.host if self.is_path else f"{self.host}:{self.port}"

    @property
    def is_path(self) -> bool:
        return self.host.startswith("/")


@dataclass(frozen=True, kw_only=True)
class Account:
    """Whose mailbox is written to and read. The password is known to nobody but the server: it is never shown."""

    sender: str  # "" is the null sender: nothing ever bounces back
    recipient: str
    user: str = ""
    password: str = ""
    tls_name: str = ""  # the name that certificates must bear; "": the host's
    plain: bool = False  # the operator means it when a password goes without TLS

    def __repr__(self) -> str:
        return f"Account({self.recipient!r}, user {self.user!r})"


class BadPassword(Exception):
    """The password file cannot be used; the sentence names the file and not what is in it."""


def read_password(file: Path) -> str:
    """The first line of a file that only its owner can read. Raises BadPassword."""
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadPassword(f"{file}: {getattr(error, 'strerror', None) or 'is not text'}") from error
    if mode & 0o077:
        raise BadPassword(f"{file}: others can read it; chmod 600 {file}")
    first = text.partition("\n")[0].strip("\r")
    if not first:
        raise BadPassword(f"{file}: its first line is empty")
    return first
