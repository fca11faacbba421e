"""Fuzz one target in this process: with atheris (guided by coverage), or with the plain mutator.

`python -m tests.fuzz.worker TARGET [--engine atheris|plain] ...`; started by `python -m tests.fuzz`.
"""

import argparse
import hashlib
import importlib
import json
import sys
import time
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

from tests.fuzz.guard import Guard
from tests.fuzz.mutate import Mutator

HERE = Path(__file__).parent
LENGTH_MAX = 4096
REPORT_EVERY_S = 0.5
HANG_S = 10  # libFuzzer gives up on an input that has not come back by then
RSS_MAX_MIB = 1500


def load(name: str) -> ModuleType:
    return importlib.import_module(f"tests.fuzz.targets.{name}")


def all_seeds(name: str, target: ModuleType) -> list[bytes]:
    """Those that the target makes, and those that were worth keeping."""
    kept = sorted((HERE / "corpus" / name).glob("*"))
    return [*target.seeds(), *(path.read_bytes() for path in kept)]


class Report:
    """Tells the parent from time to time how far this is; libFuzzer ends the process without a further word."""

    def __init__(self, path: Path | None, guard: Guard) -> None:
        self._path, self._guard = path, guard
        self._due_s = 0.0

    def write(self) -> None:
        g = self._guard
        self._due_s = time.monotonic() + REPORT_EVERY_S
        if self._path is not None:
            found = {"inputs": g.inputs, "slowest_ms": g.slowest_ms, "peak_mib": g.peak_mib}
            self._path.write_text(json.dumps(found))

    def maybe(self) -> None:
        if time.monotonic() >= self._due_s:
            self.write()


def with_atheris(name: str, options: argparse.Namespace) -> None:
    """Ends the process. A finding leaves `crash-...` in the output directory."""
    import atheris

    modules = importlib.import_module(f"tests.fuzz.targets.{name}").INSTRUMENT
    for module in sorted(sys.modules):  # instrumentation works on import only: import those again
        if module.startswith(("hamail", "tests.", "control_fake")):  # whoever holds a class of hamail
            del sys.modules[module]
    with atheris.instrument_imports(include=list(modules), enable_loader_override=False):
        for module in modules:
            importlib.import_module(module)
        target = load(name)
    guard = Guard(target.one)
    report = Report(options.report, guard)

    def one(data: bytes) -> None:
        try:
            guard(data)
        except BaseException:
            report.write()
            raise
        report.maybe()

    seeds = options.output / "seeds"
    corpus = options.output / "corpus"
    for folder in (seeds, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    for data in all_seeds(name, target):
        (seeds / hashlib.sha1(data).hexdigest()).write_bytes(data)
    arguments = [
        f"-seed={options.seed}",
        f"-max_len={getattr(target, 'LENGTH_MAX', LENGTH_MAX)}",
        f"-timeout={HANG_S}",
        f"-rss_limit_mb={RSS_MAX_MIB}",
        f"-artifact_prefix={options.output}/",
        "-print_final_stats=1",
        "-reload=0",
    ]
    arguments.append(f"-runs={options.inputs}" if options.inputs else f"-max_total_time={max(1, int(options.seconds))}")
    atheris.Setup([sys.argv[0], *arguments, str(corpus), str(seeds)], one)
    atheris.Fuzz()


def with_mutator(name: str, options: argparse.Namespace) -> int:
    target = load(name)
    guard = Guard(target.one)
    report = Report(options.report, guard)
    found = run_plain(name, target, guard, options.seed, options.inputs, options.seconds, report)
    report.write()
    if found is None:
        return 0
    data, error = found
    place = options.output / f"crash-{hashlib.sha1(data).hexdigest()}"
    place.write_bytes(data)
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return 77


def run_plain(
    name: str, target: Any, guard: Guard, seed: int, inputs: int, seconds: float, report: Report | None = None
) -> tuple[bytes, Exception] | None:
    """The seeds themselves, then mutations, until so many inputs or (0) so much CPU time is used up."""
    seeds = all_seeds(name, target)
    mutator = Mutator(seeds, Random(seed), getattr(target, "LENGTH_MAX", LENGTH_MAX))
    end_s = time.process_time() + seconds
    pending = list(reversed(seeds))
    while guard.inputs < inputs if inputs else pending or time.process_time() < end_s:
        data = pending.pop() if pending else mutator.next()
        try:
            guard(data)
        except Exception as error:
            return data, error
        if report is not None:
            report.maybe()
    return None


def repeat(name: str, place: Path) -> int:
    """One saved input again, with its traceback."""
    load(name).one(place.read_bytes())
    print(f"{place}: nothing is wrong with it any more")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--engine", choices=("atheris", "plain"), default="atheris")
    parser.add_argument("--inputs", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--report", type=Path)
    parser.add_argument("--repeat", type=Path)
    options = parser.parse_args()
    if options.repeat:
        return repeat(options.target, options.repeat)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.engine == "plain":
        return with_mutator(options.target, options)
    with_atheris(options.target, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
