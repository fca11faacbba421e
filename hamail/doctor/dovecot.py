"""Dovecot on a machine that owns the mailboxes only sometimes."""

from hamail.doctor.findings import Findings
from hamail.doctor.line import Opinions, fail, ok, unknown, warn
from hamail.model.machine import MachineFacts
from hamail.model.mailboxes import places

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
        found = places(values)
        stays = [place for place in found if not f.moves_along(place.path)]
        named = [place.path for place in stays if not place.by_home]
        if not f.directories():
            yield unknown(node, "no group mounts storage")
        elif named:
            text = f"mail is below {' and '.join(named)}, on {node}'s own disk: it does not move with the group"
            keys = "mail_location; in Dovecot 2.4 mail_path, mail_inbox_path, mail_control_path"
            yield fail(node, text, f"put it below {f.directories()[0]} ({keys})")
        elif stays:
            text = "the place of the mailboxes depends on each user's home, which cannot be seen here"
            yield unknown(node, text, "doveadm user -f home USER must lie on the group's storage")
        else:
            below = " and ".join(place.path for place in found)
            yield ok(node, f"the mailboxes are below {below}, which moves with the group")


def local_state(f: Findings) -> Opinions:
    for node, values in _readable(f).items():
        path = values.get("base_dir", "")
        if f.moves_along(path):
            text = f"base_dir {path} is on the storage that moves: sockets of another machine would be found there"
            yield fail(node, text, f"on {node}: base_dir = /run/dovecot")
        else:
            yield ok(node, f"its sockets are in {path or '/run/dovecot'}, on the node itself")
