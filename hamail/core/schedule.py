"""Moves that were ordered for a later time: the coordinator makes them when its clock says so, or tells why not."""

from hamail.core import preflight
from hamail.core.facts import Facts
from hamail.model import commands as c
from hamail.model.orders import ScheduledMove
from hamail.model.state import ClusterState
from hamail.model.timings import Timings

WINDOW_MS = 15 * 60_000  # so long after its time it is still made; later it would surprise people


def due(state: ClusterState, facts: Facts, t: Timings) -> tuple[c.RunScheduled, ...]:
    """What to propose now."""
    return tuple(
        _run(state, facts, t, order)
        for order in state.scheduled
        if facts.at_ms >= order.due_ms and (facts.settled or late(facts.at_ms, order))
    )


def late(at_ms: int, order: ScheduledMove) -> bool:
    return at_ms > order.due_ms + WINDOW_MS


def _run(state: ClusterState, facts: Facts, t: Timings, order: ScheduledMove) -> c.RunScheduled:
    refusal, target = "", order.target
    if late(facts.at_ms, order):
        refusal = f"nobody could coordinate it within {WINDOW_MS // 60_000} min of its time"
    elif order.group not in state.spec.groups:
        refusal = f"there is no group {order.group} any more"
    else:
        found = preflight.switchover(state, facts, t, order.group, order.target)
        target = found.target
        refusal = "; ".join(found.refusals if order.force else (*found.refusals, *found.warnings))
    return c.RunScheduled(
        at_ms=facts.at_ms,
        order=order.id,
        group=order.group,
        target=target,
        expected_epoch=state.group(order.group).epoch,
        refusal=refusal,
    )
