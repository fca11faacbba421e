"""hamailctl plan, what status adds to it, and the live screen, against the real control server."""

import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from control_fake import ONE_MOVE, T0, FakeBackend, serving
from rich.console import Console

from hamail.cli import glance
from hamail.cli.main import cli
from hamail.cli.watch_view import Screen
from hamail.model.orders import ScheduledMove
from hamail.model.practice import DrillRecord, Incident
from hamail.model.state import Event, Phase, Term

ROOT = Path(__file__).parents[2]


@pytest.fixture
def backend():
    return FakeBackend()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "c.sock"


@pytest.fixture
def run(backend, path):
    def call(*words, columns=80):
        env = {"COLUMNS": str(columns), "HAMAIL_SOCKET": str(path), "LINES": "50"}
        result = CliRunner().invoke(cli, list(words), env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    with serving(backend, path):
        yield call


# --- plan -------------------------------------------------------------------------------------------------------------


def test_plan_says_what_would_be_done_and_why(run, backend):
    before = backend.st
    code, out, _ = run("plan", "--if", "node-down=n1")
    assert code == 0
    for words in (
        "supposed: node-down=n1",
        "n1 must be fenced before mail may start elsewhere",
        "instead of only wait until its promises run out: only a fence would",
        "n2 is to fence n1 with ipmi",
        "mail is back on n2; how soon has no record yet",
        "n3  could not take over: a witness votes and never owns a group",
        "time, counted from the last word of n1:",
        "start n2   usually 527 ms (1 move)",
        "detect n1  no record yet",
    ):
        assert words in out
    assert max(map(len, out.splitlines())) <= 80
    assert backend.st == before and not backend.submitted, "nothing is done"


def test_plan_ends_with_6_when_service_would_not_go_on(run):
    code, out, _ = run("plan", "--if", "node-down=n1", "--if", "fence-fails=ipmi")
    assert code == 6
    assert "mail would be DOWN, and stay so" in out
    assert "hamailctl fence confirm n1" in " ".join(out.split())
    body = json.loads(run("plan", "--if", "node-down=n1", "--if", "fence-fails=ipmi", "--json")[1])
    assert (body["schema"], body["continues"]) == ("hamail/plan/1", False)


def test_plan_without_a_supposition_tells_what_comes_next(run):
    code, out, _ = run("plan")
    assert code == 0 and "nothing would be done" in out and "mail stays on n1, without interruption" in out


def test_facts_are_shown_on_demand(run):
    assert "ipmi by n2: ready" not in run("plan", "--if", "node-down=n1")[1]
    assert "ipmi by n2: ready" in run("plan", "--if", "node-down=n1", "--facts")[1]


@pytest.mark.parametrize("saver", [("plan", "--save-state"), ("status", "--save")])
def test_a_saved_state_gives_the_same_plan(run, tmp_path, saver):
    file = tmp_path / "state.json"
    assert run(*saver, str(file))[0] == 0
    assert file.stat().st_mode & 0o777 == 0o600
    live = json.loads(run("plan", "--if", "node-down=n1", "--json")[1])
    saved = json.loads(run("plan", "--state", str(file), "--if", "node-down=n1", "--json")[1])
    assert saved == live


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file or directory"),
        (b"", "is no saved state"),
        (b"{}", "is no saved state: Object missing required field"),
        (b"[" * 100_000, "is no saved state"),
        (b"\xff\xfe", "is no saved state"),
    ],
)
def test_what_is_no_saved_state_is_said(run, tmp_path, content, says):
    file = tmp_path / "state.json"
    if content is not None:
        file.write_bytes(content)
    code, _, err = run("plan", "--state", str(file))
    assert code == 2 and says in err


def test_a_saved_state_of_another_kind(run, tmp_path):
    file = tmp_path / "state.json"
    run("plan", "--save-state", str(file))
    file.write_text(file.read_text().replace("hamail/situation/1", "hamail/situation/9"))
    code, _, err = run("plan", "--state", str(file))
    assert code == 2 and "says that it is hamail/situation/9" in err


def test_suppositions_are_checked(run):
    code, _, err = run("plan", "--if", "node-down=n9")
    assert code == 2 and "there is no node 'n9'; there is n1, n2, n3" in err and "hamailctl plan --help" in err
    assert run("plan", *["--if=node-down=n1"] * 17)[0] == 2


# --- status -----------------------------------------------------------------------------------------------------------


def test_status_tells_which_single_failure_ends_in_an_outage(run, backend):
    backend.node_changes["n2"] = {"alive": False, "suspected": True, "silent_ms": 9000, "ready": False}
    out = run("status")[1]
    assert "ONE FAILURE AWAY FROM AN OUTAGE:" in out
    assert "! n1 loses its power: mail would be down" in out
    assert "n1 runs on, but nobody hears it" not in out, "its loss was told"
    body = json.loads(run("status", "--json")[1])
    assert not body["risks"][0]["continues"]
    assert body["schema"] == "hamail/status/2"


