"""A planted bug, and how it is hunted. The proof that the checkers can see."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Mutant:
    """Every module of this package exports `MUTANTS: list[Mutant]`.

    `hunt(seed)` runs one seed of something that would notice, and raises Violation or AssertionError when it does.
    Without the plant no seed of it may find anything.
    """

    name: str
    breaks: str  # the rule that it breaks, in one sentence
    plant: Callable[[pytest.MonkeyPatch], None]
    hunt: Callable[[int], None]
    seeds_max: int = 60
    quick: tuple[int, ...] = ()  # seeds for `make test`, which must find it; empty: left to `make mutants`


@dataclass(frozen=True)
class Search:
    """What came of hunting one mutant."""

    name: str
    breaks: str
    seed: int | None  # that found it; None: it survived
    tried: int
    cpu_s: float
    what: str = ""  # first line of what the hunt said
