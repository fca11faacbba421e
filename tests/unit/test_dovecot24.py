"""Dovecot 2.4, as Debian 13 has it: other settings, other answers. What agent and setup make of recorded ones."""

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import dovecot24_program
import pytest
from agents_support import call, load, meta

from hamail.model.mailboxes import Place, places
from hamail.ocf.agent import Call
from hamail.ocf.codes import Code
from hamail.setup.machine import Machine, run
from hamail.setup.mail import Mail, MailPlan

TEN_MAIL = """\
mail_driver = mbox
mail_home = /home/%{user | username}
mail_path = %{home}/mail
mail_inbox_path = /var/mail/%{user}
"""


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "bin").mkdir()
    agent = load("dovecot")
    monkeypatch.setattr(agent, "need", lambda name: str(tmp_path / "bin" / name))
    return agent


def settings(agent: ModuleType) -> object:
    seen: list[object] = []

    def action(given: Call) -> None:
        seen.append(agent.settings_of(given))

    answer = call_with(agent, action)
    assert answer.code == 0, answer.err
    return seen[0]


def call_with(agent: ModuleType, action: object) -> object:
    class Only:
        main = staticmethod(replace(agent.AGENT, monitor=replace(agent.AGENT.monitor, run=action)).main)

    return call(Only, "monitor", unit="none", mount="/srv/mail")  # type: ignore[arg-type]


def test_the_agent_reads_it(agent: ModuleType, tmp_path: Path) -> None:
    dovecot24_program.install(tmp_path / "bin", "pair")
    found = settings(agent)
    assert (found.base, found.libexec, found.state) == ("/run/dovecot", "/usr/lib/dovecot", "/var/lib/dovecot")
    assert found.mail == "/srv/mail/box/%{user | domain}/%{user | username}"


def test_the_agent_validates_it(agent: ModuleType, tmp_path: Path) -> None:
    dovecot24_program.install(tmp_path / "bin", "stock")
    answer = call(agent, "validate-all", unit="none", mount="/srv/mail")
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(("recording", "seen"), [("pair", False), ("stock", True)])
def test_locks_are_looked_for_where_the_mail_is(
    agent: ModuleType, tmp_path: Path, recording: str, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the fixed beginning of mail_path; on the whole mount when mail lies in several places."""
    dovecot24_program.install(tmp_path / "bin", recording)
    store = tmp_path / "store"
    inside, beside = (store / f"{where}/u/dovecot-uidlist.lock" for where in ("box", "elsewhere"))
    for lock in (inside, beside):
        lock.parent.mkdir(parents=True)
        lock.touch()
    found = settings(agent)
    found = replace(found, mail=found.mail.replace("/srv/mail", str(store)))

    def action(given: Call) -> None:
        agent.remove_stale_locks(given, found)

    environ = {"mount": str(store), "unit": "none"}
    only = type("Only", (), {"main": replace(agent.AGENT, monitor=replace(agent.AGENT.monitor, run=action)).main})
    answer = call(only, "monitor", meta(evidence="fenced", epoch="7"), **environ)  # type: ignore[arg-type]
    assert answer.code == 0, answer.err
    assert not inside.exists()
    assert beside.exists() is not seen


def test_warnings_are_not_taken_for_settings(agent: ModuleType, tmp_path: Path) -> None:
    """Of any version: with a wrong base_dir, a Dovecot that runs would be reported as stopped."""
    program = tmp_path / "bin" / "doveconf"
    program.write_text(
        "#!/bin/sh\n"
        "echo 'doveconf: Warning: Obsolete setting in dovecot.conf:4: login_executable has been replaced' >&2\n"
        "echo 'base_dir = /run/own'; echo 'libexec_dir = /usr/lib/dovecot'; echo 'shutdown_clients = yes'\n"
    )
    program.chmod(0o755)
    program.with_name("dovecot").symlink_to(program)
    assert settings(agent).base == "/run/own"
    assert call(agent, "validate-all", unit="none").code == 0


def test_sessions_that_outlive_a_stop_are_refused(agent: ModuleType, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "doveconf"
    program.write_text("#!/bin/sh\necho 'base_dir = /run/own'; echo 'shutdown_clients = no'\n")
    program.chmod(0o755)
    program.with_name("dovecot").symlink_to(program)
    answer = call(agent, "validate-all", unit="none")
    assert answer.code == Code.ARGUMENTS and "shutdown_clients must be yes" in answer.reason


class Recorded(Machine):
    """Dovecot as recorded; no Postfix."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, self.go)

    def has(self, program: str) -> bool:
        return program == "doveconf"

    def go(self, words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        if words[0] == "systemctl":
            return subprocess.CompletedProcess(list(words), 1, "", "")
        return run([str(self.root / "bin" / words[0]), *words[1:]])


def proposed(tmp_path: Path, recording: str, mount: str) -> MailPlan:
    for folder in ("bin", "etc/dovecot/conf.d"):
        (tmp_path / folder).mkdir(parents=True)
    dovecot24_program.install(tmp_path / "bin", recording)
    (tmp_path / "etc/dovecot/dovecot.conf").write_text("dovecot_config_version = 2.4.0\n!include conf.d/*.conf\n")
    (tmp_path / "etc/dovecot/conf.d/10-mail.conf").write_text(TEN_MAIL)
    return Mail(Recorded(tmp_path), mount, ("10.0.0.100/24",)).plan()


def test_init_brings_the_inbox_along(tmp_path: Path) -> None:
    plan = proposed(tmp_path, "stock", "/srv/mail")
    (change,) = plan.changes
    assert [line for line in change.diff().splitlines()[2:] if line[0] in "-+"] == [
        "-mail_path = %{home}/mail",
        "-mail_inbox_path = /var/mail/%{user}",
        "+mail_path = /srv/mail/box/%{user}",
        "+#mail_inbox_path = /var/mail/%{user}",
    ]
    assert any("%{home}/mail, /var/mail/%{user} now, copy" in line for line in plan.by_hand)


def test_init_leaves_alone_what_is_right(tmp_path: Path) -> None:
    assert not proposed(tmp_path, "pair", "/srv/mail").changes


def test_init_finds_mail_on_another_mount(tmp_path: Path) -> None:
    (change,) = proposed(tmp_path, "pair", "/srv/other").changes
    assert "+mail_path = /srv/other/box/%{user}" in change.diff()
    assert "mail_driver" not in change.diff().replace(" mail_driver = mbox", "")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"mail_location": "maildir:/srv/mail/%d/%n:LAYOUT=fs"}, [Place("/srv/mail")]),
        ({"mail_location": "/srv/mail/%u"}, [Place("/srv/mail")]),
        ({"mail_location": "maildir:/a/%u:CONTROL=/b/%u:INDEX=/c/%u"}, [Place("/a"), Place("/b")]),
        ({"mail_location": "maildir:~/Maildir", "mail_home": "/srv/%u"}, [Place("/srv", by_home=True)]),
        ({"mail_location": ""}, [Place("", by_home=True)]),
        ({"mail_path": "~/Maildir", "mail_inbox_path": "~/in"}, [Place("", by_home=True)]),
        ({"mail_path": "/a/%{user}", "mail_inbox_path": "."}, [Place("/a")]),
        ({"mail_path": "/a/%{user}", "mail_control_path": "/b/%{user}"}, [Place("/a"), Place("/b")]),
    ],
)
def test_places_of_mail(said: dict[str, str], found: list[Place]) -> None:
    assert list(places(said)) == found
