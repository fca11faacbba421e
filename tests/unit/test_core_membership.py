"""Who is alive: only a majority's silence counts, and a sick observer accuses later."""

from hamail.core import membership
from hamail.core.membership import MS
from hamail.core.timing import derive
from hamail.model.messages import Heartbeat

T = derive(1000, 5)
VOTERS = ("n1", "n2", "n3")


def beat(silent=None, restarting_ms=0):
    return Heartbeat(
        sequence=1, incarnation=None, silent_ms=silent or {}, applied=0, ready=True, restarting_ms=restarting_ms
    )


def at(ms):
    return ms * MS


def listening():
    """n3 listens, and has heard both others at 0."""
    m = membership.begin("n3", VOTERS, 0)
    for name in ("n1", "n2"):
        m = membership.hear(m, name, beat(), 0)
    return m


def steadily(m, upto_ms, heard=(), silent=None):
    """Ticks every 50 ms; those in `heard` send a heartbeat before each."""
    for ms in range(50, upto_ms + 1, 50):
        for name in heard:
            m = membership.hear(m, name, beat(silent(ms) if silent else None), at(ms))
        m = membership.tick(m, at(ms), T)
    return m


def test_one_voter_alone_suspects_nobody():
    m = steadily(listening(), 3000, heard=["n2"])
    assert membership.missed(m, "n1", at(3000), T)
    assert membership.accusers(m, "n1", at(3000), T) == ("n3",)
    assert not membership.suspected(m, "n1", at(3000), T)


def test_a_majority_suspects():
    m = steadily(listening(), 1000, heard=["n2"], silent=lambda ms: {"n1": ms})
    assert membership.accusers(m, "n1", at(1000), T) == ("n2", "n3")
    assert membership.suspected(m, "n1", at(1000), T)
    assert not membership.suspected(m, "n1", at(999), T)


def test_what_a_silent_voter_said_does_not_count():
    m = membership.hear(listening(), "n2", beat({"n1": 5000}), 0)
    m = steadily(m, 1500)
    assert membership.accusers(m, "n1", at(1500), T) == ("n3",)


def test_a_node_never_heard_gets_the_settling_time():
    m = membership.begin("n3", VOTERS, 0)
    for ms in range(50, T.settle_ms + 1, 50):
        m = membership.tick(m, at(ms), T)
    assert not membership.missed(m, "n1", at(T.settle_ms - 1), T)
    assert membership.missed(m, "n1", at(T.settle_ms), T)


def test_an_own_stall_is_nobody_elses_silence():
    m = steadily(listening(), 500, heard=["n1", "n2"])
    m = membership.tick(m, at(5000), T)
    assert not membership.missed(m, "n1", at(5000), T)
    m = steadily_from(m, 5000, 1300)
    assert membership.missed(m, "n1", at(6300), T)


def steadily_from(m, start_ms, for_ms):
    for ms in range(start_ms + 50, start_ms + for_ms + 1, 50):
        m = membership.tick(m, at(ms), T)
    return m


def test_an_announced_restart_is_no_death():
    m = membership.hear(listening(), "n1", beat(restarting_ms=2000), 0)
    m = steadily(m, 2500, heard=["n2"], silent=lambda ms: {"n1": ms})
    assert not membership.suspected(m, "n1", at(1999), T)
    assert membership.suspected(m, "n1", at(2500), T)


def test_strangers_change_nothing():
    m = listening()
    assert membership.hear(m, "n9", beat(), at(5)) == m


def test_majorities():
    m = listening()
    assert membership.hears_majority(m, membership.all_missed(m, at(10), T))
    m = steadily(m, 2000, heard=["n1"])
    assert membership.hears_majority(m, membership.all_missed(m, at(2000), T))
    m = steadily_from(m, 2000, 2000)
    assert not membership.hears_majority(m, membership.all_missed(m, at(4000), T))


def test_silence_that_was_allowed_counts_for_nothing_and_what_follows_does():
    m = steadily(listening(), 5000, heard=["n2"], silent=lambda ms: {"n1": ms})
    assert membership.suspected(m, "n1", at(5000), T)
    m = membership.listen_anew(m, at(5000))
    m = membership.hear(m, "n2", beat({"n1": 0}), at(5000))
    assert not membership.suspected(m, "n1", at(5500), T)
    assert membership.missed(m, "n1", at(6000), T)
    assert membership.silent_ms(m, "n1", at(6000)) == 1000
    assert membership.unheard_ms(m, "n1", at(6000)) == 6000, "how long an outage was is told as it was"


def test_nobody_misses_itself_and_a_majority_of_the_others_may():
    m = membership.begin("n3", VOTERS, 0)
    for name in ("n1", "n2"):
        m = membership.hear(m, name, beat({"n3": T.detection_ms}), 0)
    assert not membership.missed(m, "n3", at(60_000), T)
    assert membership.accusers(m, "n3", 0, T) == ("n1", "n2")
    assert membership.suspected(m, "n3", 0, T)
