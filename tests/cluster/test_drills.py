"""Drills on real nodes: the fault really happens, and the report says what clients saw."""

import json
from pathlib import Path

import pytest

from hamail.practice.plan import STILL_MS
from hamail.probe import records
from tests.cluster.world import BUILD, World
from tests.lab.cluster import WITNESS
from tests.lab.instruments import other
from tests.lab.probe import NS_PER_MS, Attempt, outage

MAIL = "--to user1@example.test --user user1@example.test --password-file /root/pw --plain --mail-every 250ms"
SLACK_MS = 80  # one pace of each probe, and what a busy machine adds


def hold(world: World, name: str) -> tuple[dict, Path]:
    """The report of a drill held on the witness, and the folder on this machine with its files."""
    node = world.nodes[WITNESS]
    node.run("echo any >/root/pw; chmod 600 /root/pw; rm -rf /root/drills")
    world.until(lambda: at_rest(world), STILL_MS / 1000 + 5, "the group has not just moved")
    world.ctl(WITNESS, f"drill {name} mail {MAIL} -o /root/drills --yes", timeout_s=200)
    folder = BUILD / "drills" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("report.json", "report.md", "report.html", "probe.jsonl"):
        (folder / file).write_text(node.run(f"cat /root/drills/*/{file}").stdout)
    return json.loads((folder / "report.json").read_text()), folder


def at_rest(world: World) -> bool:
    status = world.status(WITNESS)
    return status is not None and status["at_ms"] - status["groups"][0]["since_ms"] > STILL_MS


def recomputed_ms(folder: Path, fault_ms: float) -> float:
    """The outage in the prober's own records, as the lab's instruments reckon it."""
    with (folder / "probe.jsonl").open("rb") as lines:
        checks = [x for x in records.read(lines, "probe.jsonl") if isinstance(x, records.Check)]
    attempts = [
        Attempt(c.service, int(c.started_ms * NS_PER_MS), int(c.at_ms * NS_PER_MS), c.ok, c.why) for c in checks
    ]
    return max(outage(attempts, service, int(fault_ms * NS_PER_MS)).ms for service in ("smtp", "imap"))


@pytest.mark.parametrize("name", ["switchover", "node-loss"])
def test_a_drill_reports_what_clients_saw(world: World, name: str) -> None:
    source = world.active
    with world.probing(f"drill-{name}") as outside:
        report, folder = hold(world, name)
        seen = outside.attempts()
    assert report["verdict"] == "passed", report["deviations"]
    assert (report["source"], report["target"]) == (source, other(source))
    assert abs(report["rto_ms"] - recomputed_ms(folder, report["fault_ms"])) <= 1, "the figure is the probe's own"
    ended = seen[-1].done
    fault = min(a.started for a in seen if not a.ok) if any(not a.ok for a in seen) else ended
    longest = max(outage(seen, service, fault - 1).ms for service in ("smtp", "imap"))
    assert abs(report["rto_ms"] - longest) <= SLACK_MS, "another probe, on another machine, saw the same"
    assert report["rpo"] == 0 and report["mails"]["read"] and report["mails"]["acknowledged"] > 5
    assert sum(report["sessions_dropped"].values()) == sum(report["sessions_held"].values()) > 0
    page = (folder / "report.html").read_text()
    assert "<svg" in page and "http" not in page.replace("http://www.w3.org/2000/svg", ""), "it needs nothing else"
    assert f"# Drill {name}: PASSED" in (folder / "report.md").read_text()
    kept = world.ask("state")["state"]["drills"][-1]
    assert (kept["name"], kept["verdict"], kept["rto_ms"], kept["rpo"]) == (name, "passed", report["rto_ms"], 0)
    assert world.ask("state")["state"]["drill"] is None, "nothing is left behind"
    assert all(node.powered for node in world.nodes.values())


def test_a_drill_that_may_not_begin_changes_nothing(world: World) -> None:
    before = world.epoch()
    refused = world.ctl(world.active, "drill node-loss --yes", code=3)
    assert "the probe looks from outside" in refused.stderr
    assert "no-go" in refused.stderr
    assert world.epoch() == before
    assert not world.ask("state")["state"]["drills"] or world.ask("state")["state"]["drill"] is None
