"""The command behind `make simulate`: runs seeds in order, adds up what they show, and cuts down what fails."""

import argparse
import itertools
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import msgspec
import structlog
from msgspec import Struct

from hamail.model.spec import Requirement
from hamail.simulation.checkers.violation import Violation
from hamail.simulation.logs.build import LogKind
from hamail.simulation.logs.quiet import quiet
from hamail.simulation.trial.draw import draw
from hamail.simulation.trial.pace import PACES, Pace, pace_of, plan
from hamail.simulation.trial.plan import Plan, load
from hamail.simulation.trial.report import progress, table
from hamail.simulation.trial.run import Run
from hamail.simulation.trial.shrink import shrink, timeline
from hamail.simulation.trial.tally import Tally

PROGRESS_S = 10.0
SEEDS_MAX = 100_000_000
SHRUNK_MAX = 3  # of the failing seeds of one batch
BUILD = Path("build")


class Result(Struct):
    seed: int
    tally: Tally
    violation: str = ""


class Choice(Struct, frozen=True):
    """What is not left to the seed."""

    only: tuple[str, ...] = ()
    log: str = ""
    requires: str = ""
    pace: str = ""

    def plan(self, seed: int) -> Plan:
        log: LogKind | None = self.log or None  # type: ignore[assignment]  # argparse has checked it
        requires = Requirement(self.requires) if self.requires else None
        if self.only:
            return draw(seed, self.only, log, requires)
        pace: Pace = self.pace or pace_of(seed)  # type: ignore[assignment]  # argparse has checked it
        return plan(seed, pace, log, requires)


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def _unsaid(*_event: object) -> NoReturn:
    """Faults are meant here: what hamail would log about them is noise."""
    raise structlog.DropEvent


def trial(choice: Choice, seed: int) -> Result:
    run = Run(choice.plan(seed))
    try:
        return Result(seed, run.go())
    except Violation as violation:
        return Result(seed, run.tally, str(violation))


def results(choice: Choice, seeds: Iterable[int], jobs: int) -> Iterator[Result]:
    """In the order of the seeds, however many processes there are: the sum is the same."""
    if jobs <= 1:
        yield from map(partial(trial, choice), seeds)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:  # no renewal: a fork beside threads may hang
        waiting: list[multiprocessing.pool.AsyncResult[Result]] = []
        upcoming = iter(seeds)
        for seed in upcoming:
            waiting.append(pool.apply_async(trial, (choice, seed)))
            if len(waiting) >= 2 * jobs:
                yield waiting.pop(0).get()
        for rest in waiting:
            yield rest.get()


def simulate(choice: Choice, first: int, seeds: int, hours: float, jobs: int) -> tuple[Tally, list[Result]]:
    total, failed, told_s = Tally(), [], time.monotonic()
    numbers = itertools.count(first) if hours else iter(range(first, first + seeds))
    for result in results(choice, itertools.islice(numbers, SEEDS_MAX), jobs):
        total.add(result.tally)
        if result.violation:
            failed.append(result)
            say(f"simulate: seed {result.seed}: {result.violation.splitlines()[0]}")
        if time.monotonic() - told_s > PROGRESS_S:
            told_s = time.monotonic()
            say(progress(total))
        if hours and total.simulated_ms >= hours * 3_600_000:
            break
    return total, failed


def explain(plan: Plan, name: str) -> None:
    """Cut it down, tell it, and keep it."""
    shrunk, found = shrink(plan, say=lambda words: say(f"  {words}"))
    say(timeline(shrunk, found))
    path = BUILD / "regressions" / f"{name}.json"
    found.save(path)
    say(f"simulate: kept as {path}; move it to tests/simulation/regressions when it is mended")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--hours", type=float, default=0.0, help="simulated hours, instead of a number of seeds")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first seed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, default=BUILD / "simulate.json")
    parser.add_argument("--log", choices=("perfect", "raft", "malicious"), default="")
    parser.add_argument("--requires", choices=[str(r) for r in Requirement], default="")
    parser.add_argument("--pace", choices=PACES, default="", help="how fast faults follow each other; mixed by default")
    parser.add_argument("--only", nargs="*", default=(), help="these kinds of faults only")
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--plan", type=Path, help="run the plan in this file instead, and tell it")
    given = parser.parse_args(arguments)
    quiet()
    if given.plan:
        regression = load(given.plan)
        say(timeline(regression.plan, regression))
        return 0
    structlog.configure(processors=[_unsaid])
    choice = Choice(tuple(given.only), given.log, given.requires, given.pace)
    began_s = time.monotonic()
    total, failed = simulate(choice, given.first, given.seeds, given.hours, given.jobs)
    say(table(total, given.first, time.monotonic() - began_s))
    given.json.parent.mkdir(parents=True, exist_ok=True)
    report = {"first_seed": given.first, "total": total, "failed": failed, "choice": choice}
    given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    for result in failed[: 0 if given.no_shrink else SHRUNK_MAX]:
        say(f"\nsimulate: seed {result.seed} is cut down")
        explain(choice.plan(result.seed), f"seed-{result.seed}")
    return 1 if failed else 0
