"""What history says that a move took, and what plan says it may take at most, against what the kernel saw from outside.

Every test that makes a move passes through here when it ends. Nothing is asserted about how fast a machine is.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from hamail.cli import moves_view
from hamail.core import plan
from hamail.core.hypotheses import Hypothesis, Suppose
from hamail.model.situation import Situation
from hamail.model.state import Move, Phase, Stamp, Trigger
from tests.lab.evidence import Evidence
from tests.lab.intervals import NS_PER_MS, Span

MAIL = "mail"
SLACK_MS = 1500  # as much as tests grant elsewhere: two cores that also run everything else
ORDERED = (Trigger.SWITCHOVER, Trigger.STANDBY, Trigger.BAN)
TIMED = (Trigger.NODE_LOST, Trigger.SERVICE_FAILED, *ORDERED)  # history says when their outage begins


@dataclass(frozen=True)
class Outside:
    """When no node held everything that mail needs: before one move came to its end."""

    lost_ns: int
    back_ns: int

    @property
    def ms(self) -> int:
        return (self.back_ns - self.lost_ns) // NS_PER_MS


def whole(evidence: Evidence, node: str) -> list[Span]:
    """When a node held every component at once."""
    spans: list[Span] | None = None
    for component in evidence.components():
        mine = evidence.spans(node, component)
        spans = mine if spans is None else [(max(a, c), min(b, d)) for a, b in spans for c, d in mine]
        spans = [(a, b) for a, b in spans if a < b]
    return spans or []


def _address(evidence: Evidence, node: str) -> list[Span]:
    """What is stopped in order gives its address up first; a service that has died is history's cause, not its move."""
    return evidence.spans(node, next(c for c in evidence.components() if c.startswith("vip")))


def outside(evidence: Evidence, move: Move, struck: Mapping[str, int], mono_ns: int) -> Outside | None:
    """`mono_ns`: CLOCK_MONOTONIC when the wall clock shows 0. None: the source had not been whole before it."""
    source, target = str(move.source), str(move.target)
    granted_ns = move.stamps[Stamp.GRANTED] * NS_PER_MS + mono_ns
    up = [a for a, _ in whole(evidence, target) if a >= granted_ns]
    assert up, f"history says that move {move.id} is done, and the kernel of {target} has never shown all of mail"
    held = whole(evidence, source) if move.trigger is Trigger.NODE_LOST else _address(evidence, source)
    before = [span for span in held if span[1] <= up[0]]
    if not before:
        return None
    began_ns, ended_ns = max(before)
    hit_ns = struck.get(source, 0)  # it may hold everything, and serve nobody
    lost_ns = hit_ns if began_ns < hit_ns < ended_ns else ended_ns
    if move.trigger is Trigger.SERVICE_FAILED:  # repairs in place come before; the move is counted from its decision
        lost_ns = max(lost_ns, moves_view.begun_ms(move) * NS_PER_MS + mono_ns)
    return Outside(lost_ns, up[0])


def hypothesis(move: Move) -> Hypothesis | None:
    """What to suppose so that a plan foretells this move; None where nothing of the kind can be supposed."""
    source, target = str(move.source), str(move.asked or move.target)
    match move.trigger:
        case Trigger.NODE_LOST:
            return Hypothesis(suppose=Suppose.NODE_DOWN, node=source)
        case Trigger.SWITCHOVER:
            return Hypothesis(suppose=Suppose.SWITCHOVER, group=move.group, node=target)
        case Trigger.STANDBY:
            return Hypothesis(suppose=Suppose.STANDBY, node=source)
        case Trigger.SERVICE_FAILED:
            return Hypothesis(suppose=Suppose.RESOURCE_FAILED, group=move.group, resource=move.reason.split(":")[0])
    return None


def limit_ms(before: Situation, move: Move, struck: list[str]) -> int | None:
    """What a plan made before the test says at most; None when it would not have foretold this very move."""
    supposed = hypothesis(move)
    if supposed is None or set(struck) - {move.source}:  # more was done than is supposed
        return None
    g = replace(before.state.group(move.group), owner=move.source, phase=Phase.ACTIVE)
    then = replace(before, state=replace(before.state, groups={**before.state.groups, move.group: g}))
    told = next(f for f in plan.plan(then, [supposed]).groups if f.group == move.group)
    foretold = (told.after, told.trigger, told.result, told.evidence)
    return told.limit_ms if foretold == (move.target, move.trigger, move.result, move.evidence) else None


def check(
    moves: Iterable[Move], evidence: Evidence, struck: Mapping[str, int], before: Situation, promised: Mapping[int, int]
) -> list[str]:
    """A line for each move that was compared. `promised`: what a test has heard from `hamailctl plan` itself.

    Raises AssertionError.
    """
    mono_ns = time.monotonic_ns() - time.time_ns()
    lines = []
    for move in moves:
        if move.group != MAIL or move.result != "done" or move.source in (None, move.target):
            continue
        if move.trigger not in TIMED:
            continue
        seen = outside(evidence, move, struck, mono_ns)
        if seen is None:
            continue
        till_then = [what for what, at_ns in struck.items() if at_ns < seen.back_ns]
        told_ms = moves_view.outage_ms(move)
        limit = promised.get(move.id) or limit_ms(before, move, till_then)
        line = f"move {move.id} ({move.trigger}): history {told_ms} ms, outside {seen.ms} ms, plan at most {limit} ms"
        spans = [s for s in moves_view.phases(move) if told_ms is not None and s.end_ms <= told_ms]
        assert told_ms == sum(s.end_ms - s.begin_ms for s in spans), f"its phases do not add up: {spans}\n{line}"
        sure = move.trigger is not Trigger.NODE_LOST or move.source in till_then
        assert seen.ms <= told_ms + SLACK_MS, f"history and the kernel do not agree: {line}\n{move}\n{seen}"
        # An owner of which only hamaild was silent has served on: history takes the worse for true.
        assert not sure or told_ms <= seen.ms + SLACK_MS, f"history and the kernel do not agree: {line}\n{move}\n{seen}"
        assert limit is None or seen.ms <= limit, f"longer than plan has promised: {line}"
        lines.append(line)
    return lines


def read(moves: list[dict[str, object]]) -> list[Move]:
    return msgspec.convert(moves, list[Move])
