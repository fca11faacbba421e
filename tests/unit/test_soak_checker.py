"""The judge of a soak is judged: one small good history, and one bad one for each invariant, which it must reject."""

from collections.abc import Callable

import pytest

from tests.soak import checker
from tests.soak.history import History, Record

MS = 1_000_000
SECOND = 1000 * MS
IDS = ("1.1@load.hamail", "1.2@load.hamail")


def record(t_ms: float, kind: str, src: str = "recorder", node: str = "", **data: object) -> Record:
    return {"t": int(t_ms * MS), "src": src, "node": node, "kind": kind, "data": data}


def hold(node: str, component: str, start_ms: int, end_ms: int, doubt_ms: int = 5) -> Record:
    return record(end_ms + doubt_ms, "released", node=node, component=component,
                  possible_start=(start_ms - doubt_ms) * MS, certain_start=start_ms * MS,
                  certain_end=end_ms * MS, possible_end=(end_ms + doubt_ms) * MS)  # fmt: skip


def group(node: str, start_ms: int, end_ms: int) -> list[Record]:
    """The whole group on a node, in order; the power is cut at the end."""
    return [
        hold(node, "mount", start_ms, end_ms),
        hold(node, "dovecot", start_ms + 100, end_ms),
        hold(node, "vip 10.0.0.1", start_ms + 200, end_ms),
    ]


def canary(t_ms: int, node: str, epoch: int) -> Record:
    return record(t_ms, "canary", "storage", node, epoch=str(epoch), counter="1")


def wrote(start_ms: int, end_ms: int, node: str) -> Record:
    return record(end_ms, "wrote", "storage", node, **{"from": start_ms * MS, "count": 3})


def event(t_ms: int, index: int, sentence: str, node: str = "n3") -> Record:
    return record(t_ms, "event", "daemon", node, index=index, sentence=sentence, actor="")


def pdu(t_ms: int, plug: str, asks: str, answer: str = "ok", mode: str = "ok") -> Record:
    return record(t_ms, "pdu", "fence", asks=asks, words=["off", plug], answer=answer, mode=mode)


def found(t_ms: int, number: int, uid: int, sha256: str = "a", validity: int = 7) -> Record:
    return record(t_ms, "found", "client", id=IDS[number], sha256=sha256, box="b", validity=validity, uid=uid)


def good() -> list[Record]:
    """n1 is cut at 10 s, fenced by n2, which takes over; n1 comes back."""
    return [
        record(0, "header", "soak", addresses={"n1": "1.1.1.1", "n2": "2.2.2.2"}),
        record(1, "power", node="n1", on=True),
        record(1, "power", node="n2", on=True),
        event(1000, 9, "mail goes to n1 (epoch 9): nobody has held it before."),
        *group("n1", 2000, 10_000),
        canary(3000, "n1", 9),
        canary(9000, "n1", 9),
        wrote(2000, 9900, "n1"),
        record(9000, "invoke", "client", id=IDS[0], sha256="a", via="smtp"),
        record(9001, "ok", "client", id=IDS[0]),
        record(9500, "invoke", "client", id=IDS[1], sha256="b", via="smtp"),
        record(9990, "step", "nemesis", step=1, name="power_cut", may_be_fenced=["n1"], active="n1"),
        record(9995, "cut", "nemesis", nodes=["n1"]),
        record(10_000, "power", node="n1", on=False),
        pdu(11_000, "n1", "2.2.2.2"),
        event(11_010, 12, "n1 is off: n2 fenced it with pdu: device pdu reports n1 off"),
        event(11_020, 13, "mail goes to n2 (epoch 13): n1 was fenced."),
        *group("n2", 11_500, 20_000),
        canary(11_700, "n2", 13),
        canary(19_000, "n2", 13),
        wrote(11_400, 19_900, "n2"),
        record(12_000, "power", node="n1", on=True),
        record(13_000, "healthy", "nemesis", step=1, active="n2"),
        found(14_000, 0, 1),
        record(20_000, "beat", cpu_s=0.1),
    ]


def judge(*more: Record, without: Callable[[Record], bool] = lambda _: False) -> checker.Report:
    records = sorted([r for r in good() if not without(r)] + list(more), key=lambda r: r["t"])
    return checker.check(History.from_records(records))


def broken(report: checker.Report) -> set[str]:
    return {finding.invariant for finding in report.violations}


def test_the_good_one_passes() -> None:
    report = judge()
    assert report.passed, report
    assert not report.inconclusive and not report.unexplained
    assert (report.failovers, report.restarts, report.fences) == (1, 0, 1)
    assert (report.mail.acknowledged, report.mail.found, len(report.mail.unknown)) == (1, 1, 1)


