"""A plan for people: what is supposed, the steps with their reasons, and how it ends."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hamail.cli.words import counted, moment, took
from hamail.model.plan import Forecast, Plan, Service, Step
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
        grid.add_row(f"+{took(step.at_ms)}", Text(event.sentence, style=STYLE.get(event.severity, "")))
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
    seen = f"as in the last {counted(f.estimated_from, 'move')}" if f.estimated_from else "assumed"
    lines_after.append(Text(f"durations {seen}", style=DIM))
    return Group(*lines, grid, *lines_after)


def _headline(f: Forecast) -> str:
    if f.service is Service.UNINTERRUPTED:
        return f"{f.group} stays on {f.after}, without interruption"
    if f.service is Service.INTERRUPTED:
        where = f"on {f.after} again" if f.after == f.before else f"on {f.after}"
        return f"{f.group} is back {where} after about {took(f.outage_ms or 0)}"
    return f"{f.group} would be DOWN, and stay so"
