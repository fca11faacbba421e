"""THE table of a group's life: (phase, event) -> phase and the sentence that goes with it.

Everything that moves a group goes through a row of this table; the log line, the history entry, `hamailctl why` and the
state diagram in the documentation are made from the row. An event without a row in the present phase is rejected.
"""

from enum import StrEnum

from msgspec import Struct

from hamail.model.state import Phase, Severity


class What(StrEnum):
    """Events in the life of a group."""

    GRANTED = "granted"
    STARTED = "started"
    ORDERED_AWAY = "ordered away"
    FAILED = "failed"
    START_FAILED = "start failed"
    RELEASED = "released"
    MUST_FENCE = "must fence"
    MUST_WAIT = "must wait"
    MUST_ASK = "must ask"
    OWNER_BACK = "owner back"
    FENCED = "fenced"
    CONFIRMED = "confirmed"
    TRY_AGAIN = "try again"
    REJOINED = "rejoined"


SEVERITY = {
    What.FAILED: Severity.WARNING,
    What.START_FAILED: Severity.WARNING,
    What.MUST_FENCE: Severity.WARNING,
    What.MUST_WAIT: Severity.WARNING,
    What.MUST_ASK: Severity.CRITICAL,
}


class Row(Struct, frozen=True, kw_only=True):
    phase: Phase
    event: What
    then: Phase
    sentence: str

    @property
    def name(self) -> str:
        """How the history names the rule."""
        return f"{self.phase} + {self.event} -> {self.then}"

    @property
    def severity(self) -> Severity:
        return SEVERITY.get(self.event, Severity.INFO)


def _rows() -> tuple[Row, ...]:
    p, w = Phase, What
    held = (p.STARTING, p.ACTIVE, p.STOPPING)
    doubtful = (p.FENCING, p.WAITING, p.BLOCKED)

    def row(phases: tuple[Phase, ...], event: What, then: Phase, sentence: str) -> tuple[Row, ...]:
        return tuple(Row(phase=phase, event=event, then=then, sentence=sentence) for phase in phases)

    return (
        *row(
            (p.IDLE, p.WAITING, p.FENCING),
            w.GRANTED,
            p.STARTING,
            "{group} goes to {node} (epoch {epoch}): {evidence}. {why}",
        ),
        *row((p.STARTING,), w.STARTED, p.ACTIVE, "{node} runs {group}."),
        *row(
            (p.STARTING, p.ACTIVE),
            w.ORDERED_AWAY,
            p.STOPPING,
            "{node} stops {group}, which is to move to {target}: {why}",
        ),
        *row((p.STARTING, p.ACTIVE), w.FAILED, p.STOPPING, "{node} stops {group}, which must leave it: {why}"),
        *row(
            (p.STARTING, p.STOPPING, *doubtful),
            w.START_FAILED,
            p.IDLE,
            "{node} could not start {group} and has stopped it again: {why}",
        ),
        *row(
            (*held, *doubtful),
            w.RELEASED,
            p.IDLE,
            "{node} has stopped {group} and verified that nothing is left. {why}",
        ),
        *row(
            (*held, *doubtful),
            w.MUST_FENCE,
            p.FENCING,
            "{node} must be fenced before {group} may start elsewhere: {why}",
        ),
        *row(
            (*held, *doubtful),
            w.MUST_WAIT,
            p.WAITING,
            "{group} may start elsewhere only when every promise to {node} has run out: {why}",
        ),
        *row(
            (*held, *doubtful),
            w.MUST_ASK,
            p.BLOCKED,
            "{group} is blocked: nothing proves that {node} is out ({because}). {why} "
            "Make sure that {node} is off, then: hamailctl fence confirm {node}",
        ),
        *row(doubtful, w.OWNER_BACK, p.STARTING, "{node} is heard again and keeps {group}."),
        *row(doubtful, w.TRY_AGAIN, p.STOPPING, "{node} tries once more to stop {group}: {why}"),
        *row((*held, *doubtful), w.FENCED, p.IDLE, "{group} is free to start elsewhere: {node} was fenced."),
        *row(doubtful, w.CONFIRMED, p.IDLE, "{group} is free to start elsewhere: {node} is off."),
        *row(
            (*held, *doubtful), w.REJOINED, p.IDLE, "{group} is free to start: {node} has restarted and holds nothing."
        ),
    )


ROWS = _rows()
_BY_KEY = {(r.phase, r.event): r for r in ROWS}
_BY_NAME = {r.name: r.event for r in ROWS}
assert len(_BY_KEY) == len(ROWS), "two rows for one (phase, event)"


def find(phase: Phase, event: What) -> Row | None:
    return _BY_KEY.get((phase, event))


def event_of(rule: str) -> What | None:
    """The event of a row that the history names; None for what is no row of the table."""
    return _BY_NAME.get(rule)


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> idle"]
    merged: dict[tuple[Phase, Phase], list[What]] = {}
    for r in ROWS:
        merged.setdefault((r.phase, r.then), []).append(r.event)
    lines += [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in merged.items()]
    return "\n".join(lines) + "\n"
