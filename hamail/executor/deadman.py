"""The dead-man's switch: a group whose deadline is not moved on in time is stopped, whatever hamaild does.

Past the soft deadline the group is stopped at once. Not verified stopped by the hard deadline: the watchdog is no
longer fed, for ever, and the machine resets. Deadlines are CLOCK_BOOTTIME nanoseconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from hamail.executor.clock import NS_PER_S

AHEAD_MAX_NS = 3600 * NS_PER_S  # a deadline further away than any lease is a mistake, not a lease


@dataclass(frozen=True)
class Deadline:
    epoch: int
    soft_ns: int
    hard_ns: int
    soft_passed: bool = False
    hard_passed: bool = False


class Deadman:
    """Pure bookkeeping: the owner calls `check` at `next_ns` or earlier, with the clock's time."""

    def __init__(
        self, soft_passed: Callable[[str, Deadline], None], hard_passed: Callable[[str, Deadline], None]
    ) -> None:
        self._soft_passed = soft_passed
        self._hard_passed = hard_passed
        self._deadlines: dict[str, Deadline] = {}
        self._suspended = False

    def arm(self, group: str, epoch: int, soft_ns: int, hard_ns: int, now_ns: int) -> str:
        """Watch over a group from now on. Returns why not, "" when armed."""
        refused = _implausible(soft_ns, hard_ns, now_ns)
        if not refused:
            self._deadlines[group] = Deadline(epoch, soft_ns, hard_ns)
        return refused

    def extend(self, group: str, epoch: int, soft_ns: int, hard_ns: int, now_ns: int) -> str:
        """Move both deadlines on. Returns why not, "" when moved: only the held epoch, only forward, only in time."""
        held = self._deadlines.get(group)
        if held is None:
            return f"group {group} is not held here"
        if held.epoch != epoch:
            return f"group {group} is held under epoch {held.epoch}, not {epoch}"
        if held.soft_passed:
            return f"the deadline of group {group} has passed: it is being stopped"
        if not self._suspended and now_ns >= held.soft_ns:
            return f"the deadline of group {group} has just passed"
        if soft_ns < held.soft_ns or hard_ns < held.hard_ns:
            return f"deadlines of group {group} can only move forward"
        refused = _implausible(soft_ns, hard_ns, now_ns)
        if not refused:
            self._deadlines[group] = replace(held, soft_ns=soft_ns, hard_ns=hard_ns)
        return refused

    def disarm(self, group: str) -> None:
        """The group is verified stopped: nothing to watch over any more."""
        self._deadlines.pop(group, None)

    def suspend(self, on: bool) -> None:
        """Maintenance: no deadline passes. Afterwards those that have run out meanwhile pass at once."""
        self._suspended = on

    def get(self, group: str) -> Deadline | None:
        return self._deadlines.get(group)

    def check(self, now_ns: int) -> None:
        """Act on every deadline that has passed."""
        if self._suspended:
            return
        for group, held in list(self._deadlines.items()):
            now_held = held
            if now_ns >= held.soft_ns and not held.soft_passed:
                now_held = self._deadlines[group] = replace(now_held, soft_passed=True)
                self._soft_passed(group, now_held)
            if now_ns >= held.hard_ns and not held.hard_passed and group in self._deadlines:
                now_held = self._deadlines[group] = replace(now_held, hard_passed=True)
                self._hard_passed(group, now_held)

    def overdue(self, now_ns: int) -> list[str]:
        """Groups past their hard deadline: the second look that the watchdog's feeder takes for itself."""
        if self._suspended:
            return []
        return [group for group, held in self._deadlines.items() if held.hard_passed or now_ns >= held.hard_ns]

    def next_ns(self) -> int | None:
        """When to check next; None while nothing can pass."""
        if self._suspended:
            return None
        times = [d.soft_ns for d in self._deadlines.values() if not d.soft_passed]
        times += [d.hard_ns for d in self._deadlines.values() if not d.hard_passed]
        return min(times, default=None)


def _implausible(soft_ns: int, hard_ns: int, now_ns: int) -> str:
    if soft_ns > hard_ns:
        return "the soft deadline lies after the hard one"
    if soft_ns <= now_ns:
        return f"the deadline passed {(now_ns - soft_ns) / NS_PER_S:.3f} s ago"
    if hard_ns - now_ns > AHEAD_MAX_NS:
        return f"the deadline lies more than {AHEAD_MAX_NS // NS_PER_S} s ahead"
    return ""
