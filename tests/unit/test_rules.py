"""Prometheus' rules and Grafana's dashboard ask for nothing that hamail does not tell."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from control_fake import FakeBackend, serving

from hamail.cli.main import cli
from hamail.model.alert import KINDS
from hamail.monitoring import metrics
from tests.unit.test_documents import wrong_hamailctl
from tools.example import STATUS

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "etc" / "prometheus" / "hamail.rules.yml"
BOARD = ROOT / "etc" / "grafana" / "hamail.json"
TESTS = Path(__file__).parent / "prometheus" / "rules.test.yml"
PROMTOOL = shutil.which("promtool")
FROM_THE_SCRAPE = {"instance"}  # Prometheus adds it
FOR_S_MIN = 90  # two looks, 30 s apart, and two scrapes


def told() -> dict[str, set[str]]:
    """Every metric, with its labels."""
    text = metrics.render(STATUS)
    found: dict[str, set[str]] = {name: set() for name in re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", text, re.MULTILINE):
        found[name] |= set(re.findall(r'(\w+)="', labels))
    return found


def wrong(expression: str) -> str:
    """Why it could never say anything; empty when it could."""
    known = told()
    named = re.findall(r"\b(hamail_\w+)(?:\{([^}]*)\})?", expression)
    labels = FROM_THE_SCRAPE.union(*(known.get(name, set()) for name, _ in named))
    for name, selector in named:
        if name not in known:
            return f"there is no metric {name}"
        for label, how, value in re.findall(r'(\w+)\s*(!?[=~]+)\s*"([^"]*)"', selector):
            if label not in known[name] | FROM_THE_SCRAPE:
                return f"{name} has no label {label}"
            if name == "hamail_alert" and label == "name" and "~" not in how and value not in KINDS:
                return f"there is no alert {value}"
    for group in re.findall(r"(?:by|on|group_left|ignoring) \(([^)]*)\)", expression):
        for label in group.split(","):
            if label.strip() not in labels:
                return f"nothing in it has a label {label.strip()}"
    return "" if named else "it asks for nothing of hamail"


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    board = json.loads(BOARD.read_text())
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked = [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    return [*shown, *(re.sub(r"label_values\((\w+), (\w+)\)", r"count by (\2) (\1)", query) for query in asked)]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_what_there_is(rule):
    assert not (why := wrong(rule["expr"])), why
    assert rule["labels"]["severity"] in ("page", "ticket")
    number, unit = re.fullmatch(r"(\d+)([smhd])", rule["for"]).groups()
    assert int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit] >= FOR_S_MIN
    assert set(rule["annotations"]) == {"summary", "description"}
    for line in re.findall(r"hamailctl [a-z][^;:.,]*", rule["annotations"]["description"]):
        command = line.partition(" on ")[0].partition(" says")[0].partition(" does")[0].partition(" |")[0]
        assert not (why := wrong_hamailctl(re.sub(r"\{\{[^}]*\}\}", "GROUP", command))), f"{command}: {why}"


@pytest.mark.parametrize("expression", expressions())
def test_the_dashboard_asks_for_what_there_is(expression):
    assert not (why := wrong(expression)), why


def test_the_dashboard_is_whole():
    board = json.loads(BOARD.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)) and board["uid"] == "hamail"
    sources = {json.dumps(t["datasource"]) for p in board["panels"] for t in (p, *p["targets"])}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}, "whatever the data source is called there"
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]


@pytest.mark.parametrize(
    "expression",
    [
        "hamail_nonsense > 1",
        'hamail_alert{nmae="no-standby"} == 1',
        'hamail_alert{name="no-stand-by"} == 1',
        "sum by (gruop) (hamail_group_held)",
        "up == 0",
    ],
)
def test_this_test_can_fail(expression):
    assert wrong(expression)


@pytest.mark.parametrize("name", KINDS)
def test_the_next_step_of_an_alert_is_a_command_that_exists(name):
    for line in re.findall(r"hamailctl [a-z][^;:,]*", KINDS[name].step):
        command = re.split(r" (?:on|tells) ", line)[0]
        assert not (why := wrong_hamailctl(re.sub(r"\{\w+\}", "n1", command.replace(" {scope}", "")))), (
            f"{command}: {why}"
        )


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
@pytest.mark.parametrize("words", [("check", "rules", RULES), ("test", "rules", TESTS)])
def test_promtool_agrees(words):
    done = subprocess.run([PROMTOOL, *words], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_the_metrics_are_as_prometheus_wants_them():
    text = metrics.render(STATUS)
    done = subprocess.run([PROMTOOL, "check", "metrics"], check=False, input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_rule_is_tried():
    """By promtool, with series that make it speak."""
    spoken = {
        case["alertname"]
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert spoken == {rule["alert"] for rule in rules()}


# ---- the file that the node exporter reads


def metrics_command(*words, socket):
    return CliRunner().invoke(cli, ["--socket", str(socket), "metrics", *map(str, words)])


def test_the_command_prints_what_the_file_says(tmp_path):
    file = tmp_path / "hamail.prom"
    with serving(FakeBackend(), tmp_path / "c.sock"):
        done = metrics_command(socket=tmp_path / "c.sock")
        assert metrics_command("--file", file, socket=tmp_path / "c.sock").exit_code == 0
    assert done.exit_code == 0 and done.stdout == file.read_text()
    assert "\nhamail_up 1\n" in done.stdout and file.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["hamail.prom"], "nothing that *.prom could match is left over"


def test_without_hamaild_the_file_says_so_and_nothing_else(tmp_path):
    file = tmp_path / "hamail.prom"
    file.write_text("hamail_quorate 1\n")
    done = metrics_command("--file", file, socket=tmp_path / "none.sock")
    assert done.exit_code == 4 and "hamaild is not running" in done.stderr
    assert [line for line in file.read_text().splitlines() if not line.startswith("#")] == ["hamail_up 0"]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with serving(FakeBackend(), tmp_path / "c.sock"):
        done = metrics_command("--file", tmp_path / "none" / "x.prom", socket=tmp_path / "c.sock")
    assert done.exit_code == 1 and "none/x.prom: No such file or directory" in done.stderr
