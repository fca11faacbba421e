"""Orders that move or restart a group: a preflight first, then the order, then its progress until it is over."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hamail.cli.act import MOVE_TIMEOUT_MS, no_wait_option, report, still_running, timeout_option
from hamail.cli.app import (
    App,
    DurationMs,
    Exit,
    examples,
    json_option,
    order_options,
    pass_app,
    yes_option,
)
from hamail.cli.moments import Moment
from hamail.cli.words import ago, moment, took

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hamail.control.api import Done
    from hamail.control.moves_client import MovesClient
    from hamail.model.orders import ScheduledMove
    from hamail.model.preflight import PhaseBudget
    from hamail.model.state import ClusterState, Event, Move

FAILOVER_TIMEOUT_MS = 300_000  # fence devices are slow
RESTART_TIMEOUT_MS = 180_000
STORY_MAX = 10  # sentences that tell how a move failed
ENDED = ("restart done", "restart failed", "restart void")


def _moves(app: App) -> "MovesClient":
    from hamail.control.moves_client import MovesClient

    return MovesClient(app.client)


def preflight_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--dry-run", is_flag=True, help="Show what was looked at, and do nothing.")(command)
    return click.option("--force", is_flag=True, help="In spite of warnings; what is refused stays refused.")(command)


@click.command(
    short_help="Move a group to another node.",
    epilog=examples(
        "hamailctl switchover mail",
        'hamailctl switchover mail --to n2 --reason "kernel update of n1" --yes',
        'hamailctl switchover mail --at "2026-11-24 03:00"',
        "hamailctl switchover mail --dry-run",
    ),
)
@click.argument("group")
@click.option("--to", metavar="NODE", help="Where to; without it the best node is taken.")
@click.option("--at", "at_ms", type=Moment(), help='Later, by local time: "2026-11-24 03:00" or 03:00.')
@click.option("--in", "in_ms", type=DurationMs(), help="Later, so long from now: 2h.")
@preflight_options
@order_options
@yes_option
@no_wait_option
@timeout_option(MOVE_TIMEOUT_MS)
@json_option
@pass_app
def switchover(
    app: App,
    group: str,
    to: str | None,
    at_ms: int | None,
    in_ms: int | None,
    force: bool,
    dry_run: bool,
    reason: str,
    request: str,
    yes: bool,
    no_wait: bool,
    timeout_ms: int,
) -> None:
    """Move GROUP to another node, in order. If it cannot start there it goes back.

    With --at or --in the cluster does it later, after a fresh look; what is refused then is not done at all.
    """
    from hamail.cli.preflight_view import decide

    if at_ms is not None or in_ms is not None:
        if at_ms is not None and in_ms is not None:
            app.end(Exit.USAGE, "--at and --in exclude each other")
        later = Later(at_ms=at_ms or 0, in_ms=in_ms or 0, force=force, dry_run=dry_run, yes=yes)
        _schedule(app, group, to, later, reason, request)
        return
    budget: Sequence[PhaseBudget] = ()
    if not request or dry_run:  # a retry is not checked again: it may have been carried out already
        found = _moves(app).preflight("switchover", group, to)
        source, budget = found.source or "nowhere", found.budget
        question = f"Stop {group} on {source} and start it on {found.target}?"
        decide(app, found, f"{group} cannot be moved now", question, yes=yes, force=force, dry_run=dry_run)
        app.say(f"{group}: {source} -> {found.target}")
    done = app.client.request_move(group, to, reason, request, force)
    _follow(app, done, group, budget, timeout_ms, no_wait=no_wait)


@click.command(
    short_help="Take a group from a node that cannot give it up in order.",
    epilog=examples("hamailctl failover mail", 'hamailctl failover mail --to n2 --reason "n1 hangs"'),
)
@click.argument("group")
@click.option("--to", metavar="NODE", help="Where to; without it the best node is taken.")
@preflight_options
@order_options
@yes_option
@no_wait_option
@timeout_option(FAILOVER_TIMEOUT_MS)
@json_option
@pass_app
def failover(
    app: App,
    group: str,
    to: str | None,
    force: bool,
    dry_run: bool,
    reason: str,
    request: str,
    yes: bool,
    no_wait: bool,
    timeout_ms: int,
) -> None:
    """Start GROUP elsewhere although its owner cannot stop it in order.

    The owner is fenced, or the time after which it has surely stopped is waited for: GROUP never starts elsewhere
    before that is proven. A healthy owner is left alone: that is what switchover is for.
    """
    from hamail.cli.preflight_view import decide

    budget: Sequence[PhaseBudget] = ()
    if not request or dry_run:
        found = _moves(app).preflight("failover", group, to)
        budget = found.budget
        question = f"Take {group} from {found.source} by force and start it on {found.target}?"
        error = f"{group} cannot be taken from {found.source or 'nobody'} now"
        decide(app, found, error, question, yes=yes, force=force, dry_run=dry_run)
        app.say(f"{group}: {found.source} -> {found.target}, once it is proven that {found.source} is out")
    done = _moves(app).failover(group, to, reason, request, force)
    _follow(app, done, group, budget, timeout_ms, no_wait=no_wait)


@click.command(
    short_help="Restart one resource in place, or all of them.",
    epilog=examples("hamailctl restart mail postfix", 'hamailctl restart mail --reason "new certificates"'),
)
@click.argument("group")
@click.argument("resource", required=False, default="")
@preflight_options
@order_options
@yes_option
@no_wait_option
@timeout_option(RESTART_TIMEOUT_MS)
@json_option
@pass_app
def restart(
    app: App,
    group: str,
    resource: str,
    force: bool,
    dry_run: bool,
    reason: str,
    request: str,
    yes: bool,
    no_wait: bool,
    timeout_ms: int,
) -> None:
    """Restart RESOURCE of GROUP where it runs, and what cannot live without it; without RESOURCE all of them.

    It is no failure and counts as none. What cannot be started again is one: GROUP then moves as after any failure.
    """
    from hamail.cli.preflight_view import decide

    what = f"{resource} of {group}" if resource else f"every resource of {group}"
    budget: Sequence[PhaseBudget] = ()
    if not request or dry_run:
        found = _moves(app).preflight("restart", group, resource=resource)
        budget, question = found.budget, f"Restart {what} on {found.source}?"
        decide(app, found, f"{what} cannot be restarted now", question, yes=yes, force=force, dry_run=dry_run)
    done = _moves(app).restart(group, resource, reason, request, force)
    if no_wait:
        _accepted(app, done, f"{what} will be restarted")
        return
    ended = _follow_restart(app, done, group, what, budget, timeout_ms)
    if ended.kind != "restart done":
        app.end(Exit.FAILED, ended.sentence, (), done.request, f"How it is now: hamailctl why {group}")
    report(app, done, "done", sentence=ended.sentence)
    app.say(f"{what} was restarted on {ended.node}", "bold green")


def _follow_restart(
    app: App, done: "Done", group: str, what: str, budget: "Sequence[PhaseBudget]", timeout_ms: int
) -> "Event":
    from hamail.cli.follow import follow_state, now_ms
    from hamail.cli.progress import Progress

    def over(state: "ClusterState") -> bool:
        order = state.group(group).restart
        return order is None or order.id != done.index

    progress = Progress(now_ms, budget)
    progress.phase("restart", f"restarting {what}")
    try:
        with progress.shown(app):
            finished = follow_state(app, done.index, timeout_ms, over)
    except KeyboardInterrupt:
        finished = False
    if not finished:
        still_running(app, done, f"the restart of {what}")
    events = app.client.events(done.index).events
    return next(e for e in events if e.group == group and e.kind in ENDED)


# ---- later -----------------------------------------------------------------------------------------------------------


class Later(NamedTuple):
    """How a move for later was asked for; exactly one of the times is above 0."""

    at_ms: int
    in_ms: int
    force: bool
    dry_run: bool
    yes: bool


def _schedule(app: App, group: str, to: str | None, later: Later, reason: str, request: str) -> None:
    """The preflight of today is shown, but only that of its own time decides."""
    from hamail.cli.preflight_view import decide, render
    from hamail.control.moves_api import ScheduleRequest

    when = f"at {moment(later.at_ms)}" if later.at_ms else f"in {took(later.in_ms)}"
    if not request or later.dry_run:
        found = _moves(app).preflight("switchover", group, to)
        if later.dry_run:
            error = f"{group} could not be moved as things are today; it is looked at again when its time has come"
            decide(app, found, error, "", yes=True, force=later.force, dry_run=True)
        if not app.json and (not later.yes or found.refusals or found.warnings):
            app.console.print(render(found))
        doubts = "As things are now it would be refused. " if found.refusals else ""
        app.confirm(f"{doubts}Move {group} to {to or 'the best node'} {when}?", later.yes)
    body = ScheduleRequest(
        group=group,
        to=to,
        at_ms=later.at_ms,
        in_ms=later.in_ms,
        force=later.force,
        reason=reason,
        request=request,
    )
    done = _moves(app).schedule(body)
    known = next((s for s in _moves(app).scheduled().scheduled if s.id == done.index), None)
    report(app, done, "scheduled", scheduled=known)
    app.say(f"Scheduled: {group} moves to {to or 'the best node'} {when} (number {done.index}).")
    app.say(f"See: hamailctl scheduled    Call it off: hamailctl cancel {done.index}")


@click.command(
    short_help="Moves that wait for their time.",
    epilog=examples("hamailctl scheduled", "hamailctl scheduled --json"),
)
@json_option
@pass_app
def scheduled(app: App) -> None:
    """Moves that were ordered for later. Each is made at its time after a fresh look, or not at all."""
    known = _moves(app).scheduled()
    if app.json:
        app.emit(known)
    elif not known.scheduled:
        app.say("no move is scheduled")
    else:
        from rich.table import Table
        from rich.text import Text

        grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for head in ("number", "when", "in", "group", "to", "by"):
            grid.add_column(head, no_wrap=head != "by", overflow="fold")
        for s in known.scheduled:
            left_ms = s.due_ms - known.at_ms
            by = s.actor + (f": {s.reason}" if s.reason else "")
            cells = (str(s.id), moment(s.due_ms), _left(left_ms), s.group, s.target or "the best node", by)
            grid.add_row(*(Text(cell) for cell in cells))
        app.console.print(grid)


def _left(left_ms: int) -> str:
    return ago(left_ms) if left_ms > 0 else "now"


@click.command(
    short_help="Call off a scheduled move, or turn back one that is under way.",
    epilog=examples("hamailctl cancel 1742", "hamailctl scheduled", "hamailctl history"),
)
@click.argument("number", type=click.IntRange(1, 2**53))
@order_options
@timeout_option(MOVE_TIMEOUT_MS)
@json_option
@pass_app
def cancel(app: App, number: int, reason: str, request: str, timeout_ms: int) -> None:
    """Call off the scheduled move NUMBER, or turn the move NUMBER that is under way back to where it came from.

    A failover cannot be turned back: whoever is being fenced is out.
    """
    waiting = next((s for s in _moves(app).scheduled().scheduled if s.id == number), None)
    done = _moves(app).cancel(number, reason, request)
    if waiting is not None:
        _called_off(app, done, waiting)
        return
    from hamail.control.client import Refused

    try:
        group = app.client.move(number).move.group
    except Refused:  # a retry, of a scheduled move that is gone since
        report(app, done, "done")
        app.say(f"{number} is cancelled")
        return
    app.say(f"{group} is turned back")
    _follow(app, done, group, (), timeout_ms, move_id=number, wanted="cancelled")


def _called_off(app: App, done: "Done", waiting: "ScheduledMove") -> None:
    report(app, done, "done")
    app.say(f"Called off: the move of {waiting.group} at {moment(waiting.due_ms)} will not be made.")


# ---- how it goes, and how it ended -----------------------------------------------------------------------------------


def _accepted(app: App, done: "Done", what: str) -> None:
    report(app, done, "accepted", move=done.move)
    app.say(f"Accepted: {what}. Watch: hamailctl events -f")


def _follow(
    app: App,
    done: "Done",
    group: str,
    budget: "Sequence[PhaseBudget]",
    timeout_ms: int,
    *,
    no_wait: bool = False,
    move_id: int = 0,
    wanted: str = "done",
) -> None:
    """Until the move is over. Ctrl-C leaves it running."""
    number = move_id or done.move
    if not number:
        report(app, done, "accepted")
        app.say(f"accepted (request {done.request}); the move is not in the history any more")
        return
    if no_wait:
        _accepted(app, done, f"{group} moves (move {number})")
        return
    from hamail.cli.follow import follow_move

    try:
        move = follow_move(app, number, timeout_ms, budget)
    except KeyboardInterrupt:
        move = None
    if move is None:
        still_running(app, done, f"move {number} of {group}", number)
    finish(app, done, move, wanted)


def finish(app: App, done: "Done", move: "Move | None", wanted: str = "done") -> None:
    """The last word. Exit code 0 only when what was asked for has happened."""
    from hamail.cli import moves_view

    assert move is not None
    length = moves_view.length_ms(move)
    elsewhere = move.result == "done" and wanted == "done" and bool(move.detail)
    if move.result == wanted and not elsewhere:
        report(app, done, "done", move=moves_view.as_json(move))
        words = move.detail or f"{move.group} is active on {move.target}"
        app.say(words.rstrip(".") + (f" after {took(length)}" if length else ""), "bold green")
        return
    story = [e.sentence for e in app.client.events(move.id - 1).events if e.group == move.group][-STORY_MAX:]
    if app.json:
        report(app, done, move.result, move=moves_view.as_json(move), reasons=story)
        raise SystemExit(int(Exit.FAILED))
    view = next((g for g in app.client.status().groups if g.name == move.group), None)
    where = f"; it is {view.phase.value} on {view.owner or 'no node'}" if view is not None else ""
    said = move.detail.rstrip(".") or f"the move of {move.group} ended: {move.result}"
    hint = f"Steps: hamailctl history {move.id}    Reasons: hamailctl why {move.group}"
    app.end(Exit.FAILED, f"{said}{where}", story, done.request, hint)


COMMANDS: tuple[click.Command, ...] = (switchover, failover, restart, scheduled, cancel)
