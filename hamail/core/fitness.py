"""Could this node take a group now, and would its watchdog reset it in time?"""

from typing import TYPE_CHECKING

from hamail.core import membership

if TYPE_CHECKING:
    from hamail.core.local import Local


def why_passive(local: "Local") -> str:
    """Why this node could not take a group now; empty when it could."""
    e = local.e
    if e.problem or e.hindrance:
        return e.problem or e.hindrance
    if not e.voter.past_barrier:
        return "it has not caught up with the log since it started"
    if not membership.hears_majority(e.members, e.missed()):
        return "it does not hear a majority of the nodes"
    if local.witness:
        return ""
    if not local.connected:
        return "its executor is not running (systemctl status hamail-executor)"
    if not local.cleaning.done:
        return local.cleaning.detail
    for name, status in sorted(local.held.items()):
        if status.state == "stop_failed":
            return f"it could not stop {name}"
        g = e.state.group(name)
        if (g.owner, g.epoch) != (e.me, status.epoch):  # nothing can be started on what has yet to go
            return f"it still has {name} from epoch {status.epoch}, which is over"
    return "" if local.joined else "it has not joined the cluster yet"


def watchdog_armed(local: "Local") -> bool:
    """Does it reset this machine within the time that the others wait for? Drivers round to what they can."""
    return local.watchdog.armed and not watchdog_too_slow(local)


def watchdog_too_slow(local: "Local") -> str:
    """A sentence when the watchdog takes longer than the others wait; empty when it does not, or is not armed."""
    state = local.e.state
    spec = state.spec if state.config.revision else local.e.bootstrap
    waited_s = max(state.watchdog_timeout_s_max, spec.watchdog_timeout_s)
    if not local.watchdog.armed or local.watchdog.timeout_s <= waited_s:
        return ""
    return (
        f"the watchdog takes {local.watchdog.timeout_s} s, but the others wait for {waited_s} s: it does not count as "
        "armed. Make watchdog_timeout what the driver takes"
    )
