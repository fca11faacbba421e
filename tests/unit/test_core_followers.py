"""Who is heard without following the log, and for how long, by the coordinator's own clock."""

from hamail.core.followers import STUCK_LEASES, stuck
from hamail.model import commands as c
from hamail.model.messages import Heartbeat
from tests.unit.test_core_engine import Bench


class Lead(Bench):
    """n1 coordinates; n2 says what the test lets it say."""

    def __init__(self):
        super().__init__()
        self.e.leadership(True)
        self.said = 0

    def beat(self, applied, **more):
        self.said += 1
        self.hear(
            "n2", Heartbeat(sequence=self.said, incarnation=None, silent_ms={}, applied=applied, ready=True, **more)
        )
        self.tick()

    def behind(self):
        return self.e.facts().behind_ms["n2"]

    def is_stuck(self):
        return stuck(self.e.facts(), "n2", self.e.timings)


def beats(bench, ms, applied, **more):
    for _ in range(ms // 50):
        bench.beat(applied, **more)


LIMIT_MS = STUCK_LEASES * 5000


def test_it_is_stuck_only_when_there_is_something_to_follow():
    b = Lead()
    beats(b, LIMIT_MS + 1000, b.index)
    assert b.behind() <= 50
    old = b.index
    b.commit(c.SetStandby(at_ms=0, node="n2", standby=True))
    beats(b, LIMIT_MS - 1000, old)
    assert not b.is_stuck()
    beats(b, 2000, old)
    assert b.is_stuck()
    b.beat(b.index)
    assert not b.is_stuck()


def test_one_that_follows_slowly_is_not_stuck():
    b = Lead()
    for _ in range(10):
        b.commit(c.Barrier(at_ms=0, node="n3"))
    for applied in range(1, 10):
        beats(b, LIMIT_MS - 1000, applied)
        assert not b.is_stuck()


def test_a_restart_and_a_new_coordinator_begin_afresh():
    b = Lead()
    beats(b, 200, b.index)
    old = b.index
    b.commit(c.Barrier(at_ms=0, node="n3"))
    beats(b, LIMIT_MS - 500, old)
    b.beat(old, restarting_ms=3000)
    b.tick(2900)
    beats(b, LIMIT_MS - 500, old)
    assert not b.is_stuck()
    b.e.leadership(False)
    b.e.leadership(True)
    beats(b, LIMIT_MS - 500, old)
    assert not b.is_stuck()
    beats(b, 1000, old)
    assert b.is_stuck()


def test_its_own_word_counts_while_it_is_heard():
    b = Lead()
    b.beat(b.index, stalled_ms=LIMIT_MS + 1)
    assert b.is_stuck()
    for _ in range(40):
        b.tick()
    assert not b.is_stuck(), "it is missed, which is another matter"
