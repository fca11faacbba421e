"""`hamailctl pki revoke`: a node's certificates up to now count no more. Where the authority is kept, as root."""

import os
import time
from typing import TYPE_CHECKING

import click

from hamail.cli.app import JSON_SCHEMA, App, Exit, examples, json_option, pass_app, yes_option
from hamail.cli.moves import preflight_options
from hamail.cli.words import counted, listed

if TYPE_CHECKING:
    from hamail.model.preflight import Check, Preflight
    from hamail.model.status import Status
    from hamail.pki.keep import Revocation

REASON_CHARS_MAX = 200
CUT_OFF_S = 20.0  # hamaild looks at the file every two seconds, and tells the others over the links
LOOK_S = 0.5


@click.command(
    epilog=examples(
        'hamailctl pki revoke n2 --reason "the server was stolen"',
        'hamailctl pki revoke n2 --reason "a test" --dry-run',
    )
)
@click.argument("node")
@click.option("--reason", metavar="TEXT", required=True, help="Kept in the issuer's audit, and in pki status.")
@preflight_options
@yes_option
@json_option
@pass_app
def revoke(app: App, node: str, reason: str, force: bool, dry_run: bool, yes: bool) -> None:
    """All certificates that NODE has had up to now count no more: it renews none, and no other node talks to it.

    It is cut off, and fenced if a group may still run on it. A new certificate, by a token, is good at once.
    """
    from hamail.cli.preflight_view import decide

    app.order = True
    reason = " ".join(reason.split())
    if not reason or len(reason) > REASON_CHARS_MAX:
        app.end(Exit.USAGE, f"--reason: say why, in at most {REASON_CHARS_MAX} characters")
    me = _here(app, node)
    question = f"Cut {node} off, until it has a new certificate?"
    decide(app, _look(app, node), f"{node} is not revoked", question, yes=yes, force=force, dry_run=dry_run)
    revocation = _revoke(app, node, reason)
    trouble = _tell(app, me)
    cut_off = not trouble and _wait(app, node)
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "node": node, "reason": reason, "at": revocation.at, "cut_off": cut_off})
    if trouble:
        app.end(
            Exit.FAILED,
            f"the certificates of {node} are revoked, but no node has been told: {trouble}",
            hint="hamailctl pki renew, here; then on each other node",
        )
    app.say(f"The certificates of {node} are revoked.", "bold green")
    if cut_off:
        app.say(f"It is cut off: a majority of the nodes does not hear {node}.")
    else:
        app.say(f"Whether {node} is cut off could not be seen here. On each other node: hamailctl pki renew", "yellow")
    app.say(
        f"To bring it back: hamailctl token create --node {node}, here; then on {node}: hamailctl pki renew --token -"
    )


def _look(app: App, node: str) -> "Preflight":
    from hamail.control.client import ControlError
    from hamail.model.preflight import Check, Preflight, Verdict

    try:
        checks = _checks(app.client.status(), node)
    except ControlError as error:
        step = "make sure that mail does not run there"
        reason = f"what {node} does now cannot be seen: {error.error}"
        checks = [Check(name="cluster", verdict=Verdict.WARNING, reason=reason, next_step=step)]
    warnings = tuple(f"{c.reason}: {c.next_step}" for c in checks if c.verdict is Verdict.WARNING)
    return Preflight(order="revocation", node=node, checks=tuple(checks), warnings=warnings)


def _checks(status: "Status", node: str) -> "list[Check]":
    """What it would do to what runs now."""
    from hamail.model.preflight import Check, Verdict
    from hamail.model.state import Phase

    checks = []
    for group in status.groups:
        if group.owner == node and group.phase is not Phase.IDLE:
            reason = f"{node} is active for {group.name}: it will lose its lease and be fenced"
            step = f"move it first: hamailctl switchover {group.name}"
            checks.append(Check(name=group.name, verdict=Verdict.WARNING, reason=reason, next_step=step))
        elif any(c.node == node and c.eligible for c in group.candidates):
            reason = f"{group.name} goes on running on {group.owner or 'nobody'}, and {node} can no longer take over"
            checks.append(Check(name=group.name, verdict=Verdict.NOTE, reason=reason))
    heard = [n.name for n in status.nodes if n.alive and n.name != node]
    if 2 * len(heard) <= len(status.nodes):
        reason = f"without {node}, {counted(len(heard), 'node')} of {len(status.nodes)} would be left: no majority"
        step = "mail stops; bring another node back first"
        checks.append(Check(name="majority", verdict=Verdict.WARNING, reason=reason, next_step=step))
    else:
        reason = f"{listed(heard)} hear each other and go on deciding"
        checks.append(Check(name="majority", verdict=Verdict.GOOD, reason=reason))
    if not status.quorum:
        step = "hamailctl status on the other nodes"
        reason = f"{status.node} has no majority now, and may not know what {node} does"
        checks.append(Check(name="view", verdict=Verdict.WARNING, reason=reason, next_step=step))
    return checks


def _revoke(app: App, node: str, reason: str) -> "Revocation":
    from hamail.cli.token import KEEP
    from hamail.enrol.audit import Audit
    from hamail.enrol.tokens import Tokens
    from hamail.pki.files import PkiError
    from hamail.pki.keep import Keep

    try:
        # Also those that were used: the same request would be answered again, with a certificate that counts.
        Tokens().close_of(node, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        revocation = Keep(KEEP).revoke(node, reason)
    except (PkiError, OSError) as error:
        app.end(Exit.FAILED, f"nothing was revoked: {error}")
    try:
        Audit(KEEP).note("revoked", node=node, reason=reason, by=os.environ.get("SUDO_USER", "root"))
    except OSError as error:
        app.say(f"The issuer's audit could not be written: {error.strerror}", "yellow")
    return revocation


def _tell(app: App, me: str) -> str:
    """Bring it into this node's `ca.pem`: hamaild has it from there, and tells the others. Why not; empty when done."""
    from hamail.cli.token import CLUSTER_FILE, NODE_FILE
    from hamail.config import ConfigError, load_cluster, load_node
    from hamail.setup.node import Layout
    from hamail.setup.problem import SetupError
    from hamail.setup.renew import Own, renew

    try:
        own = Own(load_node(NODE_FILE).certificates, Layout().group_id)
        renew(own, load_cluster(CLUSTER_FILE)[0], me, force=False)
    except ConfigError as error:
        return str(error.problems[0])
    except SetupError as error:
        return error.reason
    return ""


def _wait(app: App, node: str) -> bool:
    """Until a majority of the nodes misses it: then it is no longer this node alone that does not talk to it."""
    from hamail.control.client import ControlError

    deadline_s = time.monotonic() + CUT_OFF_S
    while time.monotonic() < deadline_s:
        try:
            if any(n.name == node and n.suspected for n in app.client.status().nodes):
                return True
        except ControlError:
            return False
        time.sleep(LOOK_S)
    return False


def _here(app: App, node: str) -> str:
    """Who we are; ends where no authority is kept, and for a node that cannot be revoked."""
    from hamail.cli.token import here

    spec, me = here(app, "so nobody can be revoked here")
    if node not in spec.nodes:
        app.end(Exit.REFUSED, f"no node is called {node!r}", [f"nodes: {', '.join(sorted(spec.nodes))}"])
    if node == me:
        app.end(
            Exit.REFUSED,
            f"{me} keeps the authority, and cannot revoke itself",
            hint="Was its key copied? hamailctl pki rotate, then hamailctl pki rotate --ca: the copy ends with the\n"
            "old authority. Was the machine stolen? Then so was the authority: see docs/install.md",
        )
    return me
