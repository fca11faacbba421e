"""What Postfix and Dovecot must say differently to be one half of a pair, as a difference that can be read first.

The programs themselves are asked what they have understood (`postconf`, `doveconf`), and try the changed files, before
anything is proposed.
"""

import difflib
import ipaddress
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from hamail.disk import RealDisk, write_whole
from hamail.model.mailboxes import APART, is_apart, location, places
from hamail.setup.machine import Machine
from hamail.setup.problem import SetupError

POSTFIX = "/etc/postfix"
DOVECOT = "/etc/dovecot"
UNITS = ("postfix.service", "dovecot.service", "dovecot.socket")
COPIES = "/var/backups/hamail"  # not beside the files: what lies there is read, and compared between the nodes
PATH_SINCE = (2, 4)  # Dovecot: mail_path, before that mail_location
ENFORCE_SINCE = (3, 7)  # Postfix: smtp_bind_address_enforce


class Change(Struct, frozen=True, kw_only=True):
    """One file, with why."""

    path: Path
    old: str
    new: str

    def diff(self) -> str:
        lines = difflib.unified_diff(
            self.old.splitlines(keepends=True),
            self.new.splitlines(keepends=True),
            fromfile=str(self.path),
            tofile=f"{self.path} (proposed)",
        )
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


class MailPlan(Struct, frozen=True, kw_only=True):
    """`reasons`: a sentence for each setting; `by_hand`: what nobody can do for the administrator."""

    changes: tuple[Change, ...] = ()
    disable: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.changes or self.disable)


