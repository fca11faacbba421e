"""hamailctl against the real control server with a scripted cluster behind it: outputs and exit codes."""

import json
import re
import threading
import time
from pathlib import Path

import msgspec
import pytest
import structlog
from click.testing import CliRunner
from control_fake import SCENES, FakeBackend, serving

from hamail.cli.main import cli
from hamail.control.port import NotProposed
from hamail.model import commands as c
from hamail.model.state import Phase
from hamail.model.status import Candidate

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture
def backend():
    return FakeBackend()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "c.sock"


@pytest.fixture
def run(backend, path):
    """run("status") -> (exit code, stdout, stderr)"""

    def call(*words, typed=None, columns=120):
        env = {"COLUMNS": str(columns), "HAMAIL_SOCKET": str(path), "LINES": "50"}
        result = CliRunner().invoke(cli, list(words), input=typed, env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    with serving(backend, path):
        yield call


def read(text):
    """A JSON answer; every one carries its schema."""
    body = json.loads(text)
    assert re.fullmatch(r"hamail/[a-z-]+/[12]", body["schema"])
    return body


# --- looking ----------------------------------------------------------------------------------------------------------

STATUS_WELL = """\
mail is active on n1; n2 could take over
cluster mail-pair seen by n1 at 2026-11-18 12:06:40, coordinator n1, configuration 3
no alert is pending
no single failure ends in an outage (14 failures tried; longest time without service: not known yet)
  ipmi cuts nothing: without it the loss of n1 would be an outage: nothing else could fence n1
last drill: none yet

mail
  state        ACTIVE on n1 for 1 h, since 2026-11-18 11:06:39
  why          node lost. n1 has started mail: every resource is up
  standby      n2 could take over: ready
  lease        4.21 s left, if no majority renews it
  split brain  kept away by a confirmed fence of the former owner, or its verified stop (requires = fencing)
  resources    vip up  storage up  postfix up  dovecot up

node  role     state      watchdog  fencing it  heard
n1    active   ready      armed     ipmi ready  here
n2    standby  ready      armed     ipmi ready  37 ms ago
n3    witness  votes      -         -           37 ms ago
"""


def trimmed(text):
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def test_status_when_all_is_well(run):
    code, out, err = run("status")
    assert (code, trimmed(out), err) == (0, STATUS_WELL, "")


def test_status_puts_what_needs_attention_before_the_details(run, backend):
    SCENES["degraded"](backend)
    code, out, _ = run("status")
    lines = [line.rstrip() for line in out.splitlines()]
    assert code == 0, "mail is served"
    assert lines[0] == "mail is active on n1; nobody could take over"
    assert lines[2:5] == [
        "3 alerts pending",
        "! mail has no standby: if n1 fails, mail stops (pending for 1 min)",
        "  next: hamailctl why mail tells of each node why it could not",
    ]
    assert "n2 could NOT take over: not heard for 12 min" in out
    assert "not heard, called lost by a majority" in out
    assert "ipmi: connection timed out" in out


def test_status_of_a_blocked_group_names_the_next_step(run, backend):
    SCENES["down"](backend)
    code, out, _ = run("status")
    assert code == 1 and out.startswith("mail is BLOCKED on n2: only you can decide\n")
    assert "CRITICAL" in out and "next: make sure that n2 is off, then: hamailctl fence confirm n2" in out
    assert "may hold" in out
    assert run("status", "--json")[0] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"phase": Phase.IDLE, "owner": None}, "mail is down: no node runs it"),
        ({"phase": Phase.STARTING}, "mail is starting on n1"),
        ({"phase": Phase.STOPPING}, "mail is stopping on n1"),
        ({"phase": Phase.FENCING}, "mail is down: n1 may still hold it and is being fenced"),
        ({"phase": Phase.WAITING}, "mail is down: n1 may still hold it until its time has run out"),
    ],
)
def test_status_headline_of_every_phase(run, backend, changes, words):
    backend.group_changes = changes
    assert run("status")[1].splitlines()[0] == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "mail is active on n1, but must stop within 4.21 s: no majority"),
        ({"lease_ms": 0}, "mail is down: without a majority n1 had to stop it"),
        ({"owner": "n2"}, "mail was last known active on n2; without a majority n1 knows no more"),
    ],
)
def test_status_without_a_majority_promises_nothing(run, backend, changes, words):
    backend.quorum = False
    backend.group_changes = changes
    _, out, _ = run("status")
    assert out.splitlines()[0] == words
    assert "  may hold  " in out and "  active   " not in out


