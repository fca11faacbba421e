"""Everything that is looked at, in one place. What cannot be looked at becomes a sentence, never an error."""

import grp
import pwd
import socket
from collections.abc import Callable
from typing import TypeVar

from hamail.machine import certificates, dkim, files, programs, rivals, storage, units
from hamail.machine.run import Failed, output
from hamail.model.machine import LINES_MAX, Account, MachineFacts
from hamail.model.spec import GroupSpec

T = TypeVar("T")
USERS = ("postfix", "dovecot", "dovenull", "vmail", "mail", "opendkim", "_rspamd", "postgres", "mysql")
GROUPS = ("postfix", "postdrop", "dovecot", "dovenull", "vmail", "mail", "opendkim", "_rspamd", "postgres", "mysql")
NAMING_USERS = ("mail_owner", "mail_uid", "default_internal_user", "default_login_user")
NAMING_GROUPS = ("setgid_group", "mail_gid")


def look(groups: tuple[GroupSpec, ...]) -> MachineFacts:
    problems: list[str] = []

    def seen(what: str, take: Callable[[], T], otherwise: T) -> T:
        try:
            return take()
        except (OSError, ValueError, Failed) as error:
            problems.append(f"{what}: {error}")
            return otherwise

    postfix = seen("Postfix", lambda: programs.postfix(groups), None)
    dovecot = seen("Dovecot", lambda: programs.dovecot(groups), None)
    settings = {**(postfix.settings if postfix else {}), **(dovecot.settings if dovecot else {})}
    nothing: tuple[dict[str, str], int] = ({}, 0)
    digests, left_out = seen("configuration files", lambda: files.digests(groups), nothing)
    return MachineFacts(
        hostname=socket.gethostname(),
        virtual=seen("virtual machine", hypervisor, ""),
        networks=seen("networks", rivals.networks, {}),
        users=accounts(USERS + tuple(settings.get(key, "") for key in NAMING_USERS)),
        groups=group_ids(GROUPS + tuple(settings.get(key, "") for key in NAMING_GROUPS)),
        postfix=postfix,
        dovecot=dovecot,
        certificates=seen("certificates", lambda: certificates.configured(postfix, dovecot), {}),
        files=digests,
        files_left_out=left_out,
        storage=seen("storage", lambda: storage.look(groups), {}),
        units=seen("units", lambda: units.at_boot(groups), {}),
        rivals=seen("rivals", lambda: rivals.look(groups), ()),
        fstab=seen("/etc/fstab", lambda: storage.in_fstab(groups), ()),
        dkim=seen("DKIM keys", dkim.keys, ()),
        problems=tuple(problems[:LINES_MAX]),
    )


def accounts(names: tuple[str, ...]) -> dict[str, Account]:
    found = {}
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except (KeyError, ValueError):
            continue
        found[name] = Account(uid=entry.pw_uid, gid=entry.pw_gid)
    return found


def group_ids(names: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for name in names:
        try:
            found[name] = grp.getgrnam(name).gr_gid
        except (KeyError, ValueError):
            continue
    return found


def hypervisor() -> str:
    """ "none" on real hardware; "" when systemd cannot tell."""
    return output("systemd-detect-virt", "--vm", codes=(0, 1)).strip()
