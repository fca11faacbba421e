"""`hamailctl init` and `join`: from a bare machine to a node. As root, and without a running hamaild."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from hamail.cli.app import JSON_SCHEMA, App, Exit, examples, json_option, pass_app, yes_option
from hamail.cli.words import listed

if TYPE_CHECKING:
    from hamail.enrol.token import Token
    from hamail.setup.answers import Answers
    from hamail.setup.machine import Machine
    from hamail.setup.mail import MailPlan
    from hamail.setup.problem import SetupError

TEMPLATES = ("mail-pair",)
TOKEN_TEXT_MAX = 4096

mail_option = click.option(
    "--apply-mail-settings", "apply_mail", is_flag=True, help="Change Postfix and Dovecot as shown; copies are kept."
)
start_option = click.option("--no-start", is_flag=True, help="Write everything, start nothing.")


@click.command(
    short_help="Set up the first node of a new cluster.",
    epilog=examples(
        "hamailctl init     # asks",
        "hamailctl init --cluster mail --node n1=10.0.0.11 --node n2=10.0.0.12 --witness n3=10.0.0.13"
        " --vip 10.0.0.100/24 --device /dev/disk/by-uuid/5f0c3c2e-8f0f-4b43-9d3b-9a7d6f5a1c11 --mount /srv/mail"
        ' --fence "pdu fence_apc_snmp n1=1 n2=2 ip=10.0.0.250 username=hamail password=@/root/pdu.password" --yes',
    ),
)
@click.option(
    "--template", type=click.Choice(TEMPLATES), default=TEMPLATES[0], show_default=True, help="What to set up."
)
@click.option("--cluster", metavar="NAME", default="", help="Name of the cluster.")
@click.option(
    "--node", "nodes", metavar="NAME=ADDRESS", multiple=True, help="A mail server; twice. One is this machine."
)
@click.option("--witness", metavar="NAME=ADDRESS", default="", help="The third machine, which only votes.")
@click.option("--vip", "vips", metavar="ADDRESS/PREFIX", multiple=True, help="Floating address; several with IPv6.")
@click.option(
    "--interface", metavar="NAME", default="", help="Where the floating address goes.  [default: by its network]"
)
@click.option("--device", metavar="PATH", default="", help="Shared storage, by a name that never changes.")
@click.option("--mount", metavar="PATH", default="", help="Where it is mounted.  [default: /srv/mail]")
@click.option("--fstype", metavar="TYPE", default="", help="Its file system.  [default: what is there]")
@click.option(
    "--fence", "fences", metavar="TEXT", multiple=True, help='"NAME AGENT NODE=PLUG... KEY=VALUE... password=@FILE"'
)
@click.option("--no-fencing", metavar="REASON", default="", help="Without a fence device, and why that is acceptable.")
@click.option(
    "--watchdog", metavar="PATH", default=None, help="Of both mail servers; '' for none.  [default: what is here]"
)
@click.option(
    "--prepare-storage",
    "prepare",
    is_flag=True,
    help="Make the store's folders, on an empty disk that nobody has mounted.",
)
@mail_option
@start_option
@yes_option
@json_option
@pass_app
def init(
    app: App, /, template: str, prepare: bool, apply_mail: bool, no_start: bool, yes: bool, **given: object
) -> None:
    """Set up the first node: configuration, authority, journal.

    Looks at the machine, shows what it would write and how Postfix and Dovecot should change, and asks. All or nothing.
    The secret of a fence device is read from a file. Ends with the commands for the other machines.
    """
    from hamail.setup import first
    from hamail.setup.machine import Machine
    from hamail.setup.node import Layout
    from hamail.setup.problem import SetupError

    machine, layout = Machine(), Layout()
    _require_root(app, machine, "init")
    try:
        _recover(app, machine, layout.etc)
        answers = _Questions(app, machine, yes).ask(given)
        plan = first.plan(answers, machine, layout)
        _look_at_storage(machine, answers, prepare)
    except SetupError as error:
        refuse(app, error)
    app.say(f"This machine becomes {plan.node} of cluster {plan.spec.name}. To be written:", "bold")
    app.say("\n".join(f"  {line}" for line in plan.configuration.splitlines()), "dim")
    _show(app, plan.remarks, plan.mail, apply_mail)
    app.confirm(f"Set up {plan.node}{_will_start(machine, no_start)}?", yes)
    try:
        settled = first.settle(plan, machine, layout, apply_mail=apply_mail)
    except SetupError as error:
        refuse(app, error)
    _applied(app, settled.mail.copies)
    if prepare:
        _prepare(app, machine, answers)
    from hamail.cli.token import ISSUER_SOCKET, open_token
    from hamail.setup.node import RENEWAL, services

    troubles = [] if no_start else _start(machine, (ISSUER_SOCKET, RENEWAL, *services(witness=False)))
    others = [node for node in plan.spec.nodes.values() if node.name != plan.node]
    tokens = {node.name: open_token(app, plan.spec, plan.node, node=node.name, witness=node.witness) for node in others}
    commands = {
        name: f"hamailctl join {token}{' --witness' if plan.spec.nodes[name].witness else ''}"
        for name, token in tokens.items()
    }
    if app.json:
        body = {"result": "done", "node": plan.node, "join": commands, "troubles": troubles}
        app.emit({"schema": JSON_SCHEMA, **body, "configuration": plan.configuration})
        raise SystemExit(int(Exit.FAILED) if troubles else 0)
    app.say(f"{plan.node} is set up.", "bold green")
    for name, command in commands.items():
        app.say(f"\nOn {name} ({plan.spec.nodes[name].address}), as root, within 30 minutes:", "bold")
        app.say(f"  {command}")
    app.say("\nA token is good for one machine, once. Another one: hamailctl token create --node NAME", "dim")
    _end(app, troubles, no_start, (ISSUER_SOCKET, RENEWAL, *services(witness=False)))


@click.command(
    short_help="Make this machine a node of a cluster.",
    epilog=examples(
        "hamailctl join hamail1.lqRtYWls...", "hamailctl join hamail1.lqRtYWls... --witness", "hamailctl join -"
    ),
)
@click.argument("token")
@click.option("--witness", is_flag=True, help="This machine only votes.")
@click.option("--node", metavar="NAME", default="", help="Which node this is.  [default: by its addresses]")
@click.option("--address", "addresses", metavar="ADDRESS", multiple=True, help="Find the node by this address only.")
@mail_option
@start_option
@yes_option
@json_option
@pass_app
def join(
    app: App,
    token: str,
    witness: bool,
    node: str,
    addresses: tuple[str, ...],
    apply_mail: bool,
    no_start: bool,
    yes: bool,
) -> None:
    """Make this machine a node, with a TOKEN that the first node has printed ("-": read it from standard input).

    Configuration, certificate and fence secrets come over a connection that the token's fingerprint proves.
    All or nothing.
    """
    from hamail.setup.further import Joining
    from hamail.setup.machine import Machine
    from hamail.setup.node import RENEWAL, Layout, services
    from hamail.setup.problem import SetupError

    machine, layout = Machine(), Layout()
    _require_root(app, machine, "join")
    read = read_or_end(app, token)
    joining = Joining(read, machine, layout)
    try:
        _recover(app, machine, layout.etc)
        plan = joining.plan(node=node, addresses=addresses, witness=witness)
    except SetupError as error:
        refuse(app, error)
    role = "the witness" if plan.witness else "a mail server"
    app.say(f"This machine becomes {plan.node}, {role} of cluster {plan.spec.name}.", "bold")
    if plan.rejoining:
        app.say(f"! {plan.node} was set up before: this machine takes its place, as after a lost disk", "yellow")
    _show(app, plan.remarks, plan.mail, apply_mail, mail=not plan.witness)
    app.confirm(f"Join as {plan.node}{_will_start(machine, no_start)}?", yes)
    try:
        settled = joining.settle(plan, apply_mail=apply_mail)
    except SetupError as error:
        refuse(app, error)
    _applied(app, settled.mail.copies)
    units = (RENEWAL, *services(plan.witness))
    troubles = [] if no_start else _start(machine, units)
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "result": "done", "node": plan.node, "troubles": troubles})
        raise SystemExit(int(Exit.FAILED) if troubles else 0)
    app.say(f"{plan.node} has joined cluster {plan.spec.name}.", "bold green")
    _end(app, troubles, no_start, units)


class _Questions:
    """Flags first; what is missing is asked for, or named all at once when nobody can be asked."""

    def __init__(self, app: App, machine: "Machine", yes: bool) -> None:
        self._app = app
        self._machine = machine
        self._asking = not yes and not app.json and sys.stdin.isatty()
        self._missing: list[str] = []

    def ask(self, given: dict[str, object]) -> "Answers":
        """Raises SetupError."""
        from hamail.setup.answers import FENCE_EXAMPLE, Answers, read_fence, read_named

        cluster = self._one(given["cluster"], "--cluster", "Name of the cluster", "mail")
        here = next(iter(self._machine.addresses()), "")
        mine = [read_named(text, "--node") for text in _texts(given["nodes"])]
        while len(mine) < 2:
            number = len(mine) + 1
            proposal = f"n1={here}" if number == 1 and here else ""
            text = self._one("", "--node NAME=ADDRESS (twice)", f"Mail server {number}, as NAME=ADDRESS", proposal)
            if not text:
                break
            mine.append(read_named(text, "--node"))
        third = self._one(given["witness"], "--witness NAME=ADDRESS", "Witness, as NAME=ADDRESS", "")
        vips = self._several(given["vips"], "--vip ADDRESS/PREFIX", "Floating address, with its prefix (10.0.0.100/24)")
        device = self._device(str(given["device"]))
        mount = self._one(given["mount"] or ("" if self._asking else "/srv/mail"), "--mount", "Mounted at", "/srv/mail")
        reason = str(given["no_fencing"])
        fences = _texts(given["fences"])
        if not fences and not reason:
            if self._asking:
                self._app.say(f"A fence device, as in {FENCE_EXAMPLE.removeprefix('--fence ')}; empty: none.", "dim")
                answer = click.prompt("Fence device", default="", show_default=False, err=True)
                fences = (answer.strip('" '),) if answer.strip() else ()
                reason = "" if fences else str(click.prompt("Why is it acceptable to have none", err=True))
            else:
                self._missing.append("--fence TEXT, or --no-fencing REASON")
        if self._missing:
            self._app.end(
                Exit.USAGE,
                "not enough is known, and nobody can be asked; nothing was changed",
                [f"missing: {option}" for option in dict.fromkeys(self._missing)],
                hint="All options, with an example: hamailctl init --help",
            )
        nodes = dict(mine)
        devices = tuple(read_fence(text, nodes) for text in fences)
        watchdog = given["watchdog"]
        return Answers(
            cluster=cluster,
            nodes=nodes,
            witness=dict([read_named(third, "--witness")]),
            vips=vips,
            interface=str(given["interface"]) or self._interface(vips),
            device=device,
            mount=mount.rstrip("/") or "/",
            fstype=str(given["fstype"]) or self._machine.fstype(device) or "ext4",
            fences=devices,
            watchdog=self._machine.watchdog() if watchdog is None else str(watchdog),
            virtual=self._machine.virtual(),
            unsafe_reason=reason,
        )

    def _one(self, given: object, option: str, question: str, proposal: str) -> str:
        if given:
            return str(given)
        if self._asking:
            return str(click.prompt(question, default=proposal or None, err=True))
        self._missing.append(option)
        return ""

    def _several(self, given: object, option: str, question: str) -> tuple[str, ...]:
        found = _texts(given)
        return found or tuple(self._one("", option, question, "").split())

    def _device(self, given: str) -> str:
        proposals = self._machine.proposed_devices()
        if not given and self._asking and proposals:
            self._app.say("File systems on this machine that are not mounted:", "dim")
            for name in proposals:
                self._app.say(f"  {name} ({self._machine.fstype(name) or 'unknown'})", "dim")
        return self._one(given, "--device PATH", "Shared storage", proposals[0] if len(proposals) == 1 else "")

    def _interface(self, vips: tuple[str, ...]) -> str:
        """By the first floating address that one of this machine's networks contains. Raises SetupError."""
        import ipaddress

        from hamail.setup.problem import SetupError

        for vip in vips:
            try:
                found = self._machine.interface_for(ipaddress.ip_interface(vip))
            except ValueError as error:
                raise SetupError(f"--vip {vip!r} is no address: {error}", "As in: --vip 10.0.0.100/24") from error
            if found:
                return found
        has = ", ".join(sorted(self._machine.interfaces))
        raise SetupError(
            f"no interface of this machine has the network of {listed(list(vips))}",
            f"Is the prefix right? Else say --interface; there are {has}",
        )