def test_status_of_a_fence_that_fails_names_the_next_step(run, backend):
    backend.group_changes = {"phase": Phase.FENCING, "owner": "n2"}
    backend.node_changes = {"n2": {"alive": False, "fence_failure": "ipmi: timed out after 60 s"}}
    _, out, _ = run("status", columns=160)
    assert "! n2 could not be fenced, and is tried again: ipmi: timed out after 60 s" in out
    assert "next: make sure that n2 is off, then: hamailctl fence confirm n2" in out
    assert "resources    unknown, n2 is not heard; last known:" in out


def test_the_first_line_of_status_tells_of_a_failed_service_and_of_hands_that_are_off(run, backend):
    """Mail was down in maintenance, and status began with "mail is active on n1; n2 could take over"."""
    backend.group_changes = {"resources": {"storage": "up", "postfix": "failed", "dovecot": "failed"}}
    assert run("status")[1].startswith("mail is on n1, but postfix and dovecot FAILED there; ")
    backend.group_changes = {"last_resorts": ("n2",), "candidates": ()}
    assert run("status")[1].startswith("mail is active on n1; only n2 could take over, in quarantine\n")
    backend.group_changes = {"candidates": (Candidate(node="n2", eligible=True, reason="it is up"),)}
    run("maintenance", "on")
    _, out, _ = run("status")
    assert out.startswith("mail is active on n1; nobody takes over: maintenance is on\n")
    assert "n2 could take over once maintenance is over: it is up" in out


def test_wrong_usage_is_json_too_when_json_was_asked_for(run):
    for words in (["ban", "mail"], ["switchover", "mail", "--in", "soon"], ["status", "--nonsense"], ["nonsense"]):
        code, out, err = run(*words, "--json")
        assert (code, err) == (2, "") and json.loads(out)["schema"] == "hamail/error/1", words
        assert run(*words)[2].startswith("Usage: ")


def test_status_shows_maintenance_and_accepted_risks(run, backend):
    run("maintenance", "on", "--reason", "switch firmware")
    backend.group_changes = {"unsafe_reason": "no budget for power switches", "requires": "watchdog"}
    _, out, _ = run("status", columns=200)
    assert "MAINTENANCE since 2026-11-18 11:06:40 by root" in out and "switch firmware" in out
    assert "(requires = watchdog)" in out
    assert "LESS THAN FENCING on shared storage, accepted because: no budget for power switches" in out


@pytest.mark.parametrize("columns", [30, 80, 120, 250])
@pytest.mark.parametrize("scene", SCENES)
def test_no_command_breaks_in_any_width(run, backend, columns, scene):
    SCENES[scene](backend)
    for words in (["status"], ["history"], ["history", "17"], ["events"], ["why", "mail"], ["timing"]):
        code, out, _ = run(*words, columns=columns)
        assert code == (words == ["status"] and scene == "down") and out.strip()
        assert "\x1b" not in out  # no colours where nobody looks
        if words != [
            "why",
            "mail",
        ]:  # tables keep to the width as long as names fit; sentences are left to the terminal
            assert max(map(len, out.splitlines())) <= max(columns, 85)


def test_status_before_the_cluster_has_started(run, backend):
    backend.status_changes = {"config_revision": 0, "groups": (), "quorum": False}
    _, out, _ = run("status")
    assert (
        out.splitlines()[0]
        == "n1 has heard nothing of a running cluster since it started: it cannot say what runs where"
    )
    assert "! nothing is decided: n1 knows of no coordinator" in out


def test_status_json_is_the_model(run, backend):
    told = read(run("status", "--json")[1])
    assert msgspec.convert({**told, "schema": 2}, type=type(backend.status())) == backend.status()


def test_why_and_config_show(run):
    assert run("why", "mail")[1].splitlines()[0] == "mail runs on n1 since n2 was lost."
    assert read(run("why", "mail", "--json")[1])["group"] == "mail"
    assert run("config", "show")[1] == 'cluster = "mail-pair"\n'
    assert read(run("config", "show", "--json")[1])["config"]["revision"] == 3


def test_timing_as_applied_and_computed(run):
    assert "timings for detection = 1000 ms (as applied)" in run("timing")[1]
    code, out, _ = run("timing", "--detection", "300ms")
    assert code == 0 and "detection = 300 ms (computed, not applied)" in out
    assert read(run("timing", "--detection", "0.3s", "--json")[1])["timings"]["detection_ms"] == 300


