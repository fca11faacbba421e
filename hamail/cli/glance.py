"""What `hamailctl status` adds to the plain state: single failures tried, schedules, what holds for a time."""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hamail.cli.words import ago, counted, moment, took
from hamail.core.plan import risks
from hamail.model.ids import GroupName, NodeName
from hamail.model.orders import ScheduledMove
from hamail.model.plan import Risk
from hamail.model.practice import DrillRecord
from hamail.model.situation import Situation
from hamail.model.state import Phase, Term
from hamail.model.status import Status

GOOD, POOR, BAD, DIM = "green", "yellow", "bold red", "dim"
RISKS_SHOWN = 6


class Limit(Struct, frozen=True, kw_only=True):
    """Something that keeps a node or a group from what it could do, for a time or until somebody ends it."""

    what: str  # ban | quarantine | standby | maintenance
    group: GroupName = ""
    node: NodeName = ""
    since_ms: int
    until_ms: int = 0  # 0: until somebody ends it
    actor: str = ""
    reason: str = ""


class Glance(Struct, frozen=True, kw_only=True):
    risks: tuple[Risk, ...]  # every single failure that was tried, the worst first
    scheduled: tuple[ScheduledMove, ...]
    limits: tuple[Limit, ...]


def look(situation: Situation) -> Glance:
    state = situation.state
    return Glance(
        risks=risks(situation) if state.config.revision else (),
        scheduled=state.scheduled,
        limits=tuple(_limits(situation)),
    )


def _limits(situation: Situation) -> Iterator[Limit]:
    state = situation.state
    for name, g in sorted(state.groups.items()):
        for node, term in sorted(g.bans.items()):
            yield _limit("ban", term, group=name, node=node)
        if g.maintenance is not None:
            yield _limit("maintenance", g.maintenance, group=name)
    for name, n in sorted(state.nodes.items()):
        for what, held in (("quarantine", n.quarantine), ("maintenance", n.maintenance), ("standby", n.standby_term)):
            if held is not None:
                yield _limit(what, held, node=name)


def _limit(what: str, term: Term, *, group: GroupName = "", node: NodeName = "") -> Limit:
    told = {"since_ms": term.since_ms, "until_ms": term.until_ms, "actor": term.actor, "reason": term.reason}
    return msgspec.convert({"what": what, "group": group, "node": node, **told}, Limit)


def render(glance: Glance, status: Status, lines_max: int = RISKS_SHOWN) -> Iterator[RenderableType]:
    if any(group.phase is Phase.ACTIVE for group in status.groups):  # what is down cannot get worse
        yield from _risks(glance.risks, lines_max)
    for limit in glance.limits:
        if limit.what != "quarantine":  # an alert tells of it
            yield Text(f"  {limit_words(limit)}", style=POOR)
    for move in glance.scheduled:
        where = f" to {move.target}" if move.target else ""
        asked = f", asked by {move.actor}" if move.actor else ""
        yield Text(f"  scheduled: {move.group}{where} at {moment(move.due_ms)}{asked}", style=POOR)
    yield Text(drill_words(status.last_drill, status.at_ms), style=DIM)


def _risks(found: Sequence[Risk], lines_max: int) -> Iterator[RenderableType]:
    bad = worst(found)
    if not found:
        return
    if not bad:
        longest = max(found, key=lambda r: r.outage_ms or 0)
        lasts = "not known yet" if longest.assumed else f"about {took(longest.outage_ms or 0)}"
        tried = f"{counted(len(found), 'failure')} tried; longest time without service: {lasts}"
        yield Text(f"no single failure ends in an outage ({tried})", style=GOOD)
    else:
        yield Text("ONE FAILURE AWAY FROM AN OUTAGE:", style=BAD)
    for risk in bad[:lines_max]:
        yield _point(f"{risk.failure}: {risk.why}", BAD)
    if len(bad) > lines_max:
        yield Text(f"  and {len(bad) - lines_max} more: hamailctl status --json", style=BAD)
    for risk in [r for r in found if r.continues and r.why][: max(1, lines_max - len(bad))]:
        yield Text(f"  {risk.failure}: {risk.why}", style=DIM)


def worst(found: Sequence[Risk]) -> list[Risk]:
    """Those that end in an outage; a node that is cut off is not told beside its loss."""
    bad = [r for r in found if not r.continues]
    lost = {r.supposed[0].partition("=")[2] for r in bad if r.supposed[0].startswith("node-down=")}
    return [r for r in bad if not (r.supposed[0].startswith("node-cut-off=") and r.supposed[0][13:] in lost)]


def limit_words(limit: Limit) -> str:
    subject = " from ".join(name for name in (limit.group, limit.node) if name)
    until = f"until {moment(limit.until_ms)}" if limit.until_ms else "until somebody ends it"
    asked = f" by {limit.actor}" if limit.actor and limit.actor != "hamail" else ""
    because = f": {limit.reason}" if limit.reason else ""
    return f"{limit.what} of {subject} {until}{asked}{because}"


def drill_words(drill: DrillRecord | None, at_ms: int) -> str:
    if drill is None:
        return "last drill: none yet"
    rto = f", service back after {took(drill.rto_ms)}" if drill.rto_ms is not None else ""
    return f"last drill: {drill.name} of {drill.group} {ago(max(0, at_ms - drill.at_ms))} ago, {drill.verdict}{rto}"


def _point(text: str, style: str) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text("!", style=style), Text(text, style=style))
    return grid
