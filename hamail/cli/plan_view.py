"""A plan for people: what is supposed, the steps with their reasons, and how it ends."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hamail.cli.words import counted, moment, took
from hamail.model.plan import Forecast, PhaseTime, Plan, Service, Step
from hamail.model.state import Severity

DIM = "dim"
STYLE = {Severity.WARNING: "yellow", Severity.CRITICAL: "bold red"}
SERVICE_STYLE = {Service.UNINTERRUPTED: "bold green", Service.INTERRUPTED: "bold yellow", Service.DOWN: "bold red"}


def render(plan: Plan, facts: bool = False) -> RenderableType:
    return Group(*_parts(plan, facts))


def _parts(plan: Plan, facts: bool) -> Iterator[RenderableType]:
    supposed = ", ".join(plan.supposed) or "nothing: what comes next by itself"
    yield Text.assemble(("supposed: ", DIM), supposed)
    yield Text(f"as {plan.node} saw the cluster at {moment(plan.at_ms)}; nothing is done", style=DIM)
    yield Text()
    if plan.steps:
        yield _steps(plan.steps, facts)
    else:
        yield Text("nothing would be done", style=DIM)
    if not plan.at_rest:
        yield Text("this would not come to rest by itself; told is how far it was followed", style="bold red")
    for forecast in plan.groups:
        yield Text()
        yield _forecast(forecast)


def _steps(steps: tuple[Step, ...], facts: bool) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", no_wrap=True, style=DIM)
    grid.add_column(overflow="fold")
    for step in steps:
        event = step.event
        at = "later" if step.assumed else f"+{took(step.at_ms)}"
        grid.add_row(at, Text(event.sentence, style=STYLE.get(event.severity, "")))
        if event.decision is None:
            continue
        lines = [f"instead of {what}: {why}" for what, why in event.decision.rejected.items()]
        if facts:
            lines = [f"{what}: {value}" for what, value in event.decision.facts.items()] + lines
        for line in lines:
            grid.add_row("", Text(f"  {line}", style=DIM))
    return grid


def _forecast(f: Forecast) -> RenderableType:
    style = SERVICE_STYLE[f.service]
    lines = [Text(_headline(f), style=style)]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for node, why in f.nodes.items():
        grid.add_row(f"  {node}", Text(why))
    lines_after = [Text(f"what then: {f.then}", style="bold")] if f.then else []
    if f.trigger:
        evidence = f"; nobody holds it any more: {f.evidence}" if f.evidence else ""
        lines.append(Text(f"  set off by {f.trigger}{evidence}", style=DIM))
    return Group(*lines, grid, *lines_after, *_time(f))


def _time(f: Forecast) -> Iterator[RenderableType]:
    if not f.phases:
        return
    yield Text(f"time, counted from {f.counted_from}:")
    yield _times(f)
    if parts := next((p.parts for p in f.phases if len(p.parts) > 1), {}):
        yield Text(f"  a start: {', '.join(f'{part} {took(ms)}' for part, ms in parts.items())}", style=DIM)


def _times(f: Forecast) -> Table:
    """Each phase: what it usually took here, and when it is over or given up."""
    grid = Table.grid(padding=(0, 2))
    for _ in range(3):
        grid.add_column(no_wrap=True)
    for p in f.phases:
        grid.add_row(f"  {p.phase} {p.node}", _usually(p), _at_most(p.limit_ms))
    usual = "not known yet" if f.usual_ms is None else f"usually {took(f.usual_ms)} (their sum)"
    grid.add_row("  in all", Text(usual, style="bold"), _at_most(f.limit_ms))
    return grid


def _usually(p: PhaseTime) -> Text:
    if p.usual_ms is None:
        return Text("no record yet", style=DIM)
    return Text(f"usually {took(p.usual_ms)} ({counted(p.seen, 'move')})")


def _at_most(limit_ms: int | None) -> str:
    return "no limit known here" if limit_ms is None else f"at most {took(limit_ms)}"


def _headline(f: Forecast) -> str:
    if f.service is Service.UNINTERRUPTED:
        return f"{f.group} stays on {f.after}, without interruption"
    if f.service is Service.INTERRUPTED:
        where = f"on {f.after} again" if f.after == f.before else f"on {f.after}"
        return f"{f.group} is back {where}{_how_soon(f)}"
    return f"{f.group} would be DOWN, and stay so"


def _how_soon(f: Forecast) -> str:
    if not f.phases:
        return "" if f.assumed else f" after about {took(f.outage_ms or 0)}"
    words = "; how soon has no record yet" if f.usual_ms is None else f", usually within {took(f.usual_ms)}"
    return words + ("" if f.limit_ms is None else f", {_at_most(f.limit_ms)}")