def test_version(run):
    assert read(run("version", "--json")[1]) == {
        "schema": "hamail/version/1",
        "hamailctl": "0.1.0",
        "hamaild": "0.1.0",
        "error": "",
    }


# --- acting -----------------------------------------------------------------------------------------------------------


def test_switchover_shows_each_step_and_the_end(run, backend):
    code, out, _ = run("switchover", "mail", "--reason", "kernel update", "--yes")
    assert code == 0
    assert [line.strip() for line in out.splitlines()] == [
        "mail: n1 -> n2",
        f"+0 ms  ordered by {backend.submitted[0].actor}",
        "+310 ms  stopped on n1, verified",
        "+322 ms  granted to n2",
        "+402 ms  storage mounted",
        "+411 ms  address taken over",
        "+801 ms  services running",
        "+822 ms  first answer to a client",
        "+825 ms  done: every resource is up",
        "mail is active on n2 after 822 ms",
    ]
    assert backend.st.group("mail").owner == "n2"


def test_switchover_json(run):
    body = read(run("switchover", "mail", "--yes", "--json")[1])
    assert (body["result"], body["move"]["target"], body["move"]["result"]) == ("done", "n2", "done")
    assert body["request"].startswith("ctl-")


def test_switchover_asks_first(run, backend):
    code, _, err = run("switchover", "mail", typed="n\n")
    assert code == 4 and "Stop mail on n1 and start it on n2?" in err
    assert backend.submitted == []
    assert run("switchover", "mail", typed="y\n")[0] == 0


def test_switchover_rolled_back_is_a_failure_with_the_reason(run, backend):
    backend.move_result = "rolled back"
    backend.move_detail = "mail was rolled back to n1 because n2 could not start it (postfix: no such user)."
    backend.move_end = "mail could not start on n2 (postfix: no such user) and is back on n1"
    code, _, err = run("switchover", "mail", "--yes")
    assert code == 1
    assert "mail was rolled back to n1 because n2 could not start it (postfix: no such user); it is active on n1" in err
    assert "  - mail could not start on n2 (postfix: no such user) and is back on n1\n" in err
    assert "hamailctl history 21" in err
    backend.move_result = "failed"
    code, out, _ = run("switchover", "mail", "--yes", "--json")
    assert code == 1 and read(out)["result"] == "failed"


def test_switchover_that_takes_too_long_is_unknown_and_can_be_followed_again(run, backend):
    backend.step_s = 0.2
    code, _, err = run("switchover", "mail", "--yes", "--timeout", "300ms")
    assert code == 5 and "was ordered and is still under way" in err
    request = backend.submitted[0].request
    retry = f"hamailctl switchover mail --yes --timeout 300ms --request {request}"
    assert retry in err
    code, out, _ = run("switchover", "mail", "--request", request)
    assert code == 0 and "mail is active on n2" in out
    assert len(backend.submitted) == 1


def test_progress_bears_a_restart_of_hamaild(backend, path):
    backend.step_s = 0.15
    env = {"HAMAIL_SOCKET": str(path)}
    got = []

    def move():
        got.append(CliRunner().invoke(cli, ["switchover", "mail", "--yes"], env=env))

    thread = threading.Thread(target=move)
    with serving(backend, path) as control:
        thread.start()
        while not backend.submitted:
            time.sleep(0.01)
        time.sleep(0.2)
        server = control["server"]

        async def restart():
            await server.stop()
            await __import__("asyncio").sleep(0.4)
            await server.start()

        import asyncio

        asyncio.run_coroutine_threadsafe(restart(), control["loop"]).result(5)
        thread.join(10)
    assert got[0].exit_code == 0 and "mail is active on n2" in got[0].stdout


def test_unknown_outcome_prints_the_retry_and_the_retry_works(run, backend):
    backend.fate = [c.Unknown(why="no coordinator answered within 5 s")]
    code, _, err = run("clear", "mail", "--reason", "two words")
    request = backend.submitted[0].request
    assert code == 5 and "outcome unknown: no coordinator answered" in err
    assert f"hamailctl clear mail --reason 'two words' --request {request}" in err
    code, out, _ = run("clear", "mail", "--reason", "two words", "--request", request, "--json")
    assert code == 0 and read(out)["request"] == request


