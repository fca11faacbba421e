"""Planted bugs. The simulation is worth nothing unless it finds every one: `make mutants`."""

import importlib
import pkgutil
import time
from collections.abc import Iterable

import pytest

from tests.simulation.mutants.mutant import Mutant, Search

MACHINERY = frozenset({"mutant", "__main__"})


def every() -> list[Mutant]:
    """Of all modules of this package, in their order by name."""
    modules = sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in MACHINERY)
    found = [x for m in modules for x in importlib.import_module(f"{__name__}.{m}").MUTANTS]
    names = [x.name for x in found]
    assert len(names) == len(set(names)), f"two mutants of one name in {sorted(names)}"
    return found


def search(mutant: Mutant, seeds: Iterable[int]) -> Search:
    """Plant it, and hunt it seed by seed until one finds it."""
    began, tried = time.process_time(), 0
    with pytest.MonkeyPatch.context() as patch:
        mutant.plant(patch)
        for seed in seeds:
            tried += 1
            try:
                mutant.hunt(seed)
            except AssertionError as found:
                what = str(found).splitlines()[0] if str(found) else repr(found)
                return Search(mutant.name, mutant.breaks, seed, tried, time.process_time() - began, what)
    return Search(mutant.name, mutant.breaks, None, tried, time.process_time() - began)
