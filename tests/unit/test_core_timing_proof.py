"""The timing rule, proven: z3 runs the formulas of `hamail.core.timing` themselves on symbols, for all settings and all
clock rates within the bound, in real time. And without each of its parts it finds a counterexample.

Real time is what no machine sees. A clock of rate r advances by r ms in a real ms. All rates are independent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hamail.core import timing
from hamail.core.timing import MARGIN_MS, RATE_ERROR_PERCENT, RESET_LATENCY_MS
from hamail.model.timings import Timings

Z3_TIMEOUT_MS = 60_000


class Symbol:
    """An integer of z3 with Python's arithmetic; floor division as in Python, for the positive divisors used here."""

    def __init__(self, of: Any) -> None:
        self.of = of

    def __add__(self, other: Any) -> "Symbol":
        return Symbol(self.of + _bare(other))

    def __sub__(self, other: Any) -> "Symbol":
        return Symbol(self.of - _bare(other))

    def __mul__(self, other: Any) -> "Symbol":
        return Symbol(self.of * _bare(other))

    def __neg__(self) -> "Symbol":
        return Symbol(-self.of)

    def __floordiv__(self, divisor: int) -> "Symbol":
        assert isinstance(divisor, int)
        assert divisor > 0
        return Symbol(self.of / divisor)  # on integers z3 divides as Python's // does

    def __ge__(self, other: Any) -> Any:
        return self.of >= _bare(other)

    def __le__(self, other: Any) -> Any:
        return self.of <= _bare(other)

    def __lt__(self, other: Any) -> Any:
        return self.of < _bare(other)

    __radd__, __rmul__ = __add__, __mul__


def _bare(x: Any) -> Any:
    return x.of if isinstance(x, Symbol) else x


def _largest(*values: Any) -> Symbol:
    first, second = (_bare(v) for v in values)
    return Symbol(z3.If(first >= second, first, second))


def _smallest(*values: Any) -> Symbol:
    first, second = (_bare(v) for v in values)
    return Symbol(z3.If(first <= second, first, second))


@dataclass(frozen=True)
class World:
    """All settings that are allowed, and all clocks."""

    t: Timings
    solver: z3.Solver
    owner: Any  # rates of clocks
    voter: Any
    coordinator: Any
    dog: Any
    stale: Any  # ms: how old the voter's reading of its clock may be when a request arrives
    dog_extra_ms: Any

    def promise_ms(self, wait_ms: Any) -> Any:
        """Real time from the moment that the owner read its clock before sending to the end of a voter's promise."""
        return (_real(wait_ms) - self.stale) / self.voter

    def lease_ms(self, lease_ms: Any) -> Any:
        return _real(lease_ms) / self.owner

    def counterexample(self, claim: Any) -> z3.ModelRef | None:
        self.solver.push()
        self.solver.add(z3.Not(claim))
        result = self.solver.check()
        model = self.solver.model() if result == z3.sat else None
        self.solver.pop()
        assert result in (z3.sat, z3.unsat), f"z3 says {result}: {self.solver.reason_unknown()}"
        return model


def _real(x: Any) -> Any:
    value = _bare(x)
    return z3.ToReal(value) if z3.is_expr(value) and z3.is_int(value) else value


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch, RATE_ERROR_PERCENT)


def make_world(monkeypatch: pytest.MonkeyPatch, rate_error_percent: int) -> World:
    monkeypatch.setattr(timing, "max", _largest, raising=False)
    monkeypatch.setattr(timing, "min", _smallest, raising=False)
    solver = z3.Solver()
    solver.set("timeout", Z3_TIMEOUT_MS)
    detection, dog_s = z3.Int("detection_ms"), z3.Int("watchdog_timeout_s")
    solver.add(detection >= timing.DETECTION_MS_MIN, detection <= timing.DETECTION_MS_MAX)
    solver.add(dog_s >= timing.WATCHDOG_S_MIN, dog_s <= timing.WATCHDOG_S_MAX)
    t = timing.derive(Symbol(detection), Symbol(dog_s))  # type: ignore[arg-type]
    rates = [z3.Real(name) for name in ("owner", "voter", "coordinator", "dog")]
    for rate in rates:
        solver.add(rate >= z3.Q(100 - rate_error_percent, 100), rate <= z3.Q(100 + rate_error_percent, 100))
    stale = z3.Real("stale_ms")
    solver.add(stale >= 0, stale <= _real(t.tick_ms))
    return World(t, solver, *rates, stale, timing.watchdog_extra_ms(Symbol(dog_s)))  # type: ignore[arg-type]


def promise_outlives_lease(w: World, t: Timings) -> Any:
    """The hard deadline of the dead-man's switch is the end of the lease: there it is out, or starves its dog."""
    return w.promise_ms(t.wait_ms) >= w.lease_ms(t.lease_ms)


