"""`hamailctl incident`: opened, annotated and closed; its timeline fills itself from what the cluster tells."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hamail.cli.app import JSON_SCHEMA, App, Exit, examples, json_option, pass_app

if TYPE_CHECKING:
    from hamail.model.practice import Incident
    from hamail.model.state import ClusterState

BEFORE_MS = 300_000  # what happened just before it was opened is most often its cause
TEXT_CHARS_MAX = 500


@click.group(
    short_help="Keep the record of an incident.",
    epilog=examples(
        'hamailctl incident open "mail is slow"',
        'hamailctl incident note "restarted the switch"',
        "hamailctl incident close",
        "hamailctl incident export -o incident.md",
    ),
)
def incident() -> None:
    """An incident has a title, notes, and a timeline: the cluster's events from five minutes before it was opened on.

    It is kept by the cluster: any node can tell of it. The newest twenty are kept; export those that must stay.
    """


def _text(app: App, text: str) -> str:
    if not text.strip() or len(text) > TEXT_CHARS_MAX or not text.isprintable():
        app.end(Exit.USAGE, f"one line of text, at most {TEXT_CHARS_MAX} characters")
    return text.strip()


@incident.command("open", epilog=examples('hamailctl incident open "mail is slow since the update"'))
@click.argument("title")
@json_option
@pass_app
def open_(app: App, title: str) -> None:
    """Open an incident."""
    from hamail.control.practice_api import IncidentRequest

    client, text = app.client, _text(app, title)
    state = client.state()
    if running := _running(state):
        number = running[-1].id
        app.end(Exit.REFUSED, f"incident {number} is open already", hint=f"hamailctl incident close {number}")
    since = _since(state, client.status().at_ms)
    done = client.order("incidents", IncidentRequest(what="open", text=text, since=since))
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "result": "done", "incident": done.index})
    app.say(f'Incident {done.index} is open. Add to it: hamailctl incident note "…"', "bold")


def _since(state: "ClusterState", now_ms: int) -> int:
    recent = [e.index for e in state.events if e.at_ms >= now_ms - BEFORE_MS]
    return recent[0] if recent else state.applied + 1


@incident.command(epilog=examples('hamailctl incident note "called the data centre"'))
@click.argument("text")
@click.option("--incident", "number", type=int, help="Which one.  [default: the open one]")
@json_option
@pass_app
def note(app: App, text: str, number: int | None) -> None:
    """Add a line to the open incident."""
    from hamail.control.practice_api import IncidentRequest

    found = _chosen(app, app.client.state(), number, still_open=True)
    done = app.client.order("incidents", IncidentRequest(what="note", incident=found.id, text=_text(app, text)))
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "result": "done", "incident": found.id, "index": done.index})
    app.say(f"Noted in incident {found.id}.")


@incident.command(epilog=examples("hamailctl incident close", 'hamailctl incident close --text "a broken cable"'))
@click.argument("number", metavar="[ID]", type=int, required=False)
@click.option("--text", default="", help="Last words: the cause, for instance.")
@json_option
@pass_app
def close(app: App, number: int | None, text: str) -> None:
    """Close the open incident."""
    from hamail.control.practice_api import IncidentRequest

    found = _chosen(app, app.client.state(), number, still_open=True)
    words = _text(app, text) if text else ""
    app.client.order("incidents", IncidentRequest(what="close", incident=found.id, text=words))
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "result": "done", "incident": found.id})
    app.say(f"Incident {found.id} is closed. Keep it: hamailctl incident export {found.id} -o incident-{found.id}.md")


@incident.command("list", epilog=examples("hamailctl incident list"))
@json_option
@pass_app
def list_(app: App) -> None:
    """Incidents that the cluster still knows."""
    from hamail.cli.words import counted, moment

    state = app.client.state()
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "incidents": state.incidents})
        return
    for i in state.incidents:
        end = f"until {moment(i.closed_ms)}" if i.closed_ms else "OPEN"
        app.say(f"{i.id:>6}  {moment(i.opened_ms)} {end}  {i.title} ({counted(len(i.notes), 'note')})")
    if not state.incidents:
        app.say("no incident is known")


@incident.command(epilog=examples("hamailctl incident show", "hamailctl incident show 1742"))
@click.argument("number", metavar="[ID]", type=int, required=False)
@json_option
@pass_app
def show(app: App, number: int | None) -> None:
    """An incident with its timeline; without an ID the newest."""
    state = app.client.state()
    found = _chosen(app, state, number)
    if app.json:
        app.emit({"schema": JSON_SCHEMA, **as_json(state, found)})
        return
    click.echo(markdown(state, found), nl=False)


@incident.command(
    epilog=examples("hamailctl incident export -o incident.md", "hamailctl incident export --format json")
)
@click.argument("number", metavar="[ID]", type=int, required=False)
@click.option("--format", "form", type=click.Choice(["md", "json"]), default="md", show_default=True)
@click.option("-o", "output", type=click.Path(path_type=Path), help="Where to.  [default: standard output]")
@pass_app
def export(app: App, number: int | None, form: str, output: Path | None) -> None:
    """Write an incident down for good: what the cluster keeps is bounded."""
    import msgspec

    state = app.client.state()
    found = _chosen(app, state, number)
    body = msgspec.json.format(msgspec.json.encode({"schema": JSON_SCHEMA, **as_json(state, found)}), indent=2)
    text = markdown(state, found) if form == "md" else body.decode() + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        app.end(Exit.USAGE, f"{output}: {error.strerror}")
    app.say(f"{output}: incident {found.id}")


def _running(state: "ClusterState") -> "list[Incident]":
    return [i for i in state.incidents if not i.closed_ms]


def _chosen(app: App, state: "ClusterState", number: int | None, still_open: bool = False) -> "Incident":
    among = _running(state) if still_open else list(state.incidents)
    found = [i for i in among if number in (None, i.id)]
    if not found:
        what = f"incident {number}" if number is not None else "incident"
        known = ", ".join(str(i.id) for i in among) or "none"
        open_words = " open" if still_open else ""
        app.end(Exit.REFUSED, f"there is no{open_words} {what}; known{open_words}: {known}")
    return found[-1]


def timeline(state: "ClusterState", i: "Incident") -> list[tuple[int, str, str]]:
    """(when, who, what): events of the cluster and notes of people, in the order of time."""
    until = i.until or state.applied
    told = [
        (e.at_ms, e.actor if e.actor != "hamail" else "", e.sentence)
        for e in state.events
        if i.since <= e.index <= until
    ]
    noted = [(n.at_ms, n.actor, f"NOTE: {n.text}") for n in i.notes]
    return sorted([*told, *noted], key=lambda line: line[0])


def as_json(state: "ClusterState", i: "Incident") -> dict[str, object]:
    lines = [{"at_ms": at, "actor": who, "text": text} for at, who, text in timeline(state, i)]
    head = {"id": i.id, "title": i.title, "opened_ms": i.opened_ms, "closed_ms": i.closed_ms, "actor": i.actor}
    oldest = state.events[0].index if state.events else 0
    return {**head, "complete": not state.events or oldest <= i.since, "timeline": lines}


def markdown(state: "ClusterState", i: "Incident") -> str:
    from hamail.cli.words import clock, moment

    lines = [f"# Incident {i.id}: {i.title}", "", f"- opened {moment(i.opened_ms)} by {i.actor}"]
    lines.append(f"- closed {moment(i.closed_ms)}" if i.closed_ms else "- still open")
    lines.append(f"- cluster {state.spec.name}, configuration {state.config.revision}")
    if not as_json(state, i)["complete"]:
        lines.append("- the beginning of the timeline is gone: the cluster keeps a bounded number of events")
    lines += ["", "| time | what | who |", "|---|---|---|"]
    for at_ms, who, text in timeline(state, i):
        cell = text.replace("|", "\\|")
        lines.append(f"| {moment(at_ms)}{clock(at_ms)[8:]} | {cell} | {who} |")
    return "\n".join(lines) + "\n"


COMMANDS = (incident,)
