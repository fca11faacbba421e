"""Why did that happen? From the log alone, so any node can tell, also the witness, also long after."""

from hamail.core import rules
from hamail.core.words import clock
from hamail.model.ids import LogIndex
from hamail.model.state import ClusterState, Event, Move

EVENTS_TOLD = 40  # of one move


def move_of(state: ClusterState, number: LogIndex) -> Move | None:
    return next((m for m in reversed(state.moves) if m.id == number), None)


def events_of_entry(state: ClusterState, number: LogIndex) -> tuple[Event, ...]:
    return tuple(e for e in state.events if e.index == number)


def events_of_move(state: ClusterState, move: Move) -> tuple[Event, ...]:
    """What belongs to it, oldest first: the newest ones if there are too many."""
    found = [e for e in state.events if e.index == move.id or (e.decision is not None and e.decision.move == move.id)]
    return tuple(found[-EVENTS_TOLD:])


def of_event(event: Event) -> tuple[str, ...]:
    """One entry of the history and what it stood on."""
    lines = [f"{clock(event.at_ms)}  [{event.index}]  {event.sentence}"]
    if event.actor not in ("", "hamail"):
        lines.append(f"  by      {event.actor}" + (f": {event.reason}" if event.reason else ""))
    d = event.decision
    if d is None:
        return tuple(lines)
    if d.trigger:
        lines.append(f"  trigger {d.trigger}" + (f" (move {d.move})" if d.move and d.move != event.index else ""))
    said = rules.sentence(d.rule)
    lines.append(f"  rule    {d.rule}" + (f": {said}" if said else ""))
    whose = f" as {d.by} saw them" if d.by else ""
    if d.facts:
        lines.append(f"  facts{whose}")
        lines += [f"    {name}: {value}" for name, value in d.facts.items()]
    if d.rejected:
        lines.append("  rejected")
        lines += [f"    {what}: {why}" for what, why in d.rejected.items()]
    return tuple(lines)


def of_move(state: ClusterState, move: Move) -> tuple[str, ...]:
    """A move as a whole, then each decision in it."""
    asked = f", ordered by {move.actor}" if move.actor not in ("", "hamail") else ""
    because = f": {move.reason}" if move.reason else ""
    lines = [
        f"Move {move.id} of {move.group} from {move.source or 'nowhere'} to {move.target or 'nowhere'}: {move.result}.",
        f"Set off by {move.trigger}{asked}{because}",
    ]
    if move.evidence is not None:
        lines.append(f"It was certain that nobody held {move.group} any more: {move.evidence}.")
    events = events_of_move(state, move)
    if not events:
        lines.append("Its entries have left the history; the timeline is kept.")
    for event in events:
        lines += of_event(event)
    return tuple(lines)


def of_entry(state: ClusterState, number: LogIndex) -> tuple[str, ...]:
    """An event or a move by its number; empty when the history does not have it."""
    move = move_of(state, number)
    if move is not None:
        return of_move(state, move)
    return tuple(line for event in events_of_entry(state, number) for line in of_event(event))
