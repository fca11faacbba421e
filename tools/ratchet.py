"""The size ratchet: prints functions over 70 lines and files over 600 (decision files: 400), and fails if any is."""

import ast
import sys
from pathlib import Path

FUNCTION_LINES = 70
FILE_LINES = 600
DECISION_FILE_LINES = 400
DECISIONS = ("hamail/core", "hamail/model")
FOLDERS = ("hamail", "agents", "tests", "tools")


def sources(root: Path) -> list[Path]:
    return [
        path
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and (path.suffix == ".py" or is_script(path))
    ]


def is_script(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(80)
    return first.startswith(b"#!") and b"python" in first


def findings(path: Path, name: str) -> list[str]:
    text = path.read_text()
    limit = DECISION_FILE_LINES if name.startswith(DECISIONS) else FILE_LINES
    lines = text.count("\n")
    found = [f"{name}: {lines} lines, at most {limit}"] if lines > limit else []
    for node in ast.walk(ast.parse(text, name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                found.append(f"{name}:{node.lineno}: {node.name}: {length} lines, at most {FUNCTION_LINES}")
    return found


def main() -> int:
    root = Path(__file__).resolve().parents[1]
    files = sources(root)
    found = [line for path in files for line in findings(path, str(path.relative_to(root)))]
    for line in found:
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"ratchet: {len(files)} files, {len(found)} over the limit\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
