"""hamailctl ban, unban, quarantine, and maintenance and standby with an end, against the real control server."""

import json
import time

import msgspec
import pytest
from click.testing import CliRunner
from control_fake import T0, FakeBackend, serving

from hamail.cli.main import cli
from hamail.model import commands as c
from hamail.model.leaving import Leaving
from hamail.model.preflight import Check, Verdict
from hamail.model.state import Term
from hamail.model.status import BudgetView, PolicyView

HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture
def backend():
    return FakeBackend()


@pytest.fixture
def run(backend, tmp_path):
    """run("status") -> (exit code, stdout, stderr)"""
    path = tmp_path / "c.sock"

    def call(*words, typed=None):
        env = {"COLUMNS": "120", "HAMAIL_SOCKET": str(path), "LINES": "50"}
        result = CliRunner().invoke(cli, list(words), input=typed, env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    with serving(backend, path):
        yield call


def sent(backend, kind):
    return [x for x in backend.submitted if isinstance(x, kind)]


# --- bans -------------------------------------------------------------------------------------------------------------


def test_a_ban_of_the_standby_asks_nothing_and_says_until_when(run, backend):
    code, out, _ = run("ban", "mail", "n2", "--for", "2h", "--reason", "bad memory")
    assert code == 0
    assert "mail is banned from n2 until 2026-11-18 13:06:40" in out
    (told,) = sent(backend, c.SetBan)
    assert (told.until_ms, told.reason) == (T0 + 2 * HOUR_MS, "bad memory")


def test_a_ban_of_the_owner_asks(run, backend):
    code, _, err = run("ban", "mail", "n1", "--for", "30m", "--no-wait", typed="n\n")
    assert code == 4
    assert "n1 runs mail. Move it away, and keep it away for 30 min?" in err
    assert run("ban", "mail", "n1", "--for", "30m", "--no-wait", "--yes")[0] == 0
    assert [x.node for x in sent(backend, c.SetBan)] == ["n1"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ban", "mail", "n2"], 2, "a ban always ends: say for how long with --for"),
        (["ban", "mail", "n2", "--for", "0s"], 2, "would be over at once"),
        (["ban", "mail", "n2", "--for", "31d"], 2, "30 days at most"),
        (["ban", "mail", "n2", "--for", "soon"], 2, "is not a duration"),
        (["ban", "mail", "n9", "--for", "1h"], 3, "no node 'n9' in this cluster; nodes: n1, n2, n3"),
        (["ban", "web", "n2", "--for", "1h"], 3, "no group 'web' in this cluster"),
        (["unban", "mail", "n2"], 3, "mail is not banned from n2; hamailctl status tells which bans"),
        (["quarantine", "--clear", "n2"], 3, "n2 is not in quarantine; hamailctl quarantine tells who is"),
        (["quarantine", "--clear", "n9"], 3, "no node 'n9'"),
        (["quarantine", "--reason", "x"], 2, "go with --clear"),
        (["maintenance", "on", "--group", "mail", "--node", "n1"], 2, "cannot be given together"),
        (["maintenance", "off", "--for", "1h"], 2, "goes with `on`"),
        (["maintenance", "on", "--dry-run"], 2, "goes with `off`"),
        (["maintenance", "on", "--node", "n3"], 3, "n3 is a witness"),
        (["maintenance", "off", "--group", "mail"], 3, "mail is not in maintenance; hamailctl status tells what is"),
        (["maintenance", "on", "--for", "31d"], 2, "30 days"),
        (["standby", "n2", "--for", "31d", "--yes"], 2, "30 days"),
    ],
)
def test_what_is_refused(run, backend, words, code, said):
    before = backend.st
    got, out, err = run(*words)
    assert (got, said in err) == (code, True), out + err
    assert msgspec.structs.replace(backend.st, applied=0, requests=(), events=()) == msgspec.structs.replace(
        before, applied=0, requests=(), events=()
    )


def test_a_ban_that_leaves_nobody_needs_force(run, backend):
    reason = "while it lasts, no other node may have mail"
    backend.checks = (Check(name="afterwards", verdict=Verdict.WARNING, reason=reason),)
    code, out, err = run("ban", "mail", "n2", "--for", "1h", "--yes")
    assert code == 3 and reason in out + err and not sent(backend, c.SetBan)
    assert run("ban", "mail", "n2", "--for", "1h", "--yes", "--force")[0] == 0


def test_unban(run, backend):
    run("ban", "mail", "n2", "--for", "2h")
    assert "may have mail again" in run("unban", "mail", "n2")[1]
    assert not backend.st.group("mail").bans


