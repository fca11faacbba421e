"""What would hamail do, if? Computed here from the core's own decisions; the cluster is only asked how it is."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hamail.cli.app import App, Exit, examples, json_option, pass_app

if TYPE_CHECKING:
    from hamail.core.hypotheses import Hypothesis
    from hamail.model.situation import Situation

FILE_BYTES_MAX = 16 * 1024 * 1024
SUPPOSED_MAX = 16

SUPPOSITIONS = """\b
What can be supposed:
  node-down=NODE                  it loses its power
  node-cut-off=NODE               it runs on, but nobody hears it
  link-down=NODE-NODE             the two do not hear each other
  resource-failed=GROUP/RES[@N]   it fails for good: where it runs, on N, or
                                  everywhere (@*)
  stop-fails=GROUP[@N]            it cannot be stopped: where it runs, or on N
  fence-fails=DEVICE              the fence device cuts nothing
  switchover=GROUP@NODE           you order it
  standby=NODE                    you order it
"""


@click.command(
    short_help="What would hamail do, if?",
    epilog=SUPPOSITIONS
    + "\n\n"
    + examples(
        "hamailctl plan",
        "hamailctl plan --if node-down=n1",
        "hamailctl plan --if node-down=n1 --if fence-fails=pdu",
        "hamailctl plan --save-state before.json",
        "hamailctl plan --state before.json --if link-down=n1-n2",
    ),
)
@click.option("--if", "suppose", multiple=True, metavar="THIS", help="Suppose this; may be given again.")
@click.option("--state", "file", type=click.Path(path_type=Path), help="Start from a saved state.")
@click.option("--save-state", "save", type=click.Path(path_type=Path), help="Save the state, for later plans.")
@click.option("--facts", is_flag=True, help="Show the facts of each step, too.")
@json_option
@pass_app
def plan(app: App, suppose: tuple[str, ...], file: Path | None, save: Path | None, facts: bool) -> None:
    """What would hamail do, step by step, with reasons for every node? Nothing is done.

    Without --if: what it is about to do now. Ends with 0 when service would go on, with 6 when it would not.
    """
    situation = read_situation(app, file) if file is not None else app.client.situation()
    if not situation.state.config.revision:
        app.end(
            Exit.NOT_DONE, f"{situation.node} has heard nothing of a running cluster: there is nothing to plan from"
        )
    if save is not None:
        save_situation(app, situation, save)
        if not suppose:
            app.say(f"Saved to {save}. Use it: hamailctl plan --state {save} --if node-down=NODE")
            if app.json:
                app.emit(situation)
            return
    from hamail.core.plan import plan as compute

    result = compute(situation, _supposed(app, situation, suppose))
    if app.json:
        app.emit(result)
    else:
        from hamail.cli.plan_view import render

        app.console.print(render(result, facts))
    raise SystemExit(int(Exit.DONE if result.continues else Exit.NO))


def _supposed(app: App, situation: "Situation", texts: tuple[str, ...]) -> "list[Hypothesis]":
    from hamail.core.hypotheses import parse

    if len(texts) > SUPPOSED_MAX:
        app.end(Exit.USAGE, f"--if: {len(texts)} suppositions at a time are more than {SUPPOSED_MAX}")
    found = []
    for text in texts:
        try:
            found.append(parse(text, situation.state.spec))
        except ValueError as error:
            app.end(Exit.USAGE, f"--if {error}", hint="What can be supposed: hamailctl plan --help")
    return found


def read_situation(app: App, file: Path) -> "Situation":
    import msgspec

    from hamail.model.situation import SITUATION_SCHEMA, Situation

    try:
        with file.open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        app.end(Exit.USAGE, f"{file}: {error.strerror}")
    if len(raw) > FILE_BYTES_MAX:
        app.end(Exit.USAGE, f"{file}: larger than {FILE_BYTES_MAX} bytes")
    try:
        situation = msgspec.json.decode(raw, type=Situation)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        app.end(Exit.USAGE, f"{file} is no saved state: {error}", hint="Save one: hamailctl plan --save-state FILE")
    if situation.schema != SITUATION_SCHEMA:
        app.end(Exit.USAGE, f"{file} says that it is {situation.schema}; this hamailctl reads {SITUATION_SCHEMA}")
    return situation


def save_situation(app: App, situation: "Situation", file: Path) -> None:
    """Readable for its owner only: it tells all about the cluster."""
    import os

    import msgspec

    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(situation), indent=1))
    except OSError as error:
        app.end(Exit.FAILED, f"{file}: {error.strerror}; the state was not saved")
