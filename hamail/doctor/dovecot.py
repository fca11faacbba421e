"""Dovecot on a machine that owns the mailboxes only sometimes."""

import re

from hamail.doctor.findings import Findings
from hamail.doctor.line import Opinions, fail, ok, unknown, warn
from hamail.model.machine import MachineFacts

EVERYWHERE = {"*", "::", "[::]", "0.0.0.0"}  # noqa: S104 - what a listener is compared with


def settings(f: Findings) -> Opinions:
    if not f.has("dovecot"):
        return

    def one(node: str, machine: MachineFacts) -> Opinions:
        if machine.dovecot is None:
            yield fail(node, "Dovecot is not installed", f"on {node}: apt install dovecot-imapd dovecot-lmtpd")
        elif machine.dovecot.problem:
            yield fail(node, f"its settings cannot be read: {machine.dovecot.problem}", f"on {node}: doveconf -n")
        else:
            yield ok(node, "Dovecot with readable settings")

    yield from f.each_machine(one)


def _readable(f: Findings) -> dict[str, dict[str, str]]:
    found = {node: f.program(node, "dovecot") for node in f.mail_nodes()}
    return {node: p.settings for node, p in found.items() if p is not None and p.settings} if f.has("dovecot") else {}


def clients(f: Findings) -> Opinions:
    """Processes that outlive the stop hold the mount: the unmount fails, and the node is fenced for it."""
    for node, values in _readable(f).items():
        value = values.get("shutdown_clients", "yes")
        if value == "yes":
            yield ok(node, "shutdown_clients = yes")
        else:
            yield fail(
                node,
                f"shutdown_clients = {value}: sessions outlive Dovecot's stop and keep the storage busy",
                f"on {node}: set shutdown_clients = yes in dovecot.conf",
            )


def listen(f: Findings) -> Opinions:
    for node, values in _readable(f).items():
        words = [word.strip("[]") for word in values.get("listen", "*").replace(",", " ").split()]
        named = [word for word in words if word in f.vips()]
        if named and not set(words) & EVERYWHERE:
            yield warn(
                node,
                f"listens on the floating address only ({', '.join(named)}): it cannot start before that is up",
                f"on {node}: listen = *, ::   (or put the address before Dovecot with `after`)",
            )
        elif set(words) & EVERYWHERE:
            yield ok(node, f"listens on {', '.join(words)}")
        else:
            text = f"listens on {', '.join(words) or 'nothing'}, and not on the floating address"
            yield fail(node, text, f"on {node}: listen = *, ::")


def mailboxes(f: Findings) -> Opinions:
    """Where is the mail?"""
    for node, values in _readable(f).items():
        path = location(values)
        if not f.directories():
            yield unknown(node, "no group mounts storage")
        elif not path:
            text = "the place of the mailboxes depends on each user's home, which cannot be seen here"
            yield unknown(node, text, "doveadm user -f home USER must lie on the group's storage")
        elif f.moves_along(path):
            yield ok(node, f"the mailboxes are below {path}, which moves with the group")
        else:
            text = f"the mailboxes are below {path}, on {node}'s own disk: they do not move with the group"
            yield fail(node, text, f"put them below {f.directories()[0]} (mail_location, or mail_path in Dovecot 2.4)")


def location(values: dict[str, str]) -> str:
    """The fixed beginning of the path of the mailboxes; "" when it depends on the user's home."""
    given = values.get("mail_path") or values.get("mail_location", "")
    path = re.sub(r"^[a-z]+:", "", given).split(":")[0].split("%")[0]
    if path.startswith("~") or not path.startswith("/"):
        home = values.get("mail_home", "").split("%")[0]
        path = home if home.startswith("/") else ""
    return path.rstrip("/")


def local_state(f: Findings) -> Opinions:
    for node, values in _readable(f).items():
        path = values.get("base_dir", "")
        if f.moves_along(path):
            text = f"base_dir {path} is on the storage that moves: sockets of another machine would be found there"
            yield fail(node, text, f"on {node}: base_dir = /run/dovecot")
        else:
            yield ok(node, f"its sockets are in {path or '/run/dovecot'}, on the node itself")
