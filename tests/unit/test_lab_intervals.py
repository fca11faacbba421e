"""The interval algebra under the evidence, and what a history proves, with hand-written good and bad ones."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.evidence import Evidence, by_component, parse
from tests.lab.intervals import NS_PER_MS, Track, clip, intersection, overlap, total_ns, union

MS = NS_PER_MS
spans = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)).map(lambda p: (p[0], p[0] + p[1])), max_size=8)


def points(of):
    return {t for s, e in of for t in range(s, e)}


@given(spans, spans)
def test_algebra_agrees_with_sets_of_points(a, b):
    assert points(union(a)) == points(a)
    assert points(intersection(a, b)) == points(a) & points(b)
    assert points(clip(a, 10, 20)) == points(a) & set(range(10, 20))
    assert total_ns(a) == len(points(a))


@given(spans, spans, spans)
def test_overlap_is_where_two_nodes_hold(a, b, c):
    expected = (points(a) & points(b)) | (points(a) & points(c)) | (points(b) & points(c))
    assert points(overlap({"n1": a, "n2": b, "n3": c})) == expected


def test_touching_is_no_overlap():
    assert overlap({"n1": [(0, 10)], "n2": [(10, 20)]}) == []


def test_track_is_certain_only_between_observations():
    track = Track("n1", "mount")
    track.observe(0, 1 * MS, False)
    track.observe(20 * MS, 21 * MS, True)
    track.observe(40 * MS, 41 * MS, True)
    hold = track.observe(60 * MS, 61 * MS, False)
    assert hold.certain == (21 * MS, 40 * MS)
    assert hold.possible == (0, 61 * MS)
    assert not track.held


def test_track_splits_at_a_gap_unless_something_proves_continuity():
    for continuous, pieces in ((False, 1), (True, 0)):
        track = Track("n1", "mount")
        track.observe(0, 0, True)
        track.observe(20 * MS, 20 * MS, True)
        ended = track.observe(500 * MS, 500 * MS, True, continuous)
        assert (ended is not None) == bool(pieces)
        if ended:
            assert ended.certain == (0, 20 * MS)
            assert track.open_hold().possible_start == 20 * MS


def test_one_observation_proves_an_instant_only():
    track = Track("n1", "vip")
    track.observe(5 * MS, 6 * MS, True)
    hold = track.observe(9 * MS, 9 * MS, False)
    assert total_ns([hold.certain]) == 0


def record(t_ms, kind, node="", **data):
    return {"t": t_ms * MS, "kind": kind, "node": node, "data": data}


def released(node, component, *times_ms):
    names = ("possible_start", "certain_start", "certain_end", "possible_end")
    times = {name: t * MS for name, t in zip(names, times_ms, strict=True)}
    return record(times_ms[-1], "released", node, component=component, **times)


def held(node, component, at):
    return record(at, "held", node, component=component, possible_start=at * MS, certain_start=at * MS)


GOOD = [
    record(0, "beat", cpu_s=0.0),
    released("n1", "mount", 0, 10, 1000, 1020),
    released("n1", "vip 10.0.0.1", 0, 30, 1000, 1010),
    record(1020, "power", "n1", on=False),
    held("n2", "mount", 1100),
    held("n2", "vip 10.0.0.1", 1200),
    record(2000, "beat", cpu_s=0.1),
]


def test_a_clean_takeover_has_no_double():
    evidence = Evidence.from_records(GOOD)
    assert evidence.double_active_ms() == 0
    assert evidence.possible_double_active_ms() == 0
    assert evidence.active_nodes(500 * MS) == ("n1",)
    assert evidence.active_nodes(1500 * MS) == ("n2",)
    assert evidence.moves("mount", 1000 * MS, 2000 * MS) == 1
    assert evidence.conclusive()


@pytest.mark.parametrize(
    ("bad", "component", "ms"),
    [
        ([held("n2", "mount", 800)], "mount", 200),
        ([held("n2", "vip 10.0.0.1", 900)], "vip 10.0.0.1", 100),
        ([held("n2", "postfix", 700)], None, 300),  # another component: n2 runs mail on what n1 has mounted
        ([released("n2", "mount", 400, 500, 600, 700)], "mount", 100),  # a short one in the middle
    ],
)
def test_bad_histories_are_found(bad, component, ms):
    evidence = Evidence.from_records([*GOOD, *bad, record(2000, "beat", cpu_s=0.1)])
    assert evidence.double_active_ms() == ms
    if component:
        assert by_component(evidence)[component] == ms
    else:
        assert not any(by_component(evidence).values())
    assert evidence.double_active_ms(start=1050 * MS) == 0


def test_doubt_is_not_proof_but_is_shown():
    evidence = Evidence.from_records(
        [released("n1", "mount", 0, 0, 980, 1000), released("n2", "mount", 990, 1010, 2000, 2000)]
    )
    assert evidence.double_active_ms() == 0
    assert evidence.possible_double_active_ms() == 10


def test_an_open_hold_reaches_to_the_last_beat():
    evidence = Evidence.from_records([held("n1", "mount", 0), held("n2", "mount", 400), record(1000, "beat", cpu_s=0)])
    assert evidence.double_active_ms() == 600


def test_blind_time_is_not_conclusive():
    blind = {"t": 900 * MS, "kind": "blind", "data": {"from": 500 * MS, "why": "late"}}
    evidence = Evidence.from_records([record(0, "beat", cpu_s=0), blind, record(2000, "beat", cpu_s=0)])
    assert not evidence.conclusive()
    assert evidence.conclusive(start=1000 * MS)
    assert not evidence.conclusive(start=1000 * MS, end=3000 * MS)  # the record ends before that


def test_a_torn_last_line_is_left_out_and_any_other_is_an_error():
    good = json.dumps(record(0, "beat", cpu_s=0))
    assert len(list(parse([good, good[:10]]))) == 1
    with pytest.raises(ValueError, match="line 1"):
        list(parse([good[:10], good]))
