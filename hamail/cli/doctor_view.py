"""`hamailctl doctor` for people: area by area, and what is wrong with its remedy below it."""

from collections.abc import Mapping
from itertools import groupby

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hamail.cli.words import counted
from hamail.doctor.areas import TITLES
from hamail.doctor.line import Line, Verdict

STYLE = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red", Verdict.UNKNOWN: "cyan"}
WORD = {Verdict.OK: "ok", Verdict.WARN: "warn", Verdict.FAIL: "FAIL", Verdict.UNKNOWN: "unknown"}


def render(lines: tuple[Line, ...], counts: Mapping[str, int], quiet: bool) -> RenderableType:
    parts: list[RenderableType] = []
    shown = [line for line in lines if not quiet or line.verdict is not Verdict.OK]
    for area, of_area in groupby(shown, key=lambda line: line.area):
        parts += [Text(TITLES[area], style="bold"), _table(_merged(list(of_area))), Text()]
    parts.append(_summary(counts))
    return Group(*parts)


def _merged(lines: list[Line]) -> list[Line]:
    """What is said in the same words of several subjects is said once."""
    found: dict[tuple[Verdict, str, str], Line] = {}
    for line in lines:
        key = (line.verdict, line.reason, line.remedy)
        before = found.get(key)
        if before is None:
            found[key] = line
        elif line.subject not in before.subject.split(", "):
            found[key] = msgspec.structs.replace(before, subject=f"{before.subject}, {line.subject}")
    return list(found.values())


def _table(lines: list[Line]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=9)
    table.add_column(overflow="fold")
    for line in lines:
        words = Text()
        words.append(f"{line.subject}: ", style="bold" if line.verdict is Verdict.FAIL else "")
        words.append(line.reason, style="dim" if line.verdict is Verdict.OK else "")
        if line.remedy:
            words.append(f"\n→ {line.remedy}", style="italic")
        table.add_row(Text(f"  {WORD[line.verdict]}", style=STYLE[line.verdict]), words)
    return table


def _summary(counts: Mapping[str, int]) -> Text:
    fails, warns, unknowns = counts["fail"], counts["warn"], counts["unknown"]
    rest = f"{counts['ok']} ok, {counted(warns, 'warning')}, {unknowns} not known"
    if fails:
        return Text(f"{counted(fails, 'failure')}: these will not work when they are needed. {rest}.", style="bold red")
    return Text(f"No failure. {rest}.", style="yellow" if warns else "green")
