"""What a drill's report says of what was seen: figures, verdict, deviations, and a picture that is one."""

import json
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from hamail.cli.main import cli
from hamail.control.api import Done
from hamail.control.client import Failed
from hamail.core.apply import apply, empty_state
from hamail.core.timing import derive
from hamail.model import commands as c
from hamail.model.practice import DrillOrder
from hamail.model.spec import Requirement
from hamail.model.state import ClusterState, Move, Stamp, Trigger
from hamail.model.status import Status
from hamail.practice import paper, plan
from hamail.practice.drill import Drill, failed, gaps, mails, spans
from hamail.practice.outside import steady
from hamail.practice.picture import draw
from hamail.practice.report import Check as Asked
from hamail.practice.report import DrillReport, Expectation, Gap, Mails, limit_ms
from hamail.probe.records import Check, End, Mail
from hamail.simulation.spec import cluster

EXPECTED = Expectation(rto_ms=1000, limit_ms=3000, basis="stop 400 ms + start 600 ms", steps=("a step <b>",))
GOOD = DrillReport(
    id="d", name="switchover", cluster="post", group="mail", actor="root", probed_from="w", every_ms=20,
    config_revision=3, started_ms=0.0, ended_ms=9000.0, source="n1", target="n2", expected=EXPECTED,
    checks=(Asked(name="it runs", ok=True), Asked(name="odd", ok=None, detail="not known")),
    gaps=(Gap(service="smtp", from_ms=1990.0, to_ms=2990.0), Gap(service="imap", from_ms=1995.0, to_ms=2500.0)),
    fault_ms=2000.0,
    mails=Mails(sent=9, acknowledged=8, found=8, read=True), sessions_held={"smtp": 5}, sessions_dropped={"smtp": 5},
    redundant_ms=3000.0,
)  # fmt: skip


def test_a_good_drill_passes_with_the_longest_outage_as_its_figure() -> None:
    assert (GOOD.rto_ms, GOOD.rpo, GOOD.verdict, GOOD.deviations()) == (1000, 0, "passed", ())


@pytest.mark.parametrize(
    ("change", "verdict", "says"),
    [
        ({"gaps": (Gap(service="smtp", from_ms=0.0, to_ms=4000.0),)}, "failed", "longer than 3000 ms"),
        ({"gaps": (Gap(service="smtp", from_ms=0.0, to_ms=None),)}, "failed", "did not come back: smtp"),
        ({"gaps": (Gap(service="smtp", from_ms=0.0, to_ms=2000.0),)}, "passed", "about 1000 ms were expected"),
        ({"gaps": ()}, "failed", "did not come back: no service"),
        ({"mails": Mails(sent=2, acknowledged=2, found=1, lost=("x",), read=True)}, "failed", "1 acknowledged mails"),
        ({"mails": Mails(sent=2, acknowledged=2, corrupt=1, read=True)}, "failed", "damaged"),
        ({"mails": Mails(sent=2, acknowledged=2, problem="timed out")}, "failed", "not be found out: timed out"),
        ({"mails": Mails(sent=2, acknowledged=2)}, "passed", "the mailbox was not read (--user"),
        ({"mails": Mails()}, "passed", "no mail was sent"),
        ({"redundant_ms": None}, "failed", "not redundant"),
        ({"fault_ms": None, "fault": "drills are not allowed"}, "failed", "nothing was done: drills are not allowed"),
        ({"notes": ("it moved twice",)}, "passed", "it moved twice"),
        ({"aborted": "the operator stopped it"}, "aborted", ""),
    ],
)
def test_verdicts(change: dict[str, object], verdict: str, says: str) -> None:
    report = replace(GOOD, **change)
    assert report.verdict == verdict
    assert any(says in text for text in report.deviations()) or not says


def test_the_objective_is_the_limit_where_there_is_one() -> None:
    assert limit_ms(1000, None) == 3000 and limit_ms(10_000, None) == 20_000
    assert limit_ms(1000, 5000) == 5000 and limit_ms(9000, 5000) == 5000


def lines() -> list[object]:
    made: list[object] = []
    for at in range(0, 6000, 20):
        ok = not 2000 <= at < 2980
        made += [Check(at_ms=float(at + 1), service=s, started_ms=float(at), ok=ok) for s in ("smtp", "imap")]
    made.append(Mail(at_ms=2500.0, service="smtp", id="i", started_ms=2400.0, outcome="fail"))
    return sorted(made, key=lambda line: line.at_ms)


def test_gaps_are_the_prober_s_own() -> None:
    found = gaps(lines(), ("smtp", "imap"), 1999.0)
    assert [(g.from_ms, g.to_ms) for g in found] == [(1981.0, 2981.0)] * 2
    assert failed(lines(), 1999.0) == {"smtp": 49, "imap": 49}
    assert gaps(lines(), ("lmtp",), 1999.0) == (Gap(service="lmtp", from_ms=1999.0, to_ms=None),)
    assert mails(lines()).problem
    assert mails([End(at_ms=1.0, sent=3, acknowledged=2, lost=("x",), read=True)]).lost == ("x",)


