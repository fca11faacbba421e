"""`make demo`: a mail service that survives the loss of its active server, on three real nodes, measured from outside.

Mail flows through the floating address all the time. The power of the active node is cut, the takeover is shown as it
happens, the node comes back, and the service is moved in order. Ends with the figures, a picture in build/demo.svg and
PASS or FAIL. Where the machine cannot host the lab, the same story runs in the simulator, plainly labelled.
"""

import argparse
import importlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from tests.lab import features, instruments, mail, moves, report
from tests.lab.evidence import Evidence, by_component
from tests.lab.lab import Lab, LabError, Missing, top_folder
from tests.lab.live import Events, Live
from tests.lab.node import NodeError
from tests.lab.oracle import Sent, Verdict
from tests.lab.probe import Attempt, Probe, outage

BUILD = Path(__file__).resolve().parents[2] / "build"
STEADY_S = 4.0  # of undisturbed service before and after each scenario
QUIET_NS = 1_500_000_000  # without a failed connection: the scenario is over
SCENARIO_LIMIT_S = 60.0
HEALTHY_LIMIT_S = 120.0
MAIL_RATE = 10.0
PUMP_S = 0.1
PLAIN_WIDTH = 120  # where the output is no terminal


@dataclass(frozen=True)
class Scenario:
    name: str
    start: int
    outages_ms: dict[str, float]
    move: moves.Move | None


@dataclass(frozen=True)
class Outcome:
    """All that the verdict is about."""

    scenarios: list[Scenario]
    evidence: Evidence
    attempts: list[Attempt]
    sent: list[Sent]
    mail: Verdict
    start: int
    end: int

    def faults(self) -> list[str]:
        """Why it is not a PASS; empty when it is."""
        found = []
        if double := self.evidence.double_active_ms(self.start, self.end):
            parts = {c: f"{ms:.0f} ms" for c, ms in by_component(self.evidence, self.start, self.end).items() if ms}
            found.append(f"two nodes were active at once for {double:.0f} ms {parts or ''}")
        if not self.evidence.conclusive(self.start, self.end):
            found.append("the kernel's evidence has a gap, so it proves nothing")
        for what in ("lost", "corrupt", "phantom"):
            if ids := getattr(self.mail, what):
                found.append(f"{len(ids)} messages {what}: {', '.join(ids[:5])}")
        if not self.mail.acknowledged:
            found.append("not one message was acknowledged")
        for scenario in self.scenarios:
            never = [s.upper() for s, ms in scenario.outages_ms.items() if ms == float("inf")]
            if never:
                found.append(f"{scenario.name}: {' and '.join(never)} never came back")
        return found


