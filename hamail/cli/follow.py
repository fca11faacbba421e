"""Watch an order take its course, until it is over or the time is up."""

import time
from collections.abc import Callable, Iterator, Sequence

from hamail.cli import moves_view
from hamail.cli.app import App
from hamail.cli.progress import Progress, phase_of
from hamail.control.client import ControlClient, Failed, SurelyNotDone
from hamail.model.ids import LogIndex
from hamail.model.preflight import PhaseBudget
from hamail.model.state import ClusterState, Event, Move, Stamp

POLL_MS = 500  # stamps may come without an event
PAUSE_S = 0.2  # while hamaild does not answer
ANSWER_GRACE_MS = 1500  # the first answer to a client may be seen just after the end of a move


def now_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def changes(client: ControlClient, after: LogIndex, timeout_ms: int) -> Iterator[tuple[Event, ...]]:
    """New events, again and again; empty tuples are a chance to look. Bears a hamaild that restarts meanwhile."""
    deadline_ms = now_ms() + timeout_ms
    wait_ms = 0  # the first look is at what is there already
    while (left_ms := deadline_ms - now_ms()) > 0:
        try:
            page = client.events(after, min(wait_ms, left_ms))
        except (Failed, SurelyNotDone):
            time.sleep(PAUSE_S)
            continue
        after, wait_ms = max(after, page.next), POLL_MS
        yield page.events


def follow_move(app: App, move_id: LogIndex, timeout_ms: int, budget: Sequence[PhaseBudget] = ()) -> Move | None:
    """Print the points of a move as they are passed. The move as it ended; None when it runs longer."""
    progress = Progress(now_ms, budget)
    with progress.shown(app):
        return _until_over(app, move_id, timeout_ms, progress)


def _until_over(app: App, move_id: LogIndex, timeout_ms: int, progress: Progress) -> Move | None:
    client = app.client
    shown: set[str] = set()
    move: Move | None = None
    ended_ms = 0
    for _ in changes(client, move_id, timeout_ms):
        try:
            move = client.move(move_id).move
        except (Failed, SurelyNotDone):
            continue
        _show(app, move, shown)
        progress.phase(*phase_of(move))
        if move.result != "running":
            ended_ms = ended_ms or now_ms()
            answered = Stamp.ANSWERED in move.stamps or move.result != "done"
            if answered or now_ms() - ended_ms > ANSWER_GRACE_MS:
                return move
    return move if move is not None and move.result != "running" else None


def _show(app: App, move: Move, shown: set[str]) -> None:
    first = moves_view.begun_ms(move)
    for point in moves_view.points(move):
        told = moves_view.words(move, point)
        if told not in shown:
            shown.add(told)
            app.say(f"  {'+' + str(point.at_ms - first):>7} ms  {told}")
    trouble = [f"{node} {why}" for node, why in move.failures.items()] + ([move.cancelled] if move.cancelled else [])
    for words in trouble:
        if words not in shown:
            shown.add(words)
            app.say(f"  {'!':>10}  {words}", "yellow")


def follow_state(
    app: App, index: LogIndex, timeout_ms: int, over: Callable[[ClusterState], bool], skip: LogIndex = 0
) -> bool:
    """Print what happens from log index `index` on until `over` says so. False when the time is up first."""
    client = app.client
    for events in changes(client, index - 1, timeout_ms):
        for event in events:
            if event.index != skip:
                app.say(f"  {event.sentence}")
        try:
            if over(client.state()):
                return True
        except (Failed, SurelyNotDone):
            continue
    return False
