"""A check and what it says."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from hamail.doctor.findings import Findings


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"  # works today, and leaves less than it could
    FAIL = "fail"  # a failover, or the protection against two active nodes, will not work
    UNKNOWN = "unknown"  # nobody could tell: not a failure


class Opinion(Struct, frozen=True):
    """What a judge says of one subject (a node, a device, a name). `remedy`: what to do; never empty with a FAIL."""

    subject: str
    verdict: Verdict
    reason: str
    remedy: str = ""


class Line(Struct, frozen=True, kw_only=True):
    check: str
    area: str
    subject: str
    verdict: Verdict
    reason: str
    remedy: str = ""


Opinions: TypeAlias = Iterator[Opinion]


class Check(Struct, frozen=True, kw_only=True):
    """`looks_at` and `bites` are for people: what is compared, and what happens later where it is wrong."""

    name: str
    area: str
    looks_at: str
    bites: str
    judge: "Callable[[Findings], Opinions]"


def ok(subject: str, reason: str) -> Opinion:
    return Opinion(subject, Verdict.OK, reason)


def warn(subject: str, reason: str, remedy: str) -> Opinion:
    return Opinion(subject, Verdict.WARN, reason, remedy)


def fail(subject: str, reason: str, remedy: str) -> Opinion:
    return Opinion(subject, Verdict.FAIL, reason, remedy)


def unknown(subject: str, reason: str, remedy: str = "") -> Opinion:
    return Opinion(subject, Verdict.UNKNOWN, reason, remedy)
