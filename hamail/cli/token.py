"""`hamailctl token`: what another machine needs to join. On the node that keeps the authority, as root."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hamail.cli.app import JSON_SCHEMA, App, DurationMs, Exit, examples, json_option, pass_app
from hamail.cli.words import ago

if TYPE_CHECKING:
    from hamail.model.spec import ClusterSpec

ISSUER_SOCKET = "hamail-issuer.socket"
KEEP = Path("/var/lib/hamail-issuer")
CLUSTER_FILE = Path("/etc/hamail/cluster.toml")
NODE_FILE = Path("/etc/hamail/node.toml")
DEFAULT_MS = 30 * 60_000
LONGEST_MS = 24 * 3_600_000
SHORTEST_MS = 60_000
WAIT_POLL_S = 0.5


@click.group(short_help="Let another machine join.", epilog=examples("hamailctl token create", "hamailctl token list"))
def token() -> None:
    """Tokens by which machines join: each good for one machine, once, for a short time. Root only."""


@token.command(epilog=examples("hamailctl token create", "hamailctl token create --node n2 --for 10m --wait"))
@click.option("--witness", is_flag=True, help="For the machine that only votes.")
@click.option("--node", metavar="NAME", default="", help="For this node only.")
@click.option("--for", "for_ms", type=DurationMs(), default="30m", show_default=True, help="How long it is good.")
@click.option("--wait", is_flag=True, help="Wait until it is used, or runs out.")
@json_option
@pass_app
def create(app: App, witness: bool, node: str, for_ms: int, wait: bool) -> None:
    """Print a new token, and the command to use it with."""
    if not SHORTEST_MS <= for_ms <= LONGEST_MS:
        app.end(Exit.USAGE, "--for: a token is good for at least 1m and at most 24h")
    spec, me = here(app, "so nobody can join through it")
    if node and node not in spec.nodes:
        app.end(Exit.REFUSED, f"no node is called {node!r}", [f"nodes: {', '.join(sorted(spec.nodes))}"])
    if node == me:
        app.end(Exit.REFUSED, f"{me} is this machine, which is a node already")
    witness = spec.nodes[node].witness if node else witness
    if witness and not any(n.witness for n in spec.nodes.values()):
        app.end(Exit.REFUSED, "the configuration has no witness")
    text = open_token(app, spec, me, node=node, witness=witness, for_ms=for_ms)
    flag = " --witness" if witness else ""
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "token": text, "command": f"hamailctl join {text}{flag}"})
    else:
        where = f"On {node} ({spec.nodes[node].address})" if node else "On the other machine"
        app.say(f"{where}, as root, within {ago(for_ms)}:", "bold")
        app.say(f"  hamailctl join {text}{flag}")
    if wait:
        _wait(app, text)


@token.command(name="list", epilog=examples("hamailctl token list"))
@json_option
@pass_app
def list_command(app: App) -> None:
    """The tokens that are good now. Their secrets are kept nowhere."""
    from hamail.enrol.tokens import Tokens

    _require_root(app)
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    found = Tokens().all(now_ns)
    if app.json:
        rows = [
            {"id": t.id, "node": t.node, "witness": t.witness, "left_s": t.left_s(now_ns), "used_by": t.used_by}
            for t in found
        ]
        app.emit({"schema": JSON_SCHEMA, "tokens": rows})
        return
    for one in found:
        who = one.node or ("the witness" if one.witness else "a mail server")
        state = f"used by {one.used_by}" if one.used_by else f"good for {ago(one.left_s(now_ns) * 1000)} more"
        app.say(f"{one.id}  for {who}: {state}")
    if not found:
        app.say("No token is open.")


@token.command(epilog=examples("hamailctl token close 1f2e3d4c5b6a", "hamailctl token close --all"))
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them.")
@json_option
@pass_app
def close(app: App, ids: tuple[str, ...], every: bool) -> None:
    """Close tokens before they run out."""
    from hamail.enrol.tokens import Tokens

    _require_root(app)
    if not ids and not every:
        app.end(Exit.USAGE, "which one? Give its id, or --all", hint="hamailctl token list")
    tokens = Tokens()
    known = [one.id for one in tokens.all(time.clock_gettime_ns(time.CLOCK_BOOTTIME))]
    unknown = [name for name in ids if name not in known]
    if unknown:
        app.end(Exit.REFUSED, f"no token is called {unknown[0]!r}; nothing was closed", hint="hamailctl token list")
    wanted = known if every else list(ids)
    for name in wanted:
        tokens.close(name)
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "closed": wanted})
    app.say(f"Closed: {', '.join(wanted)}" if wanted else "No token was open.")


def open_token(app: App, spec: "ClusterSpec", me: str, *, node: str, witness: bool, for_ms: int = DEFAULT_MS) -> str:
    """The text of a new token that points here."""
    from hamail.enrol.audit import Audit
    from hamail.enrol.messages import DEFAULT_PORT
    from hamail.enrol.token import Token, write_token
    from hamail.enrol.tokens import TokenRefused, Tokens
    from hamail.pki.files import PkiError
    from hamail.pki.keep import Keep, fingerprint

    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    try:
        authority = Keep(KEEP).authority()
        expires_ns = now_ns + for_ms * 1_000_000
        name, secret = Tokens().open(node=node, witness=witness, expires_ns=expires_ns, now_ns=now_ns)
        Audit(KEEP).note("token opened", token=name.hex(), node=node, witness=witness, minutes=for_ms // 60_000)
    except (PkiError, OSError) as error:
        app.end(Exit.FAILED, f"no token could be made: {error}")
    except TokenRefused as error:
        app.end(Exit.REFUSED, str(error))
    return write_token(
        Token(
            cluster=spec.name,
            host=spec.nodes[me].address,
            port=DEFAULT_PORT,
            fingerprint=bytes.fromhex(fingerprint(authority.certificate)),
            id=name,
            secret=secret,
        )
    )


def here(app: App, so: str) -> "tuple[ClusterSpec, str]":
    """The configuration, and who we are in it; ends where no authority is kept."""
    from hamail.config import ConfigError, load_cluster, load_node
    from hamail.pki.keep import Keep

    _require_root(app)
    if not Keep(KEEP).exists:
        app.end(
            Exit.REFUSED,
            f"this node does not keep the cluster's authority, {so}",
            hint="Run it on the node where hamailctl init was run",
        )
    try:
        spec, _ = load_cluster(CLUSTER_FILE)
        return spec, load_node(NODE_FILE).node
    except ConfigError as error:
        app.end(Exit.REFUSED, "the configuration cannot be used", [str(problem) for problem in error.problems])


def _require_root(app: App) -> None:
    import os

    if os.geteuid() != 0:
        app.end(Exit.REFUSED, "tokens are root's", hint="Run it as root")


def _wait(app: App, text: str) -> None:
    from hamail.enrol.token import read_token
    from hamail.enrol.tokens import Tokens

    name = read_token(text).id.hex()
    while True:
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        one = next((t for t in Tokens().all(now_ns) if t.id == name), None)
        if one is None:
            app.end(Exit.FAILED, "the token has run out or was closed, and nobody has used it")
        if one.used_by:
            app.say(f"{one.used_by} has used it.", "bold green")
            return
        time.sleep(WAIT_POLL_S)
