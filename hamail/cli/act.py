"""Commands that change something. Each tells what it did, or why not, and ends with the matching exit code."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from hamail.cli.app import (
    JSON_SCHEMA,
    App,
    DurationMs,
    Exit,
    again,
    examples,
    json_option,
    order_options,
    pass_app,
    yes_option,
)
from hamail.cli.words import listed, took

if TYPE_CHECKING:
    from hamail.control.api import Done
    from hamail.model.preflight import PhaseBudget
    from hamail.model.state import ClusterState
    from hamail.model.status import NodeView, Status

MOVE_TIMEOUT_MS = 120_000
FENCE_TIMEOUT_MS = 180_000

no_wait_option = click.option("--no-wait", is_flag=True, help="Return as soon as the order is accepted.")


def timeout_option(default_ms: int) -> Callable[[Any], Any]:
    return click.option(
        "--timeout",
        "timeout_ms",
        type=DurationMs(),
        default=f"{default_ms // 1000}s",
        show_default=True,
        help="Stop watching after this long; the order stands.",
    )


def report(app: App, done: "Done", result: str, **more: Any) -> None:
    """The last word with --json."""
    if app.json:
        body = {"result": result, "request": done.request, "index": done.index, "repeated": done.repeated}
        app.emit({"schema": JSON_SCHEMA, **body, **more})


def still_running(app: App, done: "Done", what: str, move: int = 0) -> NoReturn:
    """Whoever watched it has left, or has waited long enough; it goes on."""
    hint = f"Watch it: hamailctl events -f    or again: {again(app, done.request)}"
    if move:
        hint += f"\nSteps: hamailctl history {move}    Turn it back: hamailctl cancel {move}"
    app.end(Exit.UNKNOWN, f"{what} was ordered and is still under way", request=done.request, hint=hint)


ENDED_BADLY = ("rolled back", "cancelled", "failed")


@click.command(
    short_help="Move everything away from a node.",
    epilog=examples('hamailctl standby n1 --for 2h --reason "disk swap"', "hamailctl standby n1 --no-wait"),
)
@click.argument("node")
@click.option(
    "--for", "for_ms", type=DurationMs(above_zero=True), default=0, help="It ends by itself after this, at most 30d."
)
@order_options
@click.option("--dry-run", is_flag=True, help="Show what was looked at, and do nothing.")
@click.option("--force", is_flag=True, help="Also when a group has nowhere to go. It is then stopped!")
@yes_option
@no_wait_option
@timeout_option(MOVE_TIMEOUT_MS)
@json_option
@pass_app
def standby(
    app: App,
    node: str,
    for_ms: int,
    reason: str,
    request: str,
    dry_run: bool,
    force: bool,
    yes: bool,
    no_wait: bool,
    timeout_ms: int,
) -> None:
    """Move everything away from NODE and let it take over nothing, until `unstandby` or the end of --for."""
    client = app.client
    state = client.state()
    owned = [name for name in sorted(state.groups) if state.group(name).owner == node]
    budget: Sequence[PhaseBudget] = ()
    if not request or dry_run:
        from hamail.cli.preflight_view import decide
        from hamail.control.moves_client import MovesClient

        found = MovesClient(client).preflight("standby", node)
        budget = found.budget
        question = f"{node} owns {listed(owned)}. Move {'it' if len(owned) == 1 else 'them'} away?" if owned else ""
        error = f"{node} cannot be put into standby now"
        decide(app, found, error, question, yes=yes or not owned, force=force, dry_run=dry_run)
    done = client.set_standby(node, True, reason, force, request, for_ms)
    app.say(f"{node} is on standby" + (f" for {took(for_ms)}." if for_ms else "."))
    if state.maintenance.on and owned:
        app.say("Maintenance is on: nothing moves before it ends.", "yellow")
    elif owned and not no_wait:
        wait_gone(app, done, node, owned, timeout_ms, budget)
    report(app, done, "done", moved=owned if not no_wait else [])


def wait_gone(
    app: App, done: "Done", node: str, owned: list[str], timeout_ms: int, budget: "Sequence[PhaseBudget]"
) -> None:
    from hamail.cli.follow import follow_state, now_ms
    from hamail.cli.progress import Progress

    def failures(state: "ClusterState") -> list[str]:
        ended = (m for m in state.moves if m.id >= done.index and m.group in owned)
        return [m.detail or f"{m.group}: {m.result}" for m in ended if m.result in ENDED_BADLY]

    def stranded() -> list[str]:
        """Groups that stay down: nobody has them, and nobody may."""
        views = (g for g in app.client.status().groups if g.name in owned and g.phase == "idle")
        return [g.name for g in views if not any(c.eligible for c in g.candidates)]

    def over(state: "ClusterState") -> bool:
        left = [g for g in owned if state.group(g).owner == node or state.group(g).phase != "active"]
        stopping = [g for g in left if state.group(g).owner == node]
        words = f"{node} stops {listed(stopping)}" if stopping else f"{listed(left)}: started elsewhere"
        progress.phase("stop" if stopping else "start", words)
        return not left or bool(failures(state)) or set(left) <= set(stranded())

    progress = Progress(now_ms, budget)
    try:
        with progress.shown(app):
            finished = follow_state(app, done.index, timeout_ms, over, skip=done.index)
    except KeyboardInterrupt:
        finished = False
    what = listed(owned)
    if not finished:
        still_running(app, done, f"the move of {what} away from {node}")
    state = app.client.state()
    if failed := failures(state):
        app.end(Exit.FAILED, f"not everything has left {node}", failed, done.request, "Reasons: hamailctl why GROUP")
    down = stranded()
    places = [f"{group} is active on {state.group(group).owner}" for group in owned if group not in down]
    if places:
        app.say(f"{listed(places)}.", "bold green")
    if down:
        app.say(f"{listed(down)} {'is' if len(down) == 1 else 'are'} DOWN: no other node may take over.", "bold red")


@click.command(short_help="Let a node take over again.", epilog=examples("hamailctl unstandby n1"))
@click.argument("node")
@order_options
@json_option
@pass_app
def unstandby(app: App, node: str, reason: str, request: str) -> None:
    """Let NODE take over again. Nothing moves back to it by itself."""
    done = app.client.set_standby(node, False, reason, False, request)
    report(app, done, "done")
    app.say(f"{node} may take over again; nothing moves back by itself.")


@click.command(short_help="Forget the failures of a group and try again.", epilog=examples("hamailctl clear mail"))
@click.argument("group")
@order_options
@json_option
@pass_app
def clear(app: App, group: str, reason: str, request: str) -> None:
    """Forget the failures of GROUP (bans, failed fences of its owner) and try again."""
    done = app.client.clear(group, reason, request)
    report(app, done, "done")
    app.say(f"Failures of {group} are forgotten. What follows: hamailctl events -f")


class _FenceGroup(click.Group):
    """`fence NODE` and `fence confirm NODE`: what is no subcommand is a node."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["node", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "[confirm] NODE [OPTIONS]")


