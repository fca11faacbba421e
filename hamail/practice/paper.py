"""A drill's report as Markdown and as one HTML page that needs nothing else. Pure."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from hamail.practice.report import ABORTED, PASSED, DrillReport

STYLE = """
body{font:15px/1.5 sans-serif;color:#202124;max-width:980px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em;margin-bottom:.1em}h2{font-size:1.15em;margin-top:1.6em;border-bottom:1px solid #dadce0}
table{border-collapse:collapse;margin:.6em 0}td,th{padding:.25em .9em .25em 0;text-align:left;vertical-align:top}
td:first-child{white-space:nowrap}
th{color:#5f6368;font-weight:normal}.passed{color:#1e7e44}.failed{color:#b3261e}.aborted{color:#9a6700}
.figure{font-size:1.6em;font-weight:bold}.card{display:inline-block;margin:0 2.2em .6em 0}
.card small{display:block;color:#5f6368}svg{width:100%;height:auto;border:1px solid #e4e6e9}
@media print{body{margin:0;max-width:none}}
"""


def when(at_ms: float) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{round(value)} ms"


def figures(report: DrillReport) -> list[tuple[str, str]]:
    """The four that people look for."""
    rpo = "not measured" if report.rpo is None else f"{report.rpo} mails"
    rto = "none: did not come back" if report.rto_ms is None else _ms(report.rto_ms)
    if report.fault_ms is None:
        rto = "nothing was done"
    dropped = sum(report.sessions_dropped.values())
    held = sum(report.sessions_held.values())
    back = "not reached" if report.redundant_ms is None else f"{report.redundant_ms / 1000:.1f} s"
    sessions = f"{dropped} of {held}" if held else "not measured"
    return [("RTO", rto), ("RPO", rpo), ("sessions dropped", sessions), ("redundant again after", back)]


def _facts(report: DrillReport) -> Iterator[tuple[str, str]]:
    yield "drill", report.name
    yield "group", report.group
    yield "from", report.source
    yield "to", report.target or "-"
    yield "begun", when(report.started_ms)
    yield "lasted", f"{(report.ended_ms - report.started_ms) / 1000:.1f} s"
    yield "ordered by", report.actor
    yield "probed from", f"{report.probed_from}, a connection every {report.every_ms} ms to each service"
    yield "cluster", f"{report.cluster}, configuration {report.config_revision}"
    objective = report.expected.objective_ms
    limit = f"{report.expected.limit_ms} ms" + (" (the objective)" if objective is not None else "")
    yield "expected", f"RTO about {report.expected.rto_ms} ms: {report.expected.basis}; at most {limit}; RPO 0"


def _mails(report: DrillReport) -> str:
    m = report.mails
    if not m.sent:
        return "none were sent"
    if not m.read:
        return f"{m.acknowledged} of {m.sent} acknowledged; the mailbox was not read back, so loss is not known"
    return (
        f"{m.acknowledged} of {m.sent} acknowledged, {m.found} found, {len(m.lost)} lost, {m.duplicated} delivered "
        f"twice, {m.corrupt} damaged, {m.unknown} of unknown outcome not there"
    )


def _checked(report: DrillReport) -> Iterator[tuple[str, str, str]]:
    words = {True: "go", False: "NO-GO", None: "unknown"}
    for check in report.checks:
        yield words[check.ok], check.name, "" if check.ok else check.detail


def markdown(report: DrillReport) -> str:
    return "\n".join(_markdown(report)) + "\n"


def _markdown(report: DrillReport) -> Iterator[str]:
    yield f"# Drill {report.name}: {report.verdict.upper()}"
    yield ""
    yield from (f"- **{name}**: {value}" for name, value in figures(report))
    yield ""
    yield from (f"- {name}: {value}" for name, value in _facts(report))
    if report.aborted:
        yield f"- aborted: {report.aborted}"
    yield from _section("What was to happen", (f"- {step}" for step in report.expected.steps))
    yield from _section(
        "Go or no-go", (f"- {word}: {name}{': ' if d else ''}{d}" for word, name, d in _checked(report))
    )
    yield from _section("Deviations", (f"- {text}" for text in report.deviations() or ("none",)))
    zero = report.fault_ms or report.started_ms
    rows = ["| phase | from | to | took |", "|---|---|---|---|"]
    rows += [
        f"| {p.name} | {p.from_ms - zero:+.0f} ms | {p.to_ms - zero:+.0f} ms | {_ms(p.to_ms - p.from_ms)} |"
        for p in report.phases
    ]
    yield from _section("What the cluster did", rows)
    rows = ["| service | out from | out for | failed attempts |", "|---|---|---|---|"]
    rows += [
        f"| {g.service} | {g.from_ms - zero:+.0f} ms | {_ms(g.ms)} | {report.failed_checks.get(g.service, 0)} |"
        for g in report.gaps
    ]
    yield from _section("What clients saw", [*rows, "", f"Mail: {_mails(report)}."])
    yield from _section("Told by the cluster", (f"- {t.at_ms - zero:+.0f} ms: {t.sentence}" for t in report.told))


def _section(title: str, lines: "Sequence[str] | Iterator[str]") -> Iterator[str]:
    yield from ("", f"## {title}", "")
    yield from lines


def html(report: DrillReport, picture: str) -> str:
    e = escape
    mark = {PASSED: "passed", ABORTED: "aborted"}.get(report.verdict, "failed")
    cards = "".join(
        f'<div class="card"><small>{e(n)}</small><span class="figure">{e(v)}</span></div>' for n, v in figures(report)
    )
    zero = report.fault_ms or report.started_ms
    phases = [
        (p.name, f"{p.from_ms - zero:+.0f} ms", f"{p.to_ms - zero:+.0f} ms", _ms(p.to_ms - p.from_ms))
        for p in report.phases
    ]
    gaps = [
        (g.service, f"{g.from_ms - zero:+.0f} ms", _ms(g.ms), str(report.failed_checks.get(g.service, 0)))
        for g in report.gaps
    ]
    told = [(f"{t.at_ms - zero:+.0f} ms", t.sentence) for t in report.told]
    body = [
        f'<h1>Drill {e(report.name)}: <span class="{mark}">{e(report.verdict)}</span></h1>',
        f"<p>{e(report.group)} of cluster {e(report.cluster)}, {e(when(report.started_ms))}</p>",
        cards,
        f"<p class='aborted'>Aborted: {e(report.aborted)}</p>" if report.aborted else "",
        "<h2>Deviations</h2>",
        _items(report.deviations() or ("none",)),
        "<h2>Timeline</h2>",
        picture or "<p>Nothing was done.</p>",
        "<h2>What clients saw</h2>",
        _table(("service", "out from", "out for", "failed attempts"), gaps),
        f"<p>Mail: {e(_mails(report))}.</p>",
        "<h2>What the cluster did</h2>",
        _table(("phase", "from", "to", "took"), phases) if phases else "<p>Nothing was moved.</p>",
        _table(("", ""), told),
        "<h2>What was to happen</h2>",
        _items(report.expected.steps),
        "<h2>Go or no-go</h2>",
        _table(("", "", ""), list(_checked(report))),
        "<h2>Circumstances</h2>",
        _table(("", ""), list(_facts(report))),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Drill {e(report.name)}</title>'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _items(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "<tr>" + "".join(f"<th>{escape(word)}</th>" for word in head) + "</tr>" if any(head) else ""
    return (
        f"<table>{top}"
        + "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
        + "</table>"
    )
