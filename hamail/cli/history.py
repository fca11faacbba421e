"""What happened, and why: events, history, why."""

import re
import time
from typing import TYPE_CHECKING

import click

from hamail.cli.app import App, DurationMs, Exit, examples, json_option, pass_app

if TYPE_CHECKING:
    from hamail.model.state import Event

FOLLOW_MS = 10_000
RETRY_S = 0.5
NAME_COLUMNS = 4  # so that lines printed one by one stay in line
SEVERITIES = ("info", "warning", "critical")
MARKS = {"warning": ("!", "yellow"), "critical": ("!!", "bold red")}
DATE_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")


class Since(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """A duration back from now, or a local date and time. Milliseconds of the wall clock."""

    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from datetime import datetime

        text = str(value)
        for form in DATE_FORMATS:
            try:
                return int(datetime.strptime(text, form).astimezone().timestamp() * 1000)
            except ValueError:
                continue
        if re.fullmatch(r"[\d.]+\s*\w+", text):
            return int(time.time() * 1000) - int(DurationMs().convert(text, param, ctx))
        raise click.BadParameter(f"'{text}' is neither a duration (2h) nor a time (2026-11-18 11:00)", ctx, param)


@click.command(
    epilog=examples(
        "hamailctl events -f",
        "hamailctl events --since 2h --severity warning",
        "hamailctl events --group mail --json | jq .sentence",
    )
)
@click.option("--follow", "-f", is_flag=True, help="Wait for more; Ctrl-C ends.")
@click.option("--group", metavar="GROUP", help="Only what concerns this group.")
@click.option("--node", metavar="NODE", help="Only what concerns this node.")
@click.option(
    "--severity", type=click.Choice(SEVERITIES), default="info", show_default=True, help="This bad, or worse."
)
@click.option("--since", type=Since(), help="2h, 30min, 2026-11-18, '2026-11-18 11:00'.")
@json_option
@pass_app
def events(app: App, follow: bool, group: str | None, node: str | None, severity: str, since: int | None) -> None:
    """What has happened, oldest first, each with its number for `why`. With --json one object a line."""
    from hamail.control.client import Failed, SurelyNotDone

    client = app.client
    _check_names(app, group, node)

    def wanted(event: "Event") -> bool:
        return (
            (group is None or event.group == group)
            and (node is None or event.node == node)
            and SEVERITIES.index(event.severity) >= SEVERITIES.index(severity)
            and (since is None or event.at_ms >= since)
        )

    page = client.events()
    if not page.complete and not app.json:
        app.say("(older events are gone)", "dim")
    while True:
        for event in filter(wanted, page.events):
            _print_event(app, event)
        if not follow:
            return
        try:
            page = client.events(page.next, FOLLOW_MS)
        except (Failed, SurelyNotDone) as error:
            click.echo(f"hamailctl: {error.error}; waiting", err=True)
            time.sleep(RETRY_S)
            page = type(page)(events=(), next=page.next, complete=True)


def _check_names(app: App, group: str | None, node: str | None) -> None:
    """A name that is not there would show nothing, which looks like good news."""
    if group is None and node is None:
        return
    spec = app.client.state().spec
    for name, kind, known in ((group, "group", list(spec.groups)), (node, "node", list(spec.nodes))):
        if name is not None and name not in known:
            there = ", ".join(sorted(known)) or "none"
            app.end(Exit.REFUSED, f"there is no {kind} '{name}' in this cluster", [f"{kind}s: {there}"])


def _print_event(app: App, event: "Event") -> None:
    if app.json:
        app.emit_line(event)
        return
    from rich.table import Table
    from rich.text import Text

    from hamail.cli.words import clock, moment

    told = f"{event.sentence.rstrip('.')} "
    asked = f"by {event.actor}" if event.actor not in ("", "hamail") and f"{event.actor} " not in told else ""
    because = ": ".join(word for word in (asked, event.reason) if word)
    mark, style = MARKS.get(event.severity, ("", ""))
    line = Text(event.sentence, style=style)
    if because:
        line.append(f" ({because})", style="dim")
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(no_wrap=True, style="dim", justify="right", min_width=NAME_COLUMNS)
    grid.add_column(no_wrap=True, style="bold", min_width=NAME_COLUMNS)
    grid.add_column(no_wrap=True, min_width=2)
    grid.add_column(overflow="fold")
    name = event.group or event.node or "-"
    grid.add_row(
        moment(event.at_ms) + clock(event.at_ms)[8:], str(event.index or ""), name, Text(mark, style=style), line
    )
    app.console.print(grid)


@click.command(
    short_help="Every move, or one with its timeline.",
    epilog=examples("hamailctl history", "hamailctl history 1742", "hamailctl history --json"),
)
@click.argument("move", metavar="[ID]", type=int, required=False)
@json_option
@pass_app
def history(app: App, move: int | None) -> None:
    """Every move of a group; with an ID, one move, how long each step took, and the outage."""
    from hamail.cli import moves_view

    if move is None:
        moves = app.client.history().moves
        if app.json:
            app.emit({"moves": [moves_view.as_json(m) for m in moves]})
        else:
            app.console.print(moves_view.table(moves, app.console.width))
            if moves:
                app.say(f"\nSteps of the newest: hamailctl history {moves[-1].id}", "dim")
        return
    one = app.client.move(move).move
    if app.json:
        app.emit({"move": moves_view.as_json(one)}, "move")
    else:
        app.console.print(moves_view.timeline(one))


@click.command(epilog=examples("hamailctl why mail", "hamailctl why 1742"))
@click.argument("what", metavar="GROUP|ID")
@json_option
@pass_app
def why(app: App, what: str) -> None:
    """Why a GROUP is where it is; or why an event or a move came about, by its number.

    With the trigger, the facts it stood on, the rule, and what was not done instead. From the log, so any node can
    tell.
    """
    answer = app.client.why(what)
    if app.json:
        app.emit(answer)
        return
    from hamail.cli.words import in_local_time

    for sentence in answer.sentences:
        app.say(in_local_time(sentence))
    if not answer.group:
        return
    moves = [m for m in app.client.history().moves if m.group == answer.group]
    if moves:
        app.say(f"\nThe decisions of its last move: hamailctl why {moves[-1].id}", "dim")


COMMANDS = (events, history, why)
