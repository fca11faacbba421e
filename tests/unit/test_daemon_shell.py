"""The shell between the log and the engine."""

from pathlib import Path

from hamail.consensus.port import ConsensusHealth
from hamail.core.effects import SaveBarred, Send
from hamail.core.engine import Engine
from hamail.daemon.barred import BarredError, BarredFile
from hamail.daemon.prober import asks
from hamail.daemon.shell import Shell
from hamail.model.messages import LeaseAnswer, ReleaseAnswer
from hamail.simulation.spec import cluster


class Log:
    """A log that says how it is."""

    def __init__(self, health: ConsensusHealth) -> None:
        self._health = health

    def tick(self, now_ns: int) -> None:
        pass

    def health(self) -> ConsensusHealth:
        return self._health


def test_a_node_whose_disk_does_not_answer_is_not_ready(tmp_path: Path):
    """It applies nothing, so what is granted to it would never be started; and the status must not call it ready."""
    engine = Engine(me="n2", bootstrap=cluster(), source="", barred={}, life="1", now_ns=0)
    shell = Shell(engine, BarredFile(tmp_path / "barred"), lambda: None)
    for hindrance in ("the disk has not answered a write of the journal for 1500 ms", ""):
        shell.consensus = Log(ConsensusHealth(hindrance=hindrance))
        shell._run_log()
        told = engine.local.own_facts()
        assert not told.ready
        assert (told.detail == hindrance) == bool(hindrance)


def test_the_heartbeat_says_for_how_long_the_disk_has_not_answered(tmp_path: Path):
    engine = Engine(me="n2", bootstrap=cluster(), source="", barred={}, life="1", now_ns=0)
    shell = Shell(engine, BarredFile(tmp_path / "barred"), lambda: None)
    shell.consensus = Log(ConsensusHealth(stalled_ms=7000))
    shell._run_log()
    said = [x.message for x in engine.tick(10**9, 0) if isinstance(x, Send)]
    assert [m.stalled_ms for m in said] == [7000, 7000]


class Wire:
    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, peer: str, message: object) -> bool:
        self.sent.append(message)
        return True


def slow_disk_shell(tmp_path: Path, barred: BarredFile | None = None):
    """A shell whose disk answers when `finish` is called."""
    engine = Engine(me="n2", bootstrap=cluster(), source="", barred={}, life="1", now_ns=0)
    pending: list[tuple] = []
    barred = barred or BarredFile(tmp_path / "barred")
    shell = Shell(engine, barred, lambda: None, lambda work, done: pending.append((work, done)))
    shell.links = Wire()

    def finish(error: Exception | None = None) -> None:
        work, done = pending.pop(0)
        if error is None:
            work()
        done(error)

    return shell, finish


YES = ReleaseAnswer(group="mail", epoch=7, yes=True)
LEASE = LeaseAnswer(group="web", epoch=9, nonce=1, promised=True)


def test_a_yes_waits_for_the_disk_and_a_lease_does_not(tmp_path: Path):
    shell, finish = slow_disk_shell(tmp_path)
    shell.perform([SaveBarred({"mail": 7}), Send("n1", YES)])
    shell.perform([Send("n1", LEASE)])
    assert shell.links.sent == [LEASE]
    finish()
    assert shell.links.sent == [LEASE, YES]
    assert BarredFile(tmp_path / "barred").load() == {"mail": 7}


def test_barriers_keep_their_order(tmp_path: Path):
    shell, finish = slow_disk_shell(tmp_path)
    later = ReleaseAnswer(group="web", epoch=8, yes=True)
    shell.perform([SaveBarred({"mail": 7}), Send("n1", YES), SaveBarred({"mail": 7, "web": 8}), Send("n1", later)])
    finish()
    assert shell.links.sent == [YES]
    finish()
    assert shell.links.sent == [YES, later]


def test_nothing_follows_a_failed_barrier(tmp_path: Path):
    shell, finish = slow_disk_shell(tmp_path)
    shell.perform([SaveBarred({"mail": 7}), Send("n1", YES)])
    finish(BarredError("the disk is full"))
    assert shell.links.sent == []
    assert shell.engine.problem == "the disk is full"


def test_somebody_outside_the_owner_asks_for_the_first_answer_whoever_leads():
    for leader in ("n1", "n2", "n3"):
        asking = [me for me in ("n1", "n2", "n3") if asks(me, "n2", leader)]
        assert asking == (["n1", "n3"] if leader == "n2" else [leader])
