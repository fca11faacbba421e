"""The comparison of history, plan and kernel that every test on real nodes ends with: it must be able to fail."""

import time

import pytest

from hamail.model.state import Evidence as Proof
from hamail.model.state import Move, Trigger
from tests.cluster import timed
from tests.lab.evidence import Evidence
from tests.lab.intervals import NS_PER_MS, Hold

COMPONENTS = ("vip 10.0.0.1", "mount", "postfix")
S_NS = 10**9


def seen(lost_s: float, back_s: float) -> Evidence:
    spans = (("n1", 0, lost_s), ("n2", back_s, 100.0))
    holds = [Hold(n, c, *(int(t * S_NS) for t in (a, a, b, b))) for n, a, b in spans for c in COMPONENTS]
    return Evidence(holds=holds, until=100 * S_NS)


@pytest.fixture
def move(monkeypatch) -> Move:
    """The owner fell silent at 10 s; mail was back 2 s later, says history. Both clocks begin at the same moment."""
    monkeypatch.setattr(time, "time_ns", time.monotonic_ns)
    at = {"detected": 11_000, "decided": 11_001, "fenced": 11_400, "granted": 11_450, "done": 11_990}
    return Move(
        id=7, group="mail", source="n1", target="n2", trigger=Trigger.NODE_LOST, actor="", reason="",
        started_at_ms=11_000, stamps={**at, "first answer": 12_000}, result="done", evidence=Proof.FENCED,
        silent_ms=1000,
    )  # fmt: skip


def compared(move, evidence, limit=60_000, struck=None):
    """Unless said otherwise the power of n1 was cut."""
    power_cut = {"n1": max(h.certain_end for h in evidence.holds if h.node == "n1")}
    return timed.check([move], evidence, power_cut if struck is None else struck, None, {move.id: limit})


def test_what_agrees_passes(move):
    line = "move 7 (node lost): history 2000 ms, outside 1900 ms, plan at most 60000 ms"
    assert compared(move, seen(10.05, 11.95)) == [line]


@pytest.mark.parametrize(("lost_s", "back_s"), [(7.0, 12.0), (10.0, 14.0), (11.3, 11.6)])
def test_an_outage_that_history_tells_wrongly_is_found(move, lost_s, back_s):
    with pytest.raises(AssertionError, match="history and the kernel do not agree"):
        compared(move, seen(lost_s, back_s))


def test_an_owner_of_which_only_hamaild_was_silent_has_served_on(move):
    assert compared(move, seen(11.3, 11.6), struck={})
    with pytest.raises(AssertionError, match="history and the kernel do not agree"):
        compared(move, seen(7.0, 12.0), struck={})


def test_a_limit_that_was_not_kept_is_found(move):
    with pytest.raises(AssertionError, match="longer than plan has promised"):
        compared(move, seen(10.0, 12.0), limit=1900)


def test_a_move_that_never_ended_is_found(move):
    with pytest.raises(AssertionError, match="has never shown all of mail"):
        compared(move, seen(10.0, 11.0))


def test_a_node_that_is_cut_off_holds_all_and_serves_nobody(move):
    assert "outside 2000 ms" in compared(move, seen(11.4, 12.0), struck={"n1": 10 * S_NS})[0]
    assert timed.outside(seen(11.4, 12.0), move, {"n1": 99 * S_NS}, 0).ms == 600 * NS_PER_MS // NS_PER_MS
