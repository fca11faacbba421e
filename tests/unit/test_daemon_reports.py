"""`hamailctl doctor` asks every node of itself: whole hamailds over real links, only the executors are played."""

import asyncio
import time
from collections.abc import Callable

from test_daemon_cluster import World, world  # noqa: F401 - a fixture

from hamail.control.client import ControlClient
from hamail.daemon import questions
from hamail.daemon import reports as reports_module
from hamail.daemon.reports import ASKERS_MAX, Reports
from hamail.model import actions as a
from hamail.model.machine import MachineFacts
from hamail.model.messages import AnyMessage, Ping, Pong, ReportAnswer, ReportRequest
from hamail.model.report import NodeReport


def teach(world: World, name: str, answer: Callable[[a.GatherFacts], list[a.AnyNotice]]) -> None:  # noqa: F811
    """What the played executor says when it is asked for facts."""
    executor = world.executors[name]
    before = executor.answer
    executor.answer = lambda r: answer(r) if isinstance(r, a.GatherFacts) else before(r)  # type: ignore[method-assign]


def tells(name: str) -> Callable[[a.GatherFacts], list[a.AnyNotice]]:
    return lambda r: [a.Accepted(id=r.id), a.FactsGathered(facts=MachineFacts(hostname=f"host-{name}"))]


async def test_every_node_tells_of_itself_and_of_its_links(world: World) -> None:  # noqa: F811
    await world.until_whole()
    teach(world, "n1", tells("n1"))
    teach(world, "n2", tells("n2"))
    client = ControlClient(world.root / "n3" / "control.sock")
    found = await asyncio.to_thread(client.reports)
    assert found.node == "n3" and not found.silent
    machines = {name: r.machine.hostname for name, r in found.reports.items() if r.machine}
    assert machines == {"n1": "host-n1", "n2": "host-n2"}
    assert "witness" in found.reports["n3"].machine_problem
    for name, report in found.reports.items():
        assert set(report.links) == {"n1", "n2", "n3"} - {name}
        assert all(link.rtt_us and abs(link.offset_us or 0) < 1_000_000 for link in report.links.values())
        assert (report.watchdog is None) == (name == "n3")
        assert report.fence_ready == ({} if name == "n3" else {"pdu": ""})


async def test_a_refusal_and_a_silent_node_are_told_not_guessed(world: World, monkeypatch) -> None:  # noqa: F811
    await world.until_whole()
    monkeypatch.setattr(reports_module, "COLLECT_TIMEOUT_S", 0.5)
    monkeypatch.setattr(reports_module, "GATHER_TIMEOUT_S", 0.2)
    teach(world, "n1", lambda r: [a.Refused(id=r.id, why="the executor is being stopped")])
    teach(world, "n2", lambda r: [a.Accepted(id=r.id)])  # and then nothing
    found, silent = await world.daemons["n3"].reports.collect()
    assert found["n1"].machine_problem == "the executor is being stopped"
    assert "has not answered" in found["n2"].machine_problem and not silent
    world.daemons["n2"].shell.asides = None  # n2 hears the question and says nothing
    found, silent = await world.daemons["n3"].reports.collect()
    assert "n2" not in found and "has not answered within" in silent["n2"]


async def test_a_node_of_another_version_is_not_asked(world: World, monkeypatch) -> None:  # noqa: F811
    """An older hamaild drops its link at a message that it does not know: that would look like a lost node."""
    await world.until_whole()
    for module in (reports_module, questions):
        monkeypatch.setattr(module, "__version__", "9.9")
    asked: list[AnyMessage] = []
    reports = Reports(world.daemons["n3"].engine, lambda _peer, m: bool(asked.append(m)) or True, None)
    found, silent = await reports.collect()
    assert set(found) == {"n3"} and "runs hamail" in silent["n1"]
    assert not asked


class Desk:
    """Reports with nothing around them."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, AnyMessage]] = []
        self.asked: list[a.AnyRequest] = []
        members = type("M", (), {"peers": {}})()
        fences = type("F", (), {"ready": {"pdu": ""}, "hurry": lambda _: frozenset()})()
        local = type("L", (), {"connected": False, "watchdog": None, "fences": fences})()
        engine = type("E", (), {"me": "n1", "members": members, "local": local})()
        self.reports = Reports(
            engine,  # type: ignore[arg-type]
            lambda peer, m: bool(self.sent.append((peer, m))) or True,
            lambda r: bool(self.asked.append(r)) or True,
        )


async def test_many_questions_are_one_look_and_a_flood_is_bounded() -> None:
    desk = Desk()
    for nonce in range(ASKERS_MAX * 3):
        desk.reports.message("n2", ReportRequest(nonce=nonce))
    await asyncio.sleep(0.01)
    assert len(desk.asked) == 1, "every question became work for root"
    desk.reports.notice(a.FactsGathered(facts=MachineFacts()))
    await asyncio.sleep(0.01)
    answers = [m for _, m in desk.sent if isinstance(m, ReportAnswer)]
    assert len(answers) == ASKERS_MAX
    desk.reports.message("n2", ReportRequest(nonce=99))
    await asyncio.sleep(0.01)
    assert len(desk.asked) == 2, "who has been answered may ask again"
    desk.reports.close()


async def test_what_nobody_asked_for_changes_nothing() -> None:
    desk = Desk()
    desk.reports.message("n2", Pong(nonce=5, at_us=1))
    desk.reports.message("n2", ReportAnswer(nonce=5, report=NodeReport(at_ms=0)))
    desk.reports.notice(a.FactsGathered(facts=None))
    desk.reports.notice(a.Refused(id=7, why="something else"))
    assert not desk.sent and not desk.asked
    desk.reports.message("n2", Ping(nonce=5))
    (peer, pong) = desk.sent[0]
    assert peer == "n2" and isinstance(pong, Pong) and abs(pong.at_us - time.time_ns() // 1000) < 1_000_000
