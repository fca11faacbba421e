"""One line of the trail, and what chains it to the line before."""

import hashlib

import msgspec
from msgspec import Struct

GENESIS = "0" * 64  # what the first line of all follows
TEXT_CHARS_MAX = 1000


class Entry(Struct, frozen=True, kw_only=True):
    """`digest` covers everything else, `previous` included: one changed line breaks every later one."""

    sequence: int
    at_ms: int
    node: str
    kind: str  # request: an order of an operator | decision: an entry of the log that was applied | trail: about itself
    actor: str = ""
    what: str = ""
    reason: str = ""
    result: str = ""
    index: int = 0  # of the log, for decisions
    previous: str = GENESIS
    digest: str = ""


class Fact(Struct, frozen=True, kw_only=True):
    """What is to be written; its place in the chain is not known yet."""

    at_ms: int
    kind: str
    actor: str = ""
    what: str = ""
    reason: str = ""
    result: str = ""
    index: int = 0


def chain(fact: Fact, node: str, sequence: int, previous: str) -> Entry:
    entry = Entry(
        sequence=sequence,
        at_ms=fact.at_ms,
        node=node,
        kind=fact.kind,
        actor=fact.actor[:TEXT_CHARS_MAX],
        what=fact.what[:TEXT_CHARS_MAX],
        reason=fact.reason[:TEXT_CHARS_MAX],
        result=fact.result[:TEXT_CHARS_MAX],
        index=fact.index,
        previous=previous,
    )
    return msgspec.structs.replace(entry, digest=digest_of(entry))


def digest_of(entry: Entry) -> str:
    bare = msgspec.structs.replace(entry, digest="")
    return hashlib.sha256(msgspec.json.encode(bare)).hexdigest()


def line_of(entry: Entry) -> bytes:
    return msgspec.json.encode(entry) + b"\n"
