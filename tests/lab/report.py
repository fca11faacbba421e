"""The picture of what clients and nodes went through, as a small SVG written by hand, and tables for the terminal."""

import itertools
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from rich import box
from rich.table import Table

from tests.lab.evidence import Evidence
from tests.lab.intervals import NS_PER_MS, Span, clip
from tests.lab.oracle import Outcome, Sent, Verdict
from tests.lab.probe import Attempt

UP_GAP_MS = 100  # successes closer than this are one time of service
RATE_STEP_MS = 500
WIDTH, LABEL, RIGHT, ROW, TOP = 1180, 130, 24, 30, 86
LINE_BREAK_CHARS = 150
CONVERTERS = (
    ("rsvg-convert", "-o", "{png}", "{svg}"),
    ("inkscape", "{svg}", "-o", "{png}"),
    ("magick", "{svg}", "{png}"),
)
CONVERTER_TIMEOUT_S = 60
INK, FAINT, GREEN, RED, BLUE, AMBER, VIOLET = (
    "#1f2933",
    "#e4e7eb",
    "#2f9e66",
    "#d64545",
    "#3272c9",
    "#e0a030",
    "#8a63c9",
)
COMPONENT_COLOURS = (("mount", AMBER), ("postfix", BLUE), ("dovecot", VIOLET), ("vip", GREEN))
# Colours that tell the hands of a takeover apart in the legend.
LEGEND = (
    ("answers", GREEN),
    ("does not", RED),
    ("storage", AMBER),
    ("Postfix", BLUE),
    ("Dovecot", VIOLET),
    ("address", GREEN),
)


@dataclass(frozen=True)
class Bar:
    start: int
    end: int
    colour: str
    top: float = 0.15  # within the row, 0 to 1
    bottom: float = 0.85


@dataclass(frozen=True)
class Row:
    label: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Mark:
    """Something that happened at one moment."""

    at: int
    text: str
    colour: str = INK


@dataclass(frozen=True)
class Timeline:
    title: str
    start: int
    end: int
    rows: tuple[Row, ...]
    marks: tuple[Mark, ...] = ()
    phases: tuple[Mark, ...] = ()  # finer points, drawn below the rows
    notes: tuple[str, ...] = field(default=())


def served(attempts: Iterable[Attempt], service: str) -> list[Span]:
    """When clients of the service got through: successes with no more than UP_GAP_MS between them."""
    spans: list[Span] = []
    for done in sorted(a.done for a in attempts if a.service == service and a.ok):
        if spans and done - spans[-1][1] <= UP_GAP_MS * NS_PER_MS:
            spans[-1] = (spans[-1][0], done)
        else:
            spans.append((done, done))
    return spans


def service_row(label: str, attempts: Iterable[Attempt], service: str, start: int, end: int) -> Row:
    up = clip(served(attempts, service), start, end)
    if not up:
        return Row(label, (Bar(start, end, RED),))
    down = [(a[1], b[0]) for a, b in itertools.pairwise([(start, start), *up])]
    down = [(s, e) for s, e in down if e - s > UP_GAP_MS * NS_PER_MS]
    down += [(up[-1][1], end)] if end - up[-1][1] > UP_GAP_MS * NS_PER_MS else []
    return Row(label, tuple([Bar(*s, GREEN) for s in up] + [Bar(*s, RED) for s in down]))


def node_row(evidence: Evidence, node: str, start: int, end: int) -> Row:
    """What the node held by the kernel's evidence: a stripe for each kind of component."""
    bars: list[Bar] = []
    height = 0.8 / len(COMPONENT_COLOURS)
    for number, (kind, colour) in enumerate(COMPONENT_COLOURS):
        for component in (c for c in evidence.components() if c.split()[0] == kind):
            top = 0.1 + number * height
            bars += [Bar(*s, colour, top, top + height) for s in clip(evidence.spans(node, component), start, end)]
    off = [t for t, name, on in evidence.power if name == node and not on]
    for since in off:
        again = min((t for t, name, on in evidence.power if name == node and on and t > since), default=end)
        bars += [Bar(*s, FAINT, 0.1, 0.9) for s in clip([(since, again)], start, end)]
    return Row(f"{node} holds", tuple(bars))


def overlap_row(evidence: Evidence, start: int, end: int) -> Row:
    """When two nodes were active at once; to be empty."""
    return Row("two active", tuple(Bar(*span, RED, 0.05, 0.95) for span in evidence.overlaps(None, start, end)))


