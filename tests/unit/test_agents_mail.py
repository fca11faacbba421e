"""The postfix and dovecot agents against the real servers of the distribution, by their own commands."""

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from agents_mail_room import inside, mail_room
from agents_support import call, load, need, open_folder

from hamail.ocf.codes import Code, Failure

pytestmark = pytest.mark.root


def told(name: str, folder: Path) -> dict[str, dict]:
    need(name)
    with mail_room(folder) as environ:
        done = inside(environ, sys.executable, Path(__file__).with_name("agents_mail_room.py"), name, folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return {s["step"]: s for s in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def postfix() -> Iterator[dict[str, dict]]:
    with open_folder() as folder:
        yield told("postfix", folder)


@pytest.fixture(scope="module")
def dovecot() -> Iterator[dict[str, dict]]:
    with open_folder() as folder:
        yield told("dovecot", folder)


COMMON = {
    "validate": 0,
    "not yet": 7,
    "wrong mount": 1,
    "start": 0,
    "start again": 0,
    "shallow": 0,
    "deep": 0,
    "stop": 0,
    "stop again": 0,
    "after stop": 7,
    "released": 0,
    "clear": 0,
    "restart": 0,
}


@pytest.mark.parametrize("step", COMMON)
@pytest.mark.parametrize("name", ["postfix", "dovecot"])
def test_step(name: str, step: str, request: pytest.FixtureRequest) -> None:
    seen = request.getfixturevalue(name)[step]
    assert seen["code"] == COMMON[step], seen


@pytest.mark.parametrize("name", ["postfix", "dovecot"])
def test_start_and_monitor_name_the_master(name: str, request: pytest.FixtureRequest) -> None:
    steps = request.getfixturevalue(name)
    assert steps["start"]["watched"] == steps["start again"]["watched"] == steps["shallow"]["watched"]
    assert len(steps["start"]["watched"]) == 1


def test_a_queue_off_its_mount_is_not_started(postfix: dict[str, dict]) -> None:
    assert "/nowhere is not mounted" in postfix["wrong mount"]["err"]


@pytest.mark.parametrize("name", ["postfix", "dovecot"])
def test_without_its_master_nothing_counts_as_running(name: str, request: pytest.FixtureRequest) -> None:
    seen = request.getfixturevalue(name)["master killed"]
    assert seen["code"] in {1, 7}  # 1 as long as children of the dead master linger
    assert seen["code"] == 7 or "master is dead" in seen["err"]


def test_a_frozen_postfix_is_a_failure(postfix: dict[str, dict]) -> None:
    """A connection is accepted by the kernel even then: only the missing banner tells."""
    assert postfix["frozen monitor"]["code"] == 1
    assert "SMTP does not work" in postfix["frozen monitor"]["err"]
    assert postfix["last stop"]["code"] == 0


def test_stop_is_honest_while_the_address_is_gone(postfix: dict[str, dict]) -> None:
    assert postfix["stop with the address gone"]["code"] == 0
    assert postfix["gone indeed"]["code"] == 7
    assert postfix["start with main.cf back"]["code"] == 0


def test_dovecot_stop_does_not_wait_for_the_masters_sleep(dovecot: dict[str, dict]) -> None:
    assert dovecot["stop"]["ms"] < 900, "the master sleeps a second before it exits; this is to be cut short"


def test_a_session_that_waits_for_mail_is_ended_in_order(dovecot: dict[str, dict]) -> None:
    assert dovecot["session"]["last"].startswith("* BYE"), "killed, it might leave its locks behind"
    assert "killing it" not in dovecot["stop"]["err"]


def test_the_lock_of_a_dovecot_that_was_killed_while_it_started_is_not_waited_for(dovecot: dict[str, dict]) -> None:
    assert dovecot["restart"]["ms"] < 5000, "Dovecot itself waits 10 s for it"


def test_lock_files_stay_after_a_clean_release_only(dovecot: dict[str, dict]) -> None:
    """One who stopped since the storage was gone left his locks there; their mailboxes would hang for two minutes."""
    assert dovecot["unclean"]["code"] == 0
    assert dovecot["locks"]["kept"], "a planned move does not search the mail store"
    assert dovecot["locks"]["left"] == [False, False]
    assert "removed 2 lock files" in dovecot["unclean"]["err"]


def test_a_frozen_dovecot_is_killed(dovecot: dict[str, dict]) -> None:
    assert dovecot["frozen master"]["code"] == 0


@pytest.mark.parametrize("name", ["postfix", "dovecot"])
@pytest.mark.parametrize("parameter", ["mount", "config"])
def test_bad_paths_are_refused(name: str, parameter: str) -> None:
    key = parameter if parameter == "mount" else {"postfix": "config_dir", "dovecot": "config_file"}[name]
    refused = call(load(name), "start", **{key: "relative/path"})
    assert refused.code == 6
    assert key in refused.reason


def test_unreadable_configurations_are_named(tmp_path: Path) -> None:
    assert str(tmp_path) in call(load("postfix"), "validate-all", config_dir=str(tmp_path)).reason
    assert str(tmp_path) in call(load("dovecot"), "validate-all", config_file=f"{tmp_path}/none").reason


def ask(agent: ModuleType, monkeypatch: pytest.MonkeyPatch, question: Callable[[object], object], **given: str) -> None:
    """Put a question to the agent from within one of its actions."""

    def action(call: object) -> None:
        question(call)
        raise Failure(Code.GENERIC, "asked")

    monkeypatch.setattr(agent, "settings_of", action)
    assert call(agent, "validate-all", **given).reason == "asked"


STATES = {  # load state and type of postfix.service; load state of postfix@-.service
    "Debian 12": ("loaded", "oneshot", "loaded", "postfix@-.service"),
    "Debian 13": ("loaded", "forking", "loaded", "postfix.service"),
    "one unit only": ("loaded", "forking", "not-found", "postfix.service"),
    "none": ("not-found", "", "not-found", ""),
}


@pytest.mark.parametrize("system", STATES)
def test_postfix_is_run_by_the_unit_that_runs_it(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 12: postfix.service is an empty roof. Debian 13: postfix@-.service is there, and refuses to start."""
    load_state, kind, instance, wanted = STATES[system]
    agent, seen = load("postfix"), []

    def show(unit: str) -> SimpleNamespace:
        return SimpleNamespace(load=load_state if unit == "postfix.service" else instance, kind=kind)

    monkeypatch.setattr(agent.units, "systemd_runs", lambda: True)
    monkeypatch.setattr(agent.units, "show", show)
    ask(agent, monkeypatch, lambda given: seen.append(agent.unit_of(given)))
    assert seen == [wanted]


def test_a_chroot_of_debian_13_is_current_when_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, answers = load("postfix"), []
    queue, folder = tmp_path / "queue", tmp_path / "postfix"
    (queue / "etc").mkdir(parents=True)
    folder.mkdir()
    (folder / "main.cf").write_text("")
    monkeypatch.setattr(agent, "CHROOT_FILES", ("hosts", "no-such-file"))
    monkeypatch.setattr(agent, "LIBRARIES_OF_13", "no-such-library")
    settings = agent.Settings(str(queue), "", "", "", "", unit="postfix.service")

    def current() -> bool:
        look = partial(agent.chroot_is_current, settings=settings)
        ask(agent, monkeypatch, lambda given: answers.append(look(given)), config_dir=str(folder))
        return answers[-1]

    assert not current(), "no copy yet"
    (queue / "etc/hosts").write_bytes(Path("/etc/hosts").read_bytes())
    assert current() is not Path("/etc/default/postfix").exists()
    (queue / "etc/no-such-file").touch()
    assert not current(), "Debian would remove it"
    (queue / "etc/no-such-file").unlink()
    (queue / "lib").mkdir()
    (queue / "lib/libnss_files.so.2").touch()
    assert not current(), "of an older release"
