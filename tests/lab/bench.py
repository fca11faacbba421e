"""Measures hamail on the lab's real nodes: `python -m tests.lab.bench --runs 5 --settings default,fast`.

Each scenario is a fault on the running cluster under a light mail load; what clients see comes from the outside probe,
who held what from the kernel. Prints a table against the targets and writes build/bench.json (and every run, as it
ends, to build/bench-runs.jsonl). Exit code 0 only when every target is met.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tests.lab import footprint, instruments, mail, moves, probe
from tests.lab.evidence import Evidence, by_component
from tests.lab.lab import Lab, LabError, Missing
from tests.lab.node import NodeError
from tests.lab.oracle import Verdict
from tests.lab.report import seconds

DETECTION = {"default": "1s", "fast": "300ms"}
BUILD = Path(__file__).resolve().parents[2] / "build"
BEFORE_S = 2.0  # of undisturbed service before each fault
AFTER_S = 5.0  # of watching after a fault, at least
STEADY_NS = 1_000_000_000  # so long without a failed connection counts as back
BACK_LIMIT_S = 60.0
HEALTHY_LIMIT_S = 120.0
LOST_MS = BACK_LIMIT_S * 1000  # what is written down for a service that did not come back
MAIL_RATE = 5.0
BUSY_LOOPS = 8
LOAD_S = 60.0
IDLE_S = 60.0
SETTLE_S = 5.0
PLAIN_WIDTH = 120  # where the output is no terminal
MASTER_PID = "/srv/mail/queue/pid/master.pid"
SPURIOUS_MS = 100.0  # an interruption shorter than this at a restart of hamaild is no more than the probe's own jitter

# What a step of the bench may end with; everything else is a fault of the bench itself.
FAILURES = (LabError, NodeError, RuntimeError, ValueError, LookupError, OSError, subprocess.SubprocessError)

TARGETS: dict[str, dict[str, float]] = {
    "default": {"power_cut smtp": 1800, "power_cut imap": 1500, "switchover smtp": 1400, "service_kill smtp": 800,
                "silent_partition smtp": 2000, "cpu": 2.0, "pss": 90},
    "fast": {"power_cut smtp": 1100, "power_cut imap": 800, "switchover smtp": 1400, "service_kill smtp": 800,
             "silent_partition smtp": 1200, "cpu": 3.0, "pss": 90},
}  # fmt: skip


def power_cut(lab: Lab, active: str) -> None:
    lab.cut(active)


def switchover(lab: Lab, active: str) -> None:
    moves.switchover(lab, active, instruments.other(active))


def service_kill(lab: Lab, active: str) -> None:
    lab.run(active, f"kill -9 $(cat {MASTER_PID})")


def silent_partition(lab: Lab, active: str) -> None:
    """Every frame of the node vanishes at the switch; it keeps its carrier, and the others keep the PDU."""
    lab.isolate(active)


SCENARIOS: dict[str, Callable[[Lab, str], None]] = {
    "power_cut": power_cut,
    "switchover": switchover,
    "service_kill": service_kill,
    "silent_partition": silent_partition,
}


@dataclass(frozen=True)
class Run:
    """One fault. Milliseconds; an outage without an end is LOST_MS."""

    setting: str
    scenario: str
    number: int
    active: str
    smtp_ms: float
    imap_ms: float
    start_ns: int
    end_ns: int
    moves: int = 0
    problem: str = ""
    double_active_ms: float = 0.0
    conclusive: bool = True


@dataclass
class Results:
    """All of one setting."""

    setting: str
    runs: list[Run] = field(default_factory=list)
    spurious_moves: int | None = None
    load_note: str = ""
    cpu_s_per_min: float = math.nan
    node_cpu_s_per_min: float = math.nan
    pss_mb: float = math.nan
    restart_ms: float = math.nan
    restart_moves: int | None = None
    mail: Verdict | None = None
    recorder_percent: float = 0.0
    problems: list[str] = field(default_factory=list)

    def of(self, scenario: str) -> list[Run]:
        return [run for run in self.runs if run.scenario == scenario]

    def document(self) -> dict[str, Any]:
        """The shape of build/bench.json for this setting: one number a run."""
        keys = ("smtp_ms", "imap_ms", "double_active_ms")
        measured = {name: self.of(name) for name in SCENARIOS if self.of(name)}
        scenarios = {n: {k: [round(getattr(run, k), 1) for run in runs] for k in keys} for n, runs in measured.items()}
        idle = {"cpu_s_per_min": _number(self.cpu_s_per_min), "pss_mb": _number(self.pss_mb)}
        return {"scenarios": scenarios, "load": {"spurious_moves": self.spurious_moves}, "idle": idle}


class Bench:
    def __init__(self, lab: Lab, console: Console, build: Path) -> None:
        self.lab, self.console, self.build = lab, console, build
        self.log = open(build / "bench-runs.jsonl", "a")

    def measure(self, setting: str, runs: int, scenarios: list[str], extras: bool) -> Results:
        results = Results(setting)
        self._fresh(setting)
        with ExitStack() as stack:
            recorder = stack.enter_context(instruments.recorder(self.lab, self.build / f"evidence-{setting}.jsonl"))
            path = self.build / f"mail-{setting}.jsonl"
            load = stack.enter_context(instruments.mail_load(self.lab, path, MAIL_RATE))
            self._attempt(results, "scenarios", lambda r: self._all(r, runs, scenarios))
            if extras:
                self._attempt(results, "load", self._under_load)
                self._attempt(results, "restart of hamaild", self._restart)
            with self._doing(f"{setting}: reading all mail back"):
                self._attempt(results, "mail", lambda r: self._judge(r, load))
            evidence = recorder.stop()
        results.runs = [self._with_evidence(run, evidence) for run in results.runs]
        results.recorder_percent = 100 * evidence.cpu_s / max(evidence.lasted_s, 1e-9)
        if total := evidence.double_active_ms():
            results.problems.append(f"two nodes active for {total:.0f} ms in all: {by_component(evidence)}")
        if extras:  # nothing of the measuring runs beside it
            self._attempt(results, "idle", self._idle)
        return results

    def _all(self, results: Results, runs: int, scenarios: list[str]) -> None:
        for number in range(runs):
            for scenario in scenarios:
                self._one(results, scenario, number)

    def _fresh(self, setting: str) -> None:
        with self._doing(f"{setting}: booting a lab with detection = {DETECTION[setting]}"):
            self.lab.up(detection=DETECTION[setting])
            active = self.lab.wait_healthy(HEALTHY_LIMIT_S)
        self.console.print(f"{setting}: cluster healthy, active on {active}")

    def _one(self, results: Results, scenario: str, number: int) -> None:
        title = f"{results.setting}: {scenario} {number + 1}"
        started = time.monotonic_ns()
        try:
            with self._doing(title):
                run = self._run(results.setting, scenario, number)
        except FAILURES as error:
            run = Run(
                results.setting,
                scenario,
                number,
                "",
                LOST_MS,
                LOST_MS,
                started,
                time.monotonic_ns(),
                problem=str(error),
            )
        results.runs.append(run)
        self.log.write(json.dumps(run.__dict__) + "\n")
        self.log.flush()
        if run.problem:
            results.problems.append(f"{scenario} {number + 1}: {run.problem}")
            self.console.print(f"[red]{title}: {run.problem}[/]")
            self._recover()
        else:
            self.console.print(f"{title} of {run.active}: SMTP {seconds(run.smtp_ms)}, IMAP {seconds(run.imap_ms)}")

    def _run(self, setting: str, scenario: str, number: int) -> Run:
        active = self.lab.wait_healthy(HEALTHY_LIMIT_S)
        move = moves.latest(self.lab)
        with instruments.probe(self.lab, self.build / f"probe-{setting}-{scenario}-{number}.txt") as watch:
            self._undisturbed(watch)
            start = time.monotonic_ns()
            SCENARIOS[scenario](self.lab, active)
            problem = "" if self._back(watch, start) else f"not back within {BACK_LIMIT_S:.0f} s"
            attempts = watch.stop()
        smtp, imap = (min(LOST_MS, probe.outage(attempts, s, start).ms) for s in instruments.SERVICES)
        with self._doing(f"{setting}: {scenario} {number + 1}: back to full redundancy"):
            self.lab.restore()
            self.lab.wait_healthy(HEALTHY_LIMIT_S)
        made = len(moves.since(self.lab, move))
        return Run(setting, scenario, number, active, smtp, imap, start, time.monotonic_ns(), made, problem)

    def _undisturbed(self, watch: probe.Probe) -> None:
        """Raises LabError unless both services answer without a break before the fault."""
        if not watch.wait_until_up(instruments.SERVICES, 10):
            raise LabError("the services do not answer before the fault")
        since = time.monotonic_ns()
        time.sleep(BEFORE_S)
        failed = [a for a in watch.attempts() if a.started > since and not a.ok]
        if failed:
            raise LabError(f"{len(failed)} connections failed before the fault: {failed[0].service} {failed[0].why}")

    def _back(self, watch: probe.Probe, start: int) -> bool:
        """Wait until both services have answered every connection for a while after the fault."""
        end = time.monotonic() + BACK_LIMIT_S
        time.sleep(AFTER_S)
        while time.monotonic() < end:
            now = time.monotonic_ns()
            latest = [a for a in watch.attempts() if a.done > max(start, now - STEADY_NS)]
            if all(any(a.ok for a in latest if a.service == s) for s in instruments.SERVICES) and all(
                a.ok for a in latest
            ):
                return True
            time.sleep(0.3)
        return False

    def _recover(self) -> None:
        """After a run that went wrong. Raises LabError when the cluster does not come back from it."""
        with self._doing("mending the lab"):
            self.lab.restore()
            self.lab.wait_healthy(HEALTHY_LIMIT_S)

    def _under_load(self, results: Results) -> None:
        """Busy loops on all cores: nothing may move, and nothing may be restarted."""
        self.lab.wait_healthy(HEALTHY_LIMIT_S)
        before = moves.latest(self.lab)
        loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(BUSY_LOOPS)]
        try:
            self._wait(f"{results.setting}: {BUSY_LOOPS} busy loops", LOAD_S)
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()
        time.sleep(SETTLE_S)  # a move that the load set off may end after it
        self.lab.restore()
        made = moves.since(self.lab, before)
        results.spurious_moves = len(made)
        results.load_note = "; ".join(f"{m.source} -> {m.target}: {m.trigger}" for m in made)
        self.lab.wait_healthy(HEALTHY_LIMIT_S)
        self.console.print(f"{results.setting}: {len(made)} spurious moves under load {results.load_note}")

    def _restart(self, results: Results) -> None:
        """A restart of hamaild on the active node, as an upgrade does it."""
        active = self.lab.wait_healthy(HEALTHY_LIMIT_S)
        before = moves.latest(self.lab)
        with instruments.probe(self.lab, self.build / f"probe-{results.setting}-restart.txt") as watch:
            self._undisturbed(watch)
            start = time.monotonic_ns()
            self.lab.run(active, "systemctl restart hamaild")
            back = self._back(watch, start)
            attempts = watch.stop()
        outages = [probe.outage(attempts, s, start).ms for s in instruments.SERVICES]
        results.restart_ms = max(outages) if back else LOST_MS
        self.lab.restore()  # it may have been fenced
        self._active(results)
        results.restart_moves = len(moves.since(self.lab, before))
        self.console.print(f"{results.setting}: restart of hamaild: longest gap {seconds(results.restart_ms)}")

    def _active(self, results: Results) -> str:
        """The active node, also of a cluster that is not healthy: then that is noted, and the measuring goes on."""
        try:
            return self.lab.wait_healthy(HEALTHY_LIMIT_S)
        except LabError as error:
            results.problems.append(str(error))
            if active := self.lab.active():
                return active
            raise

    def _judge(self, results: Results, load: mail.MailLoad) -> None:
        active = self._active(results)
        sent = load.stop()
        results.mail = mail.verdict(load, sent, lambda script: self.lab.run(active, script).stdout)

    def _idle(self, results: Results) -> None:
        active = self.lab.nodes[self._active(results)]
        self._wait(f"{results.setting}: settling", SETTLE_S)
        before = footprint.cpu(active)
        self._wait(f"{results.setting}: idle", IDLE_S)
        after = footprint.cpu(active)
        results.cpu_s_per_min, results.node_cpu_s_per_min = footprint.per_minute(before, after)
        results.pss_mb = footprint.pss_mb(active)
        self.console.print(
            f"{results.setting}: idle on {active.name}: {results.cpu_s_per_min:.2f} CPU s/min "
            f"(whole node {results.node_cpu_s_per_min:.2f}), {results.pss_mb:.0f} MB"
        )

    def _attempt(self, results: Results, what: str, step: Callable[[Results], None]) -> None:
        try:
            step(results)
        except FAILURES as error:
            results.problems.append(f"{what}: {error}")
            self.console.print(f"[red]{results.setting}: {what}: {error}[/]")

    @staticmethod
    def _with_evidence(run: Run, evidence: Evidence) -> Run:
        double = evidence.double_active_ms(run.start_ns, run.end_ns)
        conclusive = evidence.conclusive(run.start_ns, run.end_ns)
        return Run(**{**run.__dict__, "double_active_ms": double, "conclusive": conclusive})

    def _wait(self, what: str, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        with self._doing(what) as update:
            while (left := end - time.monotonic()) > 0:
                update(f"{what}, {left:.0f} s left")
                time.sleep(min(1.0, left))

    @contextmanager
    def _doing(self, what: str) -> Iterator[Callable[[str], None]]:
        """A spinner on a terminal, a line elsewhere."""
        if self.console.is_terminal:
            with self.console.status(what) as status:
                yield status.update
        else:
            self.console.print(f"{what} ...")
            yield lambda _text: None


@dataclass(frozen=True)
class Check:
    what: str
    measured: str
    target: str
    passed: bool


def checks(results: Results, scenarios: list[str], extras: bool) -> list[Check]:
    """Every line of the table for one setting."""
    targets, found = TARGETS[results.setting], []
    double = max((run.double_active_ms for run in results.runs), default=0.0)
    blind = sum(not run.conclusive for run in results.runs)
    remark = f", {blind} runs inconclusive" if blind else ""
    found.append(
        Check("two nodes active at once, worst run", f"{double:.0f} ms{remark}", "never", double == 0 and not blind)
    )
    if results.mail:
        lost = len(results.mail.lost) + len(results.mail.corrupt) + len(results.mail.phantom)
        found.append(
            Check("acknowledged messages lost", f"{lost} of {results.mail.acknowledged}", "0", results.mail.passed)
        )
    else:
        found.append(Check("acknowledged messages lost", "not measured", "0", False))
    for scenario in scenarios:
        for service in instruments.SERVICES:
            values = [getattr(run, f"{service}_ms") for run in results.of(scenario)]
            target = targets.get(f"{scenario} {service}", math.inf)
            median = statistics.median(values) if values else math.inf
            spread = (
                f"{seconds(median)}  ({seconds(min(values))} to {seconds(max(values))})" if values else "not measured"
            )
            bound = f"≤ {seconds(target)}" if target < math.inf else ""
            found.append(Check(f"{scenario}, {service.upper()} outage", spread, bound, median <= target))
    if extras:
        moved = "not measured" if results.spurious_moves is None else str(results.spurious_moves)
        found.append(
            Check(f"spurious moves, {LOAD_S:.0f} s of {BUSY_LOOPS} busy loops", moved, "0", results.spurious_moves == 0)
        )
        moved = "?" if results.restart_moves is None else str(results.restart_moves)
        restart = f"{seconds(results.restart_ms)}, {moved} moves"
        unhurt = results.restart_ms < SPURIOUS_MS and results.restart_moves == 0
        cheap, small = results.cpu_s_per_min <= targets["cpu"], results.pss_mb <= targets["pss"]
        found += [
            Check("idle CPU s/min incl. checks", f"{results.cpu_s_per_min:.2f}", f"≤ {targets['cpu']}", cheap),
            Check("idle PSS", f"{results.pss_mb:.0f} MB", f"≤ {targets['pss']} MB", small),
            Check("restart of hamaild, longest gap", restart, "no interruption", unhurt),
        ]
    if results.problems:
        found.append(Check("problems", str(len(results.problems)), "0", False))
    return found


def table(setting: str, found: list[Check]) -> Table:
    result = Table(title=f"{setting} (detection = {DETECTION[setting]})", box=box.SIMPLE, title_justify="left")
    for column in ("what", "measured: median (range)", "target", ""):
        result.add_column(column, justify="left")
    for check in found:
        result.add_row(
            check.what, check.measured, check.target, "[green]pass[/]" if check.passed else "[bold red]FAIL[/]"
        )
    return result


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 2)


def main() -> int:
    options = arguments()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    build = options.out.resolve().parent
    build.mkdir(parents=True, exist_ok=True)
    lab = Lab(options.lab, lambda line: console.print(f"lab: {line}"))
    document: dict[str, Any] = {}
    passed = True
    try:
        bench = Bench(lab, console, build)
        for setting in options.settings:
            results = bench.measure(setting, options.runs, options.scenarios, options.extras)
            document[setting] = results.document()
            options.out.write_text(json.dumps(document, indent=2) + "\n")
            found = checks(results, options.scenarios, options.extras)
            passed = passed and all(check.passed for check in found)
            console.print(table(setting, found))
            console.print(f"recording the evidence took {results.recorder_percent:.1f} % of one core")
            for problem in results.problems:
                console.print(f"[red]  {problem}[/]")
    except Missing as error:
        console.print(f"[red]{error}[/]")
        return 1
    finally:
        if not options.keep:
            lab.down()
    console.print(f"[bold]{'PASS' if passed else 'FAIL'}[/]  figures: {options.out}")
    return 0 if passed else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each scenario (default: %(default)s)")
    parser.add_argument("--settings", type=_one_of(DETECTION), default=list(DETECTION), help="default,fast")
    parser.add_argument("--scenarios", type=_one_of(SCENARIOS), default=list(SCENARIOS), help=",".join(SCENARIOS))
    parser.add_argument(
        "--no-extras", dest="extras", action="store_false", help="only the scenarios: no load, idle, restart"
    )
    parser.add_argument("--lab", default="bench", help="name of the lab (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=BUILD / "bench.json")
    parser.add_argument("--keep", action="store_true", help="leave the lab running")
    return parser.parse_args()


def _one_of(known: dict[str, Any]) -> Callable[[str], list[str]]:
    def split(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: known are {', '.join(known)}")
        return names

    return split


if __name__ == "__main__":
    sys.exit(main())
