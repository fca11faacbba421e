"""A move that takes more than one attempt keeps the points of each: the last one does not overwrite those before."""

import msgspec

from hamail.core import usual
from hamail.model import commands as c
from hamail.model.state import EARLIER_KEPT, ClusterState, Evidence, Move
from tests.unit.test_core_apply import active, run

ORDER = c.RequestMove(at_ms=1000, group="mail", target="n2", expected_epoch=10, actor="anna")


def granted(node: str, at_ms: int, expected: int, evidence: Evidence = Evidence.RELEASED) -> c.Grant:
    return c.Grant(at_ms=at_ms, group="mail", node=node, expected_epoch=expected, evidence=evidence)


def released(node: str, epoch: int, at_ms: int) -> c.Released:
    return c.Released(at_ms=at_ms, group="mail", node=node, epoch=epoch, stamps={"stopped": at_ms})


def start_failed(node: str, epoch: int, at_ms: int, clean: bool = True) -> c.StartFailed:
    return c.StartFailed(
        at_ms=at_ms, group="mail", node=node, epoch=epoch, resource="postfix", detail="exit 1", clean=clean
    )


def started(node: str, epoch: int, at_ms: int) -> c.Started:
    return c.Started(at_ms=at_ms, group="mail", node=node, epoch=epoch)


def moving() -> ClusterState:
    """Entry 22 has granted it to n2."""
    return run(active(), ORDER, released("n1", 10, 1300), granted("n2", 1310, 10), start=20)


def told(move: Move) -> list[tuple[str, str, int]]:
    return [(p.point, p.node, p.at_ms) for p in move.earlier]


def test_the_attempt_that_failed_stays_in_the_history():
    state = run(moving(), start_failed("n2", 22, 3200), granted("n1", 3210, 22), started("n1", 24, 3600), start=23)
    move = state.moves[-1]
    assert move.result == "rolled back"
    assert move.stamps == {"detected": 1000, "decided": 1000, "stopped": 1300, "granted": 3210, "done": 3600}
    assert told(move) == [("granted", "n2", 1310), ("could not start it", "n2", 3200)]


def test_what_takes_the_group_from_an_attempt_is_not_taken_for_the_end_of_the_source():
    fence = c.OrderFence(at_ms=3300, target="n2", device="pdu", by="n1", reason="stuck")
    off = c.FenceDone(at_ms=3900, target="n2", order=24, ok=True, detail="off")
    state = run(moving(), start_failed("n2", 22, 3200, clean=False), fence, off, start=23)
    state = run(state, granted("n1", 3910, 22, Evidence.FENCED), started("n1", 26, 4300), start=26)
    move = state.moves[-1]
    assert move.stamps == {"detected": 1000, "decided": 1000, "stopped": 1300, "granted": 3910, "done": 4300}
    assert told(move) == [("granted", "n2", 1310), ("could not start it", "n2", 3200), ("fenced", "n2", 3900)]


def test_a_target_that_is_lost_while_it_starts_makes_the_silence_no_part_of_the_time_before():
    lost = c.OwnerLost(at_ms=2500, group="mail", node="n2", epoch=22, silent_ms=1000, voters=("n1", "n3"))
    move = run(moving(), lost, start=23).moves[-1]
    assert move.silent_ms == 0 and move.stamps["detected"] == 1000
    assert told(move) == [("was lost", "n2", 2500)]


def test_a_move_that_is_turned_back_keeps_the_stop_of_its_source():
    cancel = c.Cancel(at_ms=1500, order=20, actor="anna")
    move = run(moving(), cancel, released("n2", 22, 1900), granted("n1", 1910, 22), start=23).moves[-1]
    assert (move.stamps["stopped"], move.stamps["granted"]) == (1300, 1910)
    assert told(move) == [("granted", "n2", 1310), ("stopped", "n2", 1900)]


def test_one_attempt_leaves_nothing_behind_and_old_journals_load():
    move = run(moving(), started("n2", 22, 1800), start=23).moves[-1]
    assert move.earlier == () and move.result == "done"
    old = msgspec.to_builtins(move)
    del old["earlier"]
    assert msgspec.convert(old, Move) == move


def test_usual_times_are_not_taken_from_a_move_between_whose_points_an_attempt_lies():
    state = run(moving(), start_failed("n2", 22, 3200), granted("n1", 3210, 22), started("n1", 24, 3600), start=23)
    done = msgspec.structs.replace(state.moves[-1], result="done")
    state = msgspec.structs.replace(state, moves=(done,))
    assert usual.grant(state, "mail").ms is None
    assert (usual.stop(state, "mail").ms, usual.start(state, "mail").ms) == (300, 390)


def test_what_is_kept_of_attempts_is_bounded():
    state, epoch = moving(), 22
    for _ in range(EARLIER_KEPT):
        state = run(state, start_failed("n2", epoch, 3200), start=state.applied + 1)
        state = msgspec.structs.replace(
            state, groups={"mail": msgspec.structs.replace(state.group("mail"), failed_on=())}
        )
        state = run(state, granted("n2", 3210, epoch), start=state.applied + 1)
        epoch = state.applied
    assert len(state.moves[-1].earlier) == EARLIER_KEPT
