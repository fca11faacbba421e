"""`hamailctl import pacemaker`: from another cluster manager to hamail."""

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hamail.cli.app import JSON_SCHEMA, App, Exit, examples, json_option, pass_app
from hamail.cli.words import counted

if TYPE_CHECKING:
    from hamail.pacemaker.cib import Cib
    from hamail.pacemaker.draft import Draft

XML_BEGINS = "<"


@click.group(
    "import",
    short_help="Take over the configuration of another cluster manager.",
    epilog=examples("hamailctl import pacemaker pcs.json --out cluster.toml"),
)
def importer() -> None:
    """Make a configuration for hamail from that of another cluster manager."""


@importer.command(
    short_help="From `pcs config --output-format=json`, or a CIB.",
    epilog=examples(
        "pcs config --output-format=json >pcs.json",
        "hamailctl import pacemaker pcs.json --corosync /etc/corosync/corosync.conf --out cluster.toml",
        "hamailctl import pacemaker cib.xml --address n1=10.0.0.11 --witness n3=10.0.0.13",
    )
    + "\n\nExit code 1 when something could not be carried over, 3 when nothing can be made of it.",
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Write it there; never over an old file.")
@click.option("--corosync", metavar="FILE", type=click.Path(path_type=Path), help="corosync.conf, for the addresses.")
@click.option("--address", "given", metavar="NODE=ADDRESS", multiple=True, help="Of a node; may be given again.")
@click.option("--witness", metavar="NAME=ADDRESS", default="", help="The third voter.")
@json_option
@pass_app
def pacemaker(
    app: App, files: tuple[Path, ...], out: Path | None, corosync: Path | None, given: tuple[str, ...], witness: str
) -> None:
    """Write a cluster.toml from FILE, and list what could not be carried over.

    FILE is `pcs config --output-format=json` (or that of pcs resource, stonith, stonith level and constraint, one file
    each), or a CIB in XML. Nothing is changed on any cluster. The configuration goes to standard output, or to --out.
    """
    from hamail.pacemaker.cib import merge
    from hamail.pacemaker.corosync import addresses
    from hamail.pacemaker.translate import translate
    from hamail.pacemaker.write import write

    known = addresses(_text(app, corosync)) if corosync else {}
    known |= dict(_pair(app, "--address", word) for word in given)
    draft = translate(
        merge([_read(app, file) for file in files]), known, _pair(app, "--witness", witness) if witness else None
    )
    lost = [note for note in draft.notes if note.kind == "not carried over"]
    source = write(draft) if draft.groups else ""
    problems = _check(source) if source else ("there is no group in it that hamail could keep running",)
    if not source or problems:
        reasons = [*problems, *(f"{note.what}: {note.why}" for note in lost)]
        app.end(
            Exit.REFUSED, "no configuration that hamail could use can be made of this; nothing was written", reasons
        )
    if out is not None:
        _save(app, out, source)
    _show(app, draft, source, out)
    if lost:
        raise SystemExit(int(Exit.FAILED))


def _text(app: App, file: Path) -> str:
    from hamail.pacemaker.cib import INPUT_BYTES_MAX

    try:
        with file.open("rb") as stream:
            raw = stream.read(INPUT_BYTES_MAX + 1)
    except OSError as error:
        app.end(Exit.USAGE, f"{file}: {error.strerror}")
    if len(raw) > INPUT_BYTES_MAX:
        app.end(Exit.USAGE, f"{file}: larger than {INPUT_BYTES_MAX} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        app.end(Exit.USAGE, f"{file}: not UTF-8 text (byte {error.start})")


def _read(app: App, file: Path) -> "Cib":
    from hamail.pacemaker.cib import Unreadable
    from hamail.pacemaker.read_json import read_json
    from hamail.pacemaker.read_xml import read_xml

    text = _text(app, file)
    try:
        return read_xml(text) if text.lstrip().startswith(XML_BEGINS) else read_json(text)
    except Unreadable as error:
        app.end(Exit.REFUSED, f"{file} {error}", hint="It takes: pcs config --output-format=json, or: pcs cluster cib")


def _pair(app: App, option: str, word: str) -> tuple[str, str]:
    name, _, address = word.partition("=")
    try:
        return name, str(ipaddress.ip_address(address))
    except ValueError:
        app.end(Exit.USAGE, f"{option} {word}: write NAME=ADDRESS, with a numeric address")


def _check(source: str) -> tuple[str, ...]:
    from hamail.config import ConfigError, parse_cluster

    try:
        parse_cluster(source, "the result")
    except ConfigError as error:
        return tuple(str(problem) for problem in error.problems)
    return ()


def _save(app: App, out: Path, source: str) -> None:
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(source)
    except OSError as error:
        app.end(Exit.USAGE, f"{out}: {error.strerror}; nothing was written")


def _show(app: App, draft: "Draft", source: str, out: Path | None) -> None:
    notes = [{"kind": note.kind.value, "what": note.what, "why": note.why} for note in draft.notes]
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "config": source, "notes": notes, "file": str(out) if out else None})
        return
    if out is None:
        click.echo(source, nl=False)
    for kind, colour in (("not carried over", "red"), ("to do", "yellow"), ("changed", "bright_black")):
        of_kind = [note for note in notes if note["kind"] == kind]
        if of_kind:
            click.echo(click.style(f"\n{kind.capitalize()}:", fg=colour, bold=True), err=True)
        for note in of_kind:
            click.echo(f"  {note['what']}: {note['why']}", err=True)
    where = f"Written to {out}. " if out else ""
    resources = sum(len(group.resources) for group in draft.groups)
    fences = counted(len(draft.devices), "fence device")
    what = f"{counted(len(draft.groups), 'group')}, {counted(resources, 'resource')}, {fences}"
    click.echo(f"\n{where}{what}. Next: hamailctl config check {out or 'FILE'}", err=True)
