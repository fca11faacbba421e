"""The small files: what a voter will never promise again, what an executor holds, the claim on the storage."""

import logging
import os
import zlib
from pathlib import Path
from random import Random

import msgspec

from hamail.daemon.barred import _MAGIC, BarredError, BarredFile
from hamail.executor.ledger import Ledger, Page
from hamail.ocf.claim import Claim, ClaimError, conflict, decode, encode
from tests.fuzz.structs import sample

INSTRUMENT = ("hamail.daemon.barred", "hamail.executor.ledger", "hamail.ocf.claim")
logging.getLogger("hamail").setLevel(logging.CRITICAL + 1)
_memory = os.memfd_create("fuzz")
_place = Path(f"/proc/self/fd/{_memory}")


def seeds() -> list[bytes]:
    rng = Random(5)
    barred = msgspec.msgpack.encode({"mail": 7, "other": 1})
    claims = [encode(Claim(cluster="c", group="mail", epoch=e, node="n1")).rstrip() for e in (0, 7, 2**70)]
    pages = [msgspec.json.encode(sample(Page, rng)) for _ in range(20)]
    whole = _MAGIC + zlib.crc32(barred).to_bytes(4, "big") + barred
    return [b"b" + whole, b"m" + barred, *(b"c" + x for x in claims), *(b"l" + x for x in pages)]


def one(data: bytes) -> None:
    kind, body = data[:1], data[1:]
    if kind == b"c":
        _claim(body)
    elif kind == b"l":
        _fill(body)
        ledger = Ledger(_place, "this boot")
        assert ledger.page.boot_id == "this boot"
    else:
        _fill(_MAGIC + zlib.crc32(body).to_bytes(4, "big") + body if kind == b"m" else body)
        try:
            barred = BarredFile(_place).load()
        except BarredError:
            return
        assert all(isinstance(k, str) and type(v) is int for k, v in barred.items())


def _claim(body: bytes) -> None:
    try:
        claim = decode(body)
    except ClaimError:
        return
    conflict(claim, Claim(cluster="c", group="mail", epoch=7, node="n1"))
    if claim is not None:
        assert decode(encode(claim)) == claim


def _fill(data: bytes) -> None:
    os.ftruncate(_memory, 0)
    os.pwrite(_memory, data, 0)
    os.lseek(_memory, 0, os.SEEK_SET)
