"""Intervals of certain and possible holding, and the algebra on them. Pure; every time is nanoseconds of one clock.

A thing is *certainly* held between two observations that both saw it with nothing between them that could hide a gap;
it is *possibly* held from the last observation that did not see it to the next one that does not.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

Span = tuple[int, int]

NS_PER_MS = 1_000_000
SAMPLE_GAP_LIMIT_NS = 100 * NS_PER_MS  # positive samples further apart prove nothing about the time between them


@dataclass(frozen=True)
class Hold:
    """One node held one component, certainly in one span and at most in a wider one."""

    node: str
    component: str
    possible_start: int
    certain_start: int
    certain_end: int
    possible_end: int

    def __post_init__(self) -> None:
        assert self.possible_start <= self.certain_start <= self.certain_end <= self.possible_end, self

    @property
    def certain(self) -> Span:
        return self.certain_start, self.certain_end

    @property
    def possible(self) -> Span:
        return self.possible_start, self.possible_end


@dataclass
class Track:
    """Folds the observations of one component on one node into holds."""

    node: str
    component: str
    last_absent: int | None = None
    first_seen: int | None = None
    last_seen: int | None = None
    possible_start: int | None = field(default=None, repr=False)

    @property
    def held(self) -> bool:
        return self.first_seen is not None

    def observe(self, before: int, after: int, held: bool, continuous: bool = False) -> Hold | None:
        """Note one observation, made somewhere in [before, after]; returns the hold that it ended, if any.

        `continuous`: something else than the samples (a silent event queue, a process that was there before) says that
        nothing changed since the last observation, however long ago that was.
        """
        ended = None
        if self.held and not held:
            ended = self._end(after)
        elif self.held and not continuous and before - self.last_seen > SAMPLE_GAP_LIMIT_NS:
            ended = self._end(after)
            self._begin(after, ended.certain_end)
        elif held and not self.held:
            self._begin(after, before if self.last_absent is None else self.last_absent)
        if held:
            self.last_seen = max(before, self.first_seen)
        else:
            self.last_absent = before
        return ended

    def open_hold(self) -> Hold | None:
        """The hold that has not ended yet, as far as it was seen."""
        return self._hold(self.last_seen) if self.held else None

    def _begin(self, certain_start: int, possible_start: int) -> None:
        self.first_seen, self.possible_start, self.last_seen = certain_start, possible_start, certain_start

    def _end(self, possible_end: int) -> Hold:
        hold = self._hold(possible_end)
        self.first_seen = self.possible_start = None
        return hold

    def _hold(self, possible_end: int) -> Hold:
        return Hold(self.node, self.component, self.possible_start, self.first_seen, self.last_seen,
                    max(possible_end, self.last_seen))  # fmt: skip


def union(spans: Iterable[Span]) -> list[Span]:
    """The same points as sorted spans that do not touch."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def intersection(left: Iterable[Span], right: Iterable[Span]) -> list[Span]:
    """Points in both, each side first made into a union. Spans that only touch have no length and do not count."""
    a, b = union(left), union(right)
    common, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        start, end = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if start < end:
            common.append((start, end))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return common


def clip(spans: Iterable[Span], start: int | None, end: int | None) -> list[Span]:
    """The part of the spans inside [start, end]; None is unbounded."""
    lower = [(s if start is None else max(s, start), e) for s, e in spans]
    both = [(s, e if end is None else min(e, end)) for s, e in lower]
    return [(s, e) for s, e in both if s <= e]


def total_ns(spans: Iterable[Span]) -> int:
    return sum(end - start for start, end in union(spans))


def overlap(by_node: dict[str, list[Span]]) -> list[Span]:
    """When at least two nodes held something at once."""
    seen: list[Span] = []
    doubles: list[Span] = []
    for spans in by_node.values():
        doubles += intersection(seen, spans)
        seen = union(seen + spans)
    return union(doubles)
