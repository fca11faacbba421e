"""hamailctl maintenance: hands off, of the cluster, a group or a node; what would follow is shown before it ends."""

from typing import TYPE_CHECKING

import click

from hamail.cli.act import report, timeout_option
from hamail.cli.app import App, DurationMs, Exit, examples, json_option, order_options, pass_app, yes_option
from hamail.cli.words import moment

if TYPE_CHECKING:
    from hamail.control.api import Done
    from hamail.model.leaving import Leaving

TIMEOUT_MS = 20_000
ON = {
    "group": "{name} is in maintenance: its resources are watched, and nothing is done about them. If its node fails, "
    "NOBODY takes over. Its dead-man's switch stays in force.",
    "node": "{name} is in maintenance: it is given nothing and it is not fenced. What it runs is left alone: if it "
    "fails, NOBODY takes that over. Its dead-man's switch stays in force.",
}


@click.command(
    short_help="Hands off: nothing is started, stopped or taken over.",
    epilog=examples(
        'hamailctl maintenance on --for 2h --reason "switch firmware"',
        "hamailctl maintenance on --group mail --for 30m",
        "hamailctl maintenance on --node n2",
        "hamailctl maintenance off",
    ),
)
@click.argument("state", type=click.Choice(["on", "off"]))
@click.option("--group", metavar="GROUP", default="", help="Of this group only: watched, but not acted upon.")
@click.option("--node", metavar="NODE", default="", help="Of this node only: given nothing, not fenced.")
@click.option(
    "--for", "for_ms", type=DurationMs(above_zero=True), default=0, help="It ends by itself after this, at most 30d."
)
@click.option("--dry-run", is_flag=True, help="off: show what would follow, and do nothing.")
@order_options
@yes_option
@timeout_option(TIMEOUT_MS)
@json_option
@pass_app
def maintenance(
    app: App,
    state: str,
    group: str,
    node: str,
    for_ms: int,
    dry_run: bool,
    reason: str,
    request: str,
    yes: bool,
    timeout_ms: int,
) -> None:
    """Hands off: while it is on nothing is started, stopped, fenced or taken over, whatever happens.

    Of the whole cluster it also suspends the dead-man's switches. With --group or --node the rest of the cluster goes
    on, and every dead-man's switch stays in force: a node that loses the majority still stops what it runs.
    """
    from hamail.control.policies_client import PolicyClient

    on = state == "on"
    if group and node:
        app.end(Exit.USAGE, "--group and --node cannot be given together; give one, then the other")
    if not on and for_ms:
        app.end(Exit.USAGE, "--for says when maintenance ends by itself; it goes with `on`")
    if on and dry_run:
        app.end(Exit.USAGE, "--dry-run shows what follows when maintenance ends; it goes with `off`")
    client = PolicyClient(app.client)
    if not on and not request and _is_on(app, group, node):
        _show_leaving(app, client.leaving(group, node), yes, dry_run)
    done = client.maintenance(on, group, node, for_ms, reason, request)
    if not group and not node:
        _acknowledged(app, done, on, timeout_ms)
    report(app, done, "done")
    _told(app, on, group, node)


def _is_on(app: App, group: str, node: str) -> bool:
    """If it is not, the order is refused with the reason."""
    state = app.client.state()
    if group:
        return state.group(group).maintenance is not None
    return state.node(node).maintenance is not None if node else state.maintenance.on


def _show_leaving(app: App, found: "Leaving", yes: bool, dry_run: bool) -> None:
    if dry_run and app.json:
        app.emit({"leaving": found}, "leaving")
        raise SystemExit(int(Exit.DONE))
    app.say("When it ends:")
    for sentence in found.sentences:
        app.say(f"  {sentence}")
    if dry_run:
        app.say("Nothing was done (--dry-run).", "green")
        raise SystemExit(int(Exit.DONE))
    if found.acts:
        app.confirm("End it?", yes)


def _acknowledged(app: App, done: "Done", on: bool, timeout_ms: int) -> None:
    """Wait until every node that is heard has switched."""
    from hamail.cli.follow import follow_state

    client = app.client

    def missing() -> list[str]:
        now = client.status()
        known = now.maintenance
        late = [n.name for n in now.nodes if n.alive and not n.witness]
        return [n for n in late if (n not in known.acknowledged if on else n in known.suspended)]

    if not follow_state(app, done.index, timeout_ms, lambda _: not missing(), skip=done.index):
        fear = "may still stop its groups" if on else "may still be suspended"
        reasons = [f"{node} has not acknowledged it: its dead-man's switch {fear}" for node in missing()]
        words = f"maintenance is {'on' if on else 'off'}, but not everywhere yet"
        app.end(Exit.FAILED, words, reasons, done.request)


def _told(app: App, on: bool, group: str, node: str) -> None:
    if not on:
        what = group or node or "the cluster"
        over = f"Maintenance of {what} is over." if group or node else "Maintenance is off."
        app.say(f"{over} The cluster watches over {'it' if group or node else 'its groups'} again.")
        return
    state = app.client.state()
    if group or node:
        app.say(ON["group" if group else "node"].format(name=group or node), "yellow")
        term = state.group(group).maintenance if group else state.node(node).maintenance
        until_ms = term.until_ms if term is not None else 0
    else:
        told = "Maintenance is on, and every reachable node has acknowledged it."
        app.say(f"{told} NOBODY takes over until it is off.", "yellow")
        until_ms = state.maintenance.until_ms
    app.say(f"It ends by itself at {moment(until_ms)}." if until_ms else "It lasts until somebody ends it.")
