"""Man pages and shell completion, written from the commands themselves and from what `reference` knows of settings.

manual.py SHARE        writes SHARE/man/man[158]/... and the completion files of bash, zsh and fish below SHARE
SOURCE_DATE_EPOCH      seconds since 1970: the date on the pages (default: now)
"""

import datetime
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete
from reference import ROOT, Key, comments, keys_of

from hamail import __version__
from hamail.cli.main import cli
from hamail.config.cluster import read_cluster
from hamail.config.node import read_node
from hamail.daemon.main import main as hamaild
from hamail.executor.main import main as hamail_executor

PAGES = ("hamailctl(1)", "hamaild(8)", "hamail-executor(8)", "cluster.toml(5)", "node.toml(5)")
COMPLETE_VARIABLE = "_HAMAILCTL_COMPLETE"
COMPLETIONS = (
    (BashComplete, "bash-completion/completions/hamailctl"),
    (ZshComplete, "zsh/vendor-completions/_hamailctl"),
    (FishComplete, "fish/vendor_completions.d/hamailctl.fish"),
)
FILES = {
    "/etc/hamail/cluster.toml": "the cluster's configuration, the same on every node; see cluster.toml(5)",
    "/etc/hamail/node.toml": "what only this node knows; see node.toml(5)",
    "/etc/hamail/pki": "the certificates of this node",
    "/etc/hamail/secrets": "passwords of fence devices, for root only",
    "/usr/share/hamail/samples": "both configuration files with comments",
    "/var/lib/hamail": "the replicated log and the promises of this node",
}
CLUSTER_TOML = """\
The cluster's configuration: nodes, fence devices, groups and their resources, in TOML. It is the same on every node.
Unknown keys, wrong types and settings that do not fit together are refused with file, line and reason: nothing changes.

Durations are texts with a number and a unit: "300ms", "1s", "10m", "1h". Names consist of a-z, 0-9 and -, at most 32
characters. NAME in the headings below stands for a name that you choose.
"""
NODE_TOML = "What only this node knows, in TOML. It is read by hamaild(8) and hamail-executor(8) when they start."


def escaped(text: str) -> str:
    """Plain text for roff: no character of it means anything."""
    text = (
        text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha")
    )
    text = text.replace("~", "\\(ti").replace('"', "\\(dq")
    return re.sub(r"(?m)^\.", r"\\&.", text)


def heading(name: str) -> str:
    """As an argument of a macro, in which a quote would end it."""
    return f'"{escaped(name)}"'


def paragraphs(text: str) -> Iterator[str]:
    """click's help text; a paragraph that begins with a backspace stays as it is written."""
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        if lines[0].strip() == "\b":
            yield "\n".join([".PP", ".nf", *(escaped(line) for line in lines[1:]), ".fi"])
        elif block.strip():
            yield f".PP\n{escaped(' '.join(line.strip() for line in lines))}"


def tagged(tag: str, text: str) -> str:
    return f".TP\n\\fB{escaped(tag)}\\fR\n{escaped(text)}"


def options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1] and parameter.name != "help":
            yield tagged(record[0], " ".join(record[1].split()))


def usage(context: click.Context) -> str:
    pieces = " ".join(context.command.collect_usage_pieces(context))
    return f"\\fB{escaped(context.command_path)}\\fR {escaped(pieces)}".rstrip()


def contexts(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """The command and all below it, in the order in which help shows them."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=80)
    yield context
    if isinstance(command, click.Group):
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            if below is not None and not below.hidden:
                yield from contexts(below, word, context)


def described(context: click.Context) -> Iterator[str]:
    yield from paragraphs(context.command.help or context.command.short_help or "")
    yield from options(context)
    yield from paragraphs(context.command.epilog or "")


def page(title: str, summary: str, body: Iterable[str]) -> str:
    name, section = title[:-3], title[-2]
    now_s = float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    date = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
    others = sorted((p for p in PAGES if p != title), key=lambda p: (p[-2], p))
    lines = [
        f'.TH {name.upper()} {section} {date:%Y-%m-%d} "hamail {__version__}"',
        f".SH NAME\n{escaped(name)} \\- {escaped(summary)}",
        *body,
        ".SH FILES",
        *(tagged(path, text) for path, text in FILES.items()),
        ".SH SEE ALSO",
        ",\n".join(f"\\fB{escaped(other[:-3])}\\fR{other[-3:]}" for other in others),
    ]
    text = "\n".join(lines) + "\n"
    return re.sub(r"(?m)^(\.S[HS] .*)\n\.PP\n", r"\1\n", text)  # a heading begins a paragraph by itself


def commands_page() -> str:
    top, *below = contexts(cli, "hamailctl")
    help_text = (cli.help or "").strip()
    epilog = (cli.epilog or "").split("\n\n")
    body = [f".SH SYNOPSIS\n{usage(top)}", ".SH DESCRIPTION", *paragraphs(help_text), ".SH OPTIONS", *options(top)]
    body.append(".SH COMMANDS")
    for context in below:
        words = context.command_path.removeprefix("hamailctl ")
        body += [f".SS {heading(words)}", usage(context), *described(context)]
    body += [".SH EXAMPLES AND EXIT STATUS", *(p for part in epilog for p in paragraphs(part))]
    return page("hamailctl(1)", "ask and tell a hamail cluster", body)


def daemon_page(command: click.Command, title: str, summary: str) -> str:
    (context,) = contexts(command, title[:-3])
    body = [f".SH SYNOPSIS\n{usage(context)}", ".SH DESCRIPTION", *paragraphs(command.help or "")]
    return page(title, summary, [*body, ".SH OPTIONS", *options(context)])


def settings_page(title: str, summary: str, about: str, keys: list[Key]) -> str:
    said = comments(ROOT / "etc" / title[:-3])
    body = [".SH DESCRIPTION", *paragraphs(about), ".SH SETTINGS"]
    for table in sorted({key.table for key in keys}, key=[key.table for key in keys].index):
        body.append(f".SS {heading(f'[{table}]' if table else 'At the top')}")
        for key in (k for k in keys if k.table == table):
            limits = f" {key.limits}" if key.limits else ""
            text = (
                f"{key.kind}{limits}; default: {key.default}."
                if key.default != "required"
                else f"{key.kind}; required."
            )
            body.append(tagged(key.name, " ".join(f"{text} {said.get((table, key.name), '')}".split())))
    return page(title, summary, body)


def pages() -> dict[str, str]:
    return {
        "hamailctl(1)": commands_page(),
        "hamaild(8)": daemon_page(hamaild, "hamaild(8)", "the cluster daemon of hamail"),
        "hamail-executor(8)": daemon_page(
            hamail_executor, "hamail-executor(8)", "the root process of hamail: resources and dead-man's switch"
        ),
        "cluster.toml(5)": settings_page(
            "cluster.toml(5)", "configuration of a hamail cluster", CLUSTER_TOML, keys_of(read_cluster)
        ),
        "node.toml(5)": settings_page(
            "node.toml(5)", "configuration of one node of hamail", NODE_TOML, sorted(keys_of(read_node), key=_table)
        ),
    }


def _table(key: Key) -> str:
    return key.table


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def main(share: Path) -> None:
    for title, text in pages().items():
        write(share / f"man/man{title[-2]}/{title[:-3]}.{title[-2]}", text)
    for kind, place in COMPLETIONS:
        write(share / place, kind(cli, {}, "hamailctl", COMPLETE_VARIABLE).source())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
