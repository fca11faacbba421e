"""What outsiders may say before anybody knows them: join tokens, certificate requests, lines to the issuer; and what
any member may say that the authority had said.

Nobody without a token's secret or a node's certificate is certified, and nothing revoked but by the authority.
"""

import atexit
import shutil
import tempfile
from pathlib import Path

import msgspec

from hamail.enrol.issuer import Issuer, Peer
from hamail.enrol.messages import Authorities, Credential, Join, Joined, MayI, Offer, Refused, Renew, Request, Welcome
from hamail.enrol.token import Token, TokenError, read_token, write_token
from hamail.pki.files import PkiError
from hamail.pki.request import new_request, requested_key
from hamail.pki.revocations import statements
from tests.unit.enrol_kit import Room

INSTRUMENT = ("hamail.enrol", "hamail.pki.request", "hamail.pki.revocations")
LENGTH_MAX = 4000
TOKEN = Token(cluster="mail", host="10.0.0.11", port=7462, fingerprint=bytes(32), id=b"123456", secret=b"s" * 20)
KNOWN = Credential(id=TOKEN.id.hex(), secret=TOKEN.secret.hex())  # of no token that is open
_DECODER = msgspec.json.Decoder(Request)
_FOLDER = Path(tempfile.mkdtemp(prefix="hamail-fuzz-"))
_ROOM = Room(_FOLDER)
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


class _Silent:
    def note(self, what: str, **details: object) -> None:
        assert what != "issued", details


_ISSUER = Issuer(_ROOM.keep, _ROOM.tokens, _Silent(), _ROOM.cluster_file, lambda: _ROOM.now_ns)
_REQUEST = new_request("mail", "n2")[1]
_BELOW = {"n2": _ROOM.keep.revoke("n2", "a test").below}
_BUNDLE = _ROOM.keep.bundle()
_STATEMENT = _ROOM.keep.state.statement


def seeds() -> list[bytes]:
    asked = [
        MayI(credential=KNOWN, addresses=("10.0.0.12",)),
        Join(credential=KNOWN, node="n2", request=_REQUEST),
        Renew(request=_REQUEST),
        Joined(),
    ]
    lines = [b"j" + msgspec.json.encode(request) for request in asked]
    lines += [b"s" + _STATEMENT.encode(), b"s" + _BUNDLE.encode()]
    return [*lines, b"t" + write_token(TOKEN).encode(), b"r" + _REQUEST.encode(), b'j{"ask":"authority"}']


def one(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    if kind == b"t":
        try:
            token = read_token(rest.decode("utf-8", "replace"))
        except TokenError as error:
            assert str(error)
            return
        assert read_token(write_token(token)) == token
    elif kind == b"r":
        try:
            requested_key(rest.decode("utf-8", "replace"), "mail", "n2")
        except PkiError as error:
            assert len(str(error)) < 400
    elif kind == b"s":
        said = statements(rest.decode("utf-8", "replace"), "mail", _BUNDLE)
        assert all(below == _BELOW for below in said.values())
    else:
        _ask(rest)


def _ask(line: bytes) -> None:
    try:
        request = _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    answer, _ = _ISSUER.answer(request, Peer("192.0.2.1"))
    assert isinstance(answer, Refused | Authorities), answer
    assert not isinstance(answer, Welcome | Offer)
