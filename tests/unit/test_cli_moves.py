"""hamailctl failover, restart, scheduled, cancel, and the preflight before each order: outputs and exit codes."""

import io
import json
import time
from datetime import UTC, datetime

import msgspec
import pytest
from click.testing import CliRunner
from control_fake import T0, FakeBackend, serving
from rich.console import Console

from hamail.cli import follow
from hamail.cli.app import App
from hamail.cli.main import cli
from hamail.cli.moments import parse_moment
from hamail.cli.progress import Progress, phase_of
from hamail.model import commands as c
from hamail.model.preflight import Check, PhaseBudget, Verdict
from hamail.model.state import Move, Trigger

WARNING = Check(
    name="recent failure",
    verdict=Verdict.WARNING,
    reason="postfix of mail failed on n2 3 min ago",
    next_step="find out why, then hamailctl clear mail, or --force",
)
BAD = Check(name="source", verdict=Verdict.BAD, reason="n1 is healthy", next_step="hamailctl switchover mail")


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture
def backend():
    return FakeBackend()


@pytest.fixture
def run(backend, tmp_path):
    def call(*words, typed=None, columns=80):
        env = {"COLUMNS": str(columns), "HAMAIL_SOCKET": str(tmp_path / "c.sock"), "LINES": "50"}
        result = CliRunner().invoke(cli, list(words), input=typed, env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    with serving(backend, tmp_path / "c.sock"):
        yield call


# --- preflight --------------------------------------------------------------------------------------------------------

SHOWN = """\
switchover of mail: n1 -> n2
ok  target  n2 is heard, has joined and is ready
    costs   open client sessions end, and clients connect again; nothing that
            was acknowledged is lost
    time    stop: usually 310 ms; start: usually 490 ms, given up after 1 min
"""


def trimmed(text):
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def test_the_preflight_is_shown_before_the_question(run, backend):
    code, out, err = run("switchover", "mail", typed="n\n")
    assert (code, trimmed(out)) == (4, SHOWN)
    assert "Stop mail on n1 and start it on n2?" in err
    assert backend.submitted == []


@pytest.mark.parametrize(
    "words", [("switchover", "mail"), ("failover", "mail"), ("restart", "mail", "postfix"), ("standby", "n1")]
)
def test_dry_run_shows_and_does_nothing(run, backend, words):
    code, out, _ = run(*words, "--dry-run")
    assert code == 0 and "n2 is heard, has joined and is ready" in out and "Nothing was done (--dry-run)" in out
    shown = json.loads(run(*words, "--dry-run", "--json")[1])
    assert shown["would_be_refused"] is False and shown["preflight"]["order"] == words[0]
    backend.checks = (BAD,)
    code, _, err = run(*words, "--dry-run")
    assert code == 3 and "  - n1 is healthy" in err
    code, out, _ = run(*words, "--dry-run", "--json")
    assert code == 3 and json.loads(out)["would_be_refused"] is True
    assert backend.submitted == []


@pytest.mark.parametrize(
    "words", [("switchover", "mail"), ("failover", "mail"), ("restart", "mail"), ("standby", "n1")]
)
def test_force_goes_on_in_spite_of_warnings_and_never_of_more(run, backend, words):
    backend.checks = (WARNING,)
    code, out, err = run(*words, "--yes")
    assert code == 3 and "WARNING" in out and "--force goes on" in err and "postfix of mail failed on n2" in err
    assert backend.submitted == []
    assert run(*words, "--yes", "--force")[0] == 0
    assert len(backend.submitted) == 1
    backend.checks = (WARNING, BAD)
    code, _, err = run(*words, "--yes", "--force")
    assert code == 3 and "n1 is healthy" in err
    assert len(backend.submitted) == 1


# --- failover, restart ------------------------------------------------------------------------------------------------


def test_failover_says_what_may_be_lost_and_what_proof_is_needed(run, backend):
    backend.loss = ("open client sessions drop", "mail that was acknowledged is on the shared storage and is kept")
    code, out, err = run("failover", "mail", typed="y\n")
    assert code == 0
    assert "costs   open client sessions drop" in out and "is kept" in out
    assert "proof   needed: a confirmed fence of n1 (ipmi)" in out
    assert "Take mail from n1 by force and start it on n2?" in err
    assert out.splitlines()[-1].startswith("mail is active on n2 after")
    assert isinstance(backend.submitted[0], c.RequestFailover) and backend.submitted[0].target == "n2"


def test_restart_waits_for_its_end(run, backend):
    code, out, _ = run("restart", "mail", "postfix", "--yes")
    assert code == 0 and out.splitlines()[-1] == "postfix of mail was restarted on n1"
    assert backend.submitted[0].resource == "postfix"
    backend.restart_end = "n1 has not restarted postfix of mail: it exited with code 1."
    code, _, err = run("restart", "mail", "postfix", "--yes")
    assert code == 1 and "n1 has not restarted postfix of mail: it exited with code 1" in err
    assert json.loads(run("restart", "mail", "--yes", "--json")[1])["exit_code"] == 1
    backend.step_s = 1
    code, _, err = run("restart", "mail", "--yes", "--timeout", "200ms")
    assert code == 5 and "the restart of every resource of mail was ordered and is still under way" in err


# --- later, and back --------------------------------------------------------------------------------------------------


def test_a_move_for_later_is_listed_and_called_off(run, backend):
    code, out, _ = run("switchover", "mail", "--to", "n2", "--in", "2h", "--yes", "--reason", "new kernel")
    assert code == 0 and "Scheduled: mail moves to n2 in 2 h (number 21)." in out and "hamailctl cancel 21" in out
    assert backend.submitted[0].due_ms == T0 + 7_200_000
    code, out, _ = run("scheduled")
    assert code == 0 and "21" in out and "2026-11-18 13:06:40" in out and "new kernel" in out and "2 h" in out
    assert json.loads(run("scheduled", "--json")[1])["scheduled"][0]["target"] == "n2"
    shown = run("status", columns=120)[1]
    assert "scheduled" in shown and "2026-11-18 13:06:40" in shown
    code, out, _ = run("cancel", "21")
    assert code == 0 and "Called off: the move of mail" in out
    assert run("scheduled")[1] == "no move is scheduled\n"


def test_a_refusal_of_today_does_not_keep_a_move_from_being_scheduled(run, backend):
    backend.checks = (BAD,)
    code, out, err = run("switchover", "mail", "--in", "2h", typed="y\n")
    assert code == 0 and "As things are now it would be refused." in err and "n1 is healthy" in out
    assert len(backend.submitted) == 1


@pytest.mark.parametrize(
    ("checks", "more", "code", "says"),
    [
        ((), (), 0, "it would be carried out"),
        ((BAD,), (), 3, "could not be moved as things are today"),
        ((WARNING,), (), 3, "--force goes on"),
        ((WARNING,), ("--force",), 0, "it would be carried out"),
        ((), ("--request", "r-1"), 0, "it would be carried out"),
    ],
)
def test_a_dry_run_for_later_ends_as_it_would_today_and_schedules_nothing(run, backend, checks, more, code, says):
    backend.checks = checks
    ended, out, err = run("switchover", "mail", "--in", "2h", "--dry-run", *more)
    assert (ended, backend.submitted) == (code, []) and says in out + err
    shown = json.loads(run("switchover", "mail", "--in", "2h", "--dry-run", "--json", *more)[1])
    assert shown["would_be_refused"] is (code == 3)


def test_at_and_in_exclude_each_other(run, backend):
    code, _, err = run("switchover", "mail", "--in", "2h", "--at", "03:00", "--yes")
    assert code == 2 and "exclude each other" in err
    code, _, err = run("switchover", "mail", "--at", "tomorrow", "--yes")
    assert code == 2 and 'write it as "2026-11-24 03:00"' in err
    assert backend.submitted == []


NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24 03:00", (24, 3, 0)),
        ("2026-11-24T03:00:30", (24, 3, 0)),
        ("2026-11-24 03:00+02:00", (24, 1, 0)),
        ("03:00", (23, 3, 0)),
        ("00:30", (24, 0, 30)),
    ],
)
def test_moments(text, moment):
    found = parse_moment(text, NOW).astimezone(UTC)
    assert (found.day, found.hour, found.minute) == moment


