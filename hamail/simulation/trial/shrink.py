"""Cuts a failing plan down to what its failure needs: fewer faults first, then simpler ones, then a simpler cluster."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from hamail.simulation.checkers.violation import Violation
from hamail.simulation.faults import Fault
from hamail.simulation.trial.plan import Plan, Regression
from hamail.simulation.trial.run import Run

TRIES_MAX = 400
SIMPLER_MS = (0, 100, 1000)

Say = Callable[[str], None]
Judge = Callable[[Plan], str]


def judge(plan: Plan) -> str:
    """What the plan violates; empty when nothing."""
    try:
        Run(plan).go()
    except Violation as violation:
        return str(violation)
    return ""


def sort_of(words: str) -> str:
    """What kind of failure it is: the invariant that broke, or the complaint without what is particular to one run."""
    first = words.splitlines()[0].split(" s: ", 1)[-1] if words else ""
    named = re.match(r"[SLO]\d+\w?(?=:)", first)
    return named[0] if named else re.sub(r"[0-9.]+", "#", first)[:30]


class Shrinker:
    def __init__(self, plan: Plan, verdict: str, judge: Judge, say: Say) -> None:
        self.plan = plan
        self.verdict = verdict
        self._sort = sort_of(verdict)
        self._judge = judge
        self._say = say
        self._tries = 0

    def accepts(self, plan: Plan) -> bool:
        """Does it still fail in the same way? Then it is the plan from here on."""
        if self._tries >= TRIES_MAX:
            return False
        self._tries += 1
        verdict = self._judge(plan)
        if not verdict or sort_of(verdict) != self._sort:
            return False
        self.plan, self.verdict = plan, verdict
        return True

    def run(self) -> None:
        self._end_early()
        before = -1
        while before != len(self.plan.faults):
            before = len(self.plan.faults)
            self._fewer()
        self._say(f"{before} faults are left after {self._tries} tries")
        self._simpler_cluster()
        for number in range(len(self.plan.faults)):
            self._simpler(number)
        self._fewer()

    def _end_early(self) -> None:
        """What comes after the failure does not matter."""
        struck = Run(self.plan)
        try:
            struck.go()
        except Violation:
            kept = self.plan.faults[: sum(struck.tally.faults.values())]
            self.accepts(replace(self.plan, faults=kept))
        self.accepts(replace(self.plan, broken={}))
        self.accepts(replace(self.plan, helped_ms=0))

    def _fewer(self) -> None:
        """Leave out halves, quarters, ... down to single faults."""
        size = max(1, len(self.plan.faults) // 2)
        while True:
            at = 0
            while at < len(self.plan.faults):
                kept = self.plan.faults[:at] + self.plan.faults[at + size :]
                if not self.accepts(self._with(kept)):
                    at += size
            if size == 1:
                return
            size //= 2

    def _with(self, faults: tuple[Fault, ...]) -> Plan:
        return replace(self.plan, faults=faults)

    def _simpler_cluster(self) -> None:
        s = self.plan.settings
        changes: tuple[dict[str, Any], ...] = (
            {"late_share": 0.0},
            {"rates_ppm": {}},
            {"groups": s.groups[-1:]},
            {"levels": 1},
            {"log": "perfect"},
            {"start_ms": {}},
            {"stop_ms": {}},
            {"returns_ms": {}},
        )
        for change in changes:
            self.accepts(replace(self.plan, settings=replace(self.plan.settings, **change)))
        if self.plan.faults:
            after_last_ms = self.plan.faults[-1].at_ms + 1000
            if self.plan.chaos_ms > after_last_ms:
                self.accepts(replace(self.plan, chaos_ms=after_last_ms))

    def _simpler(self, number: int) -> None:
        """Earlier, shorter, rounder: one fault at a time."""
        for candidate in self._variants(number):
            faults = list(self.plan.faults)
            if number >= len(faults) or candidate == faults[number]:
                continue
            faults[number] = candidate
            self.accepts(self._with(tuple(sorted(faults, key=lambda f: f.at_ms))))

    def _variants(self, number: int) -> Iterator[Fault]:
        fault = self.plan.faults[number]
        floor_ms = self.plan.faults[number - 1].at_ms if number else 0
        for at_ms in (floor_ms, (floor_ms + fault.at_ms) // 2, fault.at_ms // 1000 * 1000):
            if floor_ms <= at_ms < fault.at_ms:
                yield replace(fault, at_ms=at_ms)
        for key, value in fault.parameters.items():
            if key.endswith("_ms") and isinstance(value, int | float):
                for simpler in SIMPLER_MS:
                    if simpler < value:
                        yield replace(self.plan.faults[number], parameters={**fault.parameters, key: simpler})


def shrink(plan: Plan, judge: Judge = judge, say: Say = lambda _words: None) -> tuple[Plan, Regression]:
    """Raises ValueError when the plan fails no more."""
    verdict = judge(plan)
    if not verdict:
        raise ValueError("this plan violates nothing")
    shrinker = Shrinker(plan, verdict, judge, say)
    shrinker.run()
    return shrinker.plan, Regression(found=shrinker.verdict.splitlines()[0], plan=shrinker.plan)


def timeline(plan: Plan, found: Regression) -> str:
    """The faults that are left, and what the world did and hamail said."""
    run = Run(plan)
    ended = ""
    try:
        run.go()
    except Violation as violation:
        ended = str(violation).splitlines()[0]
    s = plan.settings
    head = [
        f"found: {found.found}",
        f"cluster: {', '.join(s.mail)} and {', '.join(s.witnesses) or 'no witness'}; requires {s.requires}, "
        f"detection {s.detection_ms} ms, log {s.log}, groups {', '.join(s.groups)}, seed {s.seed}",
        f"{len(plan.faults)} faults, {plan.chaos_ms} ms of chaos, stays broken: {plan.broken or 'nothing'}",
        *(f"  {fault.words()}" for fault in plan.faults),
        "what happened:",
    ]
    return "\n".join([*head, run.world.recent(), f"ended: {ended or 'without a violation'}"])
