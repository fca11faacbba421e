"""Judges what became of every message: the mail-loss oracle. Pure.

A message is `ok` when the server acknowledged it (250 after the final dot), `fail` when it surely was not taken, and
`info` when the connection was lost after the body had been sent: then it may or may not be there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

PROBED = "@probe.hamail.invalid"  # mails of `hamailctl probe` and of drills, which are judged by themselves


class Outcome(StrEnum):
    OK = "ok"
    FAIL = "fail"
    INFO = "info"


@dataclass(frozen=True)
class Sent:
    """One message over all its attempts."""

    message_id: str
    sha256: str
    outcome: Outcome
    attempts: int = 1
    done: int = 0  # CLOCK_MONOTONIC nanoseconds of the final outcome


@dataclass(frozen=True)
class Found:
    message_id: str
    sha256: str  # "" where only the presence is known: it still waits in the queue


@dataclass(frozen=True)
class Verdict:
    """Names are the messages' ids. Lost, corrupt and phantom are violations; the rest is counted."""

    acknowledged: int
    found: int  # different messages that are there, of those that were sent
    lost: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()
    phantom: tuple[str, ...] = ()
    duplicated: tuple[str, ...] = ()  # copies beyond the first; SMTP allows it after a lost acknowledgement
    recovered: tuple[str, ...] = ()  # unknown outcome, and there
    unknown: tuple[str, ...] = ()  # unknown outcome, and not there
    resurrected: tuple[str, ...] = ()  # refused, and there all the same
    failed: int = 0
    queued: int = 0  # found in the queue, not yet in a mailbox
    problems: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        return not (self.lost or self.corrupt or self.phantom)


def final(outcomes: Iterable[Outcome]) -> Outcome:
    """One acknowledged attempt is enough; without one, a single unknown attempt leaves the message unknown."""
    seen = set(outcomes)
    if Outcome.OK in seen:
        return Outcome.OK
    return Outcome.INFO if Outcome.INFO in seen else Outcome.FAIL


def judge(sent: Iterable[Sent], found: Iterable[Found]) -> Verdict:
    """Raises ValueError when two sent messages have one id: then nothing can be told apart."""
    by_id: dict[str, Sent] = {}
    for message in sent:
        if message.message_id in by_id:
            raise ValueError(f"{message.message_id} was sent as two messages")
        by_id[message.message_id] = message
    found = list(found)
    delivered = Counter(f.message_id for f in found if f.sha256)
    present = Counter(f.message_id for f in found)
    queued_only = [m for m in present if m in by_id and not delivered[m]]

    def pick(outcome: Outcome, there: bool) -> tuple[str, ...]:
        return tuple(m for m, s in by_id.items() if s.outcome is outcome and (m in present) is there)

    return Verdict(
        acknowledged=sum(s.outcome is Outcome.OK for s in by_id.values()),
        found=sum(m in by_id for m in present),
        lost=pick(Outcome.OK, there=False),
        corrupt=_corrupt(by_id, found),
        phantom=tuple(m for m in present if m not in by_id and not m.endswith(PROBED)),
        duplicated=tuple(m for m, n in delivered.items() if m in by_id for _ in range(n - 1)),
        recovered=pick(Outcome.INFO, there=True),
        unknown=pick(Outcome.INFO, there=False),
        resurrected=pick(Outcome.FAIL, there=True),
        failed=sum(s.outcome is Outcome.FAIL for s in by_id.values()),
        queued=len(queued_only),
    )


def _corrupt(by_id: Mapping[str, Sent], found: Iterable[Found]) -> tuple[str, ...]:
    wrong = {
        f.message_id: None
        for f in found
        if f.sha256 and f.message_id in by_id and f.sha256 != by_id[f.message_id].sha256
    }
    return tuple(wrong)
