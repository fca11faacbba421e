"""The runbook as Markdown, or as one HTML page that prints well and needs nothing else. Pure."""

import re
from collections.abc import Iterator
from html import escape

from hamail.runbook.content import Runbook, Section

STYLE = """
body{font:14px/1.45 sans-serif;color:#202124;max-width:900px;margin:2em auto;padding:0 1em}
h1{font-size:1.6em}h2{font-size:1.15em;margin-top:1.8em;border-bottom:1px solid #dadce0;break-after:avoid}
table{border-collapse:collapse}td,th{padding:.2em .8em .2em 0;text-align:left;vertical-align:top}
th{color:#5f6368;font-weight:normal}pre{background:#f1f3f4;padding:.45em .7em;margin:.25em 0;white-space:pre-wrap;
word-break:break-word}ol{padding-left:1.4em}li{margin:.45em 0;break-inside:avoid}.expect{color:#1e7e44}
.danger{border-left:4px solid #b3261e;padding:.3em .8em;color:#b3261e;font-weight:bold}svg{width:100%;height:auto}
@media print{body{margin:0;max-width:none;font-size:11px}section{break-inside:auto}}
"""


def markdown(book: Runbook, picture: str) -> str:
    return "\n".join(_markdown(book, picture)) + "\n"


def _markdown(book: Runbook, picture: str) -> Iterator[str]:
    yield f"# {book.title}"
    yield ""
    yield from (f"- {name}: {value}" for name, value in book.facts)
    yield from ("", picture)
    for section in book.sections:
        yield from ("", f"## {section.title}", "")
        if section.danger:
            yield from (f"**{section.danger}**", "")
        if section.intro:
            yield from (section.intro, "")
        yield from _markdown_rows(section)
        for number, step in enumerate(section.steps, start=1):
            yield f"{number}. {step.text}".rstrip()
            if step.command:
                yield from ("", "   ```", f"   {step.command}", "   ```", "")
            if step.expect:
                yield f"   Expect: {step.expect}"


def _markdown_rows(section: Section) -> Iterator[str]:
    if not section.rows:
        return
    yield "| " + " | ".join(section.head) + " |"
    yield "|" + "---|" * len(section.head)
    yield from ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in section.rows)


def html(book: Runbook, picture: str) -> str:
    facts = "".join(f"<tr><th>{escape(n)}</th><td>{_code(v)}</td></tr>" for n, v in book.facts)
    body = [f"<h1>{escape(book.title)}</h1>", f"<table>{facts}</table>", picture, *map(_section, book.sections)]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(book.title)}</title>'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _code(text: str) -> str:
    """Markdown's `spans of code`."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _section(section: Section) -> str:
    parts = [f"<section><h2>{escape(section.title)}</h2>"]
    if section.danger:
        parts.append(f'<p class="danger">{escape(section.danger)}</p>')
    if section.intro:
        parts.append(f"<p>{_code(section.intro)}</p>")
    if section.rows:
        head = "".join(f"<th>{escape(word)}</th>" for word in section.head)
        rows = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in section.rows)
        parts.append(f"<table><tr>{head}</tr>{rows}</table>")
    if section.steps:
        parts.append("<ol>")
        for step in section.steps:
            command = f"<pre>{escape(step.command)}</pre>" if step.command else ""
            expect = f'<div class="expect">Expect: {escape(step.expect)}</div>' if step.expect else ""
            parts.append(f"<li>{escape(step.text)}{command}{expect}</li>")
        parts.append("</ol>")
    return "".join(parts) + "</section>"
