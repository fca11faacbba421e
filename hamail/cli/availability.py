"""`hamailctl availability`: counted from outside probes; planned and unplanned apart, and what is left."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hamail.cli.app import JSON_SCHEMA, App, Exit, examples, json_option, pass_app

if TYPE_CHECKING:
    from hamail.probe.budget import Account, Planned
    from hamail.probe.records import AnyLine

ON_PURPOSE = ("switchover", "standby", "restart", "failover")
MARGIN_MS = 2000  # clocks of probe and nodes, and the tail of a move
SHOWN = 20
DEFAULT_PERCENT = "99.999"


@click.command(
    short_help="How available it was, by outside probes.",
    epilog=examples(
        "hamailctl availability probe.jsonl",
        "hamailctl availability site-a.jsonl site-b.jsonl --objective 99.95% --json",
    ),
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--objective", help="As 99.999%.  [default: objectives.availability of the configuration]")
@json_option
@pass_app
def availability(app: App, files: tuple[Path, ...], objective: str | None) -> None:
    """Count outages in the records of `hamailctl probe --json FILE`.

    Only time that a probe looked at counts. With a hamaild, outages in moves that somebody ordered are told apart as
    planned; the budget counts both.
    """
    from hamail.probe.budget import count

    planned, percent, known, since_ms = _from_cluster(app)
    if objective is not None:
        percent = _percent(app, objective)
    account = count(itertools.chain.from_iterable(_lines(app, file) for file in files), planned)
    if not account.observed_ms:
        app.end(Exit.REFUSED, "no probe has looked at anything in these files", [f"{f}: no tally in it" for f in files])
    forgotten = _forgotten(since_ms) if account.from_ms < since_ms else ""
    if app.json:
        body = as_json(account, percent, known)
        app.emit({"schema": JSON_SCHEMA, **body, "note": known or forgotten})
        return
    _tell(app, account, percent, known)
    if forgotten:
        app.say(forgotten, "yellow")


def _forgotten(since_ms: int) -> str:
    from hamail.cli.words import moment

    return (
        f"the cluster remembers moves since {moment(since_ms)} only: what was planned before that counts as unplanned"
    )


def _percent(app: App, text: str) -> str:
    from decimal import Decimal, InvalidOperation

    try:
        share = Decimal(text.strip().removesuffix("%").strip())
    except InvalidOperation:
        app.end(Exit.USAGE, f"--objective '{text}': write it as 99.999%")
    if not share.is_finite() or not 0 < share < 100:
        app.end(Exit.USAGE, f"--objective '{text}': it must be above 0 % and below 100 %")
    return str(share)


def _lines(app: App, file: Path) -> "Iterator[AnyLine]":
    from hamail.probe.records import BadRecords, read

    try:
        with file.open("rb") as stream:
            yield from read(stream, str(file))
    except OSError as error:
        app.end(Exit.USAGE, f"{file}: {error.strerror}")
    except BadRecords as error:
        app.end(Exit.USAGE, f"this is no file of hamailctl probe: {error}")


def _from_cluster(app: App) -> "tuple[tuple[Planned, ...], str, str, int]":
    """Moves on purpose, the objective, why they are not known, and since when they are (0: always)."""
    from hamail.control.client import ControlError
    from hamail.model.state import MOVES_KEPT
    from hamail.probe.budget import Planned

    try:
        state = app.client.state()
    except ControlError as error:
        return (), DEFAULT_PERCENT, f"planned and unplanned cannot be told apart: {error.error}", 0
    found = [
        Planned(
            min([m.started_at_ms, *m.stamps.values()]) - MARGIN_MS,
            max([m.started_at_ms, *m.stamps.values()]) + MARGIN_MS,
            f"{m.trigger} {m.id}" + (f": {m.reason}" if m.reason else ""),
        )
        for m in state.moves
        if m.trigger.value in ON_PURPOSE
    ]
    found += [Planned(d.at_ms - MARGIN_MS, d.at_ms + (d.rto_ms or 0) + 60_000, f"drill {d.name}") for d in state.drills]
    since_ms = state.moves[0].started_at_ms if len(state.moves) >= MOVES_KEPT else 0
    return tuple(found), state.spec.objectives.availability or DEFAULT_PERCENT, "", since_ms


def as_json(account: "Account", percent: str, known: str) -> dict[str, object]:
    from hamail.probe.budget import PERIODS_MS, allowed_ms

    budget = {
        name: {
            "allowed_ms": round(allowed_ms(percent, ms)),
            "left_ms": round(allowed_ms(percent, ms) - _down_within(account, ms)),
        }
        for name, ms in PERIODS_MS.items()
    }
    return {
        "objective_percent": percent,
        "observed_ms": round(account.observed_ms),
        "from_ms": round(account.from_ms),
        "to_ms": round(account.to_ms),
        "availability_percent": _share(account.availability()),
        "unplanned_only_percent": None if known else _share(account.availability(planned=False)),
        "down_ms": round(account.down_ms()),
        "planned_ms": None if known else round(account.down_ms(planned=True)),
        "unplanned_ms": None if known else round(account.down_ms(planned=False)),
        "budget": budget,
        "interruptions": [
            {"from_ms": round(i.from_ms), "ms": round(i.ms), "services": list(i.services), "planned": i.cause}
            for i in account.interruptions
        ],
        "note": known,
    }


def _down_within(account: "Account", period_ms: int) -> float:
    """In the period that ends with the last look."""
    begin = account.to_ms - period_ms
    return sum(max(0.0, i.to_ms - max(i.from_ms, begin)) for i in account.interruptions)


def _share(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 6)


def _tell(app: App, account: "Account", percent: str, known: str) -> None:
    from hamail.cli.words import moment, took
    from hamail.probe.budget import PERIODS_MS, allowed_ms

    app.say(f"Looked at {took(round(account.observed_ms))} between {moment(round(account.from_ms))} and")
    app.say(f"{moment(round(account.to_ms))}: {_share(account.availability())} % available", "bold")
    if not known:
        planned, unplanned = account.down_ms(planned=True), account.down_ms(planned=False)
        app.say(f"out for {took(round(unplanned))} unplanned and {took(round(planned))} planned")
    for name, ms in PERIODS_MS.items():
        allowed = allowed_ms(percent, ms)
        left = allowed - _down_within(account, ms)
        style = "green" if left >= 0 else "bold red"
        words = f"{took(round(left))} left" if left >= 0 else f"spent, and {took(round(-left))} more"
        app.say(f"budget of {percent} % a {name}: {took(round(allowed))}, {words}", style)
    if known:
        app.say(known, "yellow")
    for i in account.interruptions[-SHOWN:]:
        why = f"planned: {i.cause}" if i.cause else ("" if known else "unplanned")
        app.say(f"  {moment(round(i.from_ms))}  {took(round(i.ms)):>10}  {', '.join(i.services)}  {why}".rstrip())


COMMANDS = (availability,)