def _look_at_storage(machine: "Machine", answers: "Answers", prepare: bool) -> None:
    """Raises SetupError when the disk must be prepared and was not asked to be, or the other way round."""
    from hamail.setup import storage
    from hamail.setup.problem import SetupError

    empty = storage.empty(machine, answers.device, answers.fstype)
    if prepare and not empty:
        raise SetupError(
            f"--prepare-storage is for an empty disk; on {answers.device} there is something, or nobody can tell",
            "What is there is not touched. Leave --prepare-storage out",
        )
    if empty and not prepare:
        raise SetupError(
            f"{answers.device} is empty: Postfix and Dovecot would not find their folders",
            "If no machine has it mounted: hamailctl init --prepare-storage ...",
        )


def _prepare(app: App, machine: "Machine", answers: "Answers") -> None:
    """Before anything starts: afterwards the storage is hamail's to mount."""
    from hamail.setup import storage
    from hamail.setup.problem import SetupError

    try:
        made = storage.prepare(machine, answers.device, answers.mount, answers.fstype)
    except SetupError as error:
        later = "systemctl enable --now hamail-issuer.socket hamail-renew.timer hamail-executor hamaild"
        reasons = (f"the storage was not prepared: {error.reason}", error.hint)
        app.end(Exit.FAILED, "it is set up, but was not started", reasons, hint=f"Then: {later}")
    app.say(f"Made on the shared storage: {listed(made)}")


