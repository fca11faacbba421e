"""Commands that only look."""

from typing import TYPE_CHECKING

import click

import hamail
from hamail.cli.app import JSON_SCHEMA, App, DurationMs, Exit, examples, json_option, pass_app

if TYPE_CHECKING:
    from hamail.model.timings import Timings

DETECTION_MS = 1000
WATCHDOG_MS = 5000


@click.command(epilog=examples("hamailctl timing", "hamailctl timing --detection 300ms"))
@click.option("--detection", type=DurationMs(), help="Compute the table for this value instead of the applied one.")
@click.option("--watchdog", type=DurationMs(), help="Timeout of the watchdogs, with --detection.  [default: 5s]")
@json_option
@pass_app
def timing(app: App, detection: int | None, watchdog: int | None) -> None:
    """All durations that follow from `detection`."""
    if detection is None and watchdog is None:
        table, source = _applied(app)
    else:
        table, source = _derived(app, detection or DETECTION_MS, watchdog or WATCHDOG_MS), "computed, not applied"
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "timings": table, "source": source})
        return
    from hamail.cli.timing_view import render

    app.console.print(render(table, source))


def _applied(app: App) -> "tuple[Timings, str]":
    from hamail.control.client import DaemonDown

    try:
        return app.client.timings().timings, "as applied"
    except DaemonDown:
        return _derived(app, DETECTION_MS, WATCHDOG_MS), "for the default settings, since hamaild is not running"


def _derived(app: App, detection_ms: int, watchdog_ms: int) -> "Timings":
    from hamail.core.timing import derive, problems

    if watchdog_ms % 1000:
        app.end(Exit.USAGE, f"--watchdog {watchdog_ms} ms: watchdogs count whole seconds")
    found = problems(detection_ms, watchdog_ms // 1000)
    if found:
        app.end(Exit.REFUSED, "these timings cannot be used", found)
    return derive(detection_ms, watchdog_ms // 1000)


@click.command(short_help="Versions of hamailctl and hamaild.", epilog=examples("hamailctl version"))
@json_option
@pass_app
def version(app: App) -> None:
    """Versions of hamailctl and of the hamaild that runs here."""
    from hamail.control.client import ControlError

    running: str | None = None
    trouble = ""
    try:
        running = app.client.status().version
    except ControlError as error:
        trouble = error.error
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "hamailctl": hamail.__version__, "hamaild": running, "error": trouble})
        return
    app.say(f"hamailctl {hamail.__version__}")
    app.say(f"hamaild   {running or f'unknown: {trouble}'}")