class Demo:
    def __init__(self, lab: Lab, console: Console, build: Path, running: bool = False) -> None:
        self.lab, self.console, self.build, self.running = lab, console, build, running

    def run(self) -> Outcome:
        active = self._boot()
        standby = instruments.other(active)
        with ExitStack() as stack:
            recorder = stack.enter_context(instruments.recorder(self.lab, self.build / "demo-evidence.jsonl"))
            probe = stack.enter_context(instruments.probe(self.lab, self.build / "demo-probe.txt"))
            load = stack.enter_context(instruments.mail_load(self.lab, self.build / "demo-mail.jsonl", MAIL_RATE))
            events = Events(self.lab)
            stack.callback(events.close)
            if not probe.wait_until_up(instruments.SERVICES, 20):
                raise LabError("the mail service does not answer at its floating address")
            live = Live(self.console, recorder.path, probe.path, events)
            stack.callback(live.close)
            start = time.monotonic_ns()
            self._say(f"clients connect every 10 ms, and {MAIL_RATE:.0f} messages a second flow through {load.host}")
            self._flow(live, load, STEADY_S)
            scenarios = [
                self._scenario("power cut", live, load, probe, lambda: self.lab.cut(active), f"power of {active} cut")
            ]
            self._flow(live, load, STEADY_S)
            self._return(active, live, load)
            order = f"hamailctl switchover mail --to {active}"
            scenarios.append(
                self._scenario(
                    "switchover", live, load, probe, lambda: moves.switchover(self.lab, standby, active), order
                )
            )
            self._flow(live, load, STEADY_S)
            end = time.monotonic_ns()
            return self._collect(scenarios, start, end, recorder, probe, load)

    def _boot(self) -> str:
        self._say("three real nodes: n1 and n2 are mail servers over one shared disk, n3 is the witness")
        if not self.running:
            with self._doing("building and booting the lab (the first time a few minutes, later seconds)"):
                self.lab.up()
        with self._doing("waiting until the cluster is fully redundant"):
            active = self.lab.wait_healthy(HEALTHY_LIMIT_S)
        self.console.print(self.lab.run(active, "hamailctl status").stdout, markup=False, highlight=False)
        return active

    def _scenario(
        self, name: str, live: Live, load: mail.MailLoad, probe: Probe, fault: Callable[[], None], text: str
    ) -> Scenario:
        self.console.rule(f"[bold]{name}[/]: {text}")
        before = moves.latest(self.lab)
        live.pump()
        start = live.begin()
        live.say(start, "lab", text)

        def over() -> bool:
            return time.monotonic_ns() - max(live.last_break, start) > QUIET_NS and self._moved(before)

        self._meanwhile(fault, "", live, load, over)
        made = moves.since(self.lab, before)
        attempts = probe.attempts()
        outages = {s: outage(attempts, s, start).ms for s in instruments.SERVICES}
        said = ", ".join(f"{s.upper()} {report.seconds(ms)}" for s, ms in outages.items())
        self._say(f"{name}: longest time without an answer: {said}")
        return Scenario(name, start, outages, made[-1] if made else None)

    def _moved(self, before: int) -> bool:
        try:
            made = moves.since(self.lab, before)
        except NodeError:
            return False
        return bool(made) and made[-1].result != "running"

    def _meanwhile(
        self,
        work: Callable[[], object],
        what: str,
        live: Live,
        load: mail.MailLoad,
        over: Callable[[], bool] = lambda: True,
    ) -> None:
        """Do `work` beside telling what happens, until it is done and `over` says so (or SCENARIO_LIMIT_S)."""
        errors: list[Exception] = []

        def guarded() -> None:
            try:
                work()
            except Exception as error:
                errors.append(error)  # raised by the thread that waits

        worker = threading.Thread(target=guarded)
        worker.start()
        end = time.monotonic() + SCENARIO_LIMIT_S
        with self._doing(what) as update:
            while worker.is_alive() or (time.monotonic() < end and not errors and not over()):
                live.pump()
                update(f"{what}{': ' if what else ''}{self._counts(load)}")
                time.sleep(PUMP_S)
        worker.join()
        live.pump()
        if errors:
            raise errors[0]

    def _return(self, node: str, live: Live, load: mail.MailLoad) -> None:
        self.console.rule(f"[bold]return[/]: power of {node} on")
        live.pump()
        live.say(live.begin(), "lab", f"power of {node} on; nothing moves back by itself")

        def back() -> None:
            self.lab.on(node)
            self.lab.wait_healthy(HEALTHY_LIMIT_S)

        self._meanwhile(back, f"{node} boots and joins again", live, load)
        self._say(f"fully redundant again, still active on {self.lab.active()}")

    def _flow(self, live: Live, load: mail.MailLoad, limit_s: float) -> None:
        """Let mail flow, with its counts shown."""
        end = time.monotonic() + limit_s
        with self._doing("mail flows") as update:
            while time.monotonic() < end:
                live.pump()
                update(self._counts(load))
                time.sleep(PUMP_S)
        self._say(self._counts(load))

    @staticmethod
    def _counts(load: mail.MailLoad) -> str:
        now = load.progress()
        return (
            f"mail: {now.sent} sent, {now.acknowledged} acknowledged, {now.seen} read back, {now.in_flight} under way"
        )

    def _collect(self, scenarios, start, end, recorder, probe, load) -> Outcome:
        with self._doing("waiting for every message's outcome, then reading all mailboxes back"):
            sent = load.stop()
            active = self.lab.wait_healthy(HEALTHY_LIMIT_S)
            verdict = mail.verdict(load, sent, lambda script: self.lab.run(active, script).stdout)
            attempts = probe.stop()
            evidence = recorder.stop()
        return Outcome(scenarios, evidence, attempts, sent, verdict, start, end)

    def _say(self, text: str) -> None:
        self.console.print(f"[bold]>[/] {text}", highlight=False)

    @contextmanager
    def _doing(self, what: str) -> Iterator[Callable[[str], None]]:
        """A spinner with the time gone by on a terminal, a line elsewhere."""
        if not self.console.is_terminal:
            if what:
                self._say(f"{what} ...")
            yield lambda _text: None
            return
        since = time.monotonic()
        with self.console.status(what) as status:
            yield lambda text: status.update(f"{text}  [dim]{time.monotonic() - since:.0f} s[/]")


