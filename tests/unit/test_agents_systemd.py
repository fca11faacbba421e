"""The systemd agent, with systemctl's answers given; the lab runs it against the real thing."""

import subprocess
from types import ModuleType

import pytest
from agents_support import Answer, call, load

from hamail.ocf import units


class Systemctl:
    """Answers `show` from a list of states (the last one stays) and notes every other order."""

    def __init__(self, *states: str, load_state: str = "loaded", result: str = "success", main_pid: int = 0) -> None:
        self.states = list(states)
        self.load_state = load_state
        self.result = result
        self.main_pid = main_pid
        self.orders: list[str] = []
        self.after: dict[str, list[str]] = {}

    def __call__(self, words: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
        if words[0] != "show":
            self.orders.append(" ".join(words))
            self.states = self.after.get(words[0], self.states)
            return subprocess.CompletedProcess(words, 0, "", "")
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        shown = {
            "LoadState": self.load_state,
            "ActiveState": state,
            "SubState": "x",
            "MainPID": str(self.main_pid),
            "ControlGroup": "",
            "Result": self.result,
            "Restart": "no",
            "UnitFileState": "disabled",
        }
        return subprocess.CompletedProcess(words, 0, "".join(f"{k}={v}\n" for k, v in shown.items()), "")


@pytest.fixture
def agent() -> ModuleType:
    return load("systemd")


def ask(agent: ModuleType, monkeypatch: pytest.MonkeyPatch, systemctl: Systemctl, action: str) -> Answer:
    monkeypatch.setattr(units, "systemctl", systemctl)
    monkeypatch.setattr(units, "systemd_runs", lambda: True)
    monkeypatch.setattr(units, "last_words", lambda unit: "its last words")
    return call(agent, action, {"OCF_RESKEY_CRM_meta_timeout": "1300"}, unit="opendkim")


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (["active"], 0),
        (["reloading"], 0),
        (["inactive"], 7),
        (["failed"], 7),
        (["activating", "activating", "active"], 0),
        (["deactivating", "inactive"], 7),
        (["activating"], 1),
    ],
)
def test_monitor(agent: ModuleType, monkeypatch: pytest.MonkeyPatch, states: list[str], code: int) -> None:
    assert ask(agent, monkeypatch, Systemctl(*states), "monitor").code == code


def test_start_waits_until_it_is_active(agent: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl = Systemctl("inactive")
    systemctl.after = {"start": ["activating", "activating", "active"]}
    assert ask(agent, monkeypatch, systemctl, "start").code == 0
    assert systemctl.orders == ["start opendkim.service"]


def test_start_of_a_unit_that_dies_at_once_fails_with_its_words(
    agent: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl = Systemctl("inactive", result="exit-code")
    systemctl.after = {"start": ["failed"]}
    answer = ask(agent, monkeypatch, systemctl, "start")
    assert answer.code == 1
    assert "its last words" in answer.reason


def test_start_of_a_running_unit_orders_nothing(agent: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl = Systemctl("active")
    assert ask(agent, monkeypatch, systemctl, "start").code == 0
    assert systemctl.orders == []


def test_unknown_unit_is_not_installed_here_but_stopped(agent: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl = Systemctl("inactive", load_state="not-found")
    assert ask(agent, monkeypatch, systemctl, "start").code == 5
    assert ask(agent, monkeypatch, systemctl, "stop").code == 0
    assert ask(agent, monkeypatch, systemctl, "monitor").code == 7


def test_stop_that_does_not_end_is_a_failure(agent: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl = Systemctl("active")
    systemctl.after = {"stop": ["deactivating"]}
    answer = ask(agent, monkeypatch, systemctl, "stop")
    assert answer.code == 1
    assert "deactivating after its stop" in answer.reason


def test_without_systemd_nothing_runs(agent: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "systemd_runs", lambda: False)
    assert [call(agent, a, unit="x").code for a in ("monitor", "stop", "start")] == [7, 0, 5]


@pytest.mark.parametrize("unit", ["", "a b", "../x", "-Hhost", "x;y"])
def test_bad_unit_names(agent: ModuleType, unit: str) -> None:
    assert call(agent, "start", unit=unit).code == 6
