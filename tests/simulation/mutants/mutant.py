"""A planted bug, and how it is hunted. The proof that the checkers can see."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Mutant:
    """Every module of this package exports `MUTANTS: list[Mutant]`.

    `hunt(seed)` runs one seed of something that would notice, and raises Violation or AssertionError when it does; any
    other exception is a find as well: what is right raises none.
    Without the plant no seed of it may find anything.
    """

    name: str
    breaks: str  # the rule that it breaks, in one sentence
    plant: Callable[[pytest.MonkeyPatch], None]
    hunt: Callable[[int], None]
    seeds_max: int = 60
    quick: tuple[int, ...] = ()  # seeds for `make test`, which must find it; empty: left to `make mutants`

    def __post_init__(self) -> None:
        """Raises TypeError: a field in the place of another one would end the whole run, or hunt nothing."""
        whole = isinstance(self.seeds_max, int) and self.seeds_max > 0
        pinned = isinstance(self.quick, tuple) and all(isinstance(seed, int) for seed in self.quick)
        if not (self.name and self.breaks and callable(self.plant) and callable(self.hunt) and whole and pinned):
            raise TypeError(f"mutant {self.name}: seeds_max = {self.seeds_max!r}, quick = {self.quick!r}")


@dataclass(frozen=True)
class Search:
    """What came of hunting one mutant."""

    name: str
    breaks: str
    seed: int | None  # that found it; None: it survived
    tried: int
    cpu_s: float
    what: str = ""  # first line of what the hunt said
