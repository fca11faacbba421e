"""Checks every variant of the model with spin: right ones exhaustively, wrong ones until their violation is found.

    python -m tests.model.check            the whole table; exit status 1 if any verdict is not the expected one
    python -m tests.model.check no_wait    one variant, and the counterexample in words

Wrong variants are searched to a limited depth: a short violation is enough. Right variants never are: a search that
was cut short in any way counts as failed.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.model.variants import VARIANTS, Variant

MODEL = Path(__file__).with_name("lease.pml")
TOOLS = ("spin", "gcc")
PARALLEL = 2
MEMORY_MB = 1800  # per search
TIMEOUT_S = 600  # per search; on an idle machine none takes 30 s
DEPTH_MAX = 20_000
WRONG_DEPTH_MAX = 70
COMPILE = ("gcc", "-w", "-DSAFETY", "-DCOLLAPSE", "-DNOFAIR", f"-DMEMLIM={MEMORY_MB}")


@dataclass(frozen=True)
class Verdict:
    found: str  # "safe", "S1", "S3", "S4", or why there is no verdict
    states: int
    depth: int
    elapsed_s: float
    story: str = ""


def missing() -> list[str]:
    """Programs that are needed and not there."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def check(variant: Variant, story: bool = False) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="hamail-model-") as folder:
        return _search(variant, Path(folder), story)


def _search(variant: Variant, folder: Path, story: bool) -> Verdict:
    flags = [f"-D{flag}" for flag in variant.flags.split()]
    made = _run(["spin", *flags, "-a", str(MODEL)], folder)
    if made.returncode or made.stdout.strip():
        return Verdict(f"spin: {made.stdout.strip()[:200]}", 0, 0, 0)
    effort = "-O2" if variant.expected == "safe" else "-O1"  # most of the time of a short search is the compiler's
    compiled = _run([*COMPILE, effort, *variant.compile.split(), "-o", "pan", "pan.c"], folder)
    if compiled.returncode:
        return Verdict(f"gcc: {compiled.stderr.strip()[:200]}", 0, 0, 0)
    depth = DEPTH_MAX if variant.expected == "safe" else WRONG_DEPTH_MAX
    try:
        searched = _run(["./pan", f"-m{depth}", "-w24"], folder, TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return Verdict(f"no end after {TIMEOUT_S} s", 0, 0, 0)
    found = read(searched.stdout)
    trail = folder / f"{MODEL.name}.trail"
    if story and trail.exists():
        told = _run(["spin", *flags, "-t", "-k", str(trail), str(MODEL)], folder).stdout
        return Verdict(found.found, found.states, found.depth, found.elapsed_s, told.split("#processes")[0])
    return found


def read(output: str) -> Verdict:
    """What pan has said. Only a full search without errors is "safe"."""
    states = re.search(r"(\d+) states, stored", output)
    depth = re.search(r"depth reached (\d+), errors: (\d+)", output)
    broken = re.search(r"assertion violated (.*) \(at depth (\d+)\)", output)
    elapsed = re.search(r"elapsed time ([\d.e+]+) seconds", output)
    elapsed_s = float(elapsed[1]) if elapsed else 0.0
    if states is None or depth is None:
        return Verdict(f"no result: {output.strip()[-200:]}", 0, 0, elapsed_s)
    if broken:
        return Verdict(_property(broken[1]), int(states[1]), int(broken[2]), elapsed_s)
    cut = "max search depth too small" in output or "Search not completed" in output or "out of memory" in output
    whole = depth[2] == "0" and not cut
    return Verdict("safe" if whole else "search not complete", int(states[1]), int(depth[1]), elapsed_s)


def _property(assertion: str) -> str:
    if "mounted_top" in assertion:
        return "S4"
    return "S3" if "epoch" in assertion else "S1"


def _run(command: list[str], folder: Path, timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False)


def check_all(variants: tuple[Variant, ...] = VARIANTS) -> dict[str, Verdict]:
    """All of them, the longest first, so that both cores are busy to the end."""
    order = sorted(variants, key=lambda v: v.expected != "safe")
    with ThreadPoolExecutor(PARALLEL) as pool:
        return dict(zip((v.name for v in order), pool.map(check, order), strict=True))


def table(verdicts: dict[str, Verdict]) -> str:
    lines = [f"{'variant':34} {'expected':9} {'verdict':9} {'states':>11} {'depth':>6} {'s':>6}"]
    for v in VARIANTS:
        if v.name not in verdicts:
            continue
        got = verdicts[v.name]
        mark = "" if got.found == v.expected else "  <-- WRONG"
        row = f"{v.name:34} {v.expected:9} {got.found:9} {got.states:11,} {got.depth:6} {got.elapsed_s:6.1f}{mark}"
        lines.append(row)
    safe = sum(verdicts[v.name].states for v in VARIANTS if v.expected == "safe" and v.name in verdicts)
    lines.append(f"states of the variants that must be safe, searched exhaustively: {safe:,}")
    return "\n".join(lines)


def main(names: list[str]) -> int:
    if lacking := missing():
        print(f"model: NOT CHECKED, missing programs: {', '.join(lacking)} (tools/setup.sh tests installs them)")
        return 1
    if names:
        chosen = [v for v in VARIANTS if v.name in names]
        verdicts = {v.name: check(v, story=True) for v in chosen}
        for v in chosen:
            print(verdicts[v.name].story)
    else:
        verdicts = check_all()
    print(table(verdicts))
    return int(not verdicts or any(verdicts[v.name].found != v.expected for v in VARIANTS if v.name in verdicts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