def test_a_ban_sent_again_is_one_ban(run, backend):
    words = ("ban", "mail", "n2", "--for", "2h", "--request", "ban-number-1", "--json")
    first, again = (json.loads(run(*words)[1]) for _ in range(2))
    assert (first["repeated"], again["repeated"], first["index"]) == (False, True, again["index"])


# --- quarantine -------------------------------------------------------------------------------------------------------


def quarantined(backend):
    term = Term(since=9, since_ms=T0, until_ms=T0 + HOUR_MS + 2_520_000, actor="hamail", reason="it came back 3 times")
    backend.st = msgspec.structs.replace(
        backend.st, nodes={**backend.st.nodes, "n2": msgspec.structs.replace(backend.st.node("n2"), quarantine=term)}
    )
    backend.node_changes["n2"] = {"quarantine": term, "returns": 3}


def test_quarantine_is_listed_and_lifted(run, backend):
    quarantined(backend)
    code, out, _ = run("quarantine")
    assert code == 0
    assert "n1: not in quarantine; came back 0 times of late" in out
    assert "n2: IN QUARANTINE for another 42 min, until 2026-11-18 12:48:40: it came back 3 times" in out
    assert "Rule: 3 in 10m" in out
    told = json.loads(run("quarantine", "--json")[1])
    assert told["schema"] == "hamail/quarantine-list/1" and told["nodes"][1]["returns"] == 3
    assert run("quarantine", "--clear", "n2")[0] == 0
    assert backend.st.node("n2").quarantine is None


# --- maintenance and standby ------------------------------------------------------------------------------------------


def test_maintenance_of_a_group(run, backend):
    code, out, _ = run("maintenance", "on", "--group", "mail", "--for", "30m")
    assert code == 0 and "mail is in maintenance" in out and "It ends by itself at 2026-11-18 11:36:40" in out
    assert run("maintenance", "off", "--group", "mail")[0] == 0
    assert [x.on for x in sent(backend, c.HandsOff)] == [True, False]


def test_leaving_shows_what_would_follow_and_asks(run, backend):
    run("maintenance", "on", "--node", "n1")
    backend.leave = Leaving(sentences=("mail: n2 fences n1 with ipmi.",), acts=True)
    code, out, err = run("maintenance", "off", "--node", "n1", typed="n\n")
    assert code == 4 and "n2 fences n1 with ipmi" in out and "End it?" in err
    assert backend.st.node("n1").maintenance is not None
    code, out, _ = run("maintenance", "off", "--node", "n1", "--dry-run", "--json")
    assert code == 0 and json.loads(out)["leaving"]["acts"] is True
    assert run("maintenance", "off", "--node", "n1", "--dry-run")[0] == 0
    assert backend.st.node("n1").maintenance is not None
    assert run("maintenance", "off", "--node", "n1", "--yes")[0] == 0
    assert backend.st.node("n1").maintenance is None


def test_maintenance_of_the_cluster_with_an_end(run, backend):
    run("maintenance", "on", "--for", "2h")
    assert [x.until_ms for x in sent(backend, c.SetMaintenance)] == [T0 + 2 * HOUR_MS]


def test_standby_with_an_end(run, backend):
    code, out, _ = run("standby", "n2", "--for", "90m")
    assert code == 0 and "n2 is on standby for 1 h 30 min." in out
    assert [x.until_ms for x in sent(backend, c.SetStandby)] == [T0 + 5_400_000]


# --- status -----------------------------------------------------------------------------------------------------------


def test_status_shows_counts_and_who_is_kept_away(run, backend):
    quarantined(backend)
    ban = Term(since=3, since_ms=T0, until_ms=T0 + 2 * HOUR_MS, actor="root@pts/0", reason="bad memory")
    backend.group_changes = {
        "policy": PolicyView(
            restarts="3 in 10m",
            restarted={"postfix": 2},
            failovers=(BudgetView(allowed="1 in 15m", limit=1, window_ms=900_000, used=1),),
            bans={"n2": ban},
            hands_off="mail is in maintenance",
        )
    }
    out = run("status")[1]
    assert "failovers 1 of 1 in 15m; restarts at most 3 in 10m (so far postfix 2)" in out
    assert "banned from n2 for another 1 h, until 2026-11-18 13:06:40 by root@pts/0: bad memory" in out
    assert "nothing is done about it: mail is in maintenance" in out
    assert "in quarantine for another" in " ".join(out.split())
