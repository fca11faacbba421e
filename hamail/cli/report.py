"""`hamailctl report`: one archive for whoever is to help."""

import os
import time
from pathlib import Path

import click

from hamail.cli.app import JSON_SCHEMA, App, Exit, examples, json_option, pass_app

SINCE = "-24h"


@click.command(
    short_help="One archive for whoever is to help.",
    epilog=examples("sudo hamailctl report", "sudo hamailctl report -o /tmp/report.tar.gz --since -2h"),
)
@click.option("-o", "output", type=click.Path(path_type=Path), help="Where to.  [default: hamail-report-TIME.tar.gz]")
@click.option("--since", default=SINCE, show_default=True, help="How far back the logs go, as for journalctl.")
@click.option("--with-addresses", is_flag=True, help="Leave the local parts of mail addresses as they are.")
@json_option
@pass_app
def report(app: App, output: Path | None, since: str, with_addresses: bool) -> None:
    """Collect status, configuration, history, logs and facts about this machine into one file.

    Passwords, keys and tokens are taken out, and people's mail addresses become codes. Look into it before you send it
    all the same. Works without hamaild; what cannot be had is listed in CONTENTS.txt. Run it as root, on each node.
    """
    from hamail.support.archive import write
    from hamail.support.redact import Redactor
    from hamail.support.sources import known_secrets, parts

    file = output or Path(f"hamail-report-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz")
    if since.startswith("--") or not since.isprintable():
        app.end(Exit.USAGE, f"--since '{since}' is no time")
    redactor = Redactor(known_secrets(), hide_addresses=not with_addresses)
    try:
        taken = write(file, parts(app.client, since), redactor, lambda name: app.say(f"  {name}", "dim"))
    except OSError as error:
        app.end(Exit.USAGE, f"{file}: {error.strerror or error}")
    missing = [one for one in taken if one.note.startswith("missing")]
    if app.json:
        body = {"file": str(file), "bytes": file.stat().st_size, "missing": [f"{m.name}: {m.note}" for m in missing]}
        app.emit({"schema": JSON_SCHEMA, "result": "done", **body})
        return
    for one in missing:
        app.say(f"  {one.name} {one.note}", "yellow")
    if os.geteuid() != 0:
        app.say("Not run as root: secrets that only root can read could not be looked for by value.", "yellow")
    app.say(f"{file}: {file.stat().st_size} bytes, {len(taken) - len(missing)} parts. Look into it before you send it.")


COMMANDS = (report,)
