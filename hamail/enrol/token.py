"""The text that one machine shows and the next one is given: where to ask, whom to trust, and a secret for one use."""

import base64
import binascii
import hashlib
import re

import msgspec
from msgspec import Struct

from hamail.model.ids import NAME_PATTERN

PREFIX = "hamail1."
TOKEN_CHARACTERS_MAX = 600
SECRET_BYTES = 20
ID_BYTES = 6
CHECK_BYTES = 4  # against a token that was cut off or mistyped; says nothing to an attacker
FINGERPRINT_BYTES = 32


class TokenError(Exception):
    """The text is no token; the sentence says how it differs. Never repeats the text, which may hold a secret."""


class Token(Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """`fingerprint`: SHA-256 of the authority's certificate, the only thing that the other side is trusted by."""

    cluster: str
    host: str
    port: int
    fingerprint: bytes
    id: bytes
    secret: bytes

    def __repr__(self) -> str:
        """The secret is no part of anything that is printed by accident."""
        return f"Token({self.cluster!r}, {self.host!r}, {self.port}, id={self.id.hex()})"


def write_token(token: Token) -> str:
    body = msgspec.msgpack.encode(token)
    return PREFIX + base64.urlsafe_b64encode(body + _check(body)).decode().rstrip("=")


def read_token(text: str) -> Token:
    """Raises TokenError."""
    text = "".join(text.split())  # terminals and mail programs break long lines
    if not text.startswith(PREFIX):
        raise TokenError(f"this is no join token: it does not begin with {PREFIX}")
    if len(text) > TOKEN_CHARACTERS_MAX:
        raise TokenError("this is no join token: it is too long")
    raw = text[len(PREFIX) :]
    if not re.fullmatch(r"[A-Za-z0-9_-]*", raw):
        raise TokenError("the join token has a character in it that none has: copy it again, all of it")
    try:
        data = base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4))
    except (ValueError, binascii.Error) as error:
        raise TokenError("the join token is not whole: copy it again, all of it") from error
    body, check = data[:-CHECK_BYTES], data[-CHECK_BYTES:]
    if _check(body) != check:
        raise TokenError("the join token is not whole: copy it again, all of it")
    try:
        token = msgspec.msgpack.decode(body, type=Token)
    except msgspec.MsgspecError as error:
        raise TokenError("the join token is of another version of hamail") from error
    sizes = (len(token.fingerprint), len(token.id), len(token.secret))
    sound = re.fullmatch(NAME_PATTERN, token.cluster) and 0 < token.port < 65_536 and token.host
    if sizes != (FINGERPRINT_BYTES, ID_BYTES, SECRET_BYTES) or not sound:
        raise TokenError("the join token is of another version of hamail")
    return token


def _check(body: bytes) -> bytes:
    return hashlib.sha256(b"hamail join token" + body).digest()[:CHECK_BYTES]