@pytest.mark.parametrize("text", ["", "3", "25:00", "2026-11-24", "2026-13-24 03:00", "2026-11-22 03:00", "yesterday"])
def test_no_moments(text):
    with pytest.raises(ValueError, match=r"moment|passed|time of day"):
        parse_moment(text, NOW)


def test_cancel_follows_the_move_back(run, backend):
    backend.step_s = 0.2
    code, _, err = run("switchover", "mail", "--yes", "--timeout", "100ms")
    assert code == 5 and "Turn it back: hamailctl cancel 21" in err
    backend.move_result, backend.move_detail = "cancelled", "mail was turned back to n1: root cancelled the move."
    code, out, err = run("cancel", "21")
    assert code == 0, err
    assert "mail was turned back to n1: root cancelled the move after" in out


def test_a_switchover_that_was_cancelled_by_another_is_no_success(run, backend):
    backend.move_result, backend.move_detail = "cancelled", "mail was turned back to n1: anna cancelled the move."
    code, _, err = run("switchover", "mail", "--yes")
    assert code == 1 and "mail was turned back to n1: anna cancelled the move; it is active on n1" in err


def test_a_move_that_ended_elsewhere_than_asked_is_no_success(run, backend):
    backend.move_detail = "mail runs on n4 and not on n2, because n2 could not start it (postfix: no such user)."
    code, _, err = run("switchover", "mail", "--to", "n2", "--yes")
    assert code == 1 and "mail runs on n4 and not on n2" in err


