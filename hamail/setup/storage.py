"""The folders of a new mail store, on a file system that has nothing on it yet."""

import os
import pwd
import re
from pathlib import Path

from hamail.setup.machine import Machine
from hamail.setup.mail import DOVECOT
from hamail.setup.problem import SetupError

EXT = ("ext2", "ext3", "ext4")
OWN_ENTRIES = {".", "..", "lost+found"}
USERS = ("vmail", "mail")  # tried when Dovecot names nobody


def empty(machine: Machine, device: str, fstype: str) -> bool:
    """Nothing but what mkfs has left. Read without mounting; what cannot be read so counts as not empty."""
    if fstype not in EXT:
        return False
    done = machine.run(["debugfs", "-R", "ls -p /", device])
    names = {line.split("/")[5] for line in done.stdout.splitlines() if line.count("/") >= 6}
    return done.returncode == 0 and "." in names and names <= OWN_ENTRIES


def mail_user(machine: Machine) -> str:
    """Who owns the mailboxes; raises SetupError."""
    conf = str(machine.path(f"{DOVECOT}/dovecot.conf"))
    said = machine.run(["doveconf", "-c", conf, "-n"]).stdout
    found = re.findall(r"(?m)^\s*mail_uid\s*=\s*(\w+)", said) + re.findall(r"\buid\s*=\s*(\w+)", said)
    for name in (*found, *USERS):
        try:
            return pwd.getpwuid(int(name)).pw_name if name.isdigit() else pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise SetupError("it cannot be told who owns the mailboxes", "Set mail_uid in Dovecot, or make a user vmail")


def prepare(machine: Machine, device: str, mount: str, fstype: str) -> list[str]:
    """Mount it once, make what Postfix and Dovecot need, unmount it; returns what was made. Raises SetupError.

    For a file system that is empty, and that no machine has mounted.
    """
    if not empty(machine, device, fstype):
        raise SetupError(
            f"{device} is not empty: what is on it stays as it is",
            f"Make {mount}/queue and {mount}/box on it yourself, as docs/install.md says",
        )
    if at := machine.mounted_at(device):
        raise SetupError(f"{device} is mounted at {at}", f"umount {at}")
    owner = pwd.getpwnam(mail_user(machine))
    place = machine.path(mount)
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    _do(machine, ["mount", "-t", fstype, device, str(place)])
    try:
        for name, user, group, mode in (("queue", 0, 0, 0o755), ("box", owner.pw_uid, owner.pw_gid, 0o700)):
            folder = place / name
            folder.mkdir(mode=mode)
            os.chown(folder, user, group)
        if machine.has("postfix"):
            _do(machine, ["postfix", "check"])  # makes the folders of the queue, with their owners
    except OSError as error:
        raise SetupError(f"{error.filename}: {error.strerror}") from error
    finally:
        _do(machine, ["umount", str(place)])
    return [f"{Path(mount) / 'queue'}", f"{Path(mount) / 'box'} for user {owner.pw_name}"]


def _do(machine: Machine, words: list[str]) -> None:
    done = machine.run(words)
    if done.returncode:
        raise SetupError(f"{' '.join(words)}: {done.stderr.strip()[-300:] or 'failed'}")
