"""hamailctl ban, unban, quarantine: what keeps groups away from nodes for a while. Nothing of it is hidden."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hamail.cli.act import MOVE_TIMEOUT_MS, no_wait_option, report, timeout_option, wait_gone
from hamail.cli.app import App, DurationMs, Exit, examples, json_option, order_options, pass_app, yes_option
from hamail.cli.words import counted, moment, roughly, took

if TYPE_CHECKING:
    from hamail.model.preflight import PhaseBudget
    from hamail.model.status import NodeView

FOR_MAX_MS = 30 * 86_400_000


@click.command(
    short_help="Keep a group away from a node for a while.",
    epilog=examples('hamailctl ban mail n1 --for 2h --reason "its disk is slow"', "hamailctl unban mail n1"),
)
@click.argument("group")
@click.argument("node")
@click.option(
    "--for", "for_ms", type=DurationMs(above_zero=True), default=0, help="How long, at most 30d. A ban always ends."
)
@click.option("--dry-run", is_flag=True, help="Show what was looked at, and do nothing.")
@click.option("--force", is_flag=True, help="Also when no other node may have the group. It is then stopped!")
@order_options
@yes_option
@no_wait_option
@timeout_option(MOVE_TIMEOUT_MS)
@json_option
@pass_app
def ban(
    app: App,
    group: str,
    node: str,
    for_ms: int,
    dry_run: bool,
    force: bool,
    reason: str,
    request: str,
    yes: bool,
    no_wait: bool,
    timeout_ms: int,
) -> None:
    """Keep GROUP away from NODE for a while. If NODE runs it, it moves away in order, and does not come back."""
    from hamail.cli.preflight_view import decide
    from hamail.control.moves_client import MovesClient
    from hamail.control.policies_client import PolicyClient

    if not for_ms:
        app.end(Exit.USAGE, "a ban always ends: say for how long with --for, as in --for 2h")
    if for_ms > FOR_MAX_MS:
        words = "take the node out of the group's `nodes` in cluster.toml if it is for longer"
        app.end(Exit.USAGE, f"a ban lasts 30 days at most, not {took(for_ms)}; {words}")
    client = app.client
    owner = client.state().group(group).owner
    budget: Sequence[PhaseBudget] = ()
    if not request or dry_run:
        found = MovesClient(client).preflight("ban", group, to=node)
        budget = found.budget
        question = f"{node} runs {group}. Move it away, and keep it away for {took(for_ms)}?"
        error = f"{group} cannot be banned from {node} now"
        decide(app, found, error, question, yes=yes or owner != node, force=force, dry_run=dry_run)
    done = PolicyClient(client).ban(group, node, for_ms, reason, request, force)
    term = client.state().group(group).bans.get(node)
    until = f" until {moment(term.until_ms)}" if term is not None else ""
    app.say(f"{group} is banned from {node}{until}. Earlier: hamailctl unban {group} {node}")
    if owner == node and not no_wait:
        wait_gone(app, done, node, [group], timeout_ms, budget)
    report(app, done, "done", moved=[group] if owner == node and not no_wait else [])


@click.command(short_help="Lift a ban before its end.", epilog=examples("hamailctl unban mail n1"))
@click.argument("group")
@click.argument("node")
@order_options
@json_option
@pass_app
def unban(app: App, group: str, node: str, reason: str, request: str) -> None:
    """Let NODE have GROUP again. Nothing moves back by itself."""
    from hamail.control.policies_client import PolicyClient

    done = PolicyClient(app.client).unban(group, node, reason, request)
    report(app, done, "done")
    app.say(f"{node} may have {group} again; nothing moves back by itself.")


@click.command(
    short_help="Nodes that come and go, and are used only if no other can.",
    epilog=examples("hamailctl quarantine", 'hamailctl quarantine --clear n2 --reason "new cable"'),
)
@click.option("--clear", "node", metavar="NODE", default="", help="Take NODE out of quarantine.")
@order_options
@json_option
@pass_app
def quarantine(app: App, node: str, reason: str, request: str) -> None:
    """Show who is in quarantine, or take a node out of it.

    A node that is lost and comes back too often (`quarantine` in cluster.toml, "3 in 10m" by default) is in quarantine
    for an hour: nothing moves to it, unless a group is down and no other node can have it.
    """
    from hamail.control.policies_client import PolicyClient

    client = app.client
    if node:
        done = PolicyClient(client).lift_quarantine(node, reason, request)
        report(app, done, "done")
        app.say(f"{node} is out of quarantine, and its returns are forgotten.")
        return
    if reason or request:
        app.end(Exit.USAGE, "--reason and --request go with --clear NODE")
    status, rule = client.status(), client.state().spec.quarantine
    nodes = [n for n in status.nodes if not n.witness]
    if app.json:
        found = [{"node": n.name, "returns": n.returns, "quarantine": n.quarantine} for n in nodes]
        app.emit({"rule": str(rule) if rule else "off", "nodes": found}, "quarantine-list")
        return
    for view in nodes:
        app.say(_words(view, status.at_ms), "yellow" if view.quarantine else "")
    app.say(f"Rule: {rule or 'off'} (quarantine in cluster.toml)", "dim")


def _words(view: "NodeView", now_ms: int) -> str:
    if view.quarantine is None:
        return f"{view.name}: not in quarantine; came back {counted(view.returns, 'time')} of late"
    left = roughly(max(0, view.quarantine.until_ms - now_ms))
    return (
        f"{view.name}: IN QUARANTINE for another {left}, until {moment(view.quarantine.until_ms)}: "
        f"{view.quarantine.reason}. Earlier: hamailctl quarantine --clear {view.name}"
    )


COMMANDS = (ban, unban, quarantine)