def test_ctrl_c_leaves_the_move_running(run, backend, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(follow, "changes", interrupt)
    code, _, err = run("switchover", "mail", "--yes")
    assert code == 5 and "move 21 of mail was ordered and is still under way" in err
    assert "hamailctl history 21" in err and "hamailctl cancel 21" in err


# --- progress ---------------------------------------------------------------------------------------------------------


def move(**changes):
    base = Move(
        id=7, group="mail", source="n1", target="n2", trigger=Trigger.SWITCHOVER, actor="anna", reason="",
        started_at_ms=0, stamps={"decided": 0},
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


@pytest.mark.parametrize(
    ("changes", "phase", "words"),
    [
        ({}, "stop", "n1 stops it"),
        ({"trigger": Trigger.FAILOVER}, "fence", "it must be proven that n1 is out"),
        ({"stamps": {"stopped": 1}}, "start", "n1 is out; the next node is chosen"),
        ({"stamps": {"granted": 1}}, "start", "n2 starts it"),
        ({"stamps": {"granted": 1}, "failures": {"n2": "could not start it"}}, "start", "n2 could not start it"),
        ({"cancelled": "anna cancelled the move."}, "stop", "the move is turned back"),
        ({"result": "done"}, "", "waiting for the first answer"),
    ],
)
def test_phases(changes, phase, words):
    name, said = phase_of(move(**changes))
    assert name == phase and words in said


def test_the_line_shows_phase_elapsed_and_budget():
    clock = [0]
    budget = (PhaseBudget(phase="stop", usual_ms=400, limit_ms=60_000), PhaseBudget(phase="start"))
    progress = Progress(lambda: clock[0], budget)
    progress.phase("stop", "n1 stops it")
    clock[0] = 1500
    console = Console(width=100, force_terminal=False)
    with console.capture() as shown:
        console.print(progress.line())
    assert "n1 stops it" in shown.get() and "1.50 s, usually 400 ms, at most 1 min" in shown.get()
    progress.phase("start", "n2 starts it")
    clock[0] = 2000
    with console.capture() as shown:
        console.print(progress.line())
    assert "n2 starts it 500 ms; 2.00 s in all" in shown.get()


def test_on_a_terminal_the_line_lives_at_the_bottom():
    app = App("/nowhere")
    app._console = Console(width=80, force_terminal=True, file=io.StringIO())
    progress = Progress(lambda: 0)
    with progress.shown(app) as live:
        assert live is not None
    app.json = True
    with progress.shown(app) as live:
        assert live is None
