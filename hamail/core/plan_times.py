"""How long a foretold move takes, phase by phase: what each usually took here, and the limit that the timings set."""

from hamail.core import budget, usual
from hamail.core.sandbox import Sandbox
from hamail.core.transitions import What, event_of
from hamail.core.usual import Usual
from hamail.model.ids import GroupName, NodeName
from hamail.model.plan import PhaseTime
from hamail.model.state import Event, Trigger

FAILING = "failing"
DETECT, FENCE, WAIT, STOP, GRANT, START = "detect", "fence", "wait", "stop", "grant", "start"


def phases(s: Sandbox, group: GroupName) -> tuple[PhaseTime, ...]:
    """In the order of time, one after the other."""
    found: list[PhaseTime] = []
    for _, event in s.told:
        if event.group == group and event.decision is not None and (what := event_of(event.decision.rule)):
            _follow(s, group, found, what, event)
    return tuple(found)


def _follow(s: Sandbox, group: GroupName, found: list[PhaseTime], what: What, event: Event) -> None:
    state, node = s.situation.state, event.node
    assert event.decision is not None
    match what:
        case What.ORDERED_AWAY | What.FAILED:
            found.append(_phase(STOP, node, usual.stop(state, group), budget.stop_limit_ms(state, group)))
        case What.MUST_FENCE | What.MUST_WAIT | What.MUST_ASK:
            if event.decision.trigger == Trigger.NODE_LOST:
                found.append(_phase(DETECT, node, usual.detect(state, group), budget.detect_limit_ms(s.t)))
            elif found and found[-1].phase == STOP:
                found[-1] = _phase(f"{FAILING} {STOP}", node, Usual(), found[-1].limit_ms)
            if what is What.MUST_FENCE:
                found.append(_phase(FENCE, node, usual.fence(state, group), budget.fence_limit_ms(state.spec, node)))
            elif what is What.MUST_WAIT:
                found.append(_wait(s, group, node))
        case What.GRANTED:
            if event.decision.rule.startswith(FENCE) and found and found[-1].phase == FENCE:
                found[-1] = _wait(s, group, found[-1].node)  # its promises had run out before it was fenced
            found.append(_phase(GRANT, node, usual.grant(state, group), s.t.propose_ms))
            found.append(_start(s, group, node))
        case What.START_FAILED if found and found[-1].phase == START:
            limits = (budget.start_limit_ms(state, group), budget.stop_limit_ms(state, group))
            found[-1] = _phase(f"{FAILING} {START}", node, Usual(), total(limits))
        case _:
            pass


def _start(s: Sandbox, group: GroupName, node: NodeName) -> PhaseTime:
    took, limit_ms = usual.start(s.situation.state, group), budget.start_limit_ms(s.situation.state, group)
    parts = usual.start_parts(s.situation.state, group)
    return PhaseTime(phase=START, node=node, usual_ms=took.ms, seen=took.seen, limit_ms=limit_ms, parts=parts)


def _wait(s: Sandbox, group: GroupName, node: NodeName) -> PhaseTime:
    state = s.situation.state
    return _phase(WAIT, node, usual.wait(state, group), budget.wait_limit_ms(state, group, s.t))


def _phase(name: str, node: NodeName, took: Usual, limit_ms: int | None) -> PhaseTime:
    return PhaseTime(phase=name, node=node, usual_ms=took.ms, seen=took.seen, limit_ms=limit_ms)


def total(each_ms: tuple[int | None, ...]) -> int | None:
    """None where one is not known, or there is nothing to add."""
    known = [ms for ms in each_ms if ms is not None]
    return sum(known) if known and len(known) == len(each_ms) else None


def counted_from(found: tuple[PhaseTime, ...], trigger: str) -> str:
    """What the first phase begins with."""
    if not found:
        return ""
    if found[0].phase == DETECT:
        return f"the last word of {found[0].node}"
    if found[0].phase not in (STOP, f"{FAILING} {STOP}"):
        return "now"
    return "the decision to move it" if trigger == Trigger.SERVICE_FAILED else "the order"
