"""Postfix on a machine that owns the mail only sometimes."""

import re

from hamail.doctor.findings import Findings, differing, told
from hamail.doctor.line import Opinions, fail, ok, unknown, warn
from hamail.model.machine import MachineFacts


def _set(node: str, setting: str) -> str:
    return f"on {node}: postconf -e '{setting}' (it is in force after the next start of Postfix)"


def settings(f: Findings) -> Opinions:
    """Can they be read at all?"""
    if not f.has("postfix"):
        return

    def one(node: str, machine: MachineFacts) -> Opinions:
        if machine.postfix is None:
            yield fail(node, "Postfix is not installed", f"on {node}: apt install postfix")
        elif machine.postfix.problem:
            yield fail(node, f"its settings cannot be read: {machine.postfix.problem}", f"on {node}: postfix check")
        else:
            yield ok(node, f"Postfix {machine.postfix.settings.get('mail_version', '')} with readable settings")

    yield from f.each_machine(one)


def _readable(f: Findings) -> dict[str, dict[str, str]]:
    found = {node: f.program(node, "postfix") for node in f.mail_nodes()}
    return {node: p.settings for node, p in found.items() if p is not None and p.settings} if f.has("postfix") else {}


def interfaces(f: Findings) -> Opinions:
    """A floating address in inet_interfaces: every command of Postfix is fatal on a node that does not have it."""
    for node, values in _readable(f).items():
        value = values.get("inet_interfaces", "")
        words = value.replace(",", " ").split()
        named = [word.strip("[]") for word in words if word.strip("[]") in f.vips()]
        if "all" in words:
            yield ok(node, "inet_interfaces = all")
        elif named:
            yield fail(
                node,
                f"inet_interfaces names the floating address {', '.join(named)}: without it every command of Postfix "
                "fails, also `postfix stop`",
                _set(node, "inet_interfaces = all"),
            )
        elif set(words) <= {"loopback-only", "127.0.0.1", "::1", "localhost"}:
            text = f"inet_interfaces = {value}: nobody outside can deliver mail"
            yield fail(node, text, _set(node, "inet_interfaces = all"))
        else:
            text = f"inet_interfaces = {value} does not take in the floating address"
            yield fail(node, text, _set(node, "inet_interfaces = all"))


def source(f: Findings) -> Opinions:
    """Outgoing mail must come from the floating address, or SPF and PTR do not fit after a move."""
    vips = f.vips()
    for node, values in _readable(f).items():
        bound = [values.get(key, "").strip("[]") for key in ("smtp_bind_address", "smtp_bind_address6")]
        given = [value for value in bound if value]
        v4 = [vip for vip in vips if ":" not in vip]
        wish = f"smtp_bind_address = {v4[0]}" if v4 else "smtp_bind_address = the floating address"
        strangers = [value for value in given if value not in vips]
        if not vips:
            yield unknown(node, "no group has a floating address")
        elif strangers:
            text = f"outgoing mail leaves from {', '.join(strangers)}, which does not move with the group"
            yield warn(node, text, _set(node, wish))
        elif not given:
            text = "outgoing mail leaves from the node's own address: after a move SPF and PTR may not fit"
            yield warn(node, text, f"{_set(node, wish)}, and smtp_bind_address_enforce = yes; or list both in SPF")
        elif values.get("smtp_bind_address_enforce", "no") != "yes":
            text = "smtp_bind_address_enforce is not yes: without the floating address Postfix silently uses another"
            yield warn(node, text, _set(node, "smtp_bind_address_enforce = yes"))
        else:
            yield ok(node, f"outgoing mail leaves from {', '.join(given)} only")


def queue(f: Findings) -> Opinions:
    """Mail that was accepted must move with the group."""
    for node, values in _readable(f).items():
        path = values.get("queue_directory", "")
        if not f.directories():
            yield unknown(node, "no group mounts storage")
        elif f.moves_along(path):
            yield ok(node, f"the queue {path} moves with the group")
        else:
            where = f.directories()[0]
            text = f"the queue {path} is on {node}'s own disk: accepted mail stays behind when {node} dies"
            yield fail(node, text, f"put it on the group's storage, e.g. queue_directory = {where}/queue; see README")


def identity(f: Findings) -> Opinions:
    """The same server to the outside, whichever node it runs on."""
    readable = _readable(f)
    for key in ("myhostname", "myorigin", "mydestination", "virtual_mailbox_domains"):
        values = {node: values.get(key, "") for node, values in readable.items()}
        if differing(values):
            say = fail if key == "myhostname" else warn
            text = f"{key} is not the same everywhere ({told(values)}): the mail server would change its name at a move"
            yield say(key, text, f"postconf -e '{key} = ...' with the same value on {' and '.join(values)}")
        elif values and key == "myhostname":
            name = next(iter(values.values()))
            own = [node for node, m in f.machines().items() if re.split(r"\.", name)[0] in (node, m.hostname)]
            if own:
                text = f"myhostname = {name} is the name of {own[0]} itself"
                yield warn(key, text, "give the service a name of its own, the one whose address is the floating one")
            else:
                yield ok(key, f"{name} on {' and '.join(values)}")


def bounces(f: Findings) -> Opinions:
    for node, values in _readable(f).items():
        if values.get("soft_bounce") == "yes":
            text = "soft_bounce = yes: mail that should be refused is asked for again and again"
            yield warn(node, text, _set(node, "soft_bounce = no"))
        else:
            yield ok(node, "soft_bounce = no")
