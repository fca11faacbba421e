"""docs/security.md names a test for every control: each of them must be there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", DOCUMENT)))


def functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_named_test_exists(file: str, name: str) -> None:
    assert (ROOT / file).is_file()
    assert not name or name in functions(ROOT / file)


def test_every_threat_has_a_test() -> None:
    rows = re.findall(r"^\| .* \|$", DOCUMENT[DOCUMENT.index("## Threats") : DOCUMENT.index("## What remains")], re.M)
    threats = [row for row in rows if not row.startswith(("| threat |", "|---"))]
    without = [row for row in threats if "`tests/" not in row]
    assert len(threats) > 30 and len(NAMED) > 30
    assert [row for row in without if "linter" not in row] == []
