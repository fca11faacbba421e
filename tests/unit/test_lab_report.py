"""The picture, the tables and the figures of the bench, from hand-made results."""

import io
import math
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from tests.lab import bench, moves, report
from tests.lab.bench import Results, Run
from tests.lab.evidence import Evidence
from tests.lab.intervals import Hold
from tests.lab.oracle import Outcome, Sent, judge
from tests.lab.probe import Attempt

S = 1_000_000_000
MS = 1_000_000


def attempts(*times_s):
    return [Attempt("smtp", int((t - 0.002) * S), int(t * S), True) for t in times_s]


def test_service_is_up_between_close_successes_only():
    seen = attempts(0, 0.05, 0.1, 1.5, 1.55)
    assert report.served(seen, "smtp") == [(0, S // 10), (3 * S // 2, 31 * S // 20)]
    row = report.service_row("SMTP", seen, "smtp", 0, 2 * S)
    red = [(b.start, b.end) for b in row.bars if b.colour == report.RED]
    assert red == [(S // 10, 3 * S // 2), (31 * S // 20, 2 * S)]


def test_no_service_at_all_is_red_all_along():
    row = report.service_row("SMTP", [], "smtp", 0, S)
    assert [(b.start, b.end, b.colour) for b in row.bars] == [(0, S, report.RED)]


def timeline():
    evidence = Evidence(
        holds=[Hold("n1", "mount", 0, 0, S, S), Hold("n2", "vip 10.0.0.1", 2 * S, 2 * S, 4 * S, 4 * S)],
        power=[(S, "n1", False), (3 * S, "n1", True)],
        until=4 * S,
    )
    sent = [Sent(str(i), "", Outcome.OK, done=i * S // 10) for i in range(40)]
    rows = (
        report.service_row(
            "SMTP", attempts(*(i / 50 for i in range(50)), *(2 + i / 50 for i in range(99))), "smtp", 0, 4 * S
        ),
        report.node_row(evidence, "n1", 0, 4 * S),
        report.node_row(evidence, "n2", 0, 4 * S),
        report.mail_row(sent, 0, 4 * S),
    )
    marks = (report.Mark(S, "power cut <n1> & more"), report.Mark(int(1.1 * S), "next to it"))
    return report.Timeline("a & b", 0, 4 * S, rows, marks, marks, ("a note",))


def test_the_picture_is_well_formed_and_says_everything():
    text = report.svg(timeline())
    root = ET.fromstring(text)
    words = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a & b", "power cut <n1> & more", "SMTP", "n1 holds", "n2 holds", "mail acked", "a note"} <= set(words)
    width = float(root.get("width"))
    for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert 0 <= float(rect.get("x", 0)) <= width
        assert float(rect.get("width")) >= 0
        assert float(rect.get("x", 0)) + float(rect.get("width")) <= width + 1


def test_saving_writes_the_file(tmp_path):
    written = report.save(timeline(), tmp_path / "deep" / "demo.svg")
    assert written[0].read_text().startswith("<svg")
    assert all(path.exists() for path in written)


def text_of(renderable):
    out = io.StringIO()
    Console(file=out, width=160).print(renderable)
    return out.getvalue()


def test_tables_show_losses_and_phases():
    verdict = judge([Sent("a", "x", Outcome.OK), Sent("b", "y", Outcome.OK)], [])
    assert "lost" in text_of(report.mail_table(verdict))
    shown = text_of(report.phase_table("t", [("detected", 0.0), ("fenced", 150.0), ("done", 1200.0)]))
    assert "150" in shown or "0.15 s" in shown
    assert report.seconds(math.inf) == "never back"


def run(scenario, smtp, imap, double=0.0, number=0, conclusive=True):
    return Run("default", scenario, number, "n1", smtp, imap, 0, S, 1, "", double, conclusive)


def good():
    results = Results("default", cpu_s_per_min=1.5, pss_mb=80.0, spurious_moves=0, restart_ms=20.0, restart_moves=0)
    for number in range(3):
        results.runs += [run("power_cut", 1000.0 + number, 900.0), run("switchover", 700, 300)]
        results.runs += [run("service_kill", 500, 10), run("silent_partition", 1500, 1400)]
    results.mail = judge([Sent("a", "x", Outcome.OK)], [bench.mail.Found("a", "x")])
    return results


def verdicts(results):
    return {c.what: c.passed for c in bench.checks(results, list(bench.SCENARIOS), True)}


def test_figures_have_the_agreed_shape():
    document = good().document()
    assert document["scenarios"]["power_cut"] == {
        "smtp_ms": [1000.0, 1001.0, 1002.0],
        "imap_ms": [900.0] * 3,
        "double_active_ms": [0.0] * 3,
    }
    assert set(document["scenarios"]) == {"power_cut", "switchover", "service_kill", "silent_partition"}
    assert document["load"] == {"spurious_moves": 0}
    assert document["idle"] == {"cpu_s_per_min": 1.5, "pss_mb": 80.0}


def test_a_good_bench_passes():
    assert all(verdicts(good()).values())


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda r: r.runs.append(run("power_cut", 1000, 900, double=1.0)), "two nodes active at once, worst run"),
        (lambda r: r.runs.append(run("power_cut", 1000, 900, conclusive=False)), "two nodes active at once, worst run"),
        (lambda r: r.runs.extend(run("power_cut", 5000, 900) for _ in range(4)), "power_cut, SMTP outage"),
        (lambda r: setattr(r, "spurious_moves", 1), "spurious moves, 60 s of 8 busy loops"),
        (lambda r: setattr(r, "spurious_moves", None), "spurious moves, 60 s of 8 busy loops"),
        (lambda r: setattr(r, "cpu_s_per_min", 2.5), "idle CPU s/min incl. checks"),
        (lambda r: setattr(r, "cpu_s_per_min", math.nan), "idle CPU s/min incl. checks"),
        (lambda r: setattr(r, "restart_moves", 1), "restart of hamaild, longest gap"),
        (lambda r: setattr(r, "restart_ms", 400.0), "restart of hamaild, longest gap"),
        (lambda r: setattr(r, "mail", None), "acknowledged messages lost"),
        (lambda r: setattr(r, "mail", judge([Sent("a", "x", Outcome.OK)], [])), "acknowledged messages lost"),
        (lambda r: r.problems.append("power_cut 1: not back"), "problems"),
    ],
)
def test_each_fault_fails_its_line(spoil, line):
    results = good()
    spoil(results)
    assert verdicts(results)[line] is False
    assert "FAIL" in text_of(bench.table("default", bench.checks(results, list(bench.SCENARIOS), True)))


def test_history_is_read_in_both_forms():
    stamps = {"id": 7, "source": None, "target": "n2", "trigger": "node lost", "result": "done"}
    as_stamps = moves.parse([{**stamps, "stamps": {"granted": 150, "detected": 100}}])
    timeline = [{"point": "detected", "at_ms": 100}, {"point": "granted", "at_ms": 150}]
    assert moves.parse({"moves": [{**stamps, "timeline": timeline}]}) == as_stamps
    assert as_stamps[0].since_start() == [("detected", 0), ("granted", 50)]
