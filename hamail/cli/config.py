"""`hamailctl config`: check a file, apply it, show what is applied. Revisions are in `revisions`."""

from pathlib import Path

import click

from hamail.cli.app import (
    JSON_SCHEMA,
    App,
    Exit,
    examples,
    json_option,
    order_options,
    pass_app,
    yes_option,
)
from hamail.cli.words import counted
from hamail.control.api import GIVEN

FILE_BYTES_MAX = 512 * 1024


@click.group(
    short_help="Check, apply or show the configuration.",
    epilog=examples("hamailctl config check /etc/hamail/cluster.toml"),
)
def config() -> None:
    """The configuration of the cluster: one TOML file, the same on every node."""


@config.command(epilog=examples("hamailctl config check /etc/hamail/cluster.toml"))
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@pass_app
def check(app: App, file: Path) -> None:
    """Check FILE; nothing is changed. Works without a running hamaild.

    Where it runs, every mail node is asked whether it could use FILE: its agents, its [allow], its interfaces. Who does
    not answer within 4 s is named, and holds nothing up.
    """
    source = read_file(app, file)
    from hamail.config import ConfigError, parse_cluster, warnings
    from hamail.config.local import check_local, local_interfaces
    from hamail.control.client import ControlError

    try:
        spec = parse_cluster(source, str(file))
    except ConfigError as error:
        _refuse(app, file, tuple(str(problem) for problem in error.problems))
    if misfits := check_local(spec, local_interfaces()):
        _refuse(app, file, tuple(str(problem) for problem in misfits))
    running = ""
    changes: tuple[str, ...] | None = None
    effects: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    try:
        found = app.client.check_config(source)
        if found.problems:
            _refuse(app, file, found.problems)
        changes, effects, running = found.changes, found.effects, f"revision {found.revision}"
        unknown = found.unknown
    except ControlError as error:
        running = error.error
    if app.json:
        body = {
            "schema": JSON_SCHEMA,
            "problems": (),
            "warnings": warnings(spec),
            "changes": changes,
            "effects": effects,
            "unknown": unknown,
            "running": running,
        }
        app.emit(body)
        return
    witnesses = sum(node.witness for node in spec.nodes.values())
    nodes = f"{counted(len(spec.nodes), 'node')} ({witnesses} of them witness)"
    rest = f"{counted(len(spec.groups), 'group')}, {counted(len(spec.fencing), 'fence device')}"
    app.say(f"{file} is good: {nodes}, {rest}", "green")
    for warning in warnings(spec):
        app.say(f"! {warning}", "yellow")
    if changes is None:
        app.say(f"Not compared with a running cluster: {running}", "dim")
    else:
        _show_changes(app, changes, running)
        _show_effects(app, effects)
        _show_unknown(app, unknown)


@config.command(epilog=examples('hamailctl config apply /etc/hamail/cluster.toml --reason "third node"'))
@click.argument("file", type=click.Path(path_type=Path))
@order_options
@yes_option
@json_option
@pass_app
def apply(app: App, file: Path, reason: str, request: str, yes: bool) -> None:
    """Make FILE the configuration of the whole cluster, after showing what changes and what that does."""
    apply_source(app, read_file(app, file), str(file), reason, request, yes)


def apply_source(app: App, source: str, name: str, reason: str, request: str, yes: bool) -> None:
    """`name`: of the text, for people. All nodes take it, or none. Of apply, rollback and edit."""
    client = app.client
    expected: int | None = None  # a retry is not compared again: it may have been carried out already
    if not request:
        found = client.check_config(source)
        if found.problems:
            _refuse(app, name, found.problems)
        if not found.changes:
            app.say(f"{name} is what is applied already (revision {found.revision}): nothing to do.")
            if app.json:
                nothing = {"schema": JSON_SCHEMA, "result": "done", "changes": [], "revision": found.revision}
                app.emit(nothing)
            return
        if found.refusals:
            app.end(Exit.REFUSED, f"{name} cannot be applied now; nothing was changed", found.refusals)
        _show_changes(app, found.changes, f"revision {found.revision}")
        _show_effects(app, found.effects)
        _show_unknown(app, found.unknown)
        expected = found.revision
        app.confirm("Apply this to the whole cluster?", yes)
    done = client.apply_config(source, expected, reason, request)
    if app.json:
        body = {"result": "done", "request": done.request, "revision": done.revision}
        app.emit({"schema": JSON_SCHEMA, **body})
    app.say(f"Applied as revision {done.revision}.", "bold green")


@config.command(epilog=examples("hamailctl config show > cluster.toml", "hamailctl config show --revision 3"))
@click.option("--revision", "number", type=click.IntRange(min=1), help="An earlier one.")
@json_option
@pass_app
def show(app: App, number: int | None) -> None:
    """Print the applied configuration as it was written."""
    revision = app.client.config().config
    if number is not None:
        kept = app.client.revisions().revisions
        found = next((r for r in kept if r.revision == number), None)
        if found is None:
            app.end(Exit.REFUSED, f"revision {number} is not kept", ["hamailctl config history lists what is"])
        revision = found
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "config": revision})
        return
    click.echo(revision.source, nl=not revision.source.endswith("\n"))


def read_file(app: App, file: Path) -> str:
    """Ends the command when it cannot be read as text."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
        if len(raw) > FILE_BYTES_MAX:
            app.end(Exit.USAGE, f"{file}: larger than {FILE_BYTES_MAX} bytes")
        return raw.decode()
    except OSError as error:
        app.end(Exit.USAGE, f"{file}: {error.strerror}")
    except UnicodeDecodeError as error:
        app.end(Exit.USAGE, f"{file}: not UTF-8 text (byte {error.start})")


def _refuse(app: App, file: Path | str, problems: tuple[str, ...]) -> None:
    named = [problem.replace(GIVEN, str(file), 1) for problem in problems]
    app.end(Exit.REFUSED, f"{file} cannot be used; nothing was changed", named)


def _show_changes(app: App, changes: tuple[str, ...], against: str) -> None:
    app.say(f"Changes against {against}:" if changes else f"No changes against {against}.")
    for change in changes:
        app.say(f"  {change}")


def _show_unknown(app: App, unknown: tuple[str, ...]) -> None:
    for node in unknown:
        app.say(f"! {node}", "yellow")


def _show_effects(app: App, effects: tuple[str, ...]) -> None:
    if effects:
        app.say("What that does:")
    for effect in effects:
        app.say(f"  {effect}", "yellow" if effect.startswith("!") else "")