def _known(app: App, status: "Status", node: str) -> "NodeView":
    """The node, before a question about it is asked."""
    views = {view.name: view for view in status.nodes}
    if node not in views:
        app.end(Exit.REFUSED, f"no node '{node}' in this cluster; nodes: {', '.join(sorted(views))}")
    return views[node]


@click.group(
    cls=_FenceGroup,
    short_help="Cut a node off for certain, or vouch that it is off.",
    epilog=examples('hamailctl fence n2 --reason "does not stop"', "hamailctl fence confirm n2"),
)
def fence() -> None:
    """Cut a node off for certain, or vouch that it is off.

    `fence NODE` takes what NODE holds away from it by force: its power is cut, then its groups start elsewhere.
    `fence confirm NODE` is for when no device can do that and you have switched NODE off yourself.
    """


@fence.command("node", hidden=True, epilog=examples('hamailctl fence n2 --reason "does not stop"'))
@click.argument("node")
@order_options
@yes_option
@no_wait_option
@timeout_option(FENCE_TIMEOUT_MS)
@json_option
@pass_app
def fence_node(app: App, node: str, reason: str, request: str, yes: bool, no_wait: bool, timeout_ms: int) -> None:
    """Cut NODE off with its fence devices; what it holds starts elsewhere."""
    from hamail.cli.follow import follow_state

    client = app.client
    if not request:
        view = client.status()
        _known(app, view, node)
        held = [g.name for g in view.groups if g.owner == node]
        holds = f"It holds {listed(held)}, which will be interrupted. " if held else ""
        app.confirm(f"{holds}Cut the power of {node}?", yes)
    done = client.fence(node, reason, request)
    if no_wait:
        report(app, done, "accepted")
        app.say(f"Accepted: {node} will be fenced. Watch: hamailctl events -f")
        return

    def off(state: "ClusterState") -> bool:
        return state.node(node).fenced_at > done.index

    if not follow_state(app, done.index, timeout_ms, off):
        failure = client.state().node(node).fence_failure
        hint = f"hamail keeps trying. If you switch {node} off yourself: hamailctl fence confirm {node}"
        app.end(Exit.FAILED, f"{node} is not fenced yet", [failure] if failure else [], done.request, hint)
    report(app, done, "done")
    app.say(f"{node} is off.", "bold green")


@fence.command(
    "confirm",
    short_help="Vouch that a node is off.",
    epilog=examples(
        "hamailctl fence confirm n2", "hamailctl fence confirm n2 --i-know-it-is-off n2 --reason unplugged"
    ),
)
@click.argument("node")
@click.option("--i-know-it-is-off", "typed", metavar="NODE", help="The name again, instead of typing it when asked.")
@order_options
@json_option
@pass_app
def fence_confirm(app: App, node: str, typed: str | None, reason: str, request: str) -> None:
    """Vouch that NODE is off. If it is not, two nodes write to the same mailboxes: mail is destroyed."""
    if typed is None:
        view = _known(app, app.client.status(), node)
        if view.alive:
            app.end(Exit.REFUSED, f"{node} is not off", [f"{node} was heard {view.silent_ms} ms ago, so it is running"])
        warn = f"If {node} still runs, two nodes will write to the same mailboxes, and mail will be DESTROYED."
        click.echo(click.style(warn, fg="red", bold=True), err=True)
        click.echo(f"Go and look: {node} must be without power, or cut off from the storage.", err=True)
        try:
            typed = click.prompt(
                "Type the name of the node that is surely off", default="", show_default=False, err=True
            )
        except click.Abort:
            click.echo(err=True)
    if typed != node:
        app.end(Exit.USAGE, f"'{typed or ''}' is not '{node}': nothing was confirmed")
    done = app.client.confirm_fence(node, node, reason, request)
    report(app, done, "done")
    app.say(f"Noted: {node} is off. What it held may start elsewhere. See: hamailctl events -f")


COMMANDS: Iterable[click.Command] = (standby, unstandby, clear, fence)
