"""`hamailctl probe`: what clients see, measured from this machine. Needs no hamaild."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from hamail.cli.app import App, DurationMs, Exit, F, examples, pass_app

if TYPE_CHECKING:
    import asyncio

    from hamail.probe.prober import Plan, Prober
    from hamail.probe.services import Account, Service

FLAGS = ("smtp", "submission", "submissions", "imap", "imaps")
DEFAULT = ("smtp", "imap")


def _flags(command: F) -> F:
    words = {
        "smtp": "SMTP, port 25.",
        "submission": "Submission, port 587 (STARTTLS).",
        "submissions": "Submission over TLS, port 465.",
        "imap": "IMAP, port 143; with --user mail is read back.",
        "imaps": "IMAP over TLS, port 993.",
    }
    for name in reversed(FLAGS):
        command = click.option(f"--{name}", is_flag=True, help=words[name])(command)
    return command


@click.command(
    short_help="Measure outages and lost mail from outside.",
    epilog=examples(
        "hamailctl probe mail.example.org --for 10m",
        "hamailctl probe mail.example.org --smtp --imaps --to probe@example.org \\",
        "    --user probe@example.org --password-file ~/.probe --json probe.jsonl",
        "hamailctl probe 192.0.2.10 --lmtp-through 192.0.2.10:24 --every 50ms",
    ),
)
@click.argument("target")
@_flags
@click.option("--lmtp-through", metavar="PLACE", help="LMTP as well: HOST:PORT, or the path of a socket.")
@click.option("--port", "ports", metavar="NAME=PORT", multiple=True, help="Another port, as smtp=2525.")
@click.option("--to", "recipient", metavar="ADDRESS", help="Send mail to this mailbox.  [default: --user]")
@click.option("--from", "sender", metavar="ADDRESS", default="", help="Sender of that mail.  [default: <>]")
@click.option("--user", default="", help="Login for submission and for reading the mailbox.")
@click.option("--password-file", type=click.Path(path_type=Path), help="Its password: the first line of a file.")
@click.option("--plain", is_flag=True, help="Send the password also where there is no TLS.")
@click.option("--tls-name", metavar="NAME", default="", help="What the certificate must name.  [default: TARGET]")
@click.option(
    "--for", "for_ms", type=DurationMs(), default="5m", show_default=True, help="How long; 0ms: until Ctrl-C."
)
@click.option(
    "--every", "every_ms", type=DurationMs(), default="200ms", show_default=True, help="One connection a door."
)
@click.option("--mail-every", "mail_every_ms", type=DurationMs(), default="1s", show_default=True, help="Mails.")
@click.option("--detail", is_flag=True, help="Record every connection, not only those that failed.")
@click.option("--keep-mail", is_flag=True, help="Leave the probe's mails in the mailbox.")
@click.option("--until-eof", is_flag=True, help="End as well when standard input does: for who runs it through ssh.")
@click.option("--json", "file", metavar="FILE", help="Records, one JSON object a line; - is standard output.")
@pass_app
def probe(
    app: App,
    /,
    target: str,
    file: str | None,
    for_ms: int,
    detail: bool,
    keep_mail: bool,
    until_eof: bool,
    **given: object,
) -> None:
    """Ask the mail service at TARGET for its greeting again and again, send mail through it and read it back.

    Says when it was out and for how long, and whether a mail that was acknowledged is lost. Ends with 1 when mail was
    lost, none was taken, the mailbox could not be read, or a door did not answer at the end.
    """
    import asyncio

    from hamail.probe.prober import Plan, Prober
    from hamail.probe.records import Writer

    services = _services(app, target, given)
    chosen = account(app, given)
    every_ms, mail_every_ms = _pace(app, int(str(given["every_ms"])), int(str(given["mail_every_ms"])))
    plan = Plan(
        target=target,
        services=services,
        every_ms=every_ms,
        for_ms=for_ms or None,
        mail_every_ms=mail_every_ms if chosen is not None and chosen.recipient else 0,
        account=chosen,
        detail=detail,
        keep_mail=keep_mail,
        until_eof=until_eof,
    )
    app.json = file == "-"
    _announce(app, plan)
    with _output(app, file) as stream:
        prober = asyncio.run(_run(lambda: Prober(plan, Writer(stream))))
    _tell(app, plan, prober)
    v = prober.verdict
    lost = v is not None and (not v.clean or bool(v.sent and not v.acknowledged) or bool(prober.problem))
    down = [t.service for t in prober.trackers.values() if t.down_since_ms is not None or t.last_ok_ms is None]
    if lost or down:
        raise SystemExit(int(Exit.FAILED))


async def _run(make: "Callable[[], Prober]") -> "Prober":
    import asyncio
    import threading

    prober = make()  # in the loop, where its events belong
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, prober.stop)
    if prober.plan.until_eof:
        threading.Thread(target=_wait_for_eof, args=(asyncio.get_running_loop(), prober), daemon=True).start()
    await prober.run()
    return prober


def _wait_for_eof(loop: "asyncio.AbstractEventLoop", prober: "Prober") -> None:
    """In a thread: standard input may be anything, a file too."""
    while os.read(0, 4096):
        pass
    with contextlib.suppress(RuntimeError):  # the probe has ended before
        loop.call_soon_threadsafe(prober.stop)


def _services(app: App, target: str, given: dict[str, object]) -> "tuple[Service, ...]":
    from hamail.probe.services import KINDS, Service

    through = given["lmtp_through"]
    names = [name for name in FLAGS if given[name]] or ([] if through else list(DEFAULT))
    ports: dict[str, int] = {}
    assert isinstance(given["ports"], tuple)
    for word in given["ports"]:
        name, _, number = word.partition("=")
        if name not in KINDS or not number.isdigit() or not 0 < int(number) < 65_536:
            app.end(Exit.USAGE, f"--port {word}: write it as smtp=2525; names: {', '.join(KINDS)}")
        ports[name] = int(number)
    found = [Service(name, target, ports.get(name, KINDS[name].port)) for name in names]
    if through:
        found.append(_lmtp(app, str(through), ports.get("lmtp", KINDS["lmtp"].port)))
    return tuple(found)


def _lmtp(app: App, place: str, port: int) -> "Service":
    from hamail.probe.services import Service

    if place.startswith("/"):
        return Service("lmtp", place, 0)
    host, colon, number = place.rpartition(":")
    if not colon or host.endswith(":"):  # a bare name, or a bare IPv6 address
        return Service("lmtp", place, port)
    if not number.isdigit() or not 0 < int(number) < 65_536:
        app.end(Exit.USAGE, f"--lmtp-through {place}: write it as HOST:PORT, or as the path of a socket")
    return Service("lmtp", host.strip("[]"), int(number))


def account(app: App, given: dict[str, object]) -> "Account | None":
    from hamail.probe.services import Account, BadPassword, read_password

    user, file = str(given["user"]), given["password_file"]
    recipient = str(given["recipient"] or (user if "@" in user else ""))
    password = ""
    if user and file is None:
        app.end(Exit.USAGE, "--user needs --password-file: a password on the command line could be seen by others")
    if file is not None:
        assert isinstance(file, Path)
        try:
            password = read_password(file)
        except BadPassword as error:
            app.end(Exit.USAGE, str(error))
    if (given["submission"] or given["submissions"]) and recipient and not user:
        app.end(Exit.USAGE, "submission takes mail of known users only: give --user and --password-file")
    for address in (recipient, str(given["sender"])):
        if address and ("@" not in address or not address.isprintable() or any(c in address for c in " <>")):
            app.end(Exit.USAGE, f"'{address}' is not a mail address")
    if not recipient and not user:
        return None
    return Account(
        sender=str(given["sender"]),
        recipient=recipient,
        user=user,
        password=password,
        tls_name=str(given["tls_name"]),
        plain=bool(given["plain"]),
    )


def _pace(app: App, every_ms: int, mail_every_ms: int) -> tuple[int, int]:
    from hamail.probe.prober import EVERY_MAX_MS, EVERY_MIN_MS, MAIL_EVERY_MIN_MS

    if not EVERY_MIN_MS <= every_ms <= EVERY_MAX_MS:
        app.end(Exit.USAGE, f"--every must be between {EVERY_MIN_MS}ms and {EVERY_MAX_MS // 1000}s")
    if mail_every_ms < MAIL_EVERY_MIN_MS:
        app.end(Exit.USAGE, f"--mail-every must be at least {MAIL_EVERY_MIN_MS}ms")
    return every_ms, mail_every_ms


@contextlib.contextmanager
def _output(app: App, file: str | None) -> Iterator[IO[bytes] | None]:
    if file is None:
        yield None
    elif file == "-":
        yield sys.stdout.buffer
    else:
        try:
            with Path(file).open("ab") as stream:
                yield stream
        except OSError as error:
            app.end(Exit.USAGE, f"{file}: {error.strerror}")


def _announce(app: App, plan: "Plan") -> None:
    doors = ", ".join(f"{s.name} at {s.place}" for s in plan.services)
    app.say(f"Probing {doors}; one connection every {plan.every_ms} ms each. Ctrl-C ends.", "dim")
    if plan.mail_every_ms and plan.account is not None:
        back = "and reads it back" if plan.account.user else "without reading it back: loss would not be seen"
        app.say(f"Sends mail to {plan.account.recipient} every {plan.mail_every_ms} ms, {back}.", "dim")


def _tell(app: App, plan: "Plan", prober: "Prober") -> None:
    from hamail.cli.words import clock, counted, took

    for outage in prober.outages:
        length = took(round(outage.ms))
        app.say(f"{outage.service} out for {length} from {clock(round(outage.from_ms))}: {outage.why}", "yellow")
    for service in plan.services:
        tracker = prober.trackers[service.name]
        if tracker.last_ok_ms is None:
            app.say(f"{service.name} never answered: {tracker.why}", "bold red")
        elif tracker.down_since_ms is not None:
            app.say(f"{service.name} is out since {clock(round(tracker.down_since_ms))}: {tracker.why}", "bold red")
        elif service.name not in prober.worst_ms:
            app.say(f"{service.name} was never out", "green")
    v = prober.verdict
    if v is None:
        return
    app.say(f"{counted(v.acknowledged, 'mail')} acknowledged of {v.sent} sent")
    if prober.not_taken:
        app.say(f"The last that was not taken: {prober.not_taken}", "yellow")
    if not prober.read:
        app.say("The mailbox was not read back, so whether any is lost is not known. " + prober.problem, "yellow")
        return
    app.say(f"{v.found} found, {len(v.lost)} lost, {len(v.duplicated)} duplicated, {len(v.corrupt)} damaged; outcome")
    app.say(f"unknown: {v.unknown} not there, {v.recovered} there", "dim")
    for name in v.lost:
        app.say(f"  lost: {name}", "bold red")


COMMANDS = (probe,)
