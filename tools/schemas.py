"""docs/schemas: a JSON schema for everything that hamailctl prints with --json. `--check` says what is not current."""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "schemas"


def wanted() -> dict[str, str]:
    """File name -> content."""
    from hamail.cli.outputs import DOCUMENTS, VERSION, VERSIONS, schema

    files = {f"{name}.json": json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n" for name in DOCUMENTS}
    lines = [
        "# What hamailctl prints with --json",
        "",
        "Made from the code (`make schemas`). Each document names its schema.",
        "",
    ]
    lines += ["| schema | document |", "|---|---|"]
    for name, document in sorted(DOCUMENTS.items()):
        about = (document.__doc__ or "").strip().splitlines()
        first = about[0] if about and not about[0].startswith(document.__name__) else ""
        lines.append(f"| [`hamail/{name}/{VERSIONS.get(name, VERSION)}`]({name}.json) | {first} |")
    return {**files, "README.md": "\n".join(lines) + "\n"}


def stale() -> list[str]:
    """Files that are missing, not current, or not wanted."""
    files = wanted()
    there = {path.name: path.read_text() for path in FOLDER.iterdir()} if FOLDER.is_dir() else {}
    return sorted(name for name in {*files, *there} if files.get(name) != there.get(name))


def main() -> int:
    if "--check" in sys.argv[1:]:
        found = stale()
        sys.stdout.write("".join(f"docs/schemas/{name} is not current: make schemas\n" for name in found))
        return bool(found)
    FOLDER.mkdir(parents=True, exist_ok=True)
    files = wanted()
    for path in FOLDER.iterdir():
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        (FOLDER / name).write_text(text)
    sys.stdout.write(f"docs/schemas: {len(files)} files\n")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER.parents[1]))
    sys.exit(main())
