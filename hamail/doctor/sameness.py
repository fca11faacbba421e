"""What has to be the same on both nodes, since a group finds it wherever it starts."""

import hashlib
from datetime import UTC, datetime

from cryptography import x509

from hamail.doctor.findings import Findings, told
from hamail.doctor.line import Opinions, fail, ok, unknown, warn

EXPIRY_WARN_DAYS, EXPIRY_FAIL_DAYS = 21, 2
NAMED_MAX = 6


def users(f: Findings) -> Opinions:
    """Files carry numbers, not names: another number on the other node is another user."""
    yield from f.without_machine()
    machines = f.machines()
    if len(machines) < 2:
        return
    wrong = False
    for name in sorted({name for m in machines.values() for name in m.users}):
        ids = {node: f"{m.users[name].uid}:{m.users[name].gid}" for node, m in machines.items() if name in m.users}
        missing = [node for node in machines if node not in ids]
        if len(set(ids.values())) > 1:
            wrong = True
            remedy = f"give {name} the same ids everywhere (usermod -u, groupmod -g), and chown its files"
            yield fail(f"user {name}", f"has other ids on each node ({told(ids)}): it cannot read its files", remedy)
        elif missing:
            wrong = True
            text = f"exists on {' and '.join(ids)}, not on {' and '.join(missing)}"
            remedy = f"on {missing[0]}: useradd --system --uid {next(iter(ids.values())).split(':')[0]} {name}"
            yield warn(f"user {name}", text, remedy)
    for name in sorted({name for m in machines.values() for name in m.groups}):
        numbers = {node: m.groups[name] for node, m in machines.items() if name in m.groups}
        if len(set(numbers.values())) > 1:
            wrong = True
            remedy = f"groupmod -g NUMBER {name} on one of them, and chgrp its files"
            yield fail(f"group {name}", f"has another id on each node ({told(numbers)})", remedy)
    if not wrong:
        yield ok("users", f"{len(machines['' if '' in machines else min(machines)].users)} users have the same ids")


def certificates(f: Findings) -> Opinions:
    """Clients that have seen the one certificate must not meet another after a move."""
    yield from f.without_machine()
    machines = f.machines()
    uses = sorted({use for m in machines.values() for use in m.certificates})
    for use in uses:
        found = {node: m.certificates[use] for node, m in machines.items() if use in m.certificates}
        bad = {node: c for node, c in found.items() if c.problem}
        for node, c in bad.items():
            yield fail(f"{use} on {node}", f"{c.path} {c.problem}", f"put the certificate there on {node}")
        missing = [node for node in machines if node not in found]
        for node in missing:
            text = f"has no certificate configured, while {' and '.join(found)} has"
            yield fail(f"{use} on {node}", text, "configure TLS the same way on both")
        if bad or missing:
            continue
        prints = {node: hashlib.sha256(c.der).hexdigest()[:16] for node, c in found.items()}
        if len(set(prints.values())) > 1:
            text = f"the nodes have different certificates ({told(prints)}): clients will be asked to trust anew"
            yield fail(use, text, "copy certificate and key to both, and renew them together")
        elif len(found) > 1:
            yield from _validity(f, use, next(iter(found.values())).der)
    if not uses and machines:
        yield unknown("TLS", "neither SMTP nor IMAP is configured with a certificate")


def _validity(f: Findings, use: str, der: bytes) -> Opinions:
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError as error:
        yield fail(use, f"the certificate cannot be read: {error}", "put a valid one there")
        return
    days = (certificate.not_valid_after_utc - datetime.fromtimestamp(f.at_ms / 1000, UTC)).days
    until = certificate.not_valid_after_utc.strftime("%Y-%m-%d")
    if days < EXPIRY_FAIL_DAYS:
        yield fail(use, f"the certificate ends on {until}", "renew it, on both nodes")
    elif days < EXPIRY_WARN_DAYS:
        yield warn(use, f"the certificate ends on {until}, in {days} days", "renew it, on both nodes")
    else:
        yield ok(use, f"the same certificate on all nodes, good until {until}")


def drift(f: Findings) -> Opinions:
    """Configuration that was changed on one node only shows at the next move."""
    yield from f.without_machine()
    machines = f.machines()
    if len(machines) < 2:
        return
    files = {node: m.files for node, m in machines.items()}
    names = sorted({name for found in files.values() for name in found})
    different = [name for name in names if len({found.get(name, "") for found in files.values()}) > 1]
    left_out = max(m.files_left_out for m in machines.values())
    if different:
        shown = ", ".join(different[:NAMED_MAX]) + (
            f" and {len(different) - NAMED_MAX} more" if len(different) > NAMED_MAX else ""
        )
        text = f"not the same on {' and '.join(sorted(machines))}: {shown}"
        yield warn("configuration", text, "compare them (diff, rsync -nac) and make them equal; host names may differ")
    elif left_out:
        yield unknown("configuration", f"{len(names)} files are the same; {left_out} more were not compared")
    elif names:
        yield ok("configuration", f"{len(names)} files of the mail programs are the same")
    else:
        yield unknown("configuration", "no configuration of a mail program was found")


def versions(f: Findings) -> Opinions:
    hamail = {node: report.version for node, report in f.reports.items() if report.version}
    if len(set(hamail.values())) > 1:
        yield warn("hamail", f"runs in different versions ({told(hamail)})", "bring all nodes to the newest one")
    for program, key in (("postfix", "mail_version"), ("dovecot", "dovecot_version")):
        found = {
            node: p.settings[key]
            for node in f.machines()
            if (p := f.program(node, program)) is not None and p.settings.get(key)
        }
        if len(set(found.values())) > 1:
            text = f"runs in different versions ({told(found)})"
            yield warn(program.capitalize(), text, "bring both nodes to the same one, the standby first")
        elif len(found) > 1:
            yield ok(program.capitalize(), f"{next(iter(found.values()))} on {' and '.join(sorted(found))}")
