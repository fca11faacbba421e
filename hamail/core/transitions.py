"""THE table of a group's life: (phase, event) -> phase and the sentence that goes with it.

Everything that moves a group goes through a row of this table; the log line, the history entry, `hamailctl why` and the
state diagram in the documentation are made from the row. An event without a row in the present phase is rejected.
"""

from enum import StrEnum

from msgspec import Struct

from hamail.model.state import Phase


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
    REJOINED = "rejoined"


class Row(Struct, frozen=True, kw_only=True):
    phase: Phase
    event: What
    then: Phase
    sentence: str


def _rows() -> tuple[Row, ...]:
    p, w = Phase, What
    held = (p.STARTING, p.ACTIVE, p.STOPPING)
    doubtful = (p.FENCING, p.WAITING, p.BLOCKED)

    def row(phases: tuple[Phase, ...], event: What, then: Phase, sentence: str) -> tuple[Row, ...]:
        return tuple(Row(phase=phase, event=event, then=then, sentence=sentence) for phase in phases)

    return (
        *row(
            (p.IDLE, p.WAITING),
            w.GRANTED,
            p.STARTING,
            "{group} is granted to {node} at epoch {epoch}; {evidence}. {why}",
        ),
        *row((p.STARTING,), w.STARTED, p.ACTIVE, "{node} runs {group}."),
        *row(
            (p.STARTING, p.ACTIVE),
            w.ORDERED_AWAY,
            p.STOPPING,
            "{node} stops {group}, which shall move to {target}: {why}",
        ),
        *row((p.STARTING, p.ACTIVE), w.FAILED, p.STOPPING, "{node} stops {group}, which must move: {why}"),
        *row(
            (p.STARTING, p.STOPPING), w.START_FAILED, p.IDLE, "{node} could not start {group} and has stopped it: {why}"
        ),
        *row((*held, *doubtful), w.RELEASED, p.IDLE, "{node} has stopped {group} and verified that nothing is left."),
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
            "{group} may start elsewhere when every promise to {node} has run out: {why}",
        ),
        *row(
            (*held, *doubtful),
            w.MUST_ASK,
            p.BLOCKED,
            "{group} cannot be started elsewhere: nothing proves that {node} is out. {why} "
            "Make sure that it is off, then: hamailctl fence confirm {node}",
        ),
        *row((p.FENCING, p.WAITING), w.OWNER_BACK, p.STARTING, "{node} is heard again and keeps {group}."),
        *row((*held, *doubtful), w.FENCED, p.IDLE, "{node} is off ({why}), so {group} is free to start elsewhere."),
        *row((*held, *doubtful), w.CONFIRMED, p.IDLE, "{actor} vouches that {node} is off, so {group} is free. {why}"),
        *row((*held, *doubtful), w.REJOINED, p.IDLE, "{node} has restarted clean and holds {group} no more."),
    )


ROWS = _rows()
_BY_KEY = {(r.phase, r.event): r for r in ROWS}
assert len(_BY_KEY) == len(ROWS), "two rows for one (phase, event)"


def find(phase: Phase, event: What) -> Row | None:
    return _BY_KEY.get((phase, event))


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> idle"]
    merged: dict[tuple[Phase, Phase], list[What]] = {}
    for r in ROWS:
        merged.setdefault((r.phase, r.then), []).append(r.event)
    lines += [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in merged.items()]
    return "\n".join(lines) + "\n"
