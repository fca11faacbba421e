"""`hamailctl runbook`: what an operator needs on paper, from the configuration that is in force."""

from datetime import UTC, datetime
from pathlib import Path

import click

from hamail.cli.app import JSON_SCHEMA, App, Exit, examples, json_option, pass_app


@click.command(
    short_help="A document to print, for the day on which nothing works.",
    epilog=examples("hamailctl runbook --format html -o runbook.html", "hamailctl runbook > runbook.md"),
)
@click.option("--format", "form", type=click.Choice(["md", "html"]), default="md", show_default=True)
@click.option("-o", "output", type=click.Path(path_type=Path), help="Where to.  [default: standard output]")
@json_option
@pass_app
def runbook(app: App, form: str, output: Path | None) -> None:
    """Topology, contacts, start order, scenarios with their commands, manual takeover without hamail, last drills.

    Made from the applied configuration; its checksum in it tells whether a printed one is still valid. It names files
    of secrets, never their contents.
    """
    from hamail.runbook import content, paper, topology

    client = app.client
    state = client.state()
    if not state.config.revision:
        app.end(Exit.REFUSED, "no configuration is in force yet, so there is nothing to write down")
    made_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    book = content.make(state, client.timings().timings, made_at)
    text = (paper.html if form == "html" else paper.markdown)(book, topology.draw(state))
    if output is not None:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            app.end(Exit.USAGE, f"{output}: {error.strerror}")
    if app.json:
        digest = content.checksum(state)
        app.emit({"schema": JSON_SCHEMA, "file": str(output or ""), "checksum": digest, "text": "" if output else text})
    elif output is None:
        click.echo(text, nl=False)
    else:
        app.say(
            f"{output}: configuration revision {state.config.revision}. Print it, and keep it where there is no power."
        )


COMMANDS = (runbook,)