def test_standby_waits_until_the_groups_have_moved(run, backend):
    code, out, _ = run("standby", "n1", "--yes", "--reason", "disk swap")
    assert code == 0
    assert out.splitlines()[0] == "n1 is on standby."
    assert out.splitlines()[-1] == "mail is active on n2."
    assert "n1 was told to stop mail" in out
    assert backend.st.node("n1").standby and backend.st.group("mail").owner == "n2"
    assert run("unstandby", "n1")[0] == 0 and not backend.st.node("n1").standby


def test_standby_no_wait_returns_at_once(run, backend):
    backend.step_s = 5
    begun = time.monotonic()
    assert run("standby", "n1", "--yes", "--no-wait")[0] == 0
    assert time.monotonic() - begun < 2


def test_standby_that_fails_or_takes_too_long(run, backend):
    backend.step_s = 1
    code, _, err = run("standby", "n1", "--yes", "--timeout", "200ms")
    assert code == 5 and "the move of mail away from n1 was ordered and is still under way" in err


def test_standby_of_a_node_that_must_not_lose_its_groups(run, backend):
    backend.refusals = {"n2": ("n2 is not ready: disk full",)}
    code, _, err = run("standby", "n1", "--yes")
    assert code == 3 and "  - mail: n2 is not ready: disk full" in err
    run("maintenance", "on")
    code, out, _ = run("standby", "n1", "--yes")  # nothing moves now, so nothing is lost
    assert code == 0 and "Maintenance is on: nothing moves before it ends." in out


def test_standby_by_force_ends_when_nobody_may_have_the_group(run, backend):
    stranded = {"phase": Phase.IDLE, "owner": None, "candidates": (Candidate(node="n2", eligible=False, reason="x"),)}
    backend.group_changes = stranded
    backend.plan = [("stopped", Phase.IDLE, 310)]
    code, out, _ = run("standby", "n1", "--yes", "--force", "--timeout", "3s")
    assert (code, out.splitlines()[-1]) == (0, "mail is DOWN: no other node may take over.")


def test_maintenance_waits_for_every_reachable_node(run, backend):
    code, out, _ = run("maintenance", "on")
    assert code == 0 and "every reachable node has acknowledged it" in out
    assert run("maintenance", "off")[0] == 0
    backend.maintenance_acks = ("n1",)
    code, _, err = run("maintenance", "on", "--timeout", "200ms")
    assert code == 1 and "n2 has not acknowledged it" in err
    backend.node_changes = {"n2": {"alive": False}}
    assert run("maintenance", "on", "--timeout", "200ms")[0] == 0


def test_maintenance_off_waits_until_every_switch_is_in_force(run, backend):
    backend.still_suspended = ("n2",)
    code, _, err = run("maintenance", "off", "--timeout", "200ms")
    assert code == 1 and "n2 has not acknowledged it: its dead-man's switch may still be suspended" in err
    assert "! maintenance is off, but the dead-man's switch of n2 may still be suspended" in run("status")[1]
    backend.still_suspended = ()
    assert run("maintenance", "off", "--timeout", "200ms")[0] == 0


def test_fence_waits_until_the_node_is_off(run, backend):
    code, out, _ = run("fence", "n2", "--yes")
    assert code == 0 and "n2 is off." in out
    assert read(run("fence", "n1", "--yes", "--json")[1])["result"] == "done"


def test_fence_that_fails_says_what_the_operator_can_do(run, backend):
    backend.fence_ok = False
    code, _, err = run("fence", "n2", "--yes", "--timeout", "300ms")
    assert code == 1 and "n2 is not fenced yet" in err
    assert "ipmi: timed out after 60 s" in err and "hamailctl fence confirm n2" in err


def test_fence_asks_and_names_what_it_interrupts(run, backend):
    code, _, err = run("fence", "n1", typed="n\n")
    assert code == 4 and "It holds mail, which will be interrupted. Cut the power of n1?" in err
    assert backend.submitted == []


def test_fence_confirm_needs_the_name_again(run, backend):
    backend.node_changes = {"n2": {"alive": False, "silent_ms": 60_000}}
    code, _, err = run("fence", "confirm", "n2", typed="n1\n")
    assert code == 2 and "'n1' is not 'n2': nothing was confirmed" in err and "DESTROYED" in err
    assert run("fence", "confirm", "n2", "--i-know-it-is-off", "n1")[0] == 2
    assert run("fence", "confirm", "n2")[0] == 2  # nobody types
    assert backend.submitted == []
    assert run("fence", "confirm", "n2", typed="n2\n")[0] == 0
    code, out, _ = run("fence", "confirm", "n2", "--i-know-it-is-off", "n2", "--reason", "unplugged", "--json")
    assert code == 0 and read(out)["result"] == "done"
    assert backend.submitted[-1].reason == "unplugged"


