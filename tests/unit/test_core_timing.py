"""The one inequality that keeps a promise longer than every lease it carried, and all that follows from `detection`."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hamail.core import timing

DETECTIONS = st.integers(timing.DETECTION_MS_MIN, timing.DETECTION_MS_MAX)
DOGS = st.integers(timing.WATCHDOG_S_MIN, timing.WATCHDOG_S_MAX)
RATES = st.floats(-timing.RATE_ERROR_PERCENT / 100, timing.RATE_ERROR_PERCENT / 100)


@given(DETECTIONS, DOGS, RATES, RATES)
def test_a_promise_outlives_every_lease(detection_ms, dog_s, owner_rate, voter_rate):
    """In true time: the owner counts with one clock from before sending, the voter with another from its receipt."""
    t = timing.derive(detection_ms, dog_s)
    lease_true_ms = t.lease_ms / (1 + owner_rate)
    promise_true_ms = t.wait_ms / (1 + voter_rate)
    assert promise_true_ms >= lease_true_ms
    reset_true_ms = lease_true_ms + dog_s * 1000 / (1 + owner_rate) + timing.RESET_LATENCY_MS / (1 + voter_rate)
    waited_true_ms = (t.wait_ms + timing.watchdog_extra_ms(dog_s)) / (1 + voter_rate)
    assert waited_true_ms >= reset_true_ms


@given(DETECTIONS, DOGS)
def test_whatever_may_be_set_is_consistent(detection_ms, dog_s):
    assert timing.problems(detection_ms, dog_s) == ()


def test_what_may_not_be_set_is_refused_with_a_reason():
    assert "between" in timing.problems(100, 5)[0]
    assert "between" in timing.problems(1000, 1)[0]
    assert len(timing.problems(10**6, 10**6)) == 2


def test_each_rule_bites():
    t = timing.derive(1000, 5)
    broken = (
        replace(t, wait_ms=t.lease_ms),
        replace(t, watchdog_wait_ms=t.wait_ms),
        replace(t, renew_ms=t.lease_ms),
        replace(t, stop_budget_ms=t.lease_ms),
        replace(t, heartbeat_ms=t.detection_ms),
        replace(t, tick_ms=t.detection_ms),
        replace(t, raft_append_ms=t.election_min_ms),
        replace(t, restart_grace_ms=t.lease_ms),
    )
    for wrong in broken:
        assert timing.check(wrong), wrong
    assert len({timing.check(wrong) for wrong in broken}) == len(broken)