def reset_before_grant(w: World, t: Timings, extra_ms: Any) -> Any:
    """The dog was fed at the hard deadline at the latest; the coordinator waits from the majority's last yes."""
    out_ms = w.lease_ms(t.lease_ms) + _real(t.watchdog_ms) / w.dog + RESET_LATENCY_MS
    return w.promise_ms(t.wait_ms) + _real(extra_ms) / w.coordinator >= out_ms


def test_a_promise_outlives_every_lease(world: World) -> None:
    assert world.counterexample(promise_outlives_lease(world, world.t)) is None


def test_also_when_the_whole_margin_is_lost_on_old_readings(world: World) -> None:
    world.solver.add(world.stale == _real(world.t.tick_ms))
    late_ms = z3.Real("late_ms")
    world.solver.add(late_ms >= 0, late_ms <= MARGIN_MS)
    ends = world.promise_ms(world.t.wait_ms) - late_ms / world.voter
    assert world.counterexample(ends >= world.lease_ms(world.t.lease_ms)) is None


def test_a_watchdog_has_reset_the_machine_before_a_grant(world: World) -> None:
    assert world.counterexample(reset_before_grant(world, world.t, world.dog_extra_ms)) is None


def test_every_rule_of_check_holds_for_every_setting(world: World) -> None:
    t = world.t
    rules = (
        t.wait_ms >= timing.stretched(t.lease_ms) + MARGIN_MS,
        t.watchdog_wait_ms >= t.wait_ms + timing.stretched(t.watchdog_ms) + RESET_LATENCY_MS,
        t.renew_ms * 4 <= t.lease_ms - t.stop_budget_ms,
        t.stop_budget_ms < t.lease_ms,
        t.heartbeat_ms * 4 <= t.detection_ms,
        t.tick_ms * 4 <= t.detection_ms,
        t.restart_grace_ms < t.lease_ms - t.stop_budget_ms,
    )
    assert world.counterexample(z3.And(*rules)) is None


def _without(change: Callable[[Timings], Any]) -> Callable[[World], Any]:
    return lambda w: promise_outlives_lease(w, replace(w.t, wait_ms=change(w.t)))


WRONG: dict[str, Callable[[World], Any]] = {
    "no room for clock rates": _without(lambda t: t.lease_ms + MARGIN_MS + t.tick_ms),
    "room for one wrong clock only": _without(
        lambda t: t.lease_ms + t.lease_ms * RATE_ERROR_PERCENT // 100 + MARGIN_MS + t.tick_ms
    ),
    "no margin and no tick": _without(lambda t: timing.stretched(t.lease_ms)),
    "rounded down": _without(lambda t: t.lease_ms * 105 // 95 + t.tick_ms - 1),
    "lease from receipt": lambda w: z3.Implies(
        z3.And(z3.Real("on_the_way_ms") >= 0, z3.Real("on_the_way_ms") <= 1000),
        w.promise_ms(w.t.wait_ms) >= z3.Real("on_the_way_ms") + w.lease_ms(w.t.lease_ms),
    ),
    "watchdog not waited for": lambda w: reset_before_grant(w, w.t, 0),
    "watchdog on a slow clock": lambda w: reset_before_grant(w, w.t, w.t.watchdog_ms + RESET_LATENCY_MS),
    "no time for the reset": lambda w: reset_before_grant(w, w.t, timing.stretched(w.t.watchdog_ms)),
}


@pytest.mark.parametrize("name", WRONG)
def test_without_a_part_of_the_rule_there_is_a_counterexample(world: World, name: str) -> None:
    found = world.counterexample(WRONG[name](world))
    assert found is not None, name


def test_clocks_beyond_the_bound_break_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof is not vacuous: the bound on the rates is needed."""
    world = make_world(monkeypatch, RATE_ERROR_PERCENT + 3)
    assert world.counterexample(promise_outlives_lease(world, world.t)) is not None


@settings(max_examples=300)
@given(st.integers(-(10**6), 10**6), st.integers(-(10**4), 10**4))
def test_settings_are_refused_exactly_when_they_are_out_of_range(detection_ms: int, dog_s: int) -> None:
    allowed = (
        timing.DETECTION_MS_MIN <= detection_ms <= timing.DETECTION_MS_MAX
        and timing.WATCHDOG_S_MIN <= dog_s <= timing.WATCHDOG_S_MAX
    )
    found = timing.problems(detection_ms, dog_s)
    assert (not found) == allowed, found
    assert all("must be between" in sentence for sentence in found)


def test_every_allowed_detection_is_consistent_and_its_symbols_mean_the_same() -> None:
    """All 29,801 of them, without a solver: the integers that a cluster really uses."""
    slow, fast = 100 - RATE_ERROR_PERCENT, 100 + RATE_ERROR_PERCENT
    for detection_ms in range(timing.DETECTION_MS_MIN, timing.DETECTION_MS_MAX + 1):
        t = timing.derive(detection_ms, timing.WATCHDOG_S_MIN)
        assert not timing.check(t)
        assert (t.wait_ms - t.tick_ms - MARGIN_MS) * slow >= t.lease_ms * fast
