"""hamailctl history, events and why: the timeline with its bars, the filters, the reasons."""

import io
import json
import re
import time

import msgspec
import pytest
from click.testing import CliRunner
from control_fake import ONE_MOVE, FakeBackend, serving
from rich.console import Console

from hamail.cli import moves_view
from hamail.cli.main import cli
from hamail.cli.moves_view import Point
from hamail.model.state import Decision, Evidence, Past


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture
def backend():
    return FakeBackend()


@pytest.fixture
def run(backend, tmp_path):
    path = tmp_path / "c.sock"

    def call(*words, columns=120):
        env = {"COLUMNS": str(columns), "HAMAIL_SOCKET": str(path), "LINES": "50"}
        result = CliRunner().invoke(cli, list(words), env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    with serving(backend, path):
        yield call


def read(text):
    body = json.loads(text)
    assert re.fullmatch(r"hamail/[a-z-]+/1", body["schema"])
    return body


def trimmed(text):
    return "\n".join(line.rstrip() for line in text.split("\n"))


def test_history_lists_moves(run):
    code, out, _ = run("history")
    assert code == 0
    assert "17  2026-11-18 11:06:39  mail   n2 -> n1  done    905 ms  node lost" in out


TIMELINE = """\
move 17 of mail: n2 -> n1, done, 905 ms
node lost
2026-11-18 11:06:39
outage about 905 ms

clock        since start    step
11:06:39.000       +0 ms   +0 ms detected                   ▏
11:06:39.012      +12 ms  +12 ms decided                    ▎
11:06:39.360     +360 ms +348 ms n2 fenced: surely off      ███████▎
11:06:39.378     +378 ms  +18 ms granted to n1                     ▍
11:06:39.499     +499 ms +121 ms storage mounted                   ██▌
11:06:39.508     +508 ms   +9 ms address taken over                   ▎
11:06:39.890     +890 ms +382 ms services running                     ████████
11:06:39.905     +905 ms  +15 ms first answer to a client                     ▍
11:06:39.910     +910 ms   +5 ms done: every resource is up                   ▏

Reasons: hamailctl why 17
"""


def test_history_of_one_move_is_a_timeline(run):
    code, out, _ = run("history", "17", columns=80)
    assert (code, trimmed(out)) == (0, TIMELINE)
    assert max(map(len, out.splitlines())) <= 80


def test_history_draws_with_plain_characters_where_there_are_no_others(run, monkeypatch):
    monkeypatch.setenv("HAMAIL_ASCII", "1")
    out = run("history", "17", columns=80)[1]
    assert out.isascii()
    assert "n2 fenced: surely off      #######" in out


def test_history_fits_into_80_columns_with_whole_cells(run):
    out = run("history", columns=80)[1]
    assert "17  2026-11-18 11:06:39  mail   n2 -> n1  done    905 ms" in out
    assert "17  node lost" in out


def test_outage_counts_the_silence_before_the_detection(run, backend):
    lost = msgspec.structs.replace(ONE_MOVE, silent_ms=1100, evidence=Evidence.FENCED)
    backend.st = msgspec.structs.replace(backend.st, moves=(lost,))
    out = run("history", "17", columns=80)[1]
    assert "outage about 2.00 s, of which 1.10 s silent before it was detected" in out
    assert "nobody held it any more: fenced" in out
    assert "n2 was silent" in out
    assert read(run("history", "17", "--json")[1])["move"]["outage_ms"] == 2005


def test_history_json_has_the_timeline_in_order(run):
    move = read(run("history", "17", "--json")[1])["move"]
    assert (move["id"], move["length_ms"], move["result"]) == (17, 905, "done")
    assert [step["point"] for step in move["timeline"]] == [
        "detected", "decided", "fenced", "granted", "storage", "address", "services", "first answer", "done",
    ]  # fmt: skip
    assert [step["since_start_ms"] for step in move["timeline"]][:3] == [0, 12, 360]
    assert len(read(run("history", "--json")[1])["moves"]) == 1


def test_history_bears_unknown_stamps_and_equal_times(run, backend):
    odd = msgspec.structs.replace(ONE_MOVE, stamps={"done": 5, "decided": 5, "tea break": 4}, result="failed")
    backend.st = msgspec.structs.replace(backend.st, moves=(odd,))
    out = run("history", "17")[1]
    assert out.index("tea break") < out.index("decided") < out.index("done: every")


def test_history_shows_the_attempt_that_failed_between_the_stop_and_the_last_grant(run, backend):
    tried = msgspec.structs.replace(
        ONE_MOVE, source="n1", target="n1", result="rolled back", started_at_ms=1000,
        stamps={"decided": 1000, "stopped": 1300, "granted": 3200, "done": 3600},
        earlier=(Past(point="granted", node="n2", at_ms=1300), Past(point="could not start it", node="n2", at_ms=3200)),
    )  # fmt: skip
    backend.st = msgspec.structs.replace(backend.st, moves=(tried,))
    out = run("history", "17")[1]
    rows = ["stopped on n1, verified", "granted to n2", "n2 could not start it", "granted to n1", "done: every"]
    assert [row for row in rows if row in out] == rows == sorted(rows, key=out.index)
    assert "+2200 ms" in next(line for line in out.splitlines() if "n2 could not start it" in line)
    steps = read(run("history", "17", "--json")[1])["move"]["timeline"]
    assert [(s["point"], s["node"]) for s in steps if s["node"]] == [("granted", "n2"), ("could not start it", "n2")]


def test_events_for_people_and_programs(run):
    _, out, _ = run("events")
    assert (
        out.splitlines()[-1].rstrip()
        == "2026-11-18 11:06:39.910   20 mail    n1 has started mail: every resource is up"
    )
    lines = [read(line) for line in run("events", "--json")[1].splitlines()]
    assert [line["index"] for line in lines] == [16, 18, 20]


def test_events_are_filtered(run, backend):
    bad = msgspec.structs.replace(backend.st.events[0], severity="warning")
    backend.st = msgspec.structs.replace(backend.st, events=(bad, *backend.st.events[1:]))
    assert len(run("events", "--severity", "warning")[1].strip().splitlines()) == 1
    assert "n2 is off" in run("events", "--node", "n2")[1]
    assert "n2 is off" not in run("events", "--group", "mail")[1]
    assert run("events", "--since", "1s")[1] == ""
    assert run("events", "--since", "2026-11-18")[1].count("\n") == 3
    assert run("events", "--since", "yesterday")[0] == 2
    code, _, err = run("events", "--group", "nix")
    assert code == 3 and "groups: mail" in err


def test_why_of_an_event_tells_what_it_stood_on(run, backend):
    decision = Decision(
        rule="order_fence", trigger="node lost", move=17, by="n3",
        facts={"n2": "not heard for 1.0 s", "ipmi by n1": "ready"},
        rejected={"only wait until its promises run out": "only a fence would prove it"},
    )  # fmt: skip
    event = msgspec.structs.replace(backend.st.events[1], decision=decision)
    backend.st = msgspec.structs.replace(backend.st, events=(event,))
    for number in ("18", "17"):  # the event, and the move that it belongs to
        out = run("why", number)[1]
        assert "facts as n3 saw them" in out and "ipmi by n1: ready" in out
        assert "rule    order_fence: A node that cannot be asked is cut off" in out
        assert "only wait until its promises run out: only a fence would prove it" in out
        assert read(run("why", number, "--json")[1])["events"][0]["decision"]["rule"] == "order_fence"
    code, _, err = run("why", "99")
    assert code == 3 and "the history has no entry 99" in err


def test_a_node_that_a_person_vouched_for_was_not_fenced():
    assert moves_view.words(ONE_MOVE, Point("fenced", 0)) == "n2 fenced: surely off"
    confirmed = msgspec.structs.replace(ONE_MOVE, evidence=Evidence.CONFIRMED)
    assert moves_view.words(confirmed, Point("fenced", 0)) == "n2 is off: confirmed by hand"


def test_a_move_that_came_back_tells_where_it_was_tried_and_for_how_long_mail_was_away():
    """Both said `n2 -> n2`, and of a cancelled one no outage was told."""
    failed = msgspec.structs.replace(
        ONE_MOVE,
        target="n2",
        result="rolled back",
        failures={"n1": "could not start it"},
        detail="mail was rolled back.",
    )
    assert moves_view.path(failed) == "n2 -> n1 -> n2"
    called_off = msgspec.structs.replace(failed, result="cancelled", asked="n1", failures={}, cancelled="root did.")
    assert moves_view.path(called_off) == "n2 -> n1 -> n2" and moves_view.outage_ms(called_off) == 905
    assert moves_view.path(ONE_MOVE) == "n2 -> n1"
    console = Console(width=100, file=io.StringIO())
    console.print(moves_view.timeline(failed))
    assert "mail was rolled back." in console.file.getvalue()
