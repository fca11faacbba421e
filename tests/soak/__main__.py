"""Failovers on real nodes under random faults: `make soak FAILOVERS=n [SEED=s] [LABS=k] [MINUTES=m]`.

Several labs run side by side, each a process of its own with a schedule of its own out of the one seed. Prints what
happens as it happens, then a table and the totals; writes build/soak.json. Exit code 0 only when nothing was violated
or lost, no lab got stuck, and at most 0.1 % of the failovers are inconclusive. Ctrl-C ends it after the present steps.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.lab import features
from tests.lab.lab import Lab, top_folder
from tests.soak import summary
from tests.soak.faults import KINDS, PLANTS
from tests.soak.load import DRAIN_LIMIT_S

BUILD = Path(__file__).resolve().parents[2] / "build"
END_LIMIT_S = DRAIN_LIMIT_S + 600  # reading back, checking, and the last step


def seed_of(seed: str, number: int) -> str:
    return f"{seed}/{number}"


class Runner:
    """The process of one lab, with its lines passed on."""

    def __init__(self, name: str, seed: str, out: Path, arguments: Sequence[str]) -> None:
        self.name, self.seed, self.out = name, seed, out
        command = [sys.executable, "-u", "-m", "tests.soak.one", "--lab", name, "--seed", seed, "--out", str(out)]
        self.process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self.thread = threading.Thread(target=self._pass_on, daemon=True)
        self.thread.start()

    def _pass_on(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            print(f"{self.name}: {line}", end="", flush=True)

    def wait(self, limit_s: float) -> dict[str, Any]:
        """The lab's result; of one that ended without it, a result that says so."""
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            Lab(self.name).down()
        self.thread.join(5)
        try:
            return json.loads((self.out / "result.json").read_text())
        except OSError:
            return {"lab": self.name, "seed": self.seed, "passed": False, "problems": ["it ended without a result"]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--failovers", type=int, default=100, help="to another node, over all labs (default: 100)")
    parser.add_argument("--seed", default=str(int(time.time())))
    parser.add_argument("--labs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=600, help="end after this long in any case")
    parser.add_argument("--rate", type=float, default=15, help="mails a second for each lab (default: 15)")
    parser.add_argument("--detection", default="1s")
    parser.add_argument("--name", default="soak", help="what the labs' names begin with (default: soak)")
    parser.add_argument("--kinds", default="", help="only these faults, in turn: " + ", ".join(KINDS))
    words = "; ".join(f"{name}: {what}" for name, what in PLANTS.items())
    parser.add_argument("--plant", default="", choices=list(PLANTS), help=f"a bug that must be found: {words}")
    options = parser.parse_args()
    if lacks := features.missing(top_folder()):
        print(features.sentence(lacks))
        return 1
    folder = BUILD / f"soak-{options.seed}"
    shutil.rmtree(folder, ignore_errors=True)
    each = -(-options.failovers // options.labs)
    arguments = [f"--failovers={each}", f"--minutes={options.minutes}", f"--rate={options.rate}"]
    arguments += [f"--detection={options.detection}"]
    arguments += [f"--{name}={value}" for name in ("kinds", "plant") if (value := getattr(options, name))]
    print(f"seed {options.seed}: {options.failovers} failovers in {options.labs} labs", flush=True)
    Lab(options.name).build()  # once, before the labs look for the layers side by side
    runners = [
        Runner(f"{options.name}{number}", seed_of(options.seed, number), folder / str(number), arguments)
        for number in range(options.labs)
    ]

    def end(*_: object) -> None:
        """After the present step: what was done until then is checked and counts."""
        for runner in runners:
            runner.process.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    try:
        results = [runner.wait(options.minutes * 60 + END_LIMIT_S) for runner in runners]
    finally:
        for runner in runners:
            if runner.process.poll() is None:
                os.killpg(runner.process.pid, signal.SIGKILL)
                Lab(runner.name).down()
    total = summary.total(options.seed, results)
    (BUILD / "soak.json").write_text(json.dumps(total, indent=1) + "\n")
    (folder / "soak.json").write_text(json.dumps(total, indent=1) + "\n")
    summary.show(total, folder)
    if total["passed"]:
        for large in folder.glob("*/*.jsonl"):
            if large.name != "history.jsonl":
                large.unlink()  # all of it is in the history
    return int(not total["passed"])


if __name__ == "__main__":
    sys.exit(main())