BAD: dict[str, tuple[str, list[Record]]] = {
    "two stores": ("S1", [hold("n2", "mount", 9000, 9500)]),
    "two addresses": ("S1", [hold("n2", "vip 10.0.0.1", 9000, 9001)]),
    "one's store and the other's service": ("S1", [hold("n2", "dovecot", 9000, 9500)]),
    "began before the other had let go": ("S2", [hold("n2", "mount", 9990, 11_400)]),
    "called fenced while it was on": (
        "S2",
        [event(16_000, 20, "n1 is off: n2 fenced it with pdu: device pdu reports n1 off")],
    ),
    "two holders of an epoch": ("S3", [event(15_000, 13, "mail goes to n1 (epoch 13): n2 was fenced.", "n1")]),
    "an epoch that goes back": ("S3", [event(15_000, 30, "mail goes to n1 (epoch 8): n2 was fenced.")]),
    "writes under another's epoch": ("S3", [canary(9100, "n2", 9)]),
    "an old epoch's write after a new one's": ("S4", [canary(12_000, "n1", 9)]),
    "a late write without a canary": ("S4", [wrote(13_000, 13_001, "n1")]),
    "address before the store": ("S6", [hold("n1", "vip 10.0.0.1", 1000, 1900)]),
    "service outlives the store": ("S6", [hold("n1", "postfix", 3000, 10_500)]),
    "the nodes tell different stories": ("S8", [event(15_000, 13, "mail goes to n1 (epoch 14): other.", "n1")]),
    "fences itself": ("S12", [pdu(10_500, "n1", "1.1.1.1")]),
    "fences each other": ("S12", [pdu(11_100, "n2", "1.1.1.1"), record(11_100, "power", node="n2", on=False)]),
    "off, and nobody had named it": ("S12", [record(15_500, "power", node="n2", on=False)]),
    "corrupt": ("S5", [found(15_000, 0, 2, sha256="other")]),
    "phantom": (
        "S5",
        [record(15_000, "found", "client", id="9.9@x", sha256="a", box="b", validity=7, uid=9)],
    ),
    "a UID for two messages": ("S5", [found(15_000, 1, 1, sha256="b")]),
    "UIDVALIDITY changes": ("S5", [found(15_000, 1, 5, sha256="b", validity=8)]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str) -> None:
    invariant, more = BAD[name]
    assert invariant in broken(judge(*more))


def test_lost() -> None:
    assert broken(judge(without=lambda r: r["kind"] == "found")) == {"S5"}


def test_a_message_read_twice_is_no_duplicate_and_one_with_two_uids_is() -> None:
    assert not judge(found(15_000, 0, 1)).mail.duplicated
    assert judge(found(15_000, 0, 2)).mail.duplicated == (IDS[0],)


def test_doubt_is_not_a_violation_and_does_not_pass() -> None:
    early = hold("n2", "dovecot", 10_300, 11_000, doubt_ms=400)
    report = judge(early)
    assert "S1" not in broken(report)
    assert report.inconclusive and not report.passed


def test_a_recorder_that_sleeps_while_the_group_moves_is_in_doubt() -> None:
    asleep = record(11_600, "blind", why="late", **{"from": 9900 * MS})
    assert judge(asleep).inconclusive
    calm = record(9000, "blind", why="late", **{"from": 8000 * MS})
    assert not judge(calm).inconclusive, "its holder was seen before and after, and no other wrote"


def test_what_no_fault_explains_is_told_and_is_no_violation() -> None:
    on_and_off = [record(12_500, "power", node="n2", on=False), record(12_600, "power", node="n2", on=True)]
    report = judge(
        pdu(12_500, "n2", "1.1.1.1"), *on_and_off, without=lambda r: r["kind"] == "power" and r["node"] == ""
    )
    assert [f.invariant for f in report.unexplained] == ["fence"]


def test_an_address_that_an_emergency_stop_could_not_remove_is_counted_apart_when_it_is_told() -> None:
    stays = hold("n1", "vip 10.0.0.1", 2200, 12_000)
    on = [r for r in good() if r["kind"] == "released" and r["node"] == "n1" and "vip" in r["data"]["component"]]
    told = event(10_500, 11, "n1 must be fenced before mail may start elsewhere: vip could not be stopped: timed out")
    silent = judge(stays, without=lambda r: r in on)
    assert "S6" in broken(silent) and not silent.excused
    report = judge(stays, told, without=lambda r: r in on)
    assert "S6" not in broken(report)
    assert [finding.invariant for finding in report.excused] == ["S6"]


def test_a_lying_device_is_no_fence() -> None:
    report = judge(pdu(15_000, "n2", "1.1.1.1", mode="lie"))
    assert report.fences == 1 and not report.violations
