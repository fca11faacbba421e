"""`make fuzz`: every target in a process of its own, a table of what was tried and found, and build/fuzz.json.

`--seconds` is for each target; `--inputs` too, scaled by what one input costs (`SHARE`), so that decoders carry the
millions and every slow target still gets its part. Ends with 1 at any finding.
"""

import argparse
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.fuzz.targets import NAMES

BUILD = Path("build/fuzz")
SUMMARY = Path("build/fuzz.json")
# Of `--inputs`: what costs a millisecond gets fewer of them than what costs ten microseconds.
SHARE = {
    "config_cluster": 0.3,
    "config_node": 0.5,
    "journal": 0.4,
    "executor_server": 0.3,
    "fence_agent": 0.5,
    "round_trips": 0.2,
    "engine": 0.06,
    "control_api": 0.06,
    "client_answers": 0.2,
    "cli": 0.06,
}
START_S = 60  # to import and instrument, before an input counts
COLUMNS = ("target", "inputs", "inputs/s", "corpus", "edges", "findings", "slowest ms", "peak MiB")
_STATUS = re.compile(r"cov: (\d+) ft: \d+ corp: (\d+)/")
_RUNS = re.compile(r"Done (\d+) runs|number_of_executed_units: (\d+)")


def engine(wanted: str) -> str:
    """atheris where it is there. Without it nothing is left out, but the search is blind: that is said aloud."""
    if wanted == "plain" or importlib.util.find_spec("atheris") is not None:
        return wanted
    line = "!" * 78
    print(
        f"{line}\nfuzz: atheris is NOT installed here: PLAIN RANDOM MUTATION, not guided by coverage\n{line}",
        flush=True,
    )
    return "plain"


def run(name: str, options: argparse.Namespace, kind: str) -> dict[str, Any]:
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("crash-*"), *folder.glob("timeout-*"), *folder.glob("oom-*")):
        old.unlink()
    report, log = folder / "report.json", folder / "log"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-B", "-m", "tests.fuzz.worker", name, "--engine", kind, "--seed", str(options.seed)]
    command += ["--output", str(folder), "--report", str(report)]
    if options.inputs:
        command += ["--inputs", str(max(1, int(options.inputs * SHARE.get(name, 1.0))))]
    else:
        command += ["--seconds", str(options.seconds)]
    begun_s = time.monotonic()
    with log.open("wb") as output:
        limit_s = None if options.inputs else options.seconds * 4 + START_S
        try:
            code = subprocess.run(command, stdout=output, stderr=output, check=False, timeout=limit_s).returncode
        except subprocess.TimeoutExpired:
            code = -1
    return _result(name, folder, code, time.monotonic() - begun_s)


def _result(name: str, folder: Path, code: int, took_s: float) -> dict[str, Any]:
    text = (folder / "log").read_text(errors="replace")
    report = folder / "report.json"
    told = json.loads(report.read_text()) if report.exists() else {}
    done = [int(a or b) for a, b in _RUNS.findall(text)]
    statuses = _STATUS.findall(text)
    saved = sorted(str(p) for kind in ("crash", "timeout", "oom") for p in folder.glob(f"{kind}-*"))
    words = [line for line in text.splitlines() if "Error" in line or "Finding" in line or "ERROR" in line]
    inputs = max([told.get("inputs", 0), *done])
    return {
        "target": name,
        "inputs": inputs,
        "inputs_per_s": round(inputs / took_s),
        "corpus": int(statuses[-1][1]) if statuses else None,
        "edges": int(statuses[-1][0]) if statuses else None,
        "findings": max(len(saved), int(code != 0)),
        "slowest_ms": round(told.get("slowest_ms", 0.0), 2),
        "peak_mib": round(told.get("peak_mib", 0.0), 1),
        "seconds": round(took_s, 1),
        "saved": saved,
        "words": words[:3] if code else [],
    }


def show(results: list[dict[str, Any]], kind: str) -> None:
    rows = [
        (
            r["target"],
            f"{r['inputs']:,}",
            f"{r['inputs_per_s']:,}",
            "-" if r["corpus"] is None else str(r["corpus"]),
            "-" if r["edges"] is None else str(r["edges"]),
            str(r["findings"]),
            f"{r['slowest_ms']:.2f}",
            f"{r['peak_mib']:.1f}",
        )
        for r in results
    ]
    widths = [max(len(row[i]) for row in [COLUMNS, *rows]) for i in range(len(COLUMNS))]
    for row in [COLUMNS, *rows]:
        print(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
        )
    total, found = sum(r["inputs"] for r in results), sum(r["findings"] for r in results)
    print(f"\n{total:,} inputs to {len(results)} targets with {kind}: {found} findings")
    for r in results:
        for word in r["words"]:
            print(f"  {r['target']}: {word:.200}")
        for place in r["saved"]:
            print(f"  again: .venv/bin/python -m tests.fuzz.worker {r['target']} --repeat {place}")
        if r["findings"] and not r["saved"]:
            print(f"  {r['target']} ended without a saved input: see {BUILD / r['target'] / 'log'}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    parser.add_argument("--inputs", type=int, default=0, help="for each target, times its share")
    parser.add_argument("--target", default="", help="names, with commas between")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--engine", choices=("atheris", "plain"), default="atheris")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    names = tuple(options.target.split(",")) if options.target else NAMES
    unknown = set(names) - set(NAMES)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    kind = engine(options.engine)
    for name in names:
        shutil.rmtree(BUILD / name, ignore_errors=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda name: run(name, options, kind), names))
    show(results, kind)
    summary = {
        "engine": kind,
        "seed": options.seed,
        "inputs": sum(r["inputs"] for r in results),
        "findings": sum(r["findings"] for r in results),
        "targets": results,
    }
    SUMMARY.write_text(json.dumps(summary, indent=1) + "\n")
    return int(summary["findings"] > 0)


if __name__ == "__main__":
    sys.exit(main())
