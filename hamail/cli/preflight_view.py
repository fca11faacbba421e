"""What was found before an order, and the question that follows. The same words for every order."""

from typing import TYPE_CHECKING

from hamail.cli.app import JSON_SCHEMA, App, Exit
from hamail.cli.words import listed, took
from hamail.model.preflight import Check, PhaseBudget, Preflight, Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

MARK = {
    Verdict.GOOD: ("ok", "green"),
    Verdict.NOTE: ("note", "cyan"),
    Verdict.UNKNOWN: ("unknown", "dim"),
    Verdict.WARNING: ("WARNING", "bold yellow"),
    Verdict.BAD: ("NO", "bold red"),
}
FORCE_HINT = "These are warnings: --force goes on in spite of them."


def decide(app: App, found: Preflight, error: str, question: str, *, yes: bool, force: bool, dry_run: bool) -> None:
    """Show what was found; end the command where it refuses, or is only asked about; else ask."""
    refused = bool(found.refusals) or (bool(found.warnings) and not force)
    if dry_run and app.json:
        app.emit({"schema": JSON_SCHEMA, "preflight": found, "would_be_refused": refused}, "preflight")
        raise SystemExit(int(Exit.REFUSED if refused else Exit.DONE))
    if not app.json and (dry_run or not yes or found.warnings):
        app.console.print(render(found))
    if found.refusals:
        app.end(Exit.REFUSED, error, found.refusals)
    if refused:
        app.end(Exit.REFUSED, error, found.warnings, hint=FORCE_HINT)
    if dry_run:
        app.say("Nothing was done (--dry-run): it would be carried out.", "green")
        raise SystemExit(int(Exit.DONE))
    app.confirm(question, yes)


def render(found: Preflight) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold", ratio=1)
    for check in found.checks:
        word, style = MARK[check.verdict]
        grid.add_row(Text(word, style=style), Text(check.name), Text(_sentence(check)))
    for n, words in enumerate(found.loss):
        grid.add_row("", "costs" if n == 0 else "", Text(words))
    if found.proof:
        grid.add_row("", "proof", Text(f"needed: {found.proof}"))
    if words := time_words(found.budget):
        grid.add_row("", "time", Text(words))
    return Group(Text(title(found), style="bold"), grid)


def _sentence(check: Check) -> str:
    return f"{check.reason}: {check.next_step}" if check.next_step else check.reason


def title(found: Preflight) -> str:
    if found.order in ("standby", "revocation"):
        return f"{found.order} of {found.node}"
    if found.order == "ban":
        return f"ban of {found.group} from {found.node}"
    if found.order == "restart":
        what = f"{found.resource} of {found.group}" if found.resource else f"every resource of {found.group}"
        return f"restart of {what} on {found.source or 'nobody'}"
    return f"{found.order} of {found.group}: {found.source or 'nowhere'} -> {found.target or 'nowhere'}"


def time_words(budget: tuple[PhaseBudget, ...]) -> str:
    """ "stop: usually 0.31 s; start: usually 0.49 s, given up after 1 min"."""
    parts = []
    for phase in budget:
        words = []
        if phase.usual_ms is not None:
            words.append(f"usually {took(phase.usual_ms)}")
        if phase.limit_ms is not None and phase.limit_ms != phase.usual_ms:
            words.append(f"given up after {took(phase.limit_ms)}")
        parts.append(f"{phase.phase}: {', '.join(words) or 'as long as the agents may take'}")
    return "; ".join(parts)


def costs(found: Preflight) -> str:
    """For the question: what it costs, in half a sentence."""
    return listed(found.loss[:1])