def test_nothing_is_asked_about_a_node_that_is_unknown_or_surely_runs(run, backend):
    for words, error in (
        (("fence", "n9"), "no node 'n9' in this cluster; nodes: n1, n2, n3"),
        (("fence", "confirm", "n9"), "no node 'n9' in this cluster; nodes: n1, n2, n3"),
        (("fence", "confirm", "n2"), "n2 is not off\n  - n2 was heard 37 ms ago, so it is running"),
    ):
        assert run(*words) == (3, "", f"hamailctl: {error}\n")


# --- config -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def config_file(tmp_path):
    file = tmp_path / "pair.toml"
    file.write_text((ROOT / "etc" / "cluster.toml").read_text())
    return file


def test_config_check_with_a_daemon_shows_changes(run, config_file):
    code, out, _ = run("config", "check", str(config_file), columns=200)
    assert code == 0
    assert "is good: 3 nodes (1 of them witness), 1 group, 1 fence device" in out
    assert "Changes against revision 3:\n  detection: 1000 ms -> 300 ms" in out


def test_config_check_without_a_daemon(config_file, tmp_path):
    result = CliRunner().invoke(cli, ["--socket", str(tmp_path / "none"), "config", "check", str(config_file)])
    assert result.exit_code == 0 and "is good" in result.stdout and "Not compared" in result.stdout
    config_file.write_text(config_file.read_text().replace("witness =", "witnes ="))
    result = CliRunner().invoke(cli, ["--socket", str(tmp_path / "none"), "config", "check", str(config_file)])
    assert result.exit_code == 3 and "did you mean 'witness'?" in result.stderr


def test_config_apply_shows_asks_and_applies(run, backend, config_file):
    code, out, err = run("config", "apply", str(config_file), typed="n\n")
    assert code == 4 and "detection: 1000 ms -> 300 ms" in out and "Apply this to the whole cluster?" in err
    assert backend.submitted == []
    code, out, _ = run("config", "apply", str(config_file), "--yes", "--reason", "faster")
    assert code == 0 and "Applied as revision 4." in out
    assert (backend.submitted[0].expected_revision, backend.submitted[0].reason) == (3, "faster")
    code, out, _ = run("config", "apply", str(config_file), "--yes")
    assert code == 0 and "nothing to do" in out and len(backend.submitted) == 1


def test_config_tells_which_nodes_could_not_be_asked(run, backend, config_file):
    backend.elsewhere = ((), ("whether n2 could use it is unknown: it is not heard",))
    for words in (("check", str(config_file)), ("apply", str(config_file), "--yes")):
        code, out, _ = run("config", *words)
        assert code == 0 and "! whether n2 could use it is unknown: it is not heard" in out


def test_config_apply_is_refused_when_another_node_would(run, backend, config_file):
    backend.elsewhere = (("n2: groups.mail.resources.x: agent x is not allowed on this node",), ())
    for words in (("check", str(config_file)), ("apply", str(config_file), "--yes")):
        code, _, err = run("config", *words)
        assert code == 3 and "n2: groups.mail.resources.x" in err and not backend.submitted


def test_config_apply_retry_is_safe(run, backend, config_file):
    backend.fate = [c.Unknown(why="applied: but the answer was lost")]
    assert run("config", "apply", str(config_file), "--yes")[0] == 5
    code, out, _ = run("config", "apply", str(config_file), "--yes", "--request", backend.submitted[0].request)
    assert code == 0 and "revision 4" in out and len(backend.submitted) == 1


def test_config_apply_with_problems_changes_nothing(run, backend, config_file):
    backend.problems = ("groups.mail.nodes: n3 is a witness",)
    code, _, err = run("config", "apply", str(config_file), "--yes")
    assert code == 3 and "  - groups.mail.nodes: n3 is a witness" in err and backend.submitted == []


# --- wrong input ------------------------------------------------------------------------------------------------------