def picture(result: Outcome) -> report.Timeline:
    start, end = result.start, result.end
    wall_offset_ns = time.time_ns() - time.monotonic_ns()
    rows = [report.service_row(s.upper(), result.attempts, s, start, end) for s in instruments.SERVICES]
    rows += [report.node_row(result.evidence, node, start, end) for node in result.evidence.nodes()]
    rows.append(report.overlap_row(result.evidence, start, end))
    rows.append(report.mail_row(result.sent, start, end))
    marks = [
        report.Mark(
            s.start,
            f"{s.name} (SMTP {report.seconds(s.outages_ms['smtp'])}, IMAP {report.seconds(s.outages_ms['imap'])})",
        )
        for s in result.scenarios
    ]
    points = [
        report.Mark(at_ms * 1_000_000 - wall_offset_ns, point, "#52606d")
        for s in result.scenarios
        if s.move
        for point, at_ms in s.move.points
        if point in ("fenced", "stopped", "first answer")
    ]
    double = result.evidence.double_active_ms(start, end)
    mails = result.mail
    notes = (
        f"mail: {mails.acknowledged} acknowledged, {len(mails.lost)} lost, {len(mails.duplicated)} duplicated; "
        f"two nodes active at once, by the kernel's evidence: {double:.0f} ms",
    )
    title = "hamail: a mail service through a power cut and a planned switchover"
    inside = tuple(p for p in points if start <= p.at <= end)
    return report.Timeline(title, start, end, tuple(rows), tuple(marks), inside, notes)


def outage_table(result: Outcome) -> Table:
    table = Table(title="What clients saw", box=box.SIMPLE, title_justify="left")
    table.add_column("scenario")
    for service in instruments.SERVICES:
        table.add_column(f"{service.upper()} outage", justify="right")
    table.add_column("two nodes active")
    ends = [s.start for s in result.scenarios[1:]] + [result.end]
    for scenario, end in zip(result.scenarios, ends, strict=True):
        double = result.evidence.double_active_ms(scenario.start, end)
        shown = [report.seconds(scenario.outages_ms[s]) for s in instruments.SERVICES]
        table.add_row(scenario.name, *shown, f"[red]{double:.0f} ms[/]" if double else "never")
    return table


def tell(console: Console, result: Outcome, written: list[Path]) -> int:
    console.rule("[bold]result[/]")
    console.print(outage_table(result))
    for scenario in result.scenarios:
        if scenario.move:
            move = scenario.move
            title = f"{scenario.name}: {move.source} -> {move.target}, as hamail tells it"
            console.print(report.phase_table(title, move.since_start()))
    console.print(report.mail_table(result.mail))
    cost = 100 * result.evidence.cpu_s / max(result.evidence.lasted_s, 1e-9)
    frames = len(result.evidence.announcements)
    console.print(
        f"kernel evidence: {len(result.evidence.holds)} holds, {frames} frames on the switch; {cost:.1f} % of a core"
    )
    console.print(f"picture: {', '.join(map(str, written))}")
    faults = result.faults()
    for fault in faults:
        console.print(f"[red]- {fault}[/]")
    word, colour = ("FAIL", "red") if faults else ("PASS", "green")
    console.print(Panel(f"[bold {colour}]{word}[/]", expand=False))
    return 1 if faults else 0


def simulated(console: Console, lacks: str) -> int:
    """The same story without nodes. Raises nothing: where the simulator is missing too it says so and fails."""
    console.print(f"[yellow]{lacks}[/]")
    try:
        story = importlib.import_module("hamail.simulation.story")
    except ModuleNotFoundError as error:
        console.print(f"[red]and the simulator is not there either: {error}[/]")
        return 1
    label = "SIMULATED: no node, no mail server and no network is real in what follows; the decisions are hamail's own."
    console.print(Panel(f"[bold yellow]{label}[/]"))
    for line in story.power_cut_story():
        console.print(f"[yellow]simulated[/]  {line}", highlight=False)
    console.print(Panel("[bold yellow]SIMULATED[/]: nothing was measured on this machine.", expand=False))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.demo", description=__doc__)
    parser.add_argument("--lab", default="demo", help="name of the lab (default: %(default)s)")
    parser.add_argument(
        "--build", type=Path, default=BUILD, help="folder for picture and records (default: %(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="leave the lab running")
    parser.add_argument("--running", action="store_true", help="use the lab of that name as it runs")
    parser.add_argument("--simulate", action="store_true", help="the simulated story, also where the lab would run")
    options = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    if options.simulate:
        return simulated(console, "asked for the simulator")
    with console.status("looking what this machine can do") if console.is_terminal else ExitStack():
        lacks = features.missing(top_folder())
    if lacks:
        return simulated(console, features.sentence(lacks))
    options.build.mkdir(parents=True, exist_ok=True)
    lab = Lab(options.lab, lambda line: console.print(f"  [dim]lab: {line}[/]"))
    try:
        result = Demo(lab, console, options.build.resolve(), options.running).run()
        return tell(console, result, report.save(picture(result), options.build / "demo.svg"))
    except Missing as error:
        return simulated(console, str(error))
    except (LabError, NodeError, RuntimeError, ValueError, OSError, subprocess.SubprocessError) as error:
        console.print("[bold red]FAIL[/]:", escape(str(error)))
        return 1
    finally:
        if options.keep:
            console.print(f"the lab runs on: python -m tests.lab --lab {options.lab} exec n1 'hamailctl status'")
        else:
            lab.down()


if __name__ == "__main__":
    sys.exit(main())
