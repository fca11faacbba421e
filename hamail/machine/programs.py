"""The settings of Postfix and Dovecot that decide whether a failover works. Only these: others may hold passwords."""

import re

from hamail.machine.run import Failed, has, output
from hamail.model.machine import TEXT_CHARS_MAX, ProgramFacts
from hamail.model.spec import GroupSpec

POSTFIX = (
    "mail_version",
    "myhostname",
    "myorigin",
    "mydomain",
    "mydestination",
    "virtual_mailbox_domains",
    "inet_interfaces",
    "inet_protocols",
    "smtp_bind_address",
    "smtp_bind_address6",
    "smtp_bind_address_enforce",
    "queue_directory",
    "data_directory",
    "mail_spool_directory",
    "virtual_mailbox_base",
    "home_mailbox",
    "mail_owner",
    "setgid_group",
    "soft_bounce",
    "smtpd_tls_cert_file",
    "smtpd_tls_chain_files",
    "smtpd_tls_security_level",
)
DOVECOT = (
    "dovecot_version",
    "shutdown_clients",
    "mail_location",
    "mail_path",
    "mail_driver",
    "mail_home",
    "mail_inbox_path",
    "mail_control_path",
    "mail_uid",
    "mail_gid",
    "mail_fsync",
    "listen",
    "protocols",
    "ssl",
    "ssl_cert",
    "ssl_server_cert_file",
    "base_dir",
    "first_valid_uid",
    "default_internal_user",
    "default_login_user",
)
CERTIFICATE_SINCE_2_4 = "ssl_server/cert_file"  # it answers with a block, and with nothing to its full name
_BLOCK = re.compile(r"(\w+) \{")  # one with a word more is for some users or some service only


def configured(groups: tuple[GroupSpec, ...], agent: str, parameter: str, default: str) -> str:
    """Where the groups' first resource of `agent` has its configuration."""
    given = [r.parameters.get(parameter, "") for g in groups for r in g.resources if r.agent == agent]
    return next((value for value in given if value), default)


def postfix(groups: tuple[GroupSpec, ...]) -> ProgramFacts | None:
    """None where it is not installed."""
    if not has("postconf"):
        return None
    folder = configured(groups, "hamail:postfix", "config_dir", "/etc/postfix")
    try:
        told = output("postconf", "-c", folder, "-x", *POSTFIX)
    except Failed as error:
        return ProgramFacts(problem=str(error))
    return ProgramFacts(settings=chosen(told, POSTFIX))


def dovecot(groups: tuple[GroupSpec, ...]) -> ProgramFacts | None:
    if not has("doveconf"):
        return None
    file = configured(groups, "hamail:dovecot", "config_file", "/etc/dovecot/dovecot.conf")
    asked = (name for name in (*DOVECOT, CERTIFICATE_SINCE_2_4) if name != "dovecot_version")
    try:
        told = output("doveconf", "-c", file, *asked)  # with -a, 2.4 leaves out lists that are as by default
    except Failed as error:
        return ProgramFacts(problem=str(error))
    settings = chosen(told, DOVECOT)
    try:
        settings["dovecot_version"] = output("dovecot", "--version").partition(" ")[0].strip()
    except Failed:
        settings.pop("dovecot_version", None)  # what else it says is worth more than its version
    return ProgramFacts(settings=settings)


def chosen(told: str, names: tuple[str, ...]) -> dict[str, str]:
    """`name = value` at the beginning of a line: the first of each name, since deeper ones are indented.

    Dovecot 2.4 says `ssl_server_cert_file` as `cert_file` in a block `ssl_server`.
    """
    found: dict[str, str] = {}
    block = ""
    for line in told.splitlines():
        if opened := _BLOCK.fullmatch(line):
            block = f"{opened[1]}_"
        elif line == "}":
            block = ""
        name, separator, value = line.partition(" =")
        if block and name.startswith("  "):
            name = f"{block}{name[2:]}"
        if separator and name in names and not found.get(name):
            found[name] = value.strip()[:TEXT_CHARS_MAX]
    return found
