"""One setting, `detection`, and everything that follows from it.

The safety rule. The owner counts its lease L from before it sent the request; a voter counts
its promise W from receipt. Clocks may run wrong by RATE_ERROR in either direction, so a promise outlives every lease
that it carried when

    W >= L * (1 + rate) / (1 - rate) + margins

`problems` refuses what breaks it, so a mistake here cannot reach a cluster.
"""

from hamail.model.timings import Timings

RATE_ERROR_PERCENT = 5
MARGIN_MS = 100
RESET_LATENCY_MS = 1000  # from a watchdog's expiry to a machine that surely does nothing more
DETECTION_MS_MIN = 200
DETECTION_MS_MAX = 30_000
WATCHDOG_S_MIN = 2
WATCHDOG_S_MAX = 60
LEASE_MS_MIN = 4000  # long enough that a restart of hamaild on a busy machine fits into it
STOP_BUDGET_MS_MIN = 1000


def stretched(duration_ms: int) -> int:
    """How long to wait, by a clock that may be fast, for `duration_ms` to pass on a clock that may be slow."""
    return -(-duration_ms * (100 + RATE_ERROR_PERCENT) // (100 - RATE_ERROR_PERCENT))


def watchdog_extra_ms(watchdog_timeout_s: int) -> int:
    """How long a machine may live after its lease has ended, when only its watchdog can stop it."""
    return stretched(watchdog_timeout_s * 1000) + RESET_LATENCY_MS


def derive(detection_ms: int, watchdog_timeout_s: int) -> Timings:
    """All durations for one `detection`. Call `problems` first for input that a person typed."""
    tick = min(50, max(15, detection_ms // 20))
    lease = max(5 * detection_ms, LEASE_MS_MIN)
    stop_budget = max(STOP_BUDGET_MS_MIN, lease // 4)
    wait = stretched(lease) + MARGIN_MS + tick
    watchdog = watchdog_timeout_s * 1000
    return Timings(
        detection_ms=detection_ms,
        heartbeat_ms=detection_ms // 6,
        tick_ms=tick,
        lease_ms=lease,
        renew_ms=lease // 8,
        stop_budget_ms=stop_budget,
        wait_ms=wait,
        watchdog_ms=watchdog,
        watchdog_wait_ms=wait + watchdog_extra_ms(watchdog_timeout_s),
        restart_grace_ms=lease - lease // 8 - stop_budget,
        settle_ms=max(10 * detection_ms, 5000),
        raft_append_ms=75,
        election_min_ms=300,
        election_max_ms=600,
        leader_fallback_ms=600,
        fence_check_ms=60_000,
        propose_ms=5000,
    )


def problems(detection_ms: int, watchdog_timeout_s: int) -> tuple[str, ...]:
    """Why these settings cannot be used; empty when they can."""
    found = []
    if not DETECTION_MS_MIN <= detection_ms <= DETECTION_MS_MAX:
        found.append(
            f"detection is {detection_ms} ms; it must be between {DETECTION_MS_MIN} ms and {DETECTION_MS_MAX} ms"
        )
    if not WATCHDOG_S_MIN <= watchdog_timeout_s <= WATCHDOG_S_MAX:
        found.append(
            f"watchdog_timeout is {watchdog_timeout_s} s; it must be between {WATCHDOG_S_MIN} s and {WATCHDOG_S_MAX} s"
        )
    return tuple(found) if found else check(derive(detection_ms, watchdog_timeout_s))


def check(t: Timings) -> tuple[str, ...]:
    """The inequalities that every set of timings must satisfy, each with its reason."""
    rules = (
        (t.wait_ms >= stretched(t.lease_ms) + MARGIN_MS, "a promise must outlive every lease that it carried"),
        (
            t.watchdog_wait_ms >= t.wait_ms + stretched(t.watchdog_ms) + RESET_LATENCY_MS,
            "the wait for a watchdog must cover its timeout on a slow clock and the reset itself",
        ),
        (t.renew_ms * 4 <= t.lease_ms - t.stop_budget_ms, "at least three renewals must fit before the owner gives up"),
        (t.stop_budget_ms < t.lease_ms, "the dead-man's switch must have time to stop the group inside the lease"),
        (t.heartbeat_ms * 4 <= t.detection_ms, "a node must miss several heartbeats before it is missed"),
        (t.tick_ms * 4 <= t.detection_ms, "the clock must tick several times within the detection time"),
        (t.raft_append_ms * 3 < t.election_min_ms, "a follower must not stand for election while a leader is heard"),
        (t.restart_grace_ms < t.lease_ms - t.stop_budget_ms, "a restart of hamaild must fit inside the lease"),
    )
    return tuple(f"inconsistent timings: {why}" for holds, why in rules if not holds)