WRONG = [
    (["switchover"], 2, "Missing argument 'GROUP'"),
    (["switchover", "mial", "--yes"], 3, "no group 'mial' in this cluster; groups: mail"),
    (["switchover", "mail", "--to", "n9", "--yes"], 3, "no node 'n9' in this cluster; nodes: n1, n2, n3"),
    (["switchover", "mail", "--to", "n1", "--yes"], 3, "mail is on n1 already"),
    (["switchover", "mail"], 2, "nobody answered, so nothing was done; add --yes"),
    (["switchover", "mail", "--yes", "--request", "x"], 2, "'x' is not a request id"),
    (["switchover", "mail", "--yes", "--timeout", "5"], 2, "'5' is not a duration; write a number and a unit"),
    (["switchover", "mail", "--yes", "--reason", "a\nb"], 2, "has a line break"),
    (["standby", "n9", "--yes"], 3, "no node 'n9'"),
    (["standby", "n3", "--yes"], 3, "n3 is a witness: it never owns a group"),
    (["unstandby", "n9"], 3, "no node 'n9'"),
    (["maintenance"], 2, "Missing argument"),
    (["maintenance", "maybe"], 2, "'maybe' is not one of"),
    (["clear", "nope"], 3, "no group 'nope'"),
    (["fence", "n3", "--yes"], 3, "no fence device is configured for n3"),
    (["fence", "n9", "--yes"], 3, "no node 'n9'"),
    (["fence"], 2, "Usage: "),
    (["fence", "confirm", "n2", "--i-know-it-is-off", "n2"], 3, "n2 was heard 37 ms ago, so it is running"),
    (["history", "abc"], 2, "'abc' is not a valid integer"),
    (["history", "99"], 3, "no move 99 in the history"),
    (["why", "nope"], 3, "no group 'nope'"),
    (["why", "../status"], 3, "no group '../status'"),
    (["config", "check", "/nonexistent.toml"], 2, "/nonexistent.toml: No such file or directory"),
    (["config", "apply", "/", "--yes"], 2, "/: Is a directory"),
    (["config", "check", "/bin/ls"], 2, "/bin/ls: not UTF-8 text"),
    (["timing", "--detection", "1"], 2, "'1' is not a duration"),
    (["timing", "--detection", "5ms"], 3, "detection is 5 ms; it must be between"),
    (["timing", "--watchdog", "1500ms"], 2, "watchdogs count whole seconds"),
    (["frobnicate"], 2, "No such command 'frobnicate'"),
    (["status", "--jsno"], 2, "No such option"),
    (["--socket", "/nonexistent/c.sock", "status"], 4, "systemctl status hamaild"),
    (
        ["--socket", "/nonexistent/c.sock", "clear", "mail"],
        4,
        "hamaild is not running: there is no /nonexistent/c.sock",
    ),
]


@pytest.mark.parametrize(("words", "code", "text"), WRONG, ids=[" ".join(w)[:40] for w, _, _ in WRONG])
def test_wrong_input(run, backend, words, code, text):
    got, out, err = run(*words)
    assert (got, text in " ".join((out + err).split("\n  ")), backend.submitted) == (code, True, []), out + err


@pytest.mark.parametrize(
    ("fate", "code", "text"),
    [
        (c.Outcome(index=30, accepted=False, reasons=("n2 is being fenced",)), 3, "n2 is being fenced"),
        (NotProposed("no coordinator is known"), 4, "no coordinator is known"),
        (c.Unknown(why="5 s without an outcome"), 5, "5 s without an outcome"),
        (RuntimeError("boom"), 5, "internal error in hamaild: RuntimeError: boom"),
    ],
)
def test_every_fate_has_its_exit_code_also_in_json(run, backend, fate, code, text):
    for words in (["switchover", "mail", "--yes"], ["switchover", "mail", "--yes", "--json"]):
        backend.fate = [fate]
        with structlog.testing.capture_logs():  # hamaild logs what was unforeseen
            got, out, err = run(*words)
        assert got == code and text in out + err
    body = read(out)
    assert body["exit_code"] == code and body["request"].startswith("ctl-") and body["error"]


def test_without_quorum_orders_are_surely_not_done(run, backend):
    backend.quorum = False
    code, _, err = run("clear", "mail")
    assert code == 4 and "does not hear a majority" in err


@pytest.mark.parametrize("command", ["switchover", "standby", "fence", "history", "config", "timing", "events"])
def test_help_has_examples(command):
    out = CliRunner().invoke(cli, [command, "--help"]).stdout
    assert "Example" in out and f"hamailctl {command}" in out


def test_every_command_has_help_with_an_example():
    def walk(command, words):
        if hasattr(command, "commands"):
            for name, sub in command.commands.items():
                walk(sub, [*words, name])
        out = CliRunner().invoke(cli, [*words, "--help"]).stdout
        assert "Example" in out and "hamailctl" in out, words

    walk(cli, [])