def mail_row(sent: Iterable[Sent], start: int, end: int) -> Row:
    """Acknowledged messages, one bar a half second, the highest being the best half second."""
    step = RATE_STEP_MS * NS_PER_MS
    counts: dict[int, int] = {}
    for message in sent:
        if message.outcome is Outcome.OK and start <= message.done <= end:
            counts[(message.done - start) // step] = counts.get((message.done - start) // step, 0) + 1
    best = max(counts.values(), default=1)
    bars = (
        Bar(start + i * step, min(end, start + (i + 1) * step), BLUE, 0.92 - 0.84 * n / best, 0.92)
        for i, n in counts.items()
    )
    return Row("mail acked", tuple(bars))


def svg(timeline: Timeline) -> str:
    """The whole picture as text."""
    height = TOP + ROW * len(timeline.rows) + (58 if timeline.phases else 22) + 18 * (len(timeline.notes) + 1)
    inner = WIDTH - LABEL - RIGHT
    seconds = (timeline.end - timeline.start) / 1e9

    def x(t: float) -> float:
        return LABEL + inner * (t - timeline.start) / (timeline.end - timeline.start)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(12, 24, timeline.title, size=16, weight="bold"),
    ]
    bottom = TOP + ROW * len(timeline.rows)
    step = next(s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 10**9) if seconds / s <= 20)
    for second in range(0, int(seconds) + 1, step):
        at = x(timeline.start + second * 1e9)
        out.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{bottom}" stroke="{FAINT}"/>')
        out.append(_text(at, bottom + 14, f"{second} s", anchor="middle", colour="#7b8794", size=10))
    for number, row in enumerate(timeline.rows):
        out += _row(row, TOP + number * ROW, x)
    out += _marks(timeline.marks, x, 46, bottom, above=True)
    out += _marks(timeline.phases, x, bottom + 28, bottom, above=False)
    out += _legend(height - 18 * len(timeline.notes) - 8)
    for number, note in enumerate(timeline.notes):
        out.append(_text(12, height - 18 * (len(timeline.notes) - number) + 8, note, size=11))
    return "\n".join([*out, "</svg>\n"])


def _row(row: Row, y: float, x) -> list[str]:
    out = [_text(LABEL - 8, y + ROW * 0.62, row.label, anchor="end")]
    for bar in row.bars:
        width = max(1.0, x(bar.end) - x(bar.start))
        out.append(
            f'<rect x="{x(bar.start):.1f}" y="{y + ROW * bar.top:.1f}" width="{width:.1f}" '
            f'height="{ROW * (bar.bottom - bar.top):.1f}" fill="{bar.colour}"/>'
        )
    return out


def _marks(marks: Sequence[Mark], x, y: float, line_end: float, above: bool) -> list[str]:
    """Labels on up to two levels, so that close ones do not cover each other."""
    out, free = [], [0.0, 0.0]
    for mark in sorted(marks, key=lambda m: m.at):
        at = x(mark.at)
        width = 6.2 * len(mark.text) + 10
        level = 0 if at >= free[0] else 1
        left = min(at, WIDTH - width)
        free[level] = left + width
        label_y = y + 15 * level
        stop = (TOP - 4, line_end) if above else (line_end, label_y - 10)
        dash = "" if above else ' stroke-dasharray="2 2"'
        out.append(
            f'<line x1="{at:.1f}" y1="{(label_y + 4) if above else stop[0]:.1f}" x2="{at:.1f}" y2="{stop[1]:.1f}" '
            f'stroke="{mark.colour}"{dash}/>'
        )
        out.append(_text(left + 3, label_y, mark.text, colour=mark.colour, size=11))
    return out


def _legend(y: float) -> list[str]:
    out, at = [], float(LABEL)
    for text, colour in LEGEND:
        out.append(f'<rect x="{at}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        out.append(_text(at + 14, y, text, size=11))
        at += 30 + 7 * len(text)
    return out


def _text(
    x: float, y: float, text: str, anchor: str = "start", colour: str = INK, size: int = 12, weight: str = "normal"
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"'
    return f'<text {place} fill="{colour}">{escape(text[:LINE_BREAK_CHARS])}</text>'


def save(timeline: Timeline, path: Path) -> list[Path]:
    """Write the SVG, and a PNG beside it where some converter is installed; returns what was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg(timeline))
    png = path.with_suffix(".png")
    for program, *arguments in CONVERTERS:
        if not shutil.which(program):
            continue
        command = [program, *(a.format(svg=path, png=png) for a in arguments)]
        done = subprocess.run(command, check=False, capture_output=True, timeout=CONVERTER_TIMEOUT_S)
        if done.returncode == 0 and png.exists():
            return [path, png]
    return [path]


def seconds(milliseconds: float) -> str:
    if milliseconds == float("inf"):
        return "never back"
    return f"{milliseconds / 1000:.2f} s" if milliseconds >= 100 else f"{milliseconds:.0f} ms"


def phase_table(title: str, points: Sequence[tuple[str, float]]) -> Table:
    """Points of a move with milliseconds since its beginning."""
    table = Table(title=title, box=box.SIMPLE, title_justify="left", min_width=len(title))
    table.add_column("phase")
    table.add_column("after", justify="right")
    table.add_column("took", justify="right")
    previous = 0.0
    for name, at_ms in points:
        table.add_row(name, seconds(at_ms), seconds(max(0.0, at_ms - previous)))
        previous = at_ms
    return table


def mail_table(verdict: Verdict) -> Table:
    table = Table(title="What became of the mail", box=box.SIMPLE, title_justify="left")
    table.add_column("messages")
    table.add_column("count", justify="right")
    table.add_column("")
    rows = (
        ("acknowledged", verdict.acknowledged, ""),
        ("found", verdict.found, f"{verdict.queued} still in the queue" if verdict.queued else ""),
        ("lost", len(verdict.lost), "acknowledged and gone"),
        ("corrupt", len(verdict.corrupt), "found with another body"),
        ("phantom", len(verdict.phantom), "found and never sent"),
        ("duplicated", len(verdict.duplicated), "allowed: sent again after a lost acknowledgement"),
        ("unknown outcome", len(verdict.recovered) + len(verdict.unknown), f"{len(verdict.recovered)} of them found"),
        ("refused for good", verdict.failed, f"{len(verdict.resurrected)} of them found"),
    )
    for name, count, remark in rows:
        bad = name in ("lost", "corrupt", "phantom") and count
        table.add_row(name, f"[red]{count}[/]" if bad else str(count), remark)
    return table
