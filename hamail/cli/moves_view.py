"""Moves of groups: the list, and one move with its timeline."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hamail.cli.words import clock, moment, took
from hamail.model.state import Move, Stamp, Trigger

DIM = "dim"
RESULT_STYLE = {"done": "green", "failed": "bold red", "rolled back": "yellow", "running": "cyan"}
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
ORDERED = (Trigger.SWITCHOVER, Trigger.STANDBY)
ORDER = [stamp.value for stamp in Stamp]


def points(move: Move) -> list[tuple[str, int]]:
    """The stamps in the order of time; at equal times in the order in which they must have happened."""
    rank = {name: place for place, name in enumerate(ORDER)}
    stamps = dict(move.stamps)
    if move.trigger in ORDERED:
        stamps.pop(Stamp.DETECTED, None)  # nothing had to be noticed: the order is the beginning
    return sorted(stamps.items(), key=lambda item: (item[1], rank.get(item[0], len(ORDER))))


def words(move: Move, stamp: str) -> str:
    if stamp == Stamp.DECIDED and move.trigger in ORDERED:
        return f"ordered by {move.actor}" if move.actor else "ordered"
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


def path(move: Move) -> str:
    return f"{move.source or '-'} -> {move.target or '-'}"


def table(moves: Sequence[Move]) -> RenderableType:
    """Newest last, as in a log."""
    if not moves:
        return Text("no group has moved yet")
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style=DIM)
    grid.add_column("id", justify="right", no_wrap=True)
    grid.add_column("when", no_wrap=True)
    grid.add_column("group", no_wrap=True)
    grid.add_column("move", no_wrap=True)
    grid.add_column("result", no_wrap=True)
    grid.add_column("took", justify="right", no_wrap=True)
    grid.add_column("set off by", overflow="fold", ratio=1)
    for move in moves:
        length = length_ms(move)
        grid.add_row(
            str(move.id),
            moment(move.started_at_ms),
            Text(move.group),
            Text(path(move)),
            Text(move.result, style=RESULT_STYLE.get(move.result, "")),
            "" if length is None else took(length),
            Text(cause(move)),
        )
    return grid


def cause(move: Move) -> str:
    asked = f" by {move.actor}" if move.actor not in ("", "hamail") else ""
    return f"{move.trigger}{asked}" + (f": {move.reason}" if move.reason else "")


def timeline(move: Move) -> RenderableType:
    length = length_ms(move)
    title = Text.assemble(
        (f"move {move.id} of {move.group}: {path(move)}, ", "bold"),
        (move.result, RESULT_STYLE.get(move.result, "")),
        "" if length is None else f", {took(length)}",
    )
    return Group(title, Text(cause(move)), Text(moment(move.started_at_ms), style=DIM), Text(), _steps(move))


def _steps(move: Move) -> Table:
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style=DIM)
    grid.add_column("clock", no_wrap=True, style=DIM)
    grid.add_column("since start", justify="right", no_wrap=True)
    grid.add_column("step", justify="right", no_wrap=True, style=DIM)
    grid.add_column("", overflow="fold")
    first = begun_ms(move)
    before = first
    for stamp, at_ms in points(move):
        step = f"+{at_ms - before} ms"
        grid.add_row(clock(at_ms), f"+{at_ms - first} ms", step, Text(words(move, stamp)))
        before = at_ms
    return grid


def as_json(move: Move) -> dict[str, object]:
    """The move with its timeline in order, as milliseconds since the first point."""
    first = begun_ms(move)
    steps = [{"point": stamp, "at_ms": at_ms, "since_start_ms": at_ms - first} for stamp, at_ms in points(move)]
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
        "request": move.request,
        "length_ms": length_ms(move),
        "timeline": steps,
    }
