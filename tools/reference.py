"""Writes the reference pages of the documentation from the code: `make reference`.

What a key of a configuration file may be comes from the code that reads it; what it is for comes from the comments of
the sample files. What a command takes comes from the command line itself.
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from msgspec import Struct

from hamail.config.cluster import read_cluster
from hamail.config.node import read_node
from hamail.config.problem import Problems
from hamail.config.section import Section

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"
WIDTH = 80


class Key(Struct, frozen=True):
    """`table`: as written in brackets, names as NAME."""

    table: str
    name: str
    kind: str
    default: str = ""
    limits: str = ""


class Recorder(Section):
    """Answers like a file in which nothing is written, and notes what was asked for."""

    def __init__(self, table: tuple[str, ...] = (), keys: list[Key] | None = None) -> None:
        super().__init__({}, table, Problems("reference", ""))
        self.keys: list[Key] = [] if keys is None else keys

    def _note(self, name: str, kind: str, default: object = "", limits: str = "") -> None:
        self.keys.append(Key(".".join(self.path), name, kind, str(default), limits))

    def text(self, key: str, default: str | None = None) -> str:
        self._note(key, "text", "required" if default is None else f'"{default}"')
        return default or "3 in 10m"

    def optional_text(self, key: str) -> str | None:
        self._note(key, "text", "none")
        return None

    def name(self, key: str) -> str:
        self._note(key, "name", "required")
        return "name"

    def one_of(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        self._note(key, "one of", f'"{default}"', ", ".join(f'"{word}"' for word in allowed))
        return default

    def boolean(self, key: str, default: bool) -> bool:
        self._note(key, "true or false", str(default).lower())
        return default

    def integer(self, key: str, default: int, lowest: int, highest: int) -> int:
        self._note(key, "number", default, f"{lowest} to {highest}")
        return default

    def duration_ms(self, key: str, default: str, lowest: str, highest: str) -> int:
        self._note(key, "duration", f'"{default}"', f"{lowest} to {highest}")
        return 1000

    def optional_duration_ms(self, key: str, lowest: str, highest: str) -> int | None:
        self._note(key, "duration", "by the agent", f"{lowest} to {highest}")
        return None

    def optional_path(self, key: str, default: str | None = None) -> str | None:
        self._note(key, "path", f'"{default}"' if default else "none")
        return default

    def names(self, key: str, *, required: bool = False) -> tuple[str, ...]:
        self._note(key, "list of names", "required" if required else "[]")
        return ()

    def texts(self, key: str) -> dict[str, str]:
        self._note(key, "table of texts", "{}")
        return {}

    def parameters(self, key: str) -> dict[str, str]:
        self._note(key, "parameters of the agent", "{}")
        return {}

    def tables(self, key: str, *, required: bool = False) -> Iterator[tuple[str, Section]]:
        yield "NAME", Recorder((*self.path, key, "NAME"), self.keys)

    def table(self, key: str, *, required: bool = True) -> Section:
        return Recorder((*self.path, key), self.keys)

    def finish(self) -> None:
        pass


def keys_of(reader: object) -> list[Key]:
    recorder = Recorder()
    reader(recorder)  # type: ignore[operator]
    return recorder.keys


def comments(sample: Path) -> dict[tuple[str, str], str]:
    """What the sample file says of each key, and of each table in the comment line above it."""
    said: dict[tuple[str, str], str] = {}
    table, last = "", ("", "")
    for line in sample.read_text().splitlines():
        header = re.match(r"#?\s*\[([a-z0-9.-]+)\]", line)
        key = re.match(r"#?\s*([a-z_]+) = (?:\{[^}]*\}|\[[^]]*\]|\"[^\"]*\"|[^#\s]+)\s*(?:#\s*(.*))?$", line)
        more = re.match(r"#?\s{8,}#\s*(.*)", line)
        if header:
            table = _named(header[1])
        elif key:
            last = (table, key[1])
            if key[2] and last not in said:
                said[last] = key[2]
        elif more and last in said:
            said[last] += " " + more[1]
        elif not line.startswith("#"):
            last = ("", "")
    return said


def _named(table: str) -> str:
    """`groups.mail.resources.vip` -> `groups.NAME.resources.NAME`."""
    parts = table.split(".")
    return ".".join("NAME" if index % 2 else part for index, part in enumerate(parts))


def config_page(title: str, sample: Path, keys: list[Key]) -> str:
    said = comments(sample)
    lines = [
        f"# {title}",
        "",
        f"Made by `make reference` from the code and from `etc/{sample.name}`. Durations are texts with a unit.",
    ]
    for table in dict.fromkeys(key.table for key in keys):
        lines += ["", f"## `[{table}]`" if table else "## Top of the file", ""]
        if table.startswith("groups.NAME.resources"):
            lines += [
                "What `parameters` an agent takes, it tells: `/usr/lib/ocf/resource.d/hamail/filesystem meta-data`.",
                "",
            ]
        lines += ["| key | what it is | default | what for |", "|---|---|---|---|"]
        for key in (k for k in keys if k.table == table):
            kind = f"{key.kind}: {key.limits}" if key.limits else key.kind
            lines.append(f"| `{key.name}` | {kind} | {key.default} | {said.get((table, key.name), '')} |")
    return "\n".join(lines) + "\n"


def commands(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from commands(command.commands[name], (*words, name))


def help_of(words: tuple[str, ...], command: click.Command) -> str:
    command._help_option = None  # click keeps the one that it made for another context
    context = click.Context(
        command,
        info_name=" ".join(words),
        max_content_width=WIDTH,
        terminal_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    return command.get_help(context)


def cli_page() -> str:
    from hamail.cli.main import cli

    lines = ["# hamailctl", "", "Made by `make reference` from the command line itself: what `--help` says."]
    for words, command in commands(cli, ("hamailctl",)):
        if not command.hidden:
            lines += ["", f"## {' '.join(words)}", "", "```text", *help_of(words, command).splitlines(), "```"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def life() -> str:
    from hamail.core.transitions import ROWS, diagram

    lines = ["```mermaid", *diagram().splitlines(), "```", "", "| in | when | then | said |", "|---|---|---|---|"]
    lines += [f"| {r.phase} | {r.event} | {r.then} | {r.sentence} |" for r in ROWS]
    return "\n".join(lines)


def timings() -> str:
    from hamail.core.timing import derive

    columns = [derive(ms, 5) for ms in (300, 1000, 2000, 10_000)]
    shown = (
        ("detection_ms", "silence after which a node is missed"),
        ("heartbeat_ms", "between two heartbeats"),
        ("lease_ms", "L: how long the owner may serve after it asked"),
        ("wait_ms", "W: how long a voter keeps its promise"),
        ("stop_budget_ms", "at the end of the lease, to stop everything"),
        ("watchdog_wait_ms", "until a watchdog surely has reset the machine"),
        ("restart_grace_ms", "what a restart of hamaild may take"),
    )
    lines = ["| | " + " | ".join(f"{t.detection_ms / 1000:g} s" for t in columns) + " |", "|---" * 5 + "|"]
    lines += [
        f"| {words} | " + " | ".join(f"{getattr(t, name) / 1000:g} s" for t in columns) + " |" for name, words in shown
    ]
    return "\n".join(lines)


def promises() -> str:
    from hamail.model.spec import Requirement
    from hamail.simulation.checkers.claims import PRICE

    def kept(price: frozenset[str]) -> str:
        return "two can be active" if "S1" in price else "holds"

    order = (Requirement.FENCING, Requirement.WATCHDOG, Requirement.LEASE)
    lines = ["| if | " + " | ".join(f"`{r}`" for r in order) + " |", "|---|---|---|---|"]
    lines += [f"| {hazard} | " + " | ".join(kept(price[r]) for r in order) + " |" for hazard, price in PRICE.items()]
    return "\n".join(lines)


def alerts_page() -> str:
    from hamail.model.alert import KINDS

    lines = [
        "# Alerts and metrics",
        "",
        "Made by `make reference` from the code. `hamailctl status` tells which alerts are pending; the metric",
        "`hamail_alert` has the same ones, with `name`, `severity` and `subject` as labels. How to watch them:",
        "[operations](../operations.md#what-to-watch).",
    ]
    for severity, words in (
        ("critical", "a person has to act now"),
        ("warning", "mail is served, with less to fall back on"),
    ):
        lines += [
            "",
            f"## {severity.capitalize()}: {words}",
            "",
            "| name | subject | what it means | next |",
            "|---|---|---|---|",
        ]
        for name, kind in KINDS.items():
            if kind.severity == severity:
                step = re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), kind.step)
                lines.append(f"| `{name}` | {kind.about} | {kind.meaning} | {step} |")
    lines += ["", "## Metrics", "", "Gauges, with the label `cluster`; `hamail_up` has none. Times are in seconds.", ""]
    lines += ["| metric | labels | what it says |", "|---|---|---|"]
    return "\n".join([*lines, *metrics_rows()]) + "\n"


def metrics_rows() -> Iterator[str]:
    from hamail.monitoring.metrics import render
    from tools.example import STATUS

    labels: dict[str, str] = {}
    text = render(STATUS)
    for line in text.splitlines():
        if found := re.match(r"(\w+)(?:\{(.*)\})? ", line):
            labels.setdefault(found[1], ", ".join(re.findall(r'(\w+)="', found[2] or "")[1:]))
    for name, what in re.findall(r"^# HELP (\w+) (.*)$", text, re.MULTILINE):
        yield f"| `{name}` | {labels[name]} | {what} |"


def filled(page: Path) -> str:
    """The page with its made blocks made anew."""
    blocks = {"life": life, "timings": timings, "promises": promises}
    return re.sub(
        r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: found[1] + "\n" + blocks[found[2]]() + "\n\n" + found[3],
        page.read_text(),
        flags=re.DOTALL,
    )


def pages() -> dict[str, str]:
    etc = ROOT / "etc"
    return {
        "cluster.md": config_page("cluster.toml", etc / "cluster.toml", keys_of(read_cluster)),
        "node.md": config_page("node.toml", etc / "node.toml", keys_of(read_node)),
        "hamailctl.md": cli_page(),
        "alerts.md": alerts_page(),
        "../concepts.md": filled(ROOT / "docs" / "concepts.md"),
    }


def main() -> int:
    os.environ.pop("COLUMNS", None)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
        sys.stdout.write(f"reference: docs/reference/{name}\n")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