def _texts(given: object) -> tuple[str, ...]:
    return tuple(map(str, given)) if isinstance(given, tuple) else ()


def read_or_end(app: App, text: str) -> "Token":
    """A token; "-": from standard input, since all users of a machine see command lines."""
    from hamail.enrol.token import TokenError, read_token

    try:
        return read_token(sys.stdin.read(TOKEN_TEXT_MAX) if text == "-" else text)
    except TokenError as error:
        app.end(Exit.USAGE, str(error), hint="On the first node: hamailctl token create")


def refuse(app: App, error: "SetupError") -> NoReturn:
    app.end(Exit.REFUSED, error.reason, error.reasons, hint=error.hint)


def _require_root(app: App, machine: "Machine", command: str) -> None:
    if not machine.is_root():
        app.end(Exit.REFUSED, f"{command} writes what only root may write; nothing was changed", hint="Run it as root")


def _recover(app: App, machine: "Machine", etc: Path) -> None:
    """Raises SetupError. Whatever runs here is proof that no set-up is unfinished."""
    from hamail.setup.place import Placement

    if machine.has_systemd() and machine.active("hamaild"):
        return
    for path in Placement(etc).recover():
        app.say(f"Removed {path}, left by a set-up that was cut off.", "yellow")


def _show(app: App, remarks: tuple[str, ...], plan: "MailPlan", apply_mail: bool, mail: bool = True) -> None:
    for remark in remarks:
        app.say(f"! {remark}", "yellow")
    if not mail:
        return
    for line in plan.by_hand:
        app.say(f"! by hand: {line}", "yellow")
    if plan.empty:
        app.say("Postfix and Dovecot: nothing needs to change.", "dim")
        return
    told = "will be changed" if apply_mail else "should be changed (--apply-mail-settings does it)"
    app.say(f"\nPostfix and Dovecot {told}:", "bold")
    for reason in plan.reasons:
        app.say(f"  {reason}")
    for change in plan.changes:
        app.say("\n" + change.diff().rstrip("\n"), "cyan")
    if plan.disable:
        app.say(f"\n  systemctl disable {' '.join(plan.disable)}", "cyan")
    app.say()


def _applied(app: App, copies: list[tuple[Path, Path]]) -> None:
    for path, copy in copies:
        app.say(f"Changed {path}; as it was: {copy}")


def _will_start(machine: "Machine", no_start: bool) -> str:
    if no_start:
        return ""
    running = [name for name in ("postfix", "dovecot") if machine.has_systemd() and machine.active(name)]
    if not running:
        return " and start hamail"
    return f" and start hamail (it stops {listed(running)} now; mail is back when two of the nodes run)"


def _start(machine: "Machine", units: tuple[str, ...]) -> list[str]:
    from hamail.setup.node import start

    why = start(machine, units)
    return [why] if why else []


def _end(app: App, troubles: list[str], no_start: bool, units: tuple[str, ...]) -> None:
    later = f"systemctl enable --now {' '.join(units)}"
    if troubles:
        app.end(Exit.FAILED, "it is set up, but its services did not start", troubles, hint=f"Then: {later}")
    app.say(f"\nTo start it: {later}" if no_start else "\nLook: hamailctl status", "bold")
