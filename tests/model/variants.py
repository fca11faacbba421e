"""The variants of the model: as built with each kind of fault, and with one mistake planted."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """`flags` are -D flags of the model. `expected`: "safe", or the property that must be found broken."""

    name: str
    what: str
    flags: str
    expected: str
    compile: str = ""


def safe(name: str, what: str, flags: str) -> Variant:
    return Variant(name, what, flags, "safe")


def wrong(name: str, what: str, flags: str, broken: str = "S1", compile: str = "") -> Variant:
    return Variant(name, what, flags, broken, compile)


DRIFT = "L=1 RATE=2 NO_RELEASE"
DOG = "LOG=3 WD=3 D=3 PAUSES=1"
HUNG = "L=3 LOG=3 STOPT=1 WD=2 D=2 HANGS=1"
LATE = "L=1 LOG=5 LATE_PROPOSALS CHANGES=1"
FENCE = "L=1 LOG=4 FENCING"
VM = "LOG=3 VM_PAUSES=1"

VARIANTS = (
    safe("leases", "message loss, lag, false suspicion, switchover", "LOG=4"),
    safe(
        "late_answers",
        "answers to the request before the newest count, from when that one was sent",
        "L=3 W=4 LOG=3 LATE_ANSWERS",
    ),
    safe("restarts", "hamaild restarts on any node", "LOG=3 RESTARTS=1"),
    safe("coordinators", "two moves; coordinators change and forget; old proposals commit late", LATE),
    safe("drift", "clocks wrong by up to a half; W leaves just enough room for it", f"{DRIFT} LOG=4 W=4"),
    safe("paused_machine", "whole machines pause, the watchdog goes on", DOG),
    safe("hung_stop", "a stop hangs: soft deadline, hard deadline, watchdog", HUNG),
    safe("fence", "fence or lease; fences fail or are late; machines reboot and join", "L=1 LOG=3 FENCING REBOOTS=1"),
    safe("fence_vm", "requires = fencing: whole VMs pause", f"{FENCE} FENCING_ONLY VM_PAUSES=1"),
    safe(
        "fence_hung_stop",
        "requires = fencing: VMs pause or stops hang",
        "L=1 LOG=3 FENCING FENCING_ONLY VM_PAUSES=1 HANGS=1",
    ),
    safe("claim_vm", "a paused VM with a lease only: the claim still keeps the order", f"{VM} S4_ONLY CLAIM"),
    safe(
        "claim_fence_lies",
        "a fence that lies: the claim still keeps the order",
        f"{FENCE} BUG_FENCE_LIES S4_ONLY CLAIM",
    ),
    wrong("no_wait", "a voter says yes although its promise runs", "LOG=3 BUG_NO_WAIT"),
    wrong("no_margin", "W = L: no margin for the grain of time", "LOG=3 W=2"),
    wrong("margin_too_small", "clocks drift and W leaves no room for it", f"{DRIFT} LOG=3 W=3"),
    wrong("lease_from_receipt", "the lease is counted from the answer", "LOG=3 BUG_LEASE_FROM_RECEIPT"),
    wrong(
        "late_counts_as_newest",
        "answers to two requests, the lease counted from the newer one",
        "L=3 W=4 LOG=3 LATE_ANSWERS BUG_LATE_COUNTS_AS_NEWEST",
    ),
    wrong(
        "restarted_voter_does_not_hold",
        "it has forgotten its promises and says yes",
        "LOG=3 RESTARTS=1 BUG_RESTARTED_DOES_NOT_HOLD",
    ),
    wrong(
        "barred_not_durable",
        "a restart forgets what was barred",
        f"{LATE} RESTARTS=1 NO_RELEASE BUG_BARRED_NOT_DURABLE",
        "S4",  # the late mount is noticed before the second one active
        compile="-DT_REVERSE",  # the other order of steps finds it sooner
    ),
    wrong(
        "yes_bars_nothing", "a voter that said yes promises the epoch again", f"{LATE} NO_RELEASE BUG_YES_BARS_NOTHING"
    ),
    wrong(
        "forgotten_is_released",
        "a new coordinator takes unknown for released",
        "LOG=3 CHANGES=1 BUG_FORGOTTEN_IS_RELEASED",
    ),
    wrong(
        "grant_without_compare",
        "apply does not compare the epoch",
        "L=1 LOG=6 LATE_PROPOSALS BUG_GRANT_WITHOUT_COMPARE",
    ),
    wrong("no_watchdog", "a machine pauses and has no watchdog", f"{DOG} BUG_NO_WATCHDOG"),
    wrong("no_watchdog_wait", "the watchdog's time is not waited for", f"{DOG} BUG_NO_WATCHDOG_WAIT"),
    wrong(
        "no_hard_deadline",
        "the watchdog is fed although the stop hangs",
        f"{HUNG} BUG_NO_HARD_DEADLINE",
    ),
    wrong("fence_lies", "the device says off, the machine is on", f"{FENCE} FENCING_ONLY BUG_FENCE_LIES"),
    wrong("fence_assumed", "a fence that did not answer is taken for done", f"{FENCE} FENCING_ONLY BUG_FENCE_ASSUMED"),
    wrong("epoch_reused", "a grant keeps the epoch of the one before", "LOG=3 BUG_EPOCH_REUSED", "S3"),
    wrong("vm_pause_lease_only", "expected: leases and watchdog cannot see a paused VM", f"{VM} WD=2 D=2"),
    wrong("vm_pause_no_claim", "without a claim a resumed VM mounts under an old epoch", f"{VM} S4_ONLY", "S4"),
    wrong(
        "claim_compares_wrongly",
        "the claim lets the older epoch in",
        f"{VM} S4_ONLY CLAIM BUG_CLAIM_COMPARES_WRONGLY",
        "S4",
    ),
    wrong(
        "vm_pause_inside_mount",
        "expected: between look and mount the claim is blind; then only fencing is safe",
        f"{VM} S4_ONLY CLAIM SLOW_MOUNT",
        "S1",
    ),
)
