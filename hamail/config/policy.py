"""The failure policy in one line each: `failovers = "1 in 15m, 3 in 24h"`, `quarantine = "3 in 10m"`."""

import re
from itertools import pairwise

from hamail.config.duration import parse_duration
from hamail.config.section import Section
from hamail.model.spec import DEFAULT_FAILOVERS, DEFAULT_QUARANTINE, Budget

COUNT_MAX = 100
BUDGETS_MAX = 4
WINDOW_MS = (1000, 30 * 86_400_000)
OFF = "off"
_BUDGET = re.compile(r"([0-9]{1,4}) in (.+)")


def parse_budget(text: str) -> Budget:
    """ "3 in 10m". Raises ValueError with what is expected."""
    found = _BUDGET.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'{text.strip()!r} is not a number in a time; write it as in "3 in 10m"')
    limit, window_ms = int(found[1]), parse_duration(found[2])
    if limit > COUNT_MAX:
        raise ValueError(f"{text.strip()!r}: more than {COUNT_MAX} are not counted")
    if not WINDOW_MS[0] <= window_ms <= WINDOW_MS[1]:
        raise ValueError(f"{text.strip()!r}: the time must be between 1s and 30d")
    return Budget(limit=limit, window_ms=window_ms)


def failovers(section: Section) -> tuple[Budget, ...]:
    """Shortest window first. How often failures may move the group; empty: without a limit."""
    text = section.text("failovers", "3 in 1h")
    if text == OFF:
        return ()
    try:
        found = sorted((parse_budget(part) for part in text.split(",")), key=lambda b: b.window_ms)
    except ValueError as error:
        section.problem("failovers", f'{error}; or "{OFF}"')
        return DEFAULT_FAILOVERS
    if len(found) > BUDGETS_MAX:
        section.problem("failovers", f"has {len(found)} parts; at most {BUDGETS_MAX}")
    for shorter, longer in pairwise(found):
        if longer.limit <= shorter.limit:
            said = f"'{shorter}' can never be used up before '{longer}': leave one of them out"
            section.problem("failovers", said)
    return tuple(found)


def quarantine(section: Section) -> Budget | None:
    """How often a node may come back before it is in quarantine; None: it never is."""
    text = section.text("quarantine", "3 in 10m")
    if text == OFF:
        return None
    try:
        found = parse_budget(text)
    except ValueError as error:
        section.problem("quarantine", f'{error}; or "{OFF}"')
        return DEFAULT_QUARANTINE
    if found.limit < 2:  # to come back once is what nodes are for
        section.problem("quarantine", f"is {text!r}; a node that comes back once does not flap: at least 2")
    return found
