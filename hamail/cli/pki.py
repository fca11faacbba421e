"""`hamailctl pki`: this node's certificates, and the cluster's authority."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hamail.cli.app import JSON_SCHEMA, App, Exit, examples, json_option, pass_app, yes_option
from hamail.cli.revoke import revoke
from hamail.cli.token import CLUSTER_FILE, KEEP, NODE_FILE
from hamail.cli.words import listed

if TYPE_CHECKING:
    from hamail.model.spec import ClusterSpec
    from hamail.pki.keep import State

RENEW_DAYS = 240  # a certificate renews itself when this much is left
WARN_DAYS = 60


@click.group(
    short_help="Certificates: look, renew, change the authority.",
    epilog=examples("hamailctl pki status", "hamailctl pki rotate --ca"),
)
def pki() -> None:
    """The certificates by which nodes know each other. They renew themselves. Root only."""


@pki.command(epilog=examples("hamailctl pki status", "hamailctl pki status --json | jq .certificates"))
@json_option
@pass_app
def status(app: App) -> None:
    """Each certificate here: whose, until when, and what that means; where the authority is kept, also the nodes'."""
    from hamail.pki.files import PkiError

    _require_root(app)
    node = _load_node(app)
    try:
        rows = _certificates(node.certificates, node.state_dir)
        authority = _authority(app)
    except PkiError as error:
        app.end(Exit.FAILED, str(error))
    poor = any(row["verdict"] not in ("good", "authority") for row in rows)
    poor |= authority is not None and any(line["misused_at"] for line in authority["lines"].values())
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "certificates": rows, "authority": authority})
        raise SystemExit(int(Exit.FAILED) if poor else 0)
    for row in rows:  # in lines that only the terminal breaks: what is copied from them is whole
        app.say(row["file"])
        good = row["verdict"] in ("good", "authority")
        about = f"  {row['subject']}, until {row['expires'][:10]}: {row['sentence']}"
        app.say(about, "green" if good else "bold red")
    if authority is not None:
        app.say(f"\n{authority['sentence']}", "yellow" if authority["phase"] != "settled" else "")
        for name, holding in authority["nodes"].items():
            app.say(f"  {name}: {holding}")
            if line := _line_words(name, authority["lines"][name]):
                app.say(f"    {line}", "bold red" if authority["lines"][name]["misused_at"] else "yellow")
    raise SystemExit(int(Exit.FAILED) if poor else 0)


@pki.command(epilog=examples("hamailctl pki renew", "hamailctl pki renew --force", "hamailctl pki renew --token -"))
@click.option("--force", is_flag=True, help="A new key and certificate, also when the old one is good for long.")
@click.option("--token", metavar="TOKEN", help="By a token, when the old one is revoked or expired; - reads it.")
@click.option("--quiet", is_flag=True, help="Say only what has changed.")
@json_option
@pass_app
def renew(app: App, force: bool, token: str | None, quiet: bool) -> None:
    """Ask the node that keeps the authority for what is due. hamail-renew.timer does it by itself.

    hamaild uses what is new without dropping a connection or a lease.
    """
    _renew(app, force, quiet, token)


@pki.command(epilog=examples("hamailctl pki rotate", "hamailctl pki rotate --ca"))
@click.option("--ca", is_flag=True, help="Change the authority of the whole cluster, in steps without a gap.")
@yes_option
@json_option
@pass_app
def rotate(app: App, ca: bool, yes: bool) -> None:
    """A new key and certificate for this node; with --ca a new authority for all, where the old one is kept."""
    if not ca:
        _renew(app, force=True, quiet=False)
        return
    from hamail.enrol.audit import Audit
    from hamail.pki.files import PkiError
    from hamail.pki.keep import Keep

    _require_root(app)
    keep = Keep(KEEP)
    if not keep.exists:
        app.end(Exit.REFUSED, "this node does not keep the authority", hint="Run it where hamailctl init was run")
    app.confirm("Make a new authority, and bring every node over to it?", yes)
    try:
        keep.begin_change()
        Audit(KEEP).note("authority", step="a new one is introduced", by=os.environ.get("SUDO_USER", "root"))
    except PkiError as error:
        app.end(Exit.REFUSED, str(error))
    except OSError as error:
        app.end(Exit.FAILED, f"the change began, but could not be noted: {error}")
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "result": "begun"})
    app.say(
        "The new authority is being introduced. Each step is taken when all nodes have followed the last one;", "bold"
    )
    app.say(
        "nodes ask every three hours, or at once: hamailctl pki renew (on each). How far it is: hamailctl pki status"
    )


def _renew(app: App, force: bool, quiet: bool, text: str | None = None) -> None:
    from hamail.cli.setup import read_or_end, refuse
    from hamail.config import ConfigError, load_cluster
    from hamail.setup.node import Layout
    from hamail.setup.problem import SetupError
    from hamail.setup.renew import Own, begin_anew
    from hamail.setup.renew import renew as ask

    token = read_or_end(app, text) if text is not None else None
    _require_root(app)
    node = _load_node(app)
    try:
        spec, _ = load_cluster(node.cluster_file)
        own = Own(node.certificates, Layout().group_id)
        done = begin_anew(own, spec, node.node, token) if token else ask(own, spec, node.node, force=force)
    except ConfigError as error:
        app.end(Exit.REFUSED, "the configuration cannot be used", [str(problem) for problem in error.problems])
    except SetupError as error:
        refuse(app, error)
    if app.json:
        app.emit(
            {"schema": JSON_SCHEMA, "renewed": done.renewed, "trust_changed": done.trust_changed, "phase": done.phase}
        )
        return
    if done.trust_changed:
        app.say("What this node trusts, or does not trust any more, has changed.")
    if done.renewed:
        app.say(f"{node.node} has a new certificate, good until {done.expires[:10]}.", "bold green")
    elif not quiet:
        app.say(f"Nothing is due; the certificate of {node.node} is good until {done.expires[:10]}.")


