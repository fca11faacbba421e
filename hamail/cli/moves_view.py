"""Moves of groups: the list, and one move with its phases as bars."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from hamail.cli import chart
from hamail.cli.chart import Span
from hamail.cli.words import clock, moment, took
from hamail.model.ids import NodeName
from hamail.model.state import Evidence, Move, Stamp, Trigger

DIM, POOR = "dim", "yellow"
RESULT_STYLE = {
    "done": "green",
    "failed": "bold red",
    "rolled back": "yellow",
    "cancelled": "yellow",
    "running": "cyan",
}
WORDS = {
    Stamp.DETECTED: "detected",
    Stamp.DECIDED: "decided",
    Stamp.STOPPED: "stopped on {source}, verified",
    Stamp.FENCED: "{source} fenced: surely off",
    Stamp.GRANTED: "granted to {target}",
    Stamp.STORAGE: "storage mounted",
    Stamp.SERVICES: "services running",
    Stamp.ADDRESS: "address taken over",
    Stamp.ANSWERED: "first answer to a client",
    Stamp.DONE: "done: every resource is up",
}
BAR_STYLE: dict[str, str] = {
    Stamp.DETECTED: "red",
    Stamp.FENCED: "magenta",
    Stamp.STOPPED: "yellow",
    Stamp.ANSWERED: "green",
}
SERVED = ("done", "rolled back", "cancelled")  # the group runs again, wherever
ORDERED = (Trigger.SWITCHOVER, Trigger.STANDBY)
ORDER = [stamp.value for stamp in Stamp]
NARROW = 100  # columns; below, what set a move off has a line of its own
BARS_FROM = 76  # columns; below there is no room for them
BAR_COLUMNS_MIN = 12
SILENT = "silent"


class Point(NamedTuple):
    name: str  # a Stamp, or why an earlier attempt went no further
    at_ms: int
    node: NodeName = ""  # of an earlier attempt


def points(move: Move) -> list[Point]:
    """In the order of time, with earlier attempts; at equal times in the order in which they must have happened."""
    rank: dict[str, int] = {name: place for place, name in enumerate(ORDER)}
    stamps = dict(move.stamps)
    if move.trigger in ORDERED:
        stamps.pop(Stamp.DETECTED, None)  # nothing had to be noticed: the order is the beginning
    earlier = [Point(past.point, past.at_ms, past.node) for past in move.earlier]
    found = [*earlier, *(Point(stamp, at_ms) for stamp, at_ms in stamps.items())]
    # After the source was out, and before the last grant.
    return sorted(found, key=lambda p: (p.at_ms, rank[Stamp.GRANTED] - 0.5 if p.node else rank.get(p.name, len(ORDER))))


def words(move: Move, point: Point) -> str:
    stamp = point.name
    if point.node:
        template = WORDS[Stamp(stamp)] if stamp in ORDER else f"{{source}} {stamp}"
        return template.format(source=point.node, target=point.node)
    if stamp == Stamp.DECIDED and move.trigger in ORDERED:
        return f"ordered by {move.actor}" if move.actor else "ordered"
    if stamp == Stamp.FENCED and move.evidence is Evidence.CONFIRMED:
        return f"{move.source or 'the owner'} is off: confirmed by hand"
    template = WORDS.get(Stamp(stamp), stamp) if stamp in ORDER else stamp
    return template.format(source=move.source or "nobody", target=move.target or "nobody")


def begun_ms(move: Move) -> int:
    return min([move.started_at_ms, *move.stamps.values()])


def length_ms(move: Move) -> int | None:
    """From the first point to the first answer, or to the end if no answer was seen."""
    end = move.stamps.get(Stamp.ANSWERED) or move.stamps.get(Stamp.DONE)
    if end is None and move.result != "running" and move.stamps:
        end = max(move.stamps.values())
    return None if end is None else end - begun_ms(move)


def outage_ms(move: Move) -> int | None:
    """An estimate of how long clients were not served; None while it is not over, or if it did not end.

    A lost owner has served nobody since it fell silent; one that stops in order serves until it is told to.
    """
    length = length_ms(move)
    return None if length is None or move.result not in SERVED else length + move.silent_ms


def phases(move: Move) -> list[Span]:
    """What the time went into: the silence before, then from each point to the next."""
    first = begun_ms(move) - move.silent_ms
    spans = []
    if move.silent_ms:
        spans.append(Span(name=SILENT, begin_ms=0, end_ms=move.silent_ms, style="red"))
    before = begun_ms(move)
    for point in points(move):
        style = BAR_STYLE.get(point.name, "cyan")
        spans.append(Span(name=point.name, begin_ms=before - first, end_ms=point.at_ms - first, style=style))
        before = point.at_ms
    return spans


def path(move: Move) -> str:
    """Where it was tried belongs to a move that came back."""
    tried = [node for node in dict.fromkeys((move.asked, *move.failures)) if node not in (None, move.source)]
    by_way = "".join(f" -> {node}" for node in tried) if move.source and move.source == move.target else ""
    return f"{move.source or '-'}{by_way} -> {move.target or '-'}"


def table(moves: Sequence[Move], columns: int = NARROW) -> RenderableType:
    """Newest last, as in a log."""
    if not moves:
        return Text("no group has moved yet")
    wide = columns >= NARROW
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style=DIM)
    grid.add_column("id", justify="right", no_wrap=True)
    grid.add_column("when", no_wrap=True)
    grid.add_column("group", no_wrap=True)
    grid.add_column("move", no_wrap=True)
    grid.add_column("result", no_wrap=True)
    grid.add_column("took", justify="right", no_wrap=True)
    if wide:
        grid.add_column("set off by", overflow="fold", ratio=1)
        for move in moves:
            grid.add_row(*_cells(move), Text(cause(move)))
        return grid
    for move in moves:
        grid.add_row(*_cells(move))
    why = Table(box=None, padding=(0, 2, 0, 0), header_style=DIM)
    why.add_column("id", justify="right", no_wrap=True)
    why.add_column("set off by", overflow="fold")
    for move in moves:
        why.add_row(str(move.id), Text(cause(move)))
    return Group(grid, Text(), why)


def _cells(move: Move) -> tuple[RenderableType, ...]:
    length = length_ms(move)
    result = Text(move.result, style=RESULT_STYLE.get(move.result, ""))
    when = moment(move.started_at_ms)
    return (str(move.id), when, Text(move.group), Text(path(move)), result, "" if length is None else took(length))


def cause(move: Move) -> str:
    asked = f" by {move.actor}" if move.actor not in ("", "hamail") else ""
    return f"{move.trigger}{asked}" + (f": {move.reason}" if move.reason else "")


def timeline(move: Move) -> RenderableType:
    length, outage = length_ms(move), outage_ms(move)
    title = Text.assemble(
        (f"move {move.id} of {move.group}: {path(move)}, ", "bold"),
        (move.result, RESULT_STYLE.get(move.result, "")),
        "" if length is None else f", {took(length)}",
    )
    about = [Text(cause(move)), Text(moment(move.started_at_ms), style=DIM)]
    if move.evidence is not None:
        about.append(Text(f"nobody held it any more: {move.evidence}", style=DIM))
    if outage is not None:
        silent = f", of which {took(move.silent_ms)} silent before it was detected" if move.silent_ms else ""
        about.append(Text(f"outage about {took(outage)}{silent}", style="bold"))
    if move.detail:
        about.append(Text(move.detail, style=POOR))
    return Group(title, *about, Text(), Steps(move), Text(), Text(f"Reasons: hamailctl why {move.id}", style=DIM))


class Bar:
    """A span as a bar, as wide as its column."""

    def __init__(self, span: Span, whole_ms: int) -> None:
        self._span, self._whole_ms = span, whole_ms

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        drawn = chart.bar(self._span, self._whole_ms, options.max_width, chart.unicode_works(console.encoding))
        yield Text(drawn.rstrip(), style=self._span.style, no_wrap=True, overflow="crop")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(BAR_COLUMNS_MIN, options.max_width)


class Steps:
    """The phases of a move, each with the time it took, also as a bar."""

    def __init__(self, move: Move) -> None:
        self._move = move

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        move, first = self._move, begun_ms(self._move)
        spans = phases(move)
        whole_ms = max((s.end_ms for s in spans), default=0)
        drawn = options.max_width >= BARS_FROM
        grid = Table(box=None, padding=(0, 1, 0, 0), header_style=DIM, expand=drawn)
        grid.add_column("clock", no_wrap=True, style=DIM)
        grid.add_column("since start", justify="right", no_wrap=True)
        grid.add_column("step", justify="right", no_wrap=True, style=DIM)
        grid.add_column("", overflow="fold")
        if drawn:
            grid.add_column("", no_wrap=True, ratio=1, min_width=BAR_COLUMNS_MIN)
        if move.silent_ms:
            silence = Bar(spans[0], whole_ms)
            what = f"{move.source or 'the owner'} was silent"
            grid.add_row("", "", f"+{move.silent_ms} ms", what, *([silence] if drawn else []))
        seen = [span for span in spans if span.name != SILENT]
        for point, span in zip(points(move), seen, strict=True):
            at_ms = point.at_ms
            took_ms = f"+{span.end_ms - span.begin_ms} ms"
            row = (clock(at_ms), f"+{at_ms - first} ms", took_ms, Text(words(move, point)))
            grid.add_row(*row, *([Bar(span, whole_ms)] if drawn else []))
        yield grid


def as_json(move: Move) -> dict[str, object]:
    """The move with its timeline in order, as milliseconds since the first point."""
    first = begun_ms(move)
    steps = [
        {"point": p.name, "node": p.node, "at_ms": p.at_ms, "since_start_ms": p.at_ms - first} for p in points(move)
    ]
    return {
        "id": move.id,
        "group": move.group,
        "source": move.source,
        "target": move.target,
        "trigger": move.trigger,
        "actor": move.actor,
        "reason": move.reason,
        "started_at_ms": move.started_at_ms,
        "result": move.result,
        "detail": move.detail,
        "request": move.request,
        "evidence": move.evidence,
        "epoch": move.epoch,
        "silent_ms": move.silent_ms,
        "length_ms": length_ms(move),
        "outage_ms": outage_ms(move),
        "timeline": steps,
    }