def test_status_tells_of_drills_incidents_schedules_and_limits(run, backend):
    term = Term(since=3, since_ms=T0, until_ms=T0 + 7_200_000, actor="root", reason="noisy disk")
    group = msgspec.structs.replace(backend.st.group("mail"), bans={"n2": term})
    drill = DrillRecord(id="d1", name="switchover", group="mail", at_ms=T0, verdict="passed", rto_ms=1800, rpo=0)
    backend.st = msgspec.structs.replace(
        backend.st, groups={"mail": group}, drills=(drill,),
        incidents=(Incident(id=4, title="slow mail", opened_ms=T0, actor="root", since=4),),
        scheduled=(ScheduledMove(id=9, group="mail", target="n2", due_ms=T0 + 3_600_000, actor="root"),),
    )  # fmt: skip
    out = run("status", columns=120)[1]
    assert "last drill: switchover of mail 1 h ago, passed, service back after 1.80 s" in out
    assert "incident 4 is open since" in out
    assert "scheduled: mail to n2 at" in out
    assert "ban of mail from n2 until" in out and "noisy disk" in out
    body = json.loads(run("status", "--json")[1])
    assert (body["last_drill"]["id"], body["limits"][0]["what"], body["scheduled"][0]["id"]) == ("d1", "ban", 9)


def test_status_of_a_group_that_is_down_does_not_list_what_could_take_it_down(run, backend):
    backend.node_changes["n2"] = {"alive": False, "suspected": True, "silent_ms": 9000, "ready": False}
    assert "ONE FAILURE AWAY" in run("status")[1]
    backend.group_changes = {"phase": Phase.IDLE, "owner": None}
    _, out, _ = run("status")
    assert out.startswith("mail is down") and "ONE FAILURE AWAY" not in out


# --- the live screen --------------------------------------------------------------------------------------------------


def screen(backend, columns=80, lines=24, events=None):
    console = Console(
        file=io.StringIO(), width=columns, height=lines, force_terminal=True, color_system=None, legacy_windows=False
    )
    situation = backend.situation()
    many = [Event(index=n, at_ms=T0 + n, kind="note", sentence=f"event {n} " + "words " * 20) for n in range(50)]
    seen = glance.look(situation)
    console.print(Screen(backend.status(), situation, seen, many if events is None else events), end="")
    return console.file.getvalue().split("\n")


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("lines", [10, 24, 60])
@pytest.mark.parametrize("bad", [False, True])
def test_the_screen_fits(backend, columns, lines, bad):
    if bad:
        backend.node_changes["n2"] = {"alive": False, "suspected": True, "silent_ms": 9000, "ready": False}
        backend.st = msgspec.structs.replace(backend.st, incidents=tuple(
            Incident(id=n, title="words " * 20, opened_ms=T0, actor="root", since=n) for n in range(9)
        ))  # fmt: skip
    shown = screen(backend, columns, lines)
    assert len(shown) <= lines
    assert max(map(len, shown)) <= columns
    assert "mail is active on n1" in shown[0]
    assert any("event 49" in line for line in shown), "the newest event is always there"


def test_the_screen_shows_the_nodes_when_one_of_them_is_lost(backend):
    """What one more failure would do took up all the lines of a terminal with 24, and the table of nodes had none."""
    backend.node_changes["n2"] = {"alive": False, "suspected": True, "silent_ms": 9000, "ready": False}
    shown = "\n".join(screen(backend))
    assert "not heard, called lost" in shown and "node  role" in shown


def test_the_screen_shows_how_far_a_move_is(backend):
    move = msgspec.structs.replace(
        ONE_MOVE, id=30, result="running", source="n1", target="n2", started_at_ms=T0 + 3_599_000,
        stamps={"detected": T0 + 3_599_000, "decided": T0 + 3_599_010},
    )  # fmt: skip
    fencing = msgspec.structs.replace(
        backend.st.group("mail"), phase=Phase.FENCING, move=30, since_ms=T0 + 3_599_000
    )  # fmt: skip
    backend.st = msgspec.structs.replace(backend.st, moves=(ONE_MOVE, move), groups={"mail": fencing})
    text = "\n".join(screen(backend))
    assert "move 30 of mail n1 -> n2 (node lost)" in text
    assert "fencing n1, 1.00 s of about 2.00 s" in text


def test_the_live_view_leaves_the_terminal_as_it_was(backend, path):
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {**os.environ, "HAMAIL_SOCKET": str(path), "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    env = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
    with serving(backend, path):
        command = [sys.executable, "-m", "hamail.cli.main", "status", "--watch"]
        process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=ROOT)
        os.close(slave)
        seen, interrupted, deadline_s = b"", False, time.monotonic() + 15
        while process.poll() is None and time.monotonic() < deadline_s:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    seen += os.read(master, 65536)
                except OSError:
                    break
            if b"mail is active on n1" in seen and not interrupted:
                interrupted = True
                process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
    os.close(master)
    assert seen.count(b"\x1b[?1049h") == 1, "it has the other screen"
    assert b"\x1b[?1049l" in seen and b"\x1b[?25h" in seen, "and gives both back"
    assert b"Traceback" not in seen