def test_service_is_back_only_when_nothing_fails_for_a_while() -> None:
    told = lines()
    assert not steady(told, ("smtp", "imap"), 3500.0, 1999.0)
    assert steady(told, ("smtp", "imap"), 4500.0, 1999.0)
    assert not steady(told, ("smtp", "lmtp"), 4500.0, 1999.0)
    assert not steady(told, ("smtp",), 6000.0, 5500.0), "what answered before the fault says nothing"


def test_phases_follow_the_stamps() -> None:
    stamps = {Stamp.DECIDED: 100, Stamp.STOPPED: 500, Stamp.GRANTED: 510, Stamp.SERVICES: 900, Stamp.STORAGE: 700}
    move = Move(
        id=1, group="mail", source="n1", target="n2", trigger=Trigger.SWITCHOVER, actor="", reason="",
        started_at_ms=100, stamps={s.value: at for s, at in stamps.items()},
    )  # fmt: skip
    assert [(s.name, s.from_ms, s.to_ms) for s in spans(move)] == [
        ("stopping", 100, 500), ("granting", 500, 510), ("mounting", 510, 700), ("starting services", 700, 900),
    ]  # fmt: skip


def test_papers_and_picture() -> None:
    picture = draw(replace(GOOD, gaps=gaps(lines(), ("smtp", "imap"), 1999.0)), lines())
    words = "".join(ET.fromstring(picture).itertext())
    assert "1000 ms" in words and "fault" in words and "mail" in words
    page = paper.html(GOOD, picture)
    assert "a step &lt;b&gt;" in page and "<svg" in page and "src=" not in page
    text = paper.markdown(GOOD)
    for wanted in ("PASSED", "**RTO**: 1000 ms", "**RPO**: 0 mails", "5 of 5", "unknown: odd: not known", "-10 ms"):
        assert wanted in text, wanted
    assert draw(replace(GOOD, fault_ms=None), []) == ""
    assert "Nothing was done" in paper.html(replace(GOOD, fault_ms=None), "")


@pytest.mark.parametrize("name", plan.NAMES)
@pytest.mark.parametrize("requires", [Requirement.FENCING, Requirement.LEASE, Requirement.WATCHDOG])
def test_every_drill_has_a_plan_that_says_what_will_happen(name: str, requires: Requirement) -> None:
    spec = cluster(requires=requires)
    state, _ = apply(empty_state(), 1, c.ApplyConfig(at_ms=0, spec=spec, source="", expected_revision=0))
    state = replace(state, groups={"mail": replace(state.group("mail"), owner="n1", epoch=5)})
    made = plan.make(state, derive(1000, 5), name, "mail", 5000, "", None)
    assert made.expected.rto_ms > 0 and made.expected.limit_ms > made.expected.rto_ms
    assert len(made.expected.steps) >= 2
    cuts = name == "node-loss" or (name == "network-loss" and requires is Requirement.FENCING)
    assert any("power of" in step.lower() for step in made.expected.steps) is cuts, "nobody loses power unawares"
    if name == "network-loss" and requires is Requirement.LEASE:
        assert made.expected.rto_ms > derive(1000, 5).wait_ms


class Cluster:
    """A cluster whose drill somebody ends with `drill --abort` just after the fault; `status` is never needed."""

    def __init__(self) -> None:
        spec = cluster()
        self.now, _ = apply(empty_state(), 1, c.ApplyConfig(at_ms=0, spec=spec, source="", expected_revision=0))
        self.now = replace(self.now, groups={"mail": replace(self.now.group("mail"), owner="n1", epoch=5)})
        self.ordered: list[str] = []
        self.looks = 0

    def order(self, path: str, body: object) -> Done:
        self.ordered.append(path)
        assert path == "drills/order", "what somebody has ended is not ended again"
        order = DrillOrder(id=9, fault=body.fault, group="mail", epoch=5, node="n1", target="n1", result="done")
        self.now = replace(self.now, drill=order, applied=9)
        return Done(request="r", index=9)

    def state(self) -> ClusterState:
        self.looks += 1
        if self.looks > 4:
            self.now = replace(self.now, drill=None, applied=10)
        return self.now

    def status(self) -> Status:
        raise Failed("nobody asks for it")


class Blind:
    def now_ms(self) -> float:
        return time.monotonic() * 1000

    def lines(self) -> list[object]:
        return []

    def end_sessions(self) -> None:
        pass


def test_a_drill_that_somebody_ended_has_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hamail.practice.drill.REDUNDANT_S", 0.2)
    there = Cluster()
    plan_ = plan.make(there.now, derive(1000, 5), "network-loss", "mail", 5000, "", None)
    said: list[str] = []
    run = Drill(there, plan_, Blind(), ("smtp",), said.append, lambda: False)
    run.run()
    assert run.aborted == "somebody ended it (hamailctl drill --abort)"
    assert there.ordered == ["drills/order"]
    assert any("somebody ended it" in line for line in said)


def test_no_drill_without_a_hamaild(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["--socket", str(tmp_path / "no"), "drill", "switchover", "--json"])
    assert result.exit_code == 4
    assert "not running" in json.loads(result.output)["error"]
    result = CliRunner().invoke(cli, ["--socket", str(tmp_path / "no"), "drill"])
    assert result.exit_code == 2 and "which drill?" in result.output
