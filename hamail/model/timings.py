"""All durations that follow from `detection`; computed in one place, `hamail.core.timing.derive`."""

from msgspec import Struct


class Timings(Struct, frozen=True, kw_only=True):
    """Milliseconds. See `hamail.core.timing` for the rules that tie them together."""

    detection_ms: int  # a node unheard for this long is missed
    heartbeat_ms: int
    tick_ms: int
    lease_ms: int  # L: the owner may stay active this long after it sent a confirmed request
    renew_ms: int  # L/8
    stop_budget_ms: int  # the dead-man's switch starts this long before the lease ends
    wait_ms: int  # W: a voter's promise, and a restarted voter's silence about releases
    watchdog_ms: int  # timeout of the hardware watchdog
    watchdog_wait_ms: int  # W plus the watchdog's time: when a promise and a watchdog have both surely run out
    restart_grace_ms: int  # an announced restart of hamaild is not a death for this long
    settle_ms: int  # a new coordinator waits this long before it believes that an unheard node is lost
    raft_append_ms: int
    election_min_ms: int
    election_max_ms: int
    leader_fallback_ms: int
    fence_check_ms: int  # how often each fence device is asked whether it would work
    propose_ms: int  # after this long without an outcome a proposal is unknown
