"""What came out of one lab: the checker's report on its history, and the outages that its probe saw.

`python -m tests.soak.results FOLDER...` judges kept runs (build/soak-SEED) once more and shows them as one.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.lab import instruments, probe
from tests.soak import checker, history, summary

FACTS = ("lab", "seed", "commit", "seconds", "problems")


def outages(out: Path, past: history.History) -> list[dict[str, Any]]:
    """For each step the longest time without an answer, in ms; None: no answer any more."""
    if not (out / "probe.txt").exists():
        return []  # it did not come that far
    attempts = probe.load(out / "probe.txt")
    marks = [r for r in past.nemesis if r["kind"] == "step"]
    found = []
    for number, mark in enumerate(marks):
        begin = mark["t"]
        end = marks[number + 1]["t"] if number + 1 < len(marks) else begin + int(60e9)
        near = [a for a in attempts if begin - 5_000_000_000 < a.done <= end]
        times = {}
        for service in instruments.SERVICES:
            try:
                ms = probe.outage(near, service, begin, end).ms
                times[service] = None if ms == float("inf") else round(ms, 1)
            except ValueError:
                times[service] = None
        takes = [node for t, node in checker.takes(past) if begin < t <= end]
        fences = [f for f in past.fences if checker.done(f) and begin < f["t"] <= end]
        moved = sum(a != b for a, b in zip([mark["data"]["active"], *takes], takes, strict=False))
        found.append({"step": mark["data"]["step"], "name": mark["data"]["name"], "family": mark["data"]["family"],
                      **times, "moves": moved, "starts": len(takes), "fences": len(fences)})  # fmt: skip
    return found


def by_way(past: history.History) -> dict[str, int]:
    """Acknowledged messages by how they were handed over."""
    via = {r["data"]["id"]: r["data"]["via"] for r in past.mail if r["kind"] == "invoke"}
    taken = {r["data"]["id"] for r in past.mail if r["kind"] == "ok"}
    return {f"by_{way}": sum(via[m] == way for m in taken) for way in ("smtp", "lmtp", "imap")}


def of_lab(out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Checks the history in the folder of a lab. `facts`: lab, seed, commit, seconds, problems."""
    past = history.History.load(out / "history.jsonl")
    report = checker.check(past)
    mail = report.mail
    return {
        **facts,
        "passed": report.passed and not facts["problems"],
        "failovers": report.failovers, "restarts": report.restarts, "fences": report.fences,
        "violations": [asdict(f) for f in report.violations],
        "inconclusive": [asdict(f) for f in report.inconclusive],
        "excused": [asdict(f) for f in report.excused],
        "unexplained": [asdict(f) for f in report.unexplained],
        "mail": {"acknowledged": mail.acknowledged, "found": mail.found, "lost": len(mail.lost),
                 "corrupt": len(mail.corrupt), "phantom": len(mail.phantom), "duplicates": len(mail.duplicated),
                 "recovered": len(mail.recovered), "unknown": len(mail.unknown), "failed": mail.failed,
                 "resurrected": len(mail.resurrected), "queued": mail.queued, **by_way(past)},
        "canary_writes": len(past.canaries), "blind": len(past.evidence.blind),
        "recorder_cpu_percent": round(100 * past.evidence.cpu_s / max(past.evidence.lasted_s, 1e-9), 1),
        "steps": outages(out, past),
    }  # fmt: skip


def main() -> int:
    folders = [Path(name) for name in sys.argv[1:]]
    labs = [lab.parent for folder in folders for lab in sorted(folder.glob("*/result.json"))]
    found = []
    for lab in labs:
        before = json.loads((lab / "result.json").read_text())
        found.append(of_lab(lab, {key: before[key] for key in FACTS}))
    total = summary.total(" ".join(folder.name.removeprefix("soak-") for folder in folders), found)
    print(json.dumps(total, indent=1), file=sys.stderr)
    summary.show(total, Path.cwd())
    return int(not total["passed"])


if __name__ == "__main__":
    sys.exit(main())