def _certificates(folder: Path, state_dir: Path) -> list[dict[str, Any]]:
    """Raises PkiError."""
    from cryptography import x509

    from hamail.pki.description import describe
    from hamail.pki.files import PkiError, read
    from hamail.pki.revocations import KEPT

    rows = []
    trust = read(folder / "ca.pem").decode(errors="replace")
    kept = state_dir / KEPT
    said = trust + (read(kept).decode(errors="replace") if kept.exists() else "")
    for path in (folder / "node.pem", folder / "ca.pem"):
        try:
            found = x509.load_pem_x509_certificates(read(path))
        except ValueError as error:
            raise PkiError(f"{path}: is not a PEM certificate") from error
        for certificate in found:
            about = describe(certificate)
            verdict, sentence = _verdict(about.days_left, about.authority)
            if not about.authority and _revoked(about.name, certificate.serial_number, said, trust):
                verdict, sentence = "revoked", "REVOKED: no other node believes it; hamailctl pki renew --token TOKEN"
            rows.append(
                {
                    "file": str(path),
                    "subject": about.name,
                    "serial": f"{certificate.serial_number:x}",
                    "expires": about.expires_at.isoformat(),
                    "days_left": about.days_left,
                    "verdict": verdict,
                    "sentence": sentence,
                }
            )
    return rows


def _revoked(name: str, serial: int, said: str, trust: str) -> bool:
    """By what this node has been told: in its own `ca.pem`, or by another node. `trust`: the authorities."""
    from hamail.model.serials import number_of
    from hamail.pki.revocations import merged, statements

    cluster, node = name.split("/")[-2:]
    return number_of(serial) < merged(statements(said, cluster, trust).values()).get(node, 0)


def _verdict(days: int, authority: bool) -> tuple[str, str]:
    if days < 0:
        return "expired", f"EXPIRED {-days} days ago"
    if authority:
        soon = days < 2 * RENEW_DAYS
        return ("ends soon", f"ends in {days} days: hamailctl pki rotate --ca") if soon else ("authority", "trusted")
    if days < WARN_DAYS:
        return "ends soon", f"ends in {days} days, and has not renewed itself: hamailctl pki renew"
    return "good", f"good; renews itself in {max(0, days - RENEW_DAYS)} days"


def _authority(app: App) -> dict[str, Any] | None:
    """What is known where the authority is kept; None elsewhere. Raises PkiError."""
    from hamail.pki.keep import Keep, Phase

    keep = Keep(KEEP)
    if not keep.exists:
        return None
    state = keep.state
    spec = _load_cluster(app)
    nodes = tuple(sorted(spec.nodes))
    if state.phase is Phase.SETTLED:
        sentence = "The authority is kept on this node; no change of it is under way."
    else:
        step = "to be trusted by" if state.phase is Phase.INTRODUCING else "to certify"
        waiting = listed(list(keep.waiting_for(nodes))) or "nobody"
        sentence = f"A new authority is {step} every node; waiting for {waiting}."
    held = {}
    for name in nodes:
        holding = state.holdings.get(name)
        if holding is None:
            held[name] = "has joined, has not asked yet" if name in state.joined else "has not joined"
        else:
            days = (datetime.fromisoformat(holding.expires) - datetime.now(UTC)).days
            held[name] = f"certificate good for {days} days; last asked {holding.at}"
            if name in state.revoked and name not in state.lines:
                held[name] = f"revoked; last asked {holding.at}"
    return {"phase": state.phase.value, "sentence": sentence, "nodes": held, "lines": _lines(state, nodes)}


def _lines(state: "State", nodes: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Of each node: the newest certificate, and what is wrong with older ones. "": not known, or nothing."""
    from hamail.pki.keep import Revocation
    from hamail.pki.line import Line

    found = {}
    for name in nodes:
        line = state.lines.get(name, Line())
        revoked = state.revoked.get(name, Revocation(below=0, reason="", at=""))
        found[name] = {
            "serial": line.newest,
            "issued_at": line.issued_at,
            "misused_at": line.misused_at,
            "misused_from": line.misused_from,
            "revoked_at": revoked.at,
            "revoked_reason": revoked.reason,
        }
    return found


def _line_words(name: str, line: dict[str, str]) -> str:
    if line["misused_at"]:
        what = f"Someone at {line['misused_from']} used an old certificate of it at {line['misused_at']}"
        return f"{what}: was its key copied? hamailctl pki revoke {name}"
    if line["revoked_at"]:
        then = f"it has a new one since {line['issued_at']}" if line["serial"] else "it has no other one yet"
        return f"Its certificates of before {line['revoked_at']} are revoked ({line['revoked_reason']}); {then}"
    return ""


pki.add_command(revoke)


def _load_node(app: App) -> Any:
    from hamail.config import ConfigError, load_node

    try:
        return load_node(NODE_FILE)
    except ConfigError as error:
        app.end(
            Exit.REFUSED,
            "this machine is no node",
            [str(problem) for problem in error.problems],
            hint="hamailctl init, or hamailctl join TOKEN",
        )


def _load_cluster(app: App) -> "ClusterSpec":
    from hamail.config import ConfigError, load_cluster

    try:
        return load_cluster(CLUSTER_FILE)[0]
    except ConfigError as error:
        app.end(Exit.REFUSED, "the configuration cannot be used", [str(problem) for problem in error.problems])


def _require_root(app: App) -> None:
    if os.geteuid() != 0:
        app.end(Exit.REFUSED, "keys and certificates are root's", hint="Run it as root")
