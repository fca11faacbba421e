"""The live screen: what matters most on top, cut to the height of the terminal, the newest events below."""

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from hamail.cli import chart, glance
from hamail.cli.chart import Span
from hamail.cli.glance import Glance
from hamail.cli.moves_view import SILENT, path, phases
from hamail.cli.status_view import attention, headline, nodes
from hamail.cli.words import moment, took
from hamail.core import estimates
from hamail.core.timing import derive
from hamail.model.situation import Situation
from hamail.model.state import Event, Move, Phase
from hamail.model.status import Status

DIM = "dim"
RISK_LINES = 3
EVENT_LINES_MIN = 3
PHASE_WORDS = {
    Phase.STOPPING: "stopping on {source}",
    Phase.FENCING: "fencing {source}",
    Phase.WAITING: "waiting until promises to {source} run out",
    Phase.BLOCKED: "waiting for you",
    Phase.STARTING: "starting on {target}",
    Phase.IDLE: "waiting for a node that may have it",
    Phase.ACTIVE: "done",
}
Line = list[Segment]


class Screen:
    def __init__(self, status: Status, situation: Situation, seen: Glance | None, events: Sequence[Event]) -> None:
        self._status, self._situation, self._seen, self._events = status, situation, seen, events

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.height
        width = options.update(height=None)
        lines: list[Line] = []
        for part in self._top(console):
            lines += console.render_lines(part, width, pad=False)
        lines = lines[: max(1, height - EVENT_LINES_MIN - 1)]
        lines.append([Segment("")])
        lines += self._newest(console, width, height - len(lines))
        for number, line in enumerate(lines[:height]):
            yield from line
            if number < min(height, len(lines)) - 1:
                yield Segment.line()

    def _top(self, console: Console) -> Iterator[RenderableType]:
        status = self._status
        for group in status.groups:
            yield headline(group, status)
        for move in self._running():
            yield progress(move, self._situation, chart.unicode_works(console.encoding))
        yield Text(
            f"cluster {status.cluster} seen by {status.node} at {moment(status.at_ms)}, coordinator"
            f" {status.coordinator or 'nobody'}",
            style=DIM,
        )
        yield from attention(status)
        yield nodes(status)  # before the risks: those are long when a node is lost, and there may be 24 lines in all
        if self._seen is not None and status.quorum and not self._running():
            yield from glance.render(self._seen, status, RISK_LINES)

    def _running(self) -> list[Move]:
        open_moves = {g.move for g in self._situation.state.groups.values() if g.move}
        return [m for m in self._situation.state.moves if m.id in open_moves]

    def _newest(self, console: Console, width: ConsoleOptions, room: int) -> list[Line]:
        """As many whole events as there is room for, the newest last."""
        found: list[Line] = []
        for event in reversed(self._events):
            grid = Table.grid(padding=(0, 1))
            grid.add_column(no_wrap=True, style=DIM)
            grid.add_column(no_wrap=True, style=DIM, justify="right")
            grid.add_column(overflow="fold")
            grid.add_row(moment(event.at_ms)[11:], str(event.index), Text(event.sentence))
            lines = console.render_lines(grid, width, pad=False)
            if len(found) + len(lines) > room:
                break
            found = lines + found
        return found


def progress(move: Move, situation: Situation, fancy: bool) -> RenderableType:
    """What is being done, for how long already, and how long it usually takes."""
    g = situation.state.group(move.group)
    now_ms = max(situation.at_ms, *move.stamps.values(), move.started_at_ms)
    spans = [s for s in phases(move) if s.name != SILENT or s.end_ms]
    began_ms = now_ms - max(now_ms - g.since_ms, 0)
    usual_ms = budget_ms(situation, move, g.phase)
    spent_ms = now_ms - began_ms
    whole_ms = max((s.end_ms for s in spans), default=0) + max(spent_ms, usual_ms or 0)
    what = PHASE_WORDS[g.phase].format(source=move.source or "nobody", target=move.target or "a node")
    usually = f" of about {took(usual_ms)}" if usual_ms else ""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(overflow="fold")
    grid.add_row(Text(f"move {move.id} of {move.group} {path(move)} ({move.trigger})", style="bold cyan"))
    last_ms = max((s.end_ms for s in spans), default=0)
    now = Span(name="now", begin_ms=last_ms, end_ms=last_ms + spent_ms, open=True)
    done = "".join(chart.bar(Span(name="", begin_ms=0, end_ms=now.end_ms), whole_ms, 30, fancy))
    grid.add_row(Text(f"[{done}] {what}, {took(spent_ms)}{usually}", style="cyan"))
    return grid


def budget_ms(situation: Situation, move: Move, phase: Phase) -> int | None:
    """How long this phase usually takes; None for what has no measure."""
    spec = situation.state.spec
    usual = estimates.of(situation.state, move.group)
    return {
        Phase.STOPPING: usual.stop_ms,
        Phase.FENCING: usual.fence_ms,
        Phase.STARTING: usual.start_ms,
        Phase.WAITING: derive(spec.detection_ms, spec.watchdog_timeout_s).wait_ms,
    }.get(phase)
