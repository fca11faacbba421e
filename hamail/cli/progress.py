"""A move as it goes: the phase, how long it has taken, and how long it may take; line by line without a terminal."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from hamail.cli.app import App
from hamail.cli.words import took
from hamail.model.preflight import PhaseBudget
from hamail.model.state import Move, Stamp, Trigger

if TYPE_CHECKING:
    from rich.console import RenderableType

BAR_COLUMNS = 24
REFRESHES_PER_SECOND = 8


class Progress:
    """The moving line at the bottom. `phase` may be set at any time."""

    def __init__(self, now_ms: Callable[[], int], budget: Sequence[PhaseBudget] = ()) -> None:
        self._now_ms = now_ms
        self._budget = {phase.phase: phase for phase in budget}
        self._begun_ms = self._phase_ms = now_ms()
        self._name, self._words = "", "the order is accepted"

    def phase(self, name: str, words: str) -> None:
        if (name, words) != (self._name, self._words):
            self._name, self._words, self._phase_ms = name, words, self._now_ms()

    def shown(self, app: App) -> AbstractContextManager[object]:
        """On a terminal the line stays at the bottom, and goes at the end."""
        if app.json or not app.console.is_terminal:
            return nullcontext()
        from rich.live import Live

        return Live(
            get_renderable=self.line, console=app.console, transient=True, refresh_per_second=REFRESHES_PER_SECOND
        )

    def line(self) -> "RenderableType":
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        budget = self._budget.get(self._name, PhaseBudget(phase=self._name))
        took_ms = self._now_ms() - self._phase_ms
        grid = Table.grid(padding=(0, 1))
        cells: list[RenderableType] = [Spinner("dots"), Text(self._words, style="bold")]
        total_ms = budget.usual_ms or budget.limit_ms
        if total_ms:
            cells.append(ProgressBar(total=total_ms, completed=min(took_ms, total_ms), width=BAR_COLUMNS))
        cells.append(Text(self.times(budget, took_ms), style="dim"))
        grid.add_row(*cells)
        return grid

    def times(self, budget: PhaseBudget, took_ms: int) -> str:
        words = [took(took_ms)]
        if budget.usual_ms is not None:
            words.append(f"usually {took(budget.usual_ms)}")
        if budget.limit_ms is not None and budget.limit_ms != budget.usual_ms:
            words.append(f"at most {took(budget.limit_ms)}")
        whole_ms = self._now_ms() - self._begun_ms
        return ", ".join(words) + (f"; {took(whole_ms)} in all" if whole_ms > took_ms + 100 else "")


def phase_of(move: Move) -> tuple[str, str]:
    """(name in the budget, words) of what goes on now."""
    source, target = move.source or "nobody", move.target or "nobody"
    stamps = move.stamps
    if move.result != "running":
        return "", "waiting for the first answer to a client"
    if Stamp.GRANTED in stamps:
        if move.cancelled or move.failures:
            return "start", f"{target} stops it or starts it again: {'; '.join(_troubles(move))}"
        return "start", f"{target} starts it"
    if Stamp.STOPPED in stamps or Stamp.FENCED in stamps:
        return "start", f"{source} is out; the next node is chosen"
    if move.trigger is Trigger.FAILOVER:
        return "fence", f"it must be proven that {source} is out"
    return "stop", f"{source} stops it" + (": the move is turned back" if move.cancelled else "")


def _troubles(move: Move) -> list[str]:
    return [f"{node} {why}" for node, why in move.failures.items()] + ([move.cancelled] if move.cancelled else [])
