"""A drill as an SVG picture: what clients saw above, what the cluster did below, on one axis of time. Pure."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from hamail.practice.report import DrillReport
from hamail.probe.records import AnyLine, Check, Mail

WIDTH, LEFT, RIGHT, ROW, TOP = 960, 150, 20, 26, 44
BEFORE_MS, AFTER_MS = 1000.0, 1500.0
TICKS_MAX = 12
STEPS_MS = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 30_000, 60_000)
DOTS_MAX = 1500  # of one row
LABEL_WIDTH_MIN = 50.0
GREEN, RED, GREY, BLUE, AMBER = "#2e8b57", "#c0392b", "#9aa0a6", "#3367d6", "#e39e21"
COLOURS = (BLUE, AMBER, "#7b4fb5", "#1f8a8a", "#b5476f", "#5d6d7e", "#8d6e3f", "#3f7f3f")


def draw(report: DrillReport, lines: Sequence[AnyLine]) -> str:
    """A self-contained <svg>. Nothing is drawn when nothing was done."""
    if report.fault_ms is None:
        return ""
    begin, end = _span(report)
    rows: list[str] = []
    y = TOP
    x = _Scale(begin, end)
    for gap in report.gaps:
        rows += _service(report, lines, gap.service, x, y)
        y += ROW
    mails = [line for line in lines if isinstance(line, Mail) and begin <= line.at_ms <= end]
    if mails:
        rows += _mails(mails, x, y)
        y += ROW
    y += 10
    for number, phase in enumerate(report.phases):
        rows += _phase(phase.name, phase.from_ms, phase.to_ms, x, y, COLOURS[number % len(COLOURS)])
        y += ROW
    height = y + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="timeline of the drill" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_axis(report.fault_ms, x, height),
        *rows,
        "</svg>",
    ]
    return "\n".join(parts)


class _Scale:
    def __init__(self, begin_ms: float, end_ms: float) -> None:
        self.begin_ms, self.end_ms = begin_ms, end_ms

    def __call__(self, at_ms: float) -> float:
        inside = min(max(at_ms, self.begin_ms), self.end_ms)
        share = (inside - self.begin_ms) / (self.end_ms - self.begin_ms)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _span(report: DrillReport) -> tuple[float, float]:
    """The fault, the outage and the move; what came much later, as a node that boots, would squeeze them."""
    assert report.fault_ms is not None
    ends = [g.to_ms for g in report.gaps if g.to_ms is not None] or [report.ended_ms]
    ends += [p.to_ms for p in report.phases]
    starts = [report.fault_ms, *(g.from_ms for g in report.gaps)]
    return min(starts) - BEFORE_MS, max(ends) + AFTER_MS


def _axis(zero_ms: float, x: _Scale, height: int) -> list[str]:
    length = x.end_ms - x.begin_ms
    step = next((s for s in STEPS_MS if length / s <= TICKS_MAX), STEPS_MS[-1])
    parts = []
    number = -int((zero_ms - x.begin_ms) // step)
    while zero_ms + number * step <= x.end_ms:
        at = x(zero_ms + number * step)
        seconds = number * step / 1000
        parts.append(f'<line x1="{at}" y1="24" x2="{at}" y2="{height - 16}" stroke="#e4e6e9"/>')
        parts.append(f'<text x="{at}" y="18" text-anchor="middle" fill="#5f6368">{seconds:+.3g} s</text>')
        number += 1
    at = x(zero_ms)
    parts.append(f'<line x1="{at}" y1="24" x2="{at}" y2="{height - 16}" stroke="{RED}" stroke-dasharray="4 3"/>')
    parts.append(f'<text x="{at + 4}" y="36" fill="{RED}">fault</text>')
    return parts


def _label(text: str, y: int) -> str:
    return f'<text x="{LEFT - 10}" y="{y + 15}" text-anchor="end" fill="#202124">{escape(text)}</text>'


def _service(report: DrillReport, lines: Sequence[AnyLine], service: str, x: _Scale, y: int) -> list[str]:
    checks = [c for c in lines if isinstance(c, Check) and c.service == service and x.begin_ms <= c.at_ms <= x.end_ms]
    parts = [_label(service, y)]
    times = [c.at_ms for c in checks if c.ok]
    for a, b in pairwise(times):
        if b - a < 4 * report.every_ms:  # answers follow each other: one bar says it better than a thousand dots
            parts.append(
                f'<rect x="{x(a)}" y="{y + 8}" width="{max(0.6, x(b) - x(a)):.1f}" height="8" fill="{GREEN}"/>'
            )
    gap = next(g for g in report.gaps if g.service == service)
    to_ms = gap.to_ms if gap.to_ms is not None else x.end_ms
    if to_ms - gap.from_ms >= 4 * report.every_ms:
        left, right = x(gap.from_ms), x(to_ms)
        words = "never came back" if gap.to_ms is None else f"{round(to_ms - gap.from_ms)} ms"
        width = max(1.0, round(right - left, 1))
        parts.append(f'<rect x="{left}" y="{y + 4}" width="{width}" height="16" fill="{RED}" opacity="0.18"/>')
        middle = round((left + right) / 2, 1)
        if width >= LABEL_WIDTH_MIN:
            parts.append(f'<text x="{middle}" y="{y + 16}" text-anchor="middle" fill="{RED}">{words}</text>')
    failed = [c for c in checks if not c.ok][:DOTS_MAX]
    parts += [f'<circle cx="{x(c.started_ms)}" cy="{y + 22}" r="1.4" fill="{RED}"/>' for c in failed]
    return parts


def _mails(mails: Sequence[Mail], x: _Scale, y: int) -> list[str]:
    colour = {"ok": GREEN, "fail": RED, "info": AMBER}
    parts = [_label("mail", y)]
    for mail in mails[:DOTS_MAX]:
        fill = colour.get(mail.outcome, GREY)
        parts.append(
            f'<circle cx="{x(mail.at_ms)}" cy="{y + 12}" r="3" fill="{fill}"><title>{mail.outcome}</title></circle>'
        )
    return parts


def _phase(name: str, from_ms: float, to_ms: float, x: _Scale, y: int, colour: str) -> list[str]:
    left, right = x(from_ms), x(to_ms)
    words = f"{round(to_ms - from_ms)} ms"
    inside = right - left > 60
    at, anchor = (left + 6, "start") if inside else (right + 5, "start")
    if not inside and right > WIDTH - 80:
        at, anchor = left - 5, "end"
    fill = "#ffffff" if inside else "#5f6368"
    return [
        _label(name, y),
        f'<rect x="{left}" y="{y + 3}" width="{max(1.5, right - left):.1f}" height="18" rx="2" fill="{colour}"/>',
        f'<text x="{at:.1f}" y="{y + 16}" text-anchor="{anchor}" fill="{fill}">{words}</text>',
    ]
