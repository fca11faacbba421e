"""Adds up the JUnit files of a test run: counts per suite, then one line that says whether it passed.

Arguments: seconds taken, 1 if the cluster suite was skipped, names of suites that failed, and the files.
"""

import sys
from pathlib import Path
from xml.etree import ElementTree

KINDS = ("tests", "failures", "errors", "skipped")


def counts(file: Path) -> dict[str, int]:
    suites = ElementTree.parse(file).getroot().iter("testsuite")  # noqa: S314
    total = dict.fromkeys(KINDS, 0)
    for suite in suites:
        for kind in KINDS:
            total[kind] += int(suite.get(kind, 0))
    return total


def main() -> int:
    seconds, skipped_cluster, *rest = sys.argv[1:]
    files = [Path(word) for word in rest if word.endswith(".xml") and Path(word).exists()]
    failed = [word for word in rest if not word.endswith(".xml")]
    whole = dict.fromkeys(KINDS, 0)
    write = sys.stdout.write
    for file in files:
        suite = counts(file)
        whole = {kind: whole[kind] + suite[kind] for kind in KINDS}
        write(f"  {file.stem.removeprefix('test-'):10}" + "  ".join(f"{suite[kind]:5} {kind}" for kind in KINDS) + "\n")
    passed = whole["tests"] - whole["failures"] - whole["errors"] - whole["skipped"]
    bad = bool(failed or whole["failures"] or whole["errors"] or not passed)
    verdict = f"FAILED ({', '.join(failed) or 'see above'})" if bad else "PASSED"
    if skipped_cluster == "1":
        verdict += ", WITHOUT THE CLUSTER SUITE"
    write(
        f"test: {verdict}: {passed} passed, {whole['failures']} failed, {whole['errors']} errors, "
        f"{whole['skipped']} skipped in {seconds} s\n"
    )
    return bad


if __name__ == "__main__":
    sys.exit(main())
