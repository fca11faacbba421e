"""`make mutants`: hunts every planted bug and says what came of it. Ends with 1 if one survives.

NAMES on the command line choose some of them. `--jobs N`: so many processes; the result is the same for any N.
`--clean`: plant nothing; then no hunt may find anything.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from functools import partial

from tests.simulation.mutants import every, said, search
from tests.simulation.mutants.mutant import Search

CLEAN_SEEDS_MAX = 10


def hunt(index: int) -> Search:
    mutant = every()[index]
    return search(mutant, range(mutant.seeds_max))


def hunt_nothing(seeds: int, index: int) -> tuple[str, int | None, str]:
    mutant = every()[index]
    for seed in range(min(seeds, mutant.seeds_max)):
        try:
            mutant.hunt(seed)
        except Exception as found:
            return mutant.name, seed, said(found)
    return mutant.name, None, ""


def line(found: Search) -> str:
    verdict = f"found by seed {found.seed}" if found.seed is not None else "SURVIVED"
    head = f"{found.name:38} {verdict:17} {found.tried:4} tried {found.cpu_s:7.1f} CPU s  {found.breaks}"
    return f"{head}\n{'':38} -> {found.what[:130]}" if found.what else head


def hunt_all(indices: list[int], jobs: int) -> int:
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        results = []
        for found in pool.imap(hunt, indices):
            print(line(found), flush=True)
            results.append(found)
    survived = [f.name for f in results if f.seed is None]
    spent = sorted(f.cpu_s for f in results if f.seed is not None)
    median = f"median {statistics.median(spent):.1f} CPU s, longest {spent[-1]:.1f} CPU s" if spent else ""
    print(f"mutants: {len(results)} planted, {len(results) - len(survived)} found; {median}")
    if survived:
        print(f"mutants: SURVIVED: {', '.join(survived)}")
    return 1 if survived else 0


def hunt_without_plants(indices: list[int], jobs: int, seeds: int) -> int:
    alarms = 0
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        for name, seed, what in pool.imap(partial(hunt_nothing, seeds), indices):
            print(f"{name:38} {'nothing' if seed is None else f'FALSE ALARM at seed {seed}: {what}'}", flush=True)
            alarms += seed is not None
    print(f"mutants: {len(indices)} hunts without a plant, {alarms} false alarms")
    return 1 if alarms else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--clean", action="store_true")
    parser.add_argument("--seeds", type=int, default=CLEAN_SEEDS_MAX, help="of each hunt with --clean")
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the real log library iterates sets
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation.mutants", *sys.argv[1:]])
    indices = [i for i, m in enumerate(every()) if not given.names or any(n in m.name for n in given.names)]
    began = time.monotonic()
    jobs = max(1, given.jobs)
    ended = hunt_without_plants(indices, jobs, given.seeds) if given.clean else hunt_all(indices, jobs)
    print(f"mutants: {time.monotonic() - began:.0f} s with {jobs} processes")
    return ended


if __name__ == "__main__":
    sys.exit(main())
