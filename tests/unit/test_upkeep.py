"""What the package's scripts do around an upgrade and a removal."""

import json
import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from hamail.daemon import protocols, upkeep
from hamail.daemon.upkeep import EXECUTOR, HAMAILD, UNKNOWN, Running
from hamail.executor.ledger import Held, Page
from hamail.model.fingerprint import fingerprint
from hamail.model.spec import GroupSpec

ACTIVE = Running(node="n1", hamaild=True, executor=True, held=("mail",))
STANDBY = Running(node="n2", hamaild=True, executor=True)
WITNESS = Running(node="n3", hamaild=True, executor=False)
IDLE = Running(node="n4", hamaild=False, executor=False)


def but(running: Running, **changes: object) -> Running:
    return msgspec.structs.replace(running, **changes)


@pytest.mark.parametrize(
    ("now", "restarted", "says"),
    [
        (IDLE, (), ""),
        (WITNESS, (HAMAILD,), ""),
        (STANDBY, (EXECUTOR, HAMAILD), ""),
        (ACTIVE, (HAMAILD,), "hamailctl standby n1"),
        (but(ACTIVE, maintenance=True), (HAMAILD,), "systemctl restart hamail-executor"),
        (but(STANDBY, executor_same=False), (EXECUTOR, HAMAILD), ""),
        (but(ACTIVE, executor_same=False), (), "systemctl restart hamail-executor hamaild"),
        (but(ACTIVE, peers_same=False), (), "hamailctl maintenance on"),
        (but(STANDBY, peers_same=False), (), "systemctl restart hamail-executor hamaild"),
        (but(WITNESS, peers_same=False), (), "systemctl restart hamaild"),
        (but(IDLE, peers_same=False, executor_same=False), (), ""),
    ],
)
def test_after_an_upgrade(now: Running, restarted: tuple[str, ...], says: str) -> None:
    plan = upkeep.upgraded(now)
    assert plan.restart == restarted
    assert (says in "\n".join(plan.words)) if says else not plan.words
    assert not (EXECUTOR in plan.restart and now.held), "the executor is never restarted while it holds a group"


@pytest.mark.parametrize(
    ("now", "refused", "says"),
    [
        (IDLE, False, ""),
        (WITNESS, False, ""),
        (STANDBY, False, ""),
        (ACTIVE, True, "hamailctl maintenance on"),
        (but(ACTIVE, maintenance=True), False, "mail goes on running"),
        (but(ACTIVE, held=(UNKNOWN,)), True, "hamailctl standby n1"),
    ],
)
def test_before_a_removal(now: Running, refused: bool, says: str) -> None:
    plan = upkeep.removing(now)
    assert (plan.refused, plan.restart) == (refused, ())
    assert (says in "\n".join(plan.words)) if says else not plan.words


def test_what_the_executor_has_written_is_understood(tmp_path: Path) -> None:
    ledger = tmp_path / "executor.held"
    assert upkeep.written(ledger) == ((), False)
    held = Held(spec=GroupSpec(name="mail", nodes=("n1",), resources=()), epoch=7)
    ledger.write_bytes(msgspec.json.encode(Page(boot_id="x", groups=(held,), maintenance=True)))
    assert upkeep.written(ledger) == (("mail",), True)
    later = json.loads(ledger.read_text())
    later["groups"][0]["spec"]["of_another_version"] = later["of_another_version"] = 1
    ledger.write_text(json.dumps(later))
    assert upkeep.written(ledger) == (("mail",), True)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"groups": 3}', b"[" * 100_000])
def test_a_ledger_in_doubt_holds_something(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "executor.held").write_bytes(damage)
    assert upkeep.written(tmp_path / "executor.held") == ((UNKNOWN,), False)


def carried_out(monkeypatch: pytest.MonkeyPatch, wrong: str = "", failing: str = "") -> tuple[int, list[str]]:
    restarted: list[str] = []

    def run(words: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        restarted.append(words[-1])
        return subprocess.CompletedProcess(words, int(words[-1] == failing), "", "it broke")

    monkeypatch.setattr(upkeep, "refused_configuration", lambda: wrong)
    monkeypatch.setattr(upkeep.subprocess, "run", run)
    return upkeep.carry_out(upkeep.upgraded(STANDBY)), restarted


def test_a_new_version_that_would_not_start_is_not_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert carried_out(monkeypatch, wrong="cluster.toml:3: no") == (1, [])
    assert "cluster.toml:3: no" in capsys.readouterr().err


def test_a_restart_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert carried_out(monkeypatch) == (0, [EXECUTOR, HAMAILD])
    assert carried_out(monkeypatch, failing=EXECUTOR) == (1, [EXECUTOR]), "hamaild would have nothing to talk to"
    assert "it broke" in capsys.readouterr().err


def test_the_daemon_leaves_what_it_speaks(tmp_path: Path) -> None:
    assert protocols.left(tmp_path) == ""
    protocols.leave(tmp_path)
    assert protocols.left(tmp_path) == protocols.PEERS_PROTOCOL
    protocols.leave(tmp_path / "missing")  # costs an upgrade by hand, not a start


@pytest.mark.parametrize("what", ["pipe", "link", "folder"])
def test_what_hamaild_puts_there_instead_does_not_hold_root_up(tmp_path: Path, what: str) -> None:
    """Its folder is its own: a pipe there would keep the package manager waiting for ever."""
    place = tmp_path / protocols.FILE
    if what == "pipe":
        os.mkfifo(place)
    elif what == "link":
        place.symlink_to("/dev/zero")
    else:
        place.mkdir()
    assert protocols.left(tmp_path) == ""


class Said(msgspec.Struct, tag=True):
    """One sentence."""

    count: int
    description: str = ""


def test_a_fingerprint_is_of_what_is_said_and_not_of_how_it_is_described() -> None:
    described = msgspec.defstruct("Said", [("count", int), ("description", str, "")], tag=True)
    described.__doc__ = "Quite another sentence."
    fewer = msgspec.defstruct("Said", [("count", int)], tag=True)
    other = msgspec.defstruct("Said", [("count", float), ("description", str, "")], tag=True)
    new = msgspec.defstruct("Said", [("count", int), ("description", str, ""), ("new", int, 0)], tag=True)
    assert fingerprint(Said) == fingerprint(described)
    assert len({fingerprint(kind) for kind in (Said, fewer, other, new)}) == 4
