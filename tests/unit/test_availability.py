"""Availability from outside probes: what nobody looked at is unknown, and planned is told apart."""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from control_fake import FakeBackend, serving

from hamail.cli.main import cli
from hamail.model.state import MOVES_KEPT
from hamail.probe import records as r
from hamail.probe.budget import DAY_MS, Planned, allowed_ms, count
from hamail.probe.records import Writer


def start(at: float = 0.0) -> r.Start:
    return r.Start(at_ms=at, run="r", target="t", services={"smtp": "x"}, every_ms=100)


def tally(a: float, b: float, service: str = "smtp") -> r.Tally:
    return r.Tally(at_ms=b, service=service, from_ms=a, checks=1, failed=0)


def out(a: float, b: float, service: str = "smtp") -> r.Outage:
    return r.Outage(at_ms=b, service=service, from_ms=a, to_ms=b, failed=1)


def test_only_what_was_looked_at_counts() -> None:
    account = count([start(), tally(0, 1000), start(5000), tally(5000, 6000), out(5100, 5300)])
    assert account.observed_ms == 2000
    assert account.down_ms() == 200
    assert account.availability() == pytest.approx(0.9)


def test_services_that_are_out_together_are_one_interruption() -> None:
    account = count([start(), tally(0, 1000), out(100, 300), out(200, 400, "imap"), out(600, 700)])
    assert [(i.from_ms, i.to_ms, i.services) for i in account.interruptions] == [
        (100, 400, ("imap", "smtp")), (600, 700, ("smtp",)),
    ]  # fmt: skip


def test_two_probes_that_look_at_the_same_time_do_not_count_twice() -> None:
    one = [start(), tally(0, 1000), out(100, 300)]
    account = count([*one, *one])
    assert (account.observed_ms, account.down_ms()) == (1000, 200)


def test_an_outage_that_the_probe_did_not_survive_counts_for_as_long_as_it_looked() -> None:
    down = r.Down(at_ms=500, service="smtp", since_ms=400)
    assert count([start(), down, tally(0, 1000)]).down_ms() == 600
    account = count([start(), down, tally(0, 1000), start(9000), tally(9000, 10_000)])
    assert account.down_ms() == 600, "another run knows nothing of it"


def test_an_outage_over_several_tallies_counts_once() -> None:
    down = r.Down(at_ms=500, service="smtp", since_ms=400)
    lines = [start(), down, tally(0, 1000), tally(1000, 2000), out(400, 2500), tally(2000, 3000)]
    assert count(lines).down_ms() == 2100


def test_planned_is_told_apart() -> None:
    planned = (Planned(90, 350, "switchover 7"),)
    account = count([start(), tally(0, 1000), out(100, 300), out(600, 700)], planned)
    assert [i.cause for i in account.interruptions] == ["switchover 7", ""]
    assert (account.down_ms(planned=True), account.down_ms(planned=False)) == (200, 100)


def test_five_nines_are_five_minutes_a_year() -> None:
    assert allowed_ms("99.999", 365 * DAY_MS) == pytest.approx(315_360)


def run(tmp_path: Path, lines: list[r.AnyLine], *more: str):
    file = tmp_path / "p.jsonl"
    with file.open("wb") as stream:
        writer = Writer(stream)
        for line in lines:
            writer.write(line)
    return CliRunner().invoke(cli, ["--socket", str(tmp_path / "no"), "availability", str(file), *more])


def test_the_command(tmp_path: Path) -> None:
    result = run(tmp_path, [start(), tally(0, 10 * DAY_MS), out(1000, 61_000)], "--json", "--objective", "99.99%")
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert told["down_ms"] == 60_000 and told["objective_percent"] == "99.99"
    assert told["budget"]["month"]["left_ms"] == round(0.0001 * 30 * DAY_MS) - 60_000
    assert "cannot be told apart" in told["note"] and told["planned_ms"] is None
    shown = run(tmp_path, [start(), tally(0, DAY_MS), out(1000, 601_000)])
    assert "spent" in shown.output and "99.999 %" in shown.output


def test_what_was_planned_and_is_forgotten_is_said(tmp_path: Path) -> None:
    backend = FakeBackend()
    oldest = msgspec.structs.replace(backend.st.moves[0], started_at_ms=5 * DAY_MS)
    file, path = tmp_path / "p.jsonl", tmp_path / "c.sock"
    with file.open("wb") as stream:
        for line in (start(), tally(0, 10 * DAY_MS), out(1000, 61_000)):
            Writer(stream).write(line)
    said = []
    with serving(backend, path):
        for kept in (MOVES_KEPT, MOVES_KEPT - 1):
            backend.st = msgspec.structs.replace(backend.st, moves=(oldest,) * kept)
            words = ["--socket", str(path), "availability", str(file), "--json"]
            said.append(json.loads(CliRunner().invoke(cli, words).output)["note"])
    assert "remembers moves since 1970-01-06" in said[0] and said[1] == ""


@pytest.mark.parametrize(
    ("lines", "words", "code", "says"),
    [
        ([start()], (), 3, "no probe has looked"),
        ([start(), tally(0, 1)], ("--objective", "most"), 2, "99.999%"),
        ([start(), tally(0, 1)], ("--objective", "100%"), 2, "below 100 %"),
        ([start(), tally(0, 1)], ("--objective", "NaN"), 2, "99.999%|above 0"),
        ([start(), tally(0, 1)], ("/nosuch.jsonl",), 2, "No such file"),
    ],
)
def test_wrong_usage(tmp_path: Path, lines, words, code: int, says: str) -> None:
    result = run(tmp_path, lines, *words)
    assert result.exit_code == code
    assert any(part in result.output for part in says.split("|"))
