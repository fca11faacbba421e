"""Which certificates of a node count no more: said by the authority, signed with its key, passed on by anybody.

A statement is a block of text beside the authorities' certificates in `ca.pem`; who does not know of it skips it. It
names for each node the number (see `hamail.model.serials`) below which none of its certificates counts. So it never
grows with what was issued, it covers what nobody has a record of, and the node's next certificate is good at once.
"""

import base64
import re
from collections.abc import Iterable, Mapping

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import Struct

from hamail.model.ids import NodeName
from hamail.pki.authority import Authority

KEPT = "revoked"  # in hamaild's own folder: it cannot write `ca.pem`, and must still know after a restart
NODES_MAX = 64
STATEMENT_BYTES_MAX = 8192
STATEMENTS_MAX = 4  # that are looked at in one text
_BEGIN, _END = "-----BEGIN HAMAIL REVOCATIONS-----", "-----END HAMAIL REVOCATIONS-----"
_BLOCK = re.compile(rf"{_BEGIN}\n([A-Za-z0-9+/=\n]{{1,{STATEMENT_BYTES_MAX}}}){_END}\n")
_MEANT = b"hamail revocations\0"  # in front of what is signed: no signature under anything else passes for one
_SIGNED_BY = ec.ECDSA(hashes.SHA256())


class Statement(Struct, frozen=True, forbid_unknown_fields=True):
    """`below`: of each node, the first number that counts again."""

    cluster: str
    below: dict[NodeName, int]


class _Signed(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    body: bytes
    signature: bytes


def statement(authority: Authority, below: Mapping[NodeName, int]) -> str:
    assert 0 < len(below) <= NODES_MAX
    body = msgspec.json.encode(Statement(authority.cluster, dict(below)), order="deterministic")
    signature = authority.key.sign(_MEANT + body, _SIGNED_BY)
    text = base64.encodebytes(msgspec.msgpack.encode(_Signed(body, signature))).decode()
    return f"{_BEGIN}\n{text}{_END}\n"


def statements(text: str, cluster: str, authorities: str) -> dict[str, dict[NodeName, int]]:
    """The statements in a text that one of these authorities (PEM) has made of this cluster: each with what it says."""
    trusted = certificates(authorities)
    found = {}
    for block in list(_BLOCK.finditer(text))[:STATEMENTS_MAX]:
        said = _read(block[1], trusted)
        if said is not None and said.cluster == cluster:
            found[block[0]] = said.below
    return found


def certificates(text: str) -> list[x509.Certificate]:
    """None where any part cannot be read: it is being written, or damaged."""
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        return []


def merged(several: Iterable[Mapping[NodeName, int]]) -> dict[NodeName, int]:
    """Nothing that was revoked comes back."""
    below: dict[NodeName, int] = {}
    for one in several:
        for node, number in one.items():
            below[node] = max(number, below.get(node, 0))
    return below


def _read(text: str, trusted: Iterable[x509.Certificate]) -> Statement | None:
    try:
        signed = msgspec.msgpack.decode(base64.b64decode(text), type=_Signed)
        said = msgspec.json.decode(signed.body, type=Statement)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None
    if len(said.below) > NODES_MAX or not any(_by(authority, signed) for authority in trusted):
        return None
    return said


def _by(authority: x509.Certificate, signed: _Signed) -> bool:
    key = authority.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signed.signature, _MEANT + signed.body, _SIGNED_BY)
    except InvalidSignature:
        return False
    return True
