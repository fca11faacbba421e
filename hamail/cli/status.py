"""hamailctl status: the whole picture, once or live."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hamail.cli.app import App, Exit, examples, json_option, pass_app

if TYPE_CHECKING:
    from hamail.cli.glance import Glance
    from hamail.model.situation import Situation
    from hamail.model.status import Status

WATCH_MS = 1000
MOVING_MS = 250  # while a group is on the move
FOLLOW_MS = 10_000
RETRY_S = 0.5


@click.command(epilog=examples("hamailctl status", "hamailctl status --watch", "hamailctl status --json | jq .alerts"))
@click.option("--watch", "-w", is_flag=True, help="Keep showing it, as it changes; Ctrl-C ends.")
@click.option("--save", type=click.Path(path_type=Path), help="Save the state, for hamailctl plan --state.")
@json_option
@pass_app
def status(app: App, watch: bool, save: Path | None) -> None:
    """Who is active, since when and why; who could take over; what one failure would end in an outage; pending alerts.

    Ends with 1 while a critical alert is pending, as when mail is not served; with 0 otherwise, also when there are
    warnings. What each alert means: docs/reference/alerts.md.
    """
    if save is not None:
        from hamail.cli.plan import save_situation

        save_situation(app, app.client.situation(), save)
    if watch:
        _watch(app)
        return
    now, glance = app.client.status(), Glances().look(app)
    if app.json:
        app.emit(as_json(now, glance))
    else:
        app.console.print(_rendered(now, glance))
    if any(alert.severity == "critical" for alert in now.alerts):
        sys.exit(Exit.FAILED)


class Glances:
    """Looks again only when something has changed that the picture depends on."""

    def __init__(self) -> None:
        self._known: tuple[object, ...] = ()
        self._seen: Glance | None = None

    def look(self, app: App) -> "Glance | None":
        """None where hamaild is older, or cannot tell."""
        from hamail.control.client import ControlError

        try:
            return self.of(app.client.situation())
        except ControlError:
            return None

    def of(self, situation: "Situation") -> "Glance":
        from hamail.cli import glance

        if self._seen is None or self._known != _fingerprint(situation):
            self._seen, self._known = glance.look(situation), _fingerprint(situation)
        return self._seen


def as_json(now: "Status", glance: "Glance | None") -> dict[str, Any]:
    import msgspec

    return {**msgspec.to_builtins(now), **(msgspec.to_builtins(glance) if glance is not None else {})}


def _rendered(now: "Status", seen: "Glance | None") -> Any:
    from hamail.cli import glance
    from hamail.cli.status_view import render

    return render(now, glance.render(seen, now) if seen is not None and now.quorum else ())


def _watch(app: App) -> None:
    shown = app.client.status()  # a hamaild that is down from the start is an error; later it is part of the picture
    if app.json or not app.console.is_terminal:
        from rich.text import Text

        glances = Glances()
        while True:
            if app.json:
                app.emit_line(as_json(shown, glances.look(app)))
            else:
                app.console.print(_rendered(shown, glances.look(app)), Text())
            shown = _next_status(app, shown.applied)
    _live(app, shown)


def _live(app: App, shown: "Status") -> None:
    """One screen, redrawn in place when something changes, and a few times a second while a group moves."""
    from rich.live import Live
    from rich.text import Text

    from hamail.cli.watch_view import Screen
    from hamail.control.client import Failed, SurelyNotDone

    client = app.client
    with Live(Text(""), console=app.console, screen=True, auto_refresh=False) as live:
        glances = Glances()
        while True:
            try:
                situation, recent = client.situation(), client.events()
                live.update(Screen(shown, situation, glances.of(situation), recent.events), refresh=True)
                client.events(shown.applied, MOVING_MS if _moving(situation) else WATCH_MS)
                shown = client.status()
            except (Failed, SurelyNotDone) as error:
                live.update(Text(f"{error.error}\n\n(watching on)", style="bold red"), refresh=True)
                time.sleep(RETRY_S)


def _fingerprint(situation: "Situation") -> tuple[object, ...]:
    """What the risks depend on, without what changes with every heartbeat."""
    heard = situation.heard.items()
    facts = tuple((n, h.alive, h.suspected, h.ready, tuple(h.fence_ready.items())) for n, h in heard)
    return situation.state.applied, facts


def _moving(situation: "Situation") -> bool:
    return any(g.move for g in situation.state.groups.values())


def _next_status(app: App, applied: int) -> "Status":
    """The next status after something was applied; bears a hamaild that restarts."""
    from hamail.control.client import Failed, SurelyNotDone

    while True:
        try:
            app.client.events(applied, FOLLOW_MS)
            return app.client.status()
        except (Failed, SurelyNotDone):
            time.sleep(RETRY_S)
