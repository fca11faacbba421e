"""The documents say what is true: reference pages are current, links lead somewhere, every command in them exists."""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from hamail.cli.main import cli
from hamail.config.cluster import read_cluster
from hamail.config.node import read_node
from tools import reference

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(p for p in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").rglob("*.md")))
COMMANDS = [(words, c) for words, c in reference.commands(cli, ("hamailctl",)) if not c.hidden]
LEAVES = [(words, c) for words, c in COMMANDS if not isinstance(c, click.Group)]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PLACEHOLDER = re.compile(r"[A-Z][A-Z_…]+")


@pytest.mark.parametrize("name", ["cluster.md", "node.md", "hamailctl.md", "../concepts.md"])
def test_reference_pages_are_current(name):
    assert (reference.FOLDER / name).read_text() == reference.pages()[name], "make reference"


@pytest.mark.parametrize(("sample", "reader"), [("cluster.toml", read_cluster), ("node.toml", read_node)])
def test_the_sample_file_explains_every_key(sample, reader):
    said = reference.comments(ROOT / "etc" / sample)
    keys = [key for key in reference.keys_of(reader) if key.name != "contacts"]  # a table whose keys are free
    assert [key for key in keys if not said.get((key.table, key.name))] == []


@pytest.mark.parametrize(("words", "command"), LEAVES, ids=lambda x: "-".join(x[1:]) if isinstance(x, tuple) else "")
def test_every_command_shows_an_example(words, command):
    text = reference.help_of(words, command)
    assert "Example" in text and " ".join(words) in text.partition("Example")[2], text


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        path, _, anchor = target.partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target} does not exist"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{target}: no such heading"


def written_commands(page: Path) -> list[str]:
    """In blocks and in spans of code."""
    text = page.read_text()
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()] + spans
    found = []
    for raw in lines:
        line = re.sub(r"^(\$ |# )?(sudo )?", "", raw)
        inner = re.match(r"make exec .*CMD='(hamailctl[^']*)'", line)
        found += [inner[1]] if inner else []
        if line.startswith(("hamailctl ", "make ", "python -m ", ".venv/bin/python -m ")) and "──" not in line:
            found.append(line)
    return found


def wrong_hamailctl(line: str) -> str:
    """Why the command line would not be understood; empty when it would."""
    words = shlex.split(line.partition(" | ")[0].partition(" > ")[0].partition(" && ")[0], comments=True)[1:]
    command: click.Command = cli
    try:
        while True:
            context = click.Context(command, info_name="hamailctl", allow_interspersed_args=None)
            _, rest, _ = command.make_parser(context).parse_args(list(words))
            if not isinstance(command, click.Group) or not rest or PLACEHOLDER.fullmatch(rest[0]) or rest[0] == "…":
                return ""
            hidden = next((name for name, c in command.commands.items() if c.hidden), None)
            if rest[0] not in command.commands and hidden is not None:
                rest = [hidden, *rest]  # `fence NODE`
            _, found, words = command.resolve_command(context, rest)
            assert found is not None
            command = found
    except click.UsageError as error:
        return error.format_message()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_documents_exist(page):
    for line in written_commands(page):
        if line.startswith("hamailctl "):
            assert not (why := wrong_hamailctl(line)), f"{line}: {why}"
        elif line.startswith("make "):
            target = next((w for w in line.split()[1:] if re.fullmatch(r"[a-z-]+", w)), "help")
            assert target in TARGETS, f"{line}: no such target"
        else:
            module = line.split("-m ", 1)[1].split()[0]
            assert find_spec(module), f"{line}: no such module"


def test_this_test_can_fail():
    assert wrong_hamailctl("hamailctl statsu") and wrong_hamailctl("hamailctl status --nonsense")
    assert not wrong_hamailctl("hamailctl switchover mail --to n2 --reason 'kernel update'")


def test_every_row_of_the_failure_catalogue_has_its_test():
    rows = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs" / "failures.md").read_text())
    assert len(rows) > 20
    lines = re.findall(r"^\| (?!what \||---).*", (ROOT / "docs" / "failures.md").read_text(), re.MULTILINE)
    assert len(lines) == len(rows), "a row without a test, or one with two"
    for file, name in rows:
        assert f"def {name}(" in (ROOT / "tests" / "cluster" / file).read_text(), f"{file}::{name}"


def test_the_example_of_an_agent_works(tmp_path):
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "agents.md").read_text(), re.DOTALL)
    agent = tmp_path / "spool"
    agent.write_text(code[1])
    folder = tmp_path / "made"

    def call(action: str, value: str = str(folder)) -> int:
        environ = {**os.environ, "OCF_RESKEY_folder": value, "PYTHONPATH": str(ROOT)}
        return subprocess.run([sys.executable, agent, action], env=environ, capture_output=True, check=False).returncode

    steps = ("monitor", "start", "start", "monitor", "stop", "stop", "monitor", "meta-data", "promote")
    assert [call(step) for step in steps] == [7, 0, 0, 0, 0, 0, 7, 0, 3]
    assert call("validate-all", "relative") == 6
