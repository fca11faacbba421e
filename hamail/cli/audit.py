"""`hamailctl audit`: this node's own trail of who did what. Reads the file itself: it needs no hamaild."""

import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hamail.cli.app import JSON_SCHEMA, App, Exit, examples, json_option, pass_app

if TYPE_CHECKING:
    from hamail.audit.entry import Entry

DEFAULT = "/var/lib/hamail/audit.jsonl"
LAST = 50

file_option = click.option(
    "--file", type=click.Path(path_type=Path), default=DEFAULT, show_default=True, help="The trail."
)


@click.group(
    short_help="Who did what on this node, chained so that edits show.",
    epilog=examples("hamailctl audit show", "hamailctl audit verify", "hamailctl audit export -o audit.jsonl"),
)
def audit() -> None:
    """The audit trail of this node: every order with its actor, reason and result, and every decision applied here.

    Append-only; each entry carries the digest of the one before. How far it has grown is known to the whole cluster.
    """


@audit.command(epilog=examples("hamailctl audit show", "hamailctl audit show --last 200 --json"))
@click.option("--last", type=click.IntRange(1, 100_000), default=LAST, show_default=True, help="So many entries.")
@file_option
@json_option
@pass_app
def show(app: App, last: int, file: Path) -> None:
    """The newest entries, oldest first."""
    kept = deque(_entries(app, file), maxlen=last)
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "entries": list(kept)})
        return
    from hamail.cli.words import moment

    for e in kept:
        who = f" by {e.actor}" if e.actor else ""
        because = f" ({e.reason})" if e.reason else ""
        app.say(f"{moment(e.at_ms)}  {e.sequence:>6}  {e.kind:8} {e.what}{who}{because}: {e.result or '-'}")


@audit.command(epilog=examples("hamailctl audit export > audit.jsonl", "hamailctl audit export -o /root/audit.jsonl"))
@click.option("-o", "output", type=click.Path(path_type=Path), help="Where to.  [default: standard output]")
@file_option
@pass_app
def export(app: App, output: Path | None, file: Path) -> None:
    """The whole trail as JSON lines, as it was written: `verify --file` takes it elsewhere."""
    from hamail.audit.entry import line_of

    try:
        stream = sys.stdout.buffer if output is None else output.open("xb")
    except OSError as error:
        app.end(Exit.USAGE, f"{output}: {error.strerror}")
    with stream:
        for entry in _entries(app, file):
            stream.write(line_of(entry))


@audit.command(epilog=examples("hamailctl audit verify", "hamailctl audit verify --file /mnt/backup/audit.jsonl"))
@click.option("--node", help="Whose trail it is, for one that comes from elsewhere.  [default: this node]")
@file_option
@json_option
@pass_app
def verify(app: App, file: Path, node: str | None) -> None:
    """Is the trail whole? Finds edits, deletions, and an end that was cut off. Ends with 1 when it is not."""
    from hamail.audit.reading import Damaged, files, raw
    from hamail.audit.reading import verify as check

    sequence, digest, known = _head(app, node)
    try:
        last = check(file, sequence, digest, live=file == Path(DEFAULT))
    except Damaged as error:
        app.end(Exit.FAILED, f"the audit trail is not whole: {error}")
    except OSError as error:
        _unreadable(app, file, error)
    if app.json:
        reached = last.sequence if last is not None else 0
        app.emit({"schema": JSON_SCHEMA, "result": "whole", "entries_to": reached, "known_to": sequence})
        return
    if last is None:
        app.say(f"{file}: there is no entry yet")
        return
    first = next(entry for _, entry in raw(files(file)[0], alone=True)).sequence
    app.say(
        f"{file} is whole from entry {first} up to entry {last.sequence}; {known}", "green" if sequence else "yellow"
    )


def _head(app: App, node: str | None) -> tuple[int, str, str]:
    """What the cluster knows of this trail."""
    from hamail.control.client import ControlError

    try:
        client = app.client
        name = node or client.status().node
        head = client.state().audit.get(name)
    except ControlError as error:
        return 0, "", f"whether its end was cut off is not known: {error.error}"
    if head is None:
        return 0, "", f"the cluster does not know yet how far the trail of {name} has grown"
    return head.sequence, head.digest, f"the cluster knows it up to entry {head.sequence}"


def _entries(app: App, file: Path) -> "list[Entry]":
    from hamail.audit.reading import Damaged, raw

    found = []
    try:
        for _, entry in raw(file):
            found.append(entry)
    except Damaged as error:
        click.echo(f"hamailctl: {error}; see hamailctl audit verify", err=True)
    except OSError as error:
        _unreadable(app, file, error)
    if not found and not file.exists():
        app.end(Exit.REFUSED, f"there is no audit trail {file} here")
    return found


def _unreadable(app: App, file: Path, error: OSError) -> None:
    app.end(Exit.REFUSED, f"{file} cannot be read: {error.strerror}", ["only root may read it: use sudo"])


COMMANDS = (audit,)
