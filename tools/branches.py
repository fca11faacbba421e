"""Branch coverage of each package from coverage's JSON report, and the verdict.

Arguments: the report, and what has failed already.
"""

import json
import sys
from pathlib import Path

BAR_PERCENT = 95.0
PACKAGES = ("core", "consensus", "executor")


def judged(package: str, summaries: dict[str, dict[str, int]]) -> tuple[str, bool]:
    """A line about a package, and whether its branches reach the bar. Nothing measured is not enough."""
    found = [summary for file, summary in summaries.items() if file.startswith(f"hamail/{package}/")]
    total = {key: sum(s[key] for s in found) for key in (found[0] if found else ()) if not key.startswith("percent")}
    if not total.get("num_branches"):
        return f"{package}: nothing was measured", False
    percent = 100 * total["covered_branches"] / total["num_branches"]
    branches = f"{percent:.1f} % of branches ({total['covered_branches']} of {total['num_branches']})"
    statements = f"{100 * total['covered_lines'] / total['num_statements']:.1f} % of statements"
    return f"{package}: {branches}, {statements}", percent >= BAR_PERCENT


def main() -> int:
    summaries = {file: found["summary"] for file, found in json.loads(Path(sys.argv[1]).read_text())["files"].items()}
    failed = sys.argv[2:]
    for package in PACKAGES:
        line, enough = judged(package, summaries)
        sys.stdout.write(f"coverage: {line}\n")
        failed += [] if enough else [package]
    verdict = f"FAILED: {', '.join(failed)}" if failed else "PASSED"
    sys.stdout.write(f"coverage: {verdict} (bar: {BAR_PERCENT:g} % of the branches of each)\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
