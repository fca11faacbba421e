"""The tokens that are open: small files of root's in /run, so that none survives a restart of the machine.

They end by CLOCK_BOOTTIME: setting the clock neither lengthens nor shortens them. Of a secret only its hash is kept.
"""

import hashlib
import hmac
import re
import secrets
from pathlib import Path

import msgspec
from msgspec import Struct

from hamail.disk import RealDisk, write_whole
from hamail.enrol.token import ID_BYTES, SECRET_BYTES
from hamail.model.ids import NodeName

FOLDER = Path("/run/hamail-issuer")
OPEN_MAX = 16
WRONG_MAX = 5  # wrong secrets before a token is closed
_ID = re.compile(rf"[0-9a-f]{{{2 * ID_BYTES}}}")


class TokenRefused(Exception):
    """The sentence is for the other side: it tells nothing that the token's holder does not know."""


class OpenToken(Struct, frozen=True, kw_only=True):
    """`node` empty: any that has this role. `used_for`: hash of the request that it was used for; empty before."""

    id: str
    secret_hash: str
    witness: bool
    node: NodeName = ""
    expires_ns: int  # CLOCK_BOOTTIME
    wrong: int = 0
    used_by: NodeName = ""
    used_for: str = ""

    def left_s(self, now_ns: int) -> int:
        return max(0, (self.expires_ns - now_ns) // 1_000_000_000)


class Tokens:
    """All methods may raise OSError."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder

    def open(self, *, node: NodeName, witness: bool, expires_ns: int, now_ns: int) -> tuple[bytes, bytes]:
        """A new token: its id and its secret, which is kept nowhere else. Raises TokenRefused: too many are open."""
        if sum(not token.used_by for token in self.all(now_ns)) >= OPEN_MAX:
            raise TokenRefused(f"{OPEN_MAX} tokens are open already; close them first: hamailctl token close --all")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name, secret = secrets.token_bytes(ID_BYTES), secrets.token_bytes(SECRET_BYTES)
        self._save(
            OpenToken(id=name.hex(), secret_hash=_hash(secret.hex()), witness=witness, node=node, expires_ns=expires_ns)
        )
        return name, secret

    def all(self, now_ns: int) -> list[OpenToken]:
        """Those that have not run out; the others are removed."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            token = self._load(path.stem)
            if token is None or now_ns >= token.expires_ns:
                path.unlink(missing_ok=True)
            else:
                found.append(token)
        return found

    def close(self, name: str) -> bool:
        path = self._path(name)
        there = path is not None and path.exists()
        if path is not None:
            path.unlink(missing_ok=True)
        return there

    def close_of(self, node: NodeName, now_ns: int) -> None:
        """Those that are for this node, or that it has used."""
        for token in self.all(now_ns):
            if node in (token.node, token.used_by):
                self.close(token.id)

    def prove(self, name: str, secret: str, now_ns: int) -> OpenToken:
        """The open token that this is the secret of. Raises TokenRefused."""
        token = self._load(name)
        if token is None or now_ns >= token.expires_ns:
            raise TokenRefused("this token is not open: it has run out, was closed, or is of before a restart")
        if not hmac.compare_digest(_hash(secret), token.secret_hash):
            if token.wrong + 1 >= WRONG_MAX:
                self.close(name)
                raise TokenRefused(f"wrong secret for the {WRONG_MAX}th time: the token is closed")
            self._save(msgspec.structs.replace(token, wrong=token.wrong + 1))
            raise TokenRefused("wrong secret")
        return token

    def use(self, token: OpenToken, node: NodeName, request: str) -> None:
        """From now on it answers this one request only, in case that our answer is lost. Raises TokenRefused."""
        if token.used_for and token.used_for != _hash(request):
            raise TokenRefused(f"this token was used already, by {token.used_by}")
        self._save(msgspec.structs.replace(token, used_by=node, used_for=_hash(request)))

    def _path(self, name: str) -> Path | None:
        return self.folder / f"{name}.json" if _ID.fullmatch(name) else None

    def _load(self, name: str) -> OpenToken | None:
        path = self._path(name)
        if path is None:
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=OpenToken)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def _save(self, token: OpenToken) -> None:
        path = self.folder / f"{token.id}.json"
        write_whole(RealDisk(), path, msgspec.json.encode(token), durable=False)


def _hash(text: str) -> str:
    """Of 160 random bits: no need to make it slow."""
    return hashlib.sha256(text.encode()).hexdigest()