class Mail:
    """`vips` as in the configuration, with their prefix."""

    def __init__(self, machine: Machine, mount: str, vips: tuple[str, ...]) -> None:
        self._machine = machine
        self._mount = mount.rstrip("/")
        self._addresses = [ipaddress.ip_interface(vip).ip for vip in vips]
        self._reasons: list[str] = []
        self._by_hand: list[str] = []

    def plan(self) -> MailPlan:
        """Raises SetupError when a program cannot read its own configuration."""
        changes: list[Change] = []
        if self._machine.has("postconf"):
            changes += self._postfix()
        else:
            self._by_hand.append("Postfix is not installed: apt install postfix")
        if self._machine.has("doveconf"):
            changes += self._dovecot()
        else:
            self._by_hand.append("Dovecot is not installed: apt install dovecot-imapd dovecot-lmtpd")
        disable = tuple(unit for unit in UNITS if self._machine.enabled(unit))
        if disable:
            self._reasons.append(f"{' and '.join(disable)}: not started at boot, since hamail says when")
        return MailPlan(
            changes=tuple(change for change in changes if change.old != change.new),
            disable=disable,
            reasons=tuple(self._reasons),
            by_hand=tuple(self._by_hand),
        )

    # Postfix

    def _postfix(self) -> Iterator[Change]:
        wanted = self._postfix_settings()
        if not wanted:
            return
        folder = self._machine.path(POSTFIX)
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch)
            for name in ("main.cf", "master.cf"):
                shutil.copyfile(folder / name, copy / name)
            done = self._machine.run(["postconf", "-c", scratch, "-e", *(f"{k} = {v}" for k, v in wanted.items())])
            if done.returncode:
                raise SetupError(f"postconf cannot change {folder}/main.cf: {done.stderr.strip()[-300:]}")
            yield _changed(folder / "main.cf", copy / "main.cf")

    def _postfix_settings(self) -> dict[str, str]:
        has = self._postconf("inet_interfaces", "queue_directory", "mail_version")
        wanted = {}
        if has["inet_interfaces"] != "all":
            wanted["inet_interfaces"] = "all"
            self._reasons.append("inet_interfaces = all: with the floating address in it, Postfix stops obeying any")
            self._reasons[-1] += " command, even stop, whenever the address is elsewhere"
        if not self._moves(has["queue_directory"]):
            wanted["queue_directory"] = f"{self._mount}/queue"
            self._reasons.append("queue_directory: the queue moves with the storage, or accepted mail stays behind")
            self._by_hand.append(
                f"mail that waits in {has['queue_directory']} stays there: deliver it first (postqueue -f)"
            )
        return wanted | self._source_address(has["mail_version"])

    def _source_address(self, version: str) -> dict[str, str]:
        """Mail to others leaves by the floating address, whose name and PTR the world knows."""
        wanted = {}
        for family, name in ((4, "smtp_bind_address"), (6, "smtp_bind_address6")):
            address = next((str(a) for a in self._addresses if a.version == family), "")
            if address and self._postconf(name)[name] != address:
                wanted[name] = address
                self._reasons.append(f"{name}: outgoing mail shows the floating address, not the node's own")
        numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
        if (
            numbers >= ENFORCE_SINCE
            and self._postconf("smtp_bind_address_enforce")["smtp_bind_address_enforce"] != "yes"
        ):
            wanted["smtp_bind_address_enforce"] = "yes"
            self._reasons.append("smtp_bind_address_enforce: rather later than from an address that fails SPF")
        return wanted

    def _postconf(self, *names: str) -> dict[str, str]:
        done = self._machine.run(["postconf", "-c", str(self._machine.path(POSTFIX)), *names])
        if done.returncode:
            raise SetupError(f"Postfix cannot read its configuration: {done.stderr.strip()[-300:]}", "postfix check")
        return _pairs(done.stdout, names)

    # Dovecot

    def _dovecot(self) -> list[Change]:
        folder = self._machine.path(DOVECOT)
        files = {path: path.read_text() for path in [folder / "dovecot.conf", *sorted(folder.glob("conf.d/*.conf"))]}
        edited = dict(files)
        if self._doveconf("shutdown_clients")["shutdown_clients"] == "no":
            self._set(edited, "shutdown_clients", "yes")
            self._reasons.append("shutdown_clients = yes: sessions that outlive a stop keep the storage mounted")
        self._mail_place(edited)
        self._sockets(edited)
        if edited == files:
            return []
        self._try(folder, edited)
        return [Change(path=path, old=files[path], new=edited[path]) for path in files]

    def _mail_place(self, edited: dict[Path, str]) -> None:
        has = self._doveconf("mail_path", "mail_driver", "mail_location", "mail_home", *APART)
        if all(self._moves(place.path) for place in places(has)):
            return
        wanted = self._paths(has) if self._dovecot_version() >= PATH_SINCE else self._location(has)
        for key, value in wanted.items():
            if value is None:
                self._unset(edited, key)
            else:
                self._set(edited, key, value)
        self._reasons.append(f"{', '.join(wanted)}: the mailboxes move with the storage")
        before = ", ".join(has[key] for key in wanted if has[key] and key != "mail_driver")
        self._by_hand.append(
            f"no mail is moved: what is in {before} now, copy to {self._mount}/box yourself"
            if before
            else f"make {self._mount}/box on the shared storage, for the user that Dovecot delivers as"
        )

    def _paths(self, has: dict[str, str]) -> dict[str, str | None]:
        """Of Dovecot 2.4. What is kept apart elsewhere goes to the rest: an INBOX that stays behind is lost mail.

        None: not set at all. An empty value is another one than that: with it a Maildir has its INBOX in `.INBOX`.
        """
        wanted: dict[str, str | None] = {} if has["mail_driver"] else {"mail_driver": "maildir"}
        if not all(self._moves(place.path) for place in places(has | dict.fromkeys(APART, ""))):
            wanted["mail_path"] = f"{self._mount}/box/%{{user}}"
        return wanted | {key: None for key in APART if is_apart(has[key]) and not self._moves(has[key])}

    def _location(self, has: dict[str, str]) -> dict[str, str | None]:
        """Before 2.4: all in one line. Options without a path, as LAYOUT, stay."""
        driver, path, options = location(has["mail_location"])
        kept = [option for option in options if "/" not in option or self._moves(option.partition("=")[2])]
        place = path if self._moves(path) else f"{self._mount}/box/%u"
        return {"mail_location": ":".join([driver or "maildir", place, *kept])}

    def _dovecot_version(self) -> tuple[int, ...]:
        said = self._machine.run(["dovecot", "--version"]).stdout
        return tuple(int(number) for number in re.findall(r"\d+", said)[:2])

    def _sockets(self, edited: dict[Path, str]) -> None:
        """Sockets for Postfix lie in its queue, under names that Postfix knows from there."""
        if not self._machine.has("postconf"):
            return
        queue = self._postconf("queue_directory")["queue_directory"]
        if self._moves(queue):
            return
        for path, text in edited.items():
            new = re.sub(rf"(?m)^(\s*unix_listener\s+){re.escape(queue)}/", rf"\g<1>{self._mount}/queue/", text)
            if new != text:
                edited[path] = new
                self._reasons.append(f"{path.name}: sockets for Postfix lie in its queue, and follow it")

    def _set(self, edited: dict[Path, str], key: str, value: str) -> None:
        """Where it is set at the top level now, else at the end of the main file."""
        line = re.compile(rf"(?m)^{key}\s*=.*$")
        for path, text in reversed(edited.items()):
            if line.search(text):
                edited[path] = line.sub(lambda _: f"{key} = {value}", text)
                return
        main = next(iter(edited))
        text = edited[main].rstrip("\n")
        edited[main] = f"{text}\n{key} = {value}\n"

    def _unset(self, edited: dict[Path, str], key: str) -> None:
        for path, text in edited.items():
            edited[path] = re.sub(rf"(?m)^({key}\s*=.*)$", r"#\1", text)

    def _try(self, folder: Path, edited: dict[Path, str]) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / "dovecot"
            shutil.copytree(folder, copy, symlinks=True)
            for path, text in edited.items():
                (copy / path.relative_to(folder)).write_text(text)
            done = self._machine.run(["doveconf", "-c", str(copy / "dovecot.conf"), "-n"])
        if done.returncode:
            raise SetupError(
                f"Dovecot would not take the changed settings: {done.stderr.strip()[-300:]}",
                "Change them by hand; see docs/install.md",
            )

    def _doveconf(self, *names: str) -> dict[str, str]:
        """A setting that this version does not know is empty."""
        conf = str(self._machine.path(f"{DOVECOT}/dovecot.conf"))
        done = self._machine.run(["doveconf", "-c", conf, *names])
        if done.returncode:
            raise SetupError(f"Dovecot cannot read its configuration: {done.stderr.strip()[-300:]}", "doveconf -n")
        return _pairs(done.stdout, names)

    def _moves(self, place: str) -> bool:
        return place == self._mount or place.startswith(f"{self._mount}/")


