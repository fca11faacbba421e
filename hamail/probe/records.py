"""What a prober writes down, one JSON object a line. Times are wall-clock milliseconds that no clock step disturbs:
the wall clock is read once, at the start, and a monotonic clock is added to it."""

import time
from collections.abc import Iterable, Iterator
from typing import IO, TypeAlias

import msgspec
from msgspec import Struct

PROBE_SCHEMA = 1
NS_PER_MS = 1_000_000


class Line(Struct, frozen=True, kw_only=True, tag_field="kind"):
    at_ms: float


class Start(Line, frozen=True, kw_only=True, tag="start"):
    schema: int = PROBE_SCHEMA
    run: str
    target: str
    services: dict[str, str]  # name -> where
    every_ms: int
    mail_every_ms: int = 0  # 0: no mail is sent
    until_eof: bool = False  # it ends when its standard input does


class Check(Line, frozen=True, kw_only=True, tag="check"):
    """One connection. Written for every one with --detail, else for failures only."""

    service: str
    started_ms: float
    ok: bool
    why: str = ""


class Down(Line, frozen=True, kw_only=True, tag="down"):
    """An outage has begun; without it, one that the prober does not survive would leave no trace."""

    service: str
    since_ms: float  # the last answer
    why: str = ""


class Outage(Line, frozen=True, kw_only=True, tag="outage"):
    """From the last answer that a client got before to the first one after."""

    service: str
    from_ms: float
    to_ms: float
    failed: int  # attempts
    why: str = ""

    @property
    def ms(self) -> float:
        return self.to_ms - self.from_ms


class Tally(Line, frozen=True, kw_only=True, tag="tally"):
    """So much was looked at: time that no tally covers is unknown, neither up nor down."""

    service: str
    from_ms: float
    checks: int
    failed: int
    slowest_ms: float = 0.0


class Mail(Line, frozen=True, kw_only=True, tag="mail"):
    """The fate of one message at the server's door: ok (acknowledged) | fail (surely not taken) | info (unknown)."""

    service: str
    id: str
    started_ms: float
    outcome: str
    why: str = ""


class Seen(Line, frozen=True, kw_only=True, tag="seen"):
    """First seen in the mailbox, through whatever carries mail from the door to there (LMTP for instance)."""

    id: str
    after_ms: float  # since it was acknowledged


class End(Line, frozen=True, kw_only=True, tag="end"):
    """The verdict on the mails of this run."""

    sent: int = 0
    acknowledged: int = 0
    found: int = 0
    lost: tuple[str, ...] = ()
    duplicated: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()
    unknown: int = 0  # outcome unknown, and not there
    recovered: int = 0  # outcome unknown, and there
    read: bool = False  # was the mailbox read back? Otherwise nothing is known of loss
    worst_ms: dict[str, float] = {}  # service -> longest outage
    problem: str = ""


AnyLine: TypeAlias = Start | Check | Down | Outage | Tally | Mail | Seen | End

MOMENTS = ("at_ms", "started_ms", "since_ms", "from_ms", "to_ms")  # points in time; what else is in ms is a length

_DECODER = msgspec.json.Decoder(AnyLine)


def shifted(line: AnyLine, by_ms: float) -> AnyLine:
    """As a clock that is `by_ms` ahead would have shown it."""
    moved = {name: round(getattr(line, name) + by_ms, 3) for name in MOMENTS if hasattr(line, name)}
    return msgspec.structs.replace(line, **moved)


class Clock:
    """Wall-clock milliseconds that only go forward."""

    def __init__(self) -> None:
        self._wall_ns = time.time_ns() - time.monotonic_ns()

    def now_ms(self) -> float:
        return round((time.monotonic_ns() + self._wall_ns) / NS_PER_MS, 3)


class Writer:
    """Lines to a stream, at once; keeps them as well when asked to."""

    def __init__(self, stream: IO[bytes] | None, keep: bool = False) -> None:
        self._stream = stream
        self.kept: list[AnyLine] | None = [] if keep else None

    def write(self, line: AnyLine) -> None:
        if self.kept is not None:
            self.kept.append(line)
        if self._stream is not None:
            self._stream.write(msgspec.json.encode(line) + b"\n")
            self._stream.flush()


class BadRecords(Exception):
    """A line that no prober wrote; the sentence has its number."""


def read(lines: Iterable[bytes], place: str) -> Iterator[AnyLine]:
    """Records of a file; a last line that was cut off is left out. Raises BadRecords."""
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            return
        try:
            yield _DECODER.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRecords(f"{place}:{number}: {error}") from error
