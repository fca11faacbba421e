"""The table of `hamailctl timing`."""

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hamail.cli.words import took
from hamail.model.timings import Timings

MEANING = {
    "detection_ms": "a node unheard for this long is missed; all else follows from it",
    "heartbeat_ms": "every node tells every other that it is there",
    "tick_ms": "decisions are looked at this often",
    "lease_ms": "how long the active node may go on without hearing a majority",
    "renew_ms": "how often it asks for that again",
    "stop_budget_ms": "before a lease ends, this much is kept for stopping; with requires = lease a stop must fit",
    "wait_ms": "after this a promise to the active node has surely run out",
    "watchdog_ms": "a machine that hangs is reset after this",
    "watchdog_wait_ms": "after this a promise and a watchdog have both surely run out",
    "restart_grace_ms": "hamaild may restart for this long before it counts as lost",
    "settle_ms": "a new coordinator listens this long before it calls a node lost",
    "raft_append_ms": "how often the coordinator speaks to the other voters",
    "election_min_ms": "a new coordinator is elected after this much silence, at the soonest",
    "election_max_ms": "... and at the latest",
    "leader_fallback_ms": "a coordinator without a majority gives up after this",
    "fence_check_ms": "how often each fence device is asked whether it would work",
    "propose_ms": "an order without an answer after this has an unknown outcome",
}


def render(timings: Timings, source: str) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("timing", no_wrap=True, style="bold")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for name, value in msgspec.structs.asdict(timings).items():
        table.add_row(name.removesuffix("_ms").replace("_", " "), took(value), MEANING.get(name, ""))
    return Group(Text(f"timings for detection = {timings.detection_ms} ms ({source})", style="bold"), Text(), table)