class Applied:
    """Changes made, with copies of the files to go back to."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.copies: list[tuple[Path, Path]] = []  # file, copy

    def apply(self, plan: MailPlan, now: datetime) -> None:
        """Raises SetupError: then all is as before."""
        stamp = now.strftime("%Y%m%d-%H%M%S")
        for change in plan.changes:
            if change.path.read_text() != change.old:
                raise SetupError(f"{change.path} was changed by somebody else meanwhile", "Do it again")
        try:
            for change in plan.changes:
                copy = self._machine.path(COPIES) / stamp / change.path.relative_to(self._machine.root)
                copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                shutil.copy2(change.path, copy)
                was = change.path.stat()
                os.chown(copy, was.st_uid, was.st_gid)
                self.copies.append((change.path, copy))
                write_whole(RealDisk(), change.path, change.new.encode(), mode=was.st_mode & 0o7777)
                os.chown(change.path, was.st_uid, was.st_gid)
        except OSError as error:
            self.take_back()
            raise SetupError(f"{error.filename}: cannot be changed: {error.strerror}") from error
        for unit in plan.disable:
            self._machine.run(["systemctl", "disable", unit])

    def take_back(self) -> None:
        for path, copy in self.copies:
            was = copy.stat()
            shutil.move(copy, path)
            os.chown(path, was.st_uid, was.st_gid)
        self.copies = []


def _pairs(told: str, names: Iterable[str]) -> dict[str, str]:
    pairs = (line.partition("=") for line in told.splitlines())
    return dict.fromkeys(names, "") | {key.strip(): value.strip() for key, _, value in pairs}


def _changed(path: Path, copy: Path) -> Change:
    return Change(path=path, old=path.read_text(), new=copy.read_text())
