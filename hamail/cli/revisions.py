"""`hamailctl config diff|history|rollback|edit`: the configuration as revisions."""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hamail.cli.app import App, Exit, examples, json_option, order_options, pass_app, yes_option
from hamail.cli.config import apply_source, read_file
from hamail.cli.words import moment

if TYPE_CHECKING:
    from hamail.model.state import ConfigRevision

EDITS_MAX = 20


@click.command(
    epilog=examples(
        "hamailctl config diff                     # what the last change was",
        "hamailctl config diff cluster.toml        # what this file would change",
        "hamailctl config diff 3 5",
    )
)
@click.argument("old", required=False)
@click.argument("new", required=False)
@json_option
@pass_app
def diff(app: App, old: str | None, new: str | None) -> None:
    """Compare two revisions, or a file with what is applied.

    OLD and NEW are numbers of revisions or files. Without any: the revision in force and the one before it. One number:
    that revision and the one in force. One file: what is applied and the file.
    """
    kept = app.client.revisions().revisions
    if old is None:
        if len(kept) < 2:
            app.end(Exit.REFUSED, "there is no earlier revision", ["nothing was changed since the cluster was made"])
        before, after = kept[-2], kept[-1]
        sides = (_titled(before), _titled(after))
    elif new is None and not old.isdigit():
        sides = (_titled(kept[-1]), (old, read_file(app, Path(old))))
    else:
        sides = (_side(app, kept, old), _side(app, kept, new) if new is not None else _titled(kept[-1]))
    (old_title, old_text), (new_title, new_text) = sides
    lines = list(difflib.unified_diff(old_text.splitlines(), new_text.splitlines(), old_title, new_title, lineterm=""))
    means = _meaning(old_text, new_text)
    if app.json:
        app.emit({"old": old_title, "new": new_title, "text": lines, "changes": means})
        return
    for line in lines:
        app.say(line, {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], ""))
    app.say("" if lines else f"{old_title} and {new_title} are the same.")
    for change in means or ():
        app.say(f"  {change}")
    if lines and means == []:
        app.say("Only comments and order differ: nothing would change.", "dim")


@click.command(epilog=examples("hamailctl config history"))
@json_option
@pass_app
def history(app: App) -> None:
    """Every revision that is kept: when, who, why."""
    from rich.table import Table

    kept = app.client.revisions().revisions
    if app.json:
        app.emit({"revisions": kept})
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("revision", "applied", "by", "reason"):
        table.add_column(column, overflow="fold")
    for revision in kept:
        here = " (in force)" if revision is kept[-1] else ""
        words = (f"{revision.revision}{here}", moment(revision.applied_at_ms), revision.actor, revision.reason)
        table.add_row(*words)
    app.console.print(table)
    app.say("One of them: hamailctl config show --revision N. Back to it: hamailctl config rollback N", "dim")


@click.command(epilog=examples("hamailctl config rollback", 'hamailctl config rollback 3 --reason "wrong address"'))
@click.argument("revision", required=False, type=click.IntRange(min=1))
@order_options
@yes_option
@json_option
@pass_app
def rollback(app: App, revision: int | None, reason: str, request: str, yes: bool) -> None:
    """Apply an earlier revision again, as a new one. Without REVISION: the one before the last change."""
    kept = app.client.revisions().revisions
    if revision is None and len(kept) < 2:
        app.end(Exit.REFUSED, "there is no earlier revision to go back to", ["hamailctl config history lists them"])
    wanted = kept[-2] if revision is None else _find(app, kept, revision)
    words = reason or f"back to revision {wanted.revision}"
    apply_source(app, wanted.source, f"revision {wanted.revision}", words, request, yes)


@click.command(epilog=examples("hamailctl config edit", "EDITOR=nano hamailctl config edit"))
@order_options
@yes_option
@json_option
@pass_app
def edit(app: App, reason: str, request: str, yes: bool) -> None:
    """Edit what is applied in your editor ($EDITOR), check it, and apply it after showing what changes.

    What has problems can be edited again; nothing is lost and nothing half applied.
    """
    source = app.client.config().config.source
    text = source
    for _ in range(EDITS_MAX):
        edited = click.edit(text, extension=".toml", require_save=True)
        if edited is None or edited == source:
            app.say("Nothing was changed.")
            if app.json:
                app.emit({"result": "done", "changes": [], "revision": app.client.config().config.revision})
            return
        text = edited
        found = app.client.check_config(text)
        if not found.problems:
            apply_source(app, text, "what you wrote", reason, request, yes)
            return
        for problem in found.problems:
            click.echo(f"  - {problem}", err=True)
        if yes or not click.confirm("Edit again?", default=True, err=True):
            break
    reasons = []
    try:
        reasons.append(f"what you wrote is in {_keep(text)}")
    except OSError as error:
        reasons.append(f"what you wrote could not be kept: {error.strerror}")
    app.end(Exit.REFUSED, "the configuration has problems; nothing was changed", reasons)


def _keep(text: str) -> str:
    """In a new file: root may stand where somebody has put a link of that name. Raises OSError."""
    import os
    import tempfile

    descriptor, name = tempfile.mkstemp(prefix="cluster-", suffix=".toml.edited", dir=".")
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    return name


def _meaning(old: str, new: str) -> list[str] | None:
    """What the change means; None when one of the two cannot be read by this version."""
    from hamail.config import ConfigError, diff, parse_cluster

    try:
        return diff(parse_cluster(old, "old"), parse_cluster(new, "new"))
    except ConfigError:
        return None


def _titled(revision: "ConfigRevision") -> tuple[str, str]:
    return f"revision {revision.revision}", revision.source


def _side(app: App, kept: "tuple[ConfigRevision, ...]", word: str) -> tuple[str, str]:
    return _titled(_find(app, kept, int(word))) if word.isdigit() else (word, read_file(app, Path(word)))


def _find(app: App, kept: "tuple[ConfigRevision, ...]", number: int) -> "ConfigRevision":
    found = next((revision for revision in kept if revision.revision == number), None)
    if found is None:
        numbers = f"{kept[0].revision} to {kept[-1].revision}"
        app.end(Exit.REFUSED, f"revision {number} is not kept", [f"kept are {numbers}: hamailctl config history"])
    return found


COMMANDS = (diff, history, rollback, edit)
