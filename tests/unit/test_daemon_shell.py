"""The shell between the log and the engine."""

from pathlib import Path

from hamail.consensus.port import ConsensusHealth
from hamail.core.engine import Engine
from hamail.daemon.barred import BarredFile
from hamail.daemon.shell import Shell
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
