"""A seed is a schedule: the same one every time, of every kind, and everything in it can be done."""

import json
from dataclasses import asdict
from itertools import islice

from tests.soak import summary
from tests.soak.faults import FENCE_MODES, KINDS, RELAXED
from tests.soak.nemesis import Nemesis
from tests.soak.schedule import FENCE_KIND, Step, steps


def first(seed: str, count: int) -> list[Step]:
    return list(islice(steps(seed), count))


def test_the_same_seed_gives_the_same_steps() -> None:
    assert first("7", 300) == first("7", 300)
    assert first("7", 30) != first("8", 30)


def test_every_kind_comes_early_and_every_fence_mode_comes() -> None:
    assert {f.kind for step in first("1", 2 * len(KINDS)) for f in step.faults} >= set(KINDS)
    modes = {f.parameters["mode"] for s in first("1", 1000) for f in s.faults if f.kind == FENCE_KIND}
    assert modes == set(FENCE_MODES)
    assert any(len(step.faults) == 2 for step in first("1", 50))


def test_every_kind_can_be_done_and_is_plain_data() -> None:
    for step in first("2", 500):
        assert json.loads(step.json())["number"] == step.number
        for fault in step.faults:
            assert hasattr(Nemesis, f"_{fault.kind}"), fault
            assert Nemesis.targets(fault, "n1")
            assert 0 <= fault.after_s < 2 and 0 < fault.for_s < 10
            assert asdict(fault)["kind"] == fault.kind


def test_services_are_hit_where_they_run() -> None:
    kills = [f for s in first("3", 2000) for f in s.faults if f.parameters.get("process") == "dovecot"]
    assert kills and {Nemesis.targets(fault, "n2") for fault in kills} == {("n2",)}


def test_little_is_excused() -> None:
    """Another entry needs words in the table, and its own case in the checker."""
    assert list(RELAXED.values()) == [frozenset({"S6"})]


def test_quantiles_are_by_nearest_rank() -> None:
    assert summary.quantile([1.0], 0.99) == 1.0
    assert summary.quantile([float(n) for n in range(1, 101)], 0.5) == 50
    assert summary.quantile([float(n) for n in range(1, 101)], 0.99) == 99


def test_totals_add_up_and_one_bad_lab_is_enough() -> None:
    step = {"step": 1, "name": "x", "family": "x", "smtp": 100.0, "imap": None, "moves": 1, "starts": 1, "fences": 0}
    lab = {"lab": "a", "passed": True, "failovers": 2, "mail": {"acknowledged": 5}, "steps": [step], "commit": "c"}
    stuck = {"lab": "b", "passed": False, "problems": ["it ended without a result"]}
    total = summary.total("s", [lab, lab, stuck])
    assert (total["failovers"], total["mail"]["acknowledged"], total["passed"]) == (4, 10, False)
    assert total["faults"]["x"]["smtp"]["p99"] == 100.0
    assert total["faults"]["x"]["imap_unknown"] == 2
    assert total["problems"] == [{"lab": "b", "what": "it ended without a result"}]
