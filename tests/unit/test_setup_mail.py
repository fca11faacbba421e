"""What Postfix and Dovecot are to say differently: shown first, tried by the programs, applied on demand."""

import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hamail.setup.machine import Machine, run
from hamail.setup.mail import Applied, Change, Mail, MailPlan
from hamail.setup.problem import SetupError

pytestmark = pytest.mark.skipif(
    not (shutil.which("postconf", path="/usr/sbin:/usr/bin") and shutil.which("doveconf", path="/usr/sbin:/usr/bin")),
    reason="Postfix and Dovecot are not installed",
)
MAIN = """\
compatibility_level = 3.6
# the world knows us by this
myhostname = mail.example
inet_interfaces = loopback-only
queue_directory = /var/spool/postfix
"""
MASTER = "smtp      inet  n       -       n       -       -       smtpd\n"
DOVECOT = """\
protocols = imap lmtp
ssl = no
shutdown_clients = no
mail_location = mbox:~/mail:INBOX=/var/mail/%u
!include conf.d/*.conf
"""
LMTP = """\
service lmtp {
  unix_listener /var/spool/postfix/private/dovecot-lmtp {
    mode = 0600
  }
}
"""
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Programs(Machine):
    """The real Postfix and Dovecot, told to read below `root`; systemctl from a list."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, self.go)
        self.units: set[str] = set()
        self.ran: list[list[str]] = []

    def go(self, words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        self.ran.append(list(words))
        if words[0] != "systemctl":
            return run(words)
        return subprocess.CompletedProcess(list(words), 0 if words[-1] in self.units else 1, "", "")


@pytest.fixture
def machine(tmp_path: Path) -> Programs:
    (tmp_path / "etc/postfix").mkdir(parents=True)
    (tmp_path / "etc/dovecot/conf.d").mkdir(parents=True)
    (tmp_path / "etc/postfix/main.cf").write_text(MAIN)
    (tmp_path / "etc/postfix/master.cf").write_text(MASTER)
    (tmp_path / "etc/dovecot/dovecot.conf").write_text(DOVECOT)
    (tmp_path / "etc/dovecot/conf.d/20-lmtp.conf").write_text(LMTP)
    return Programs(tmp_path)


def proposed(machine: Programs, *vips: str) -> MailPlan:
    return Mail(machine, "/srv/mail", vips or ("10.0.0.100/24",)).plan()


def applied(machine: Programs, plan: MailPlan) -> Applied:
    done = Applied(machine)
    done.apply(plan, NOW)
    return done


def test_the_exact_difference_is_shown(machine: Programs) -> None:
    plan = proposed(machine)
    text = "".join(change.diff() for change in plan.changes)
    for line in (
        "-inet_interfaces = loopback-only",
        "+inet_interfaces = all",
        "-queue_directory = /var/spool/postfix",
        "+queue_directory = /srv/mail/queue",
        "+smtp_bind_address = 10.0.0.100",
        "+smtp_bind_address_enforce = yes",
        "-shutdown_clients = no",
        "+shutdown_clients = yes",
        "-mail_location = mbox:~/mail:INBOX=/var/mail/%u",
        "+mail_location = mbox:/srv/mail/box/%u",
        "+  unix_listener /srv/mail/queue/private/dovecot-lmtp {",
        " # the world knows us by this",
    ):
        assert line in text.splitlines(), line
    assert any("no mail is moved" in line for line in plan.by_hand)
    assert any("postqueue -f" in line for line in plan.by_hand)
    assert (machine.root / "etc/postfix/main.cf").read_text() == MAIN, "looking changes nothing"


def test_what_is_applied_is_what_was_shown_and_then_nothing_is_left_to_do(machine: Programs) -> None:
    plan = proposed(machine)
    done = applied(machine, plan)
    for change in plan.changes:
        assert change.path.read_text() == change.new
        copy = machine.root / "var/backups/hamail/20260102-030405" / change.path.relative_to(machine.root)
        assert copy.read_text() == change.old
    assert len(done.copies) == len(plan.changes) == 3
    assert proposed(machine).empty
    done.take_back()
    assert (machine.root / "etc/postfix/main.cf").read_text() == MAIN
    assert not [p for p in (machine.root / "var").rglob("*") if p.is_file()]


def test_both_families_and_units_of_the_boot(machine: Programs) -> None:
    machine.units = {"postfix.service"}
    plan = proposed(machine, "10.0.0.100/24", "fd00::100/64")
    assert "+smtp_bind_address6 = fd00::100" in plan.changes[0].diff()
    assert plan.disable == ("postfix.service",)
    applied(machine, plan)
    assert ["systemctl", "disable", "postfix.service"] in machine.ran


def test_a_pair_that_is_set_right_is_left_alone(machine: Programs) -> None:
    (machine.root / "etc/postfix/main.cf").write_text(
        "queue_directory = /srv/mail/queue\ninet_interfaces = all\nsmtp_bind_address = 10.0.0.100\n"
        "smtp_bind_address_enforce = yes\n"
    )
    (machine.root / "etc/dovecot/dovecot.conf").write_text(
        "protocols = imap\nmail_location = maildir:/srv/mail/box/%u\n"
    )
    assert proposed(machine).empty


def test_mode_and_owner_stay(machine: Programs) -> None:
    main = machine.root / "etc/postfix/main.cf"
    main.chmod(0o640)
    applied(machine, proposed(machine))
    assert main.stat().st_mode & 0o777 == 0o640


def test_a_configuration_that_cannot_be_read_is_told(machine: Programs) -> None:
    (machine.root / "etc/postfix/main.cf").unlink()
    with pytest.raises(SetupError, match="Postfix cannot read its configuration"):
        proposed(machine)


def test_somebody_else_has_changed_it_meanwhile(machine: Programs) -> None:
    plan = proposed(machine)
    conf = machine.root / "etc/dovecot/dovecot.conf"
    conf.write_text(conf.read_text() + "# mine\n")
    with pytest.raises(SetupError, match="changed by somebody else"):
        applied(machine, plan)
    assert (machine.root / "etc/postfix/main.cf").read_text() == MAIN


def test_a_failure_half_way_takes_all_back(machine: Programs) -> None:
    plan = proposed(machine)
    missing = Change(path=machine.root / "etc/gone/x.conf", old="", new="")
    machine.path("/etc/gone").mkdir()
    missing.path.write_text("")
    broken = MailPlan(changes=(*plan.changes, missing))
    real, calls = Applied(machine), []

    def fail(source: object, target: object) -> None:
        calls.append(source)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", str(target))
        real_copy(source, target)

    real_copy = shutil.copy2
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SetupError, match="No space left"):
        patch.setattr("hamail.setup.mail.shutil.copy2", fail)
        real.apply(broken, NOW)
    assert (machine.root / "etc/postfix/main.cf").read_text() == MAIN
    assert (machine.root / "etc/dovecot/dovecot.conf").read_text() == DOVECOT


def test_without_the_programs_it_says_so(machine: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "has", lambda self, program: False)
    plan = proposed(machine)
    assert plan.empty and [line.split()[0] for line in plan.by_hand] == ["Postfix", "Dovecot"]


def test_an_inbox_that_lies_elsewhere_comes_along(machine: Programs) -> None:
    conf = machine.root / "etc/dovecot/dovecot.conf"
    conf.write_text("protocols = imap\nmail_location = mbox:/srv/mail/%d/%n:LAYOUT=fs:INBOX=/var/mail/%u\n")
    change = next(change for change in proposed(machine).changes if change.path == conf)
    assert "+mail_location = mbox:/srv/mail/%d/%n:LAYOUT=fs" in change.diff().splitlines()
    assert conf.write_text("protocols = imap\nmail_location = /home/%u/Maildir\n")
    change = next(change for change in proposed(machine).changes if change.path == conf)
    assert "+mail_location = maildir:/srv/mail/box/%u" in change.diff().splitlines()
