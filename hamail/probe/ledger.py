"""What became of every message of a run, and the judgement on it. Pure.

Acknowledged and not there is lost. Unknown (the connection broke after the body had been sent) may or may not be there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hamail.probe.mailing import FAIL, INFO, OK

NAMED_MAX = 100  # ids in a verdict


@dataclass
class Fate:
    digest: str
    outcome: str = INFO  # until the attempt has ended
    ended_ms: float = 0.0
    seen: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    sent: int
    acknowledged: int
    found: int
    lost: tuple[str, ...]
    duplicated: tuple[str, ...]
    corrupt: tuple[str, ...]
    unknown: int
    recovered: int

    @property
    def clean(self) -> bool:
        return not (self.lost or self.corrupt)


@dataclass
class Ledger:
    """Messages that are judged and forgotten are counted in `settled`, so that a run may last for months."""

    open: dict[str, Fate] = field(default_factory=dict)
    settled: list[Verdict] = field(default_factory=list)

    def missing(self) -> list[str]:
        """Acknowledged, and not seen in the mailbox yet."""
        return [name for name, fate in self.open.items() if fate.outcome == OK and not fate.seen]

    def judge(self, copies: Mapping[str, Sequence[str]], chosen: Sequence[str] | None = None) -> Verdict:
        """`copies`: id -> the digests of its copies in the mailbox."""
        fates = {name: self.open[name] for name in (self.open if chosen is None else chosen)}

        def those(outcome: str, there: bool) -> list[str]:
            return [n for n, f in fates.items() if f.outcome == outcome and bool(copies.get(n)) is there]

        wrong = [n for n, f in fates.items() if any(digest != f.digest for digest in copies.get(n, ()))]
        return Verdict(
            sent=len(fates),
            acknowledged=sum(f.outcome == OK for f in fates.values()),
            found=sum(bool(copies.get(n)) for n in fates),
            lost=tuple(those(OK, there=False)),
            duplicated=tuple(n for n in fates if len(copies.get(n, ())) > 1),
            corrupt=tuple(wrong),
            unknown=len(those(INFO, there=False)),
            recovered=len(those(INFO, there=True)) + len(those(FAIL, there=True)),
        )

    def settle(self, copies: Mapping[str, Sequence[str]], chosen: Sequence[str]) -> Verdict:
        """Judge these for good, and forget them."""
        verdict = self.judge(copies, chosen)
        for name in chosen:
            del self.open[name]
        self.settled = [total([*self.settled, verdict])]
        return verdict


def total(verdicts: Sequence[Verdict]) -> Verdict:
    def names(key: str) -> tuple[str, ...]:
        return tuple(name for v in verdicts for name in getattr(v, key))[:NAMED_MAX]

    def count(key: str) -> int:
        return sum(getattr(v, key) for v in verdicts)

    return Verdict(
        sent=count("sent"),
        acknowledged=count("acknowledged"),
        found=count("found"),
        lost=names("lost"),
        duplicated=names("duplicated"),
        corrupt=names("corrupt"),
        unknown=count("unknown"),
        recovered=count("recovered"),
    )
