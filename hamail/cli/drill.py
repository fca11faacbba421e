"""`hamailctl drill`: a fault on purpose, measured from outside, with a report."""

import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hamail.cli.app import JSON_SCHEMA, App, DurationMs, Exit, examples, json_option, pass_app, yes_option

if TYPE_CHECKING:
    from hamail.control.client import ControlClient
    from hamail.model.practice import DrillOrder
    from hamail.model.state import ClusterState
    from hamail.practice.drill import Drill
    from hamail.practice.outside import Probe
    from hamail.practice.plan import Plan
    from hamail.practice.report import Check, DrillReport
    from hamail.probe.services import Account

NAMES = ("switchover", "service-kill", "node-loss", "network-loss", "storage-loss")
BASELINE_S = 10.0
EVERY_MS = 20
MAIL_EVERY_MS = 200
LONGEST_MS = 120_000
SETTLED_S = 60.0
EXPLAIN = """\b
  switchover    a planned move
  service-kill  a mail service dies on the active node
  node-loss     the power of the active node is cut through its fence device
  network-loss  the active node loses its network
  storage-loss  the active node loses its file system (ext4, xfs)
"""


@click.command(
    short_help="Practise a failure, and measure what it costs.",
    help=f"""Make a failure happen on purpose, watch it from outside, and write a report.

{EXPLAIN}
Asks before it does anything. Ctrl-C undoes what can be undone. All but switchover need `drills = true` under
[allow] in node.toml of the node that is to do it. Give the order on the witness: a probe on a mail node does not
see what clients see. Ends with 1 when the drill has not passed.
""",
    epilog=examples(
        "hamailctl drill switchover mail",
        "hamailctl drill node-loss --user probe@example.org --password-file ~/.probe -o /root/drills",
        "hamailctl drill service-kill --resource postfix --yes",
        "hamailctl drill node-loss --prober 'ssh monitor hamailctl probe mail.example.org \\",
        "    --detail --for 0ms --until-eof --json -'",
        "hamailctl drill --abort",
    ),
)
@click.argument("name", required=False, type=click.Choice(NAMES), metavar="[NAME]")
@click.argument("group", required=False)
@click.option("--abort", is_flag=True, help="End the drill that is under way, from any terminal.")
@click.option("--target", metavar="HOST", help="What the probe connects to.  [default: the group's address]")
@click.option("--to", "recipient", metavar="ADDRESS", help="Mailbox for the probe's mails.  [default: --user]")
@click.option("--user", default="", help="Login to read that mailbox: without it loss is not measured.")
@click.option("--password-file", type=click.Path(path_type=Path), help="Its password: the first line of a file.")
@click.option("--plain", is_flag=True, help="Send the password also where there is no TLS.")
@click.option("--prober", metavar="COMMAND", help="Have this command probe, on another machine for instance.")
@click.option("--every", "every_ms", type=DurationMs(), default=f"{EVERY_MS}ms", show_default=True)
@click.option("--mail-every", "mail_every_ms", type=DurationMs(), default=f"{MAIL_EVERY_MS}ms", show_default=True)
@click.option(
    "--duration", "duration_ms", type=DurationMs(), default="30s", show_default=True, help="Of a network loss."
)
@click.option("--resource", default="", help="What service-kill kills.  [default: the last service]")
@click.option("-o", "folder", type=click.Path(path_type=Path), default=Path(), help="Where reports go.")
@yes_option
@json_option
@pass_app
def drill(app: App, /, name: str | None, group: str | None, abort: bool, **given: Any) -> None:
    if abort:
        _abort(app)
        return
    if name is None:
        app.end(Exit.USAGE, f"which drill? {', '.join(NAMES)}", hint="Example: hamailctl drill switchover")
    from hamail.practice.drill import Drill

    state = app.client.state()
    chosen = _group(app, state, group)
    plan = _plan(app, app.client, state, name, chosen, given)
    folder = _folder(app, given["folder"], name)
    probe, begun = None, False
    try:
        probe, services, every_ms = _probe(app, state, plan, folder, given)
        stopped = _Stopped()
        run = Drill(app.client, plan, probe, services, lambda line: app.say(f"  {line}"), stopped)
        checks = _ready(app, run, given)
        begun = True
        _hold(app, run, stopped, checks, every_ms, folder, bool(given["prober"]))
    finally:
        if probe is not None:
            probe.stop()
        if not begun:
            _drop(folder)


def _group(app: App, state: "ClusterState", group: str | None) -> str:
    groups = sorted(state.spec.groups)
    if group is None and len(groups) == 1:
        return groups[0]
    if group not in groups:
        app.end(Exit.REFUSED if group else Exit.USAGE, f"which group? {', '.join(groups) or 'there is none'}")
    return str(group)


def _plan(
    app: App, client: "ControlClient", state: "ClusterState", name: str, group: str, given: dict[str, Any]
) -> "Plan":
    from hamail.practice import plan

    if state.group(group).owner is None:
        app.end(Exit.REFUSED, f"nobody runs {group}, so there is nothing to practise on", hint=f"hamailctl why {group}")
    if not 1000 <= given["duration_ms"] <= LONGEST_MS:
        app.end(Exit.USAGE, f"--duration must be between 1s and {LONGEST_MS // 1000}s")
    if not 10 <= given["every_ms"] <= 1000:
        app.end(Exit.USAGE, "--every must be between 10ms and 1s")
    if not 100 <= given["mail_every_ms"] <= 10_000:
        app.end(Exit.USAGE, "--mail-every must be between 100ms and 10s")
    objective = state.spec.objectives.rto_ms
    return plan.make(state, client.timings().timings, name, group, given["duration_ms"], given["resource"], objective)


def _folder(app: App, parent: Path, name: str) -> Path:
    folder = parent / f"drill-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        app.end(Exit.USAGE, f"{folder}: {error.strerror}")
    return folder


def _probe(
    app: App, state: "ClusterState", plan: "Plan", folder: Path, given: dict[str, Any]
) -> "tuple[Probe, tuple[str, ...], int]":
    from hamail.practice.outside import Elsewhere, Inside
    from hamail.practice.plan import DOORS
    from hamail.probe import prober, records
    from hamail.probe.services import KINDS, Service

    file = folder / "probe.jsonl"
    if given["prober"]:
        elsewhere = Elsewhere(given["prober"], file)
        try:
            elsewhere.start()
        except (OSError, ValueError) as error:
            app.end(Exit.USAGE, f"--prober: {error}")
        begin = next((line for line in elsewhere.lines() if isinstance(line, records.Start)), None)
        if begin is None:
            elsewhere.stop()
            app.end(Exit.FAILED, f"--prober has said nothing: {elsewhere.problem or 'it needs --detail --json -'}")
        return elsewhere, tuple(begin.services), begin.every_ms
    spec = state.spec.groups[plan.group]
    addresses = [r.parameters.get("address", "") for r in spec.resources if r.agent.endswith(":vip")]
    host = given["target"] or next((a.split()[0].partition("/")[0] for a in addresses if a.strip()), "")
    if not host:
        app.end(Exit.USAGE, f"{plan.group} has no floating address: say with --target what to connect to")
    kinds = [DOORS[t] for r in spec.resources if (t := r.agent.rpartition(":")[2]) in DOORS]
    services = tuple(Service(kind, host, KINDS[kind].port) for kind in sorted(set(kinds), reverse=True))
    if not services:
        app.end(Exit.REFUSED, f"{plan.group} has no mail service that could be probed")
    inside = Inside(
        prober.Plan(
            target=host,
            services=services,
            every_ms=given["every_ms"],
            for_ms=None,
            mail_every_ms=given["mail_every_ms"] if given["recipient"] or given["user"] else 0,
            account=_account(app, given),
            detail=True,
        ),
        file,
    )
    inside.start()
    return inside, tuple(s.name for s in services), given["every_ms"]


def _account(app: App, given: dict[str, Any]) -> "Account | None":
    from hamail.cli.probe import account

    return account(app, {**given, "sender": "", "tls_name": "", "submission": False, "submissions": False})


def _ready(app: App, run: "Drill", given: dict[str, Any]) -> "list[Check]":
    """Looks, tells, asks. Until this returns nothing was done to the cluster, and then no folder stays behind."""
    plan = run.plan
    checks = _preflight(app, run, given)
    _tell_plan(app, plan, checks)
    refused = [f"{c.name}: {c.detail}" if c.detail else c.name for c in checks if c.ok is False]
    if refused:
        app.end(Exit.REFUSED, f"no-go: drill {plan.name} was not begun; nothing was changed", refused)
    app.confirm(f"Begin drill {plan.name} of {plan.group} on {plan.source}?", given["yes"])
    return checks


def _hold(
    app: App, run: "Drill", stopped: "_Stopped", checks: "list[Check]", every_ms: int, folder: Path, elsewhere: bool
) -> None:
    client, probe = app.client, run.probe
    started_ms = probe.now_ms()
    with stopped:
        run.run()
        app.say("  Reading the mail back.")
        probe.stop()
    report = run.facts(_begun(client, run.plan, every_ms, started_ms, checks, elsewhere))
    _write(app, folder, report, probe)
    _record(app, client, report)
    _tell(app, report, folder)


def _drop(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


class _Stopped:
    """Ctrl-C ends the drill in order; a second one leaves at once."""

    def __init__(self) -> None:
        self._times = 0
        self._before: Any = None

    def __call__(self) -> bool:
        return self._times > 0

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, self._hit)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _hit(self, *_: object) -> None:
        self._times += 1
        if self._times > 1:
            click.echo("\nleft at once; end the fault with: hamailctl drill --abort", err=True)
            os._exit(130)


def _preflight(app: App, run: "Drill", given: dict[str, Any]) -> "list[Check]":
    from hamail.practice import plan
    from hamail.practice.outside import wait_steady
    from hamail.practice.report import Check

    app.say(f"Looking whether drill {run.plan.name} of {run.plan.group} may begin ...", "dim")
    checks = list(plan.checks(run.state(), run.client.status(), run.plan, here_only=not given["prober"]))
    well = wait_steady(run.probe, run.services, BASELINE_S)
    checks.append(
        Check(
            name="the probe sees a healthy service",
            ok=well,
            detail=f"{' and '.join(run.services)} did not answer every time",
        )
    )
    if well and (mailbox := run.probe.mailbox()) is not None:
        checks.append(Check(name="the probe's mailbox can be read", ok=not mailbox, detail=mailbox))
    if all(check.ok is not False for check in checks):
        checks.append(run.rehearse())
    return checks


def _tell_plan(app: App, plan: "Plan", checks: "list[Check]") -> None:
    words = {True: ("go", "green"), False: ("NO-GO", "bold red"), None: ("?", "yellow")}
    for check in checks:
        word, style = words[check.ok]
        app.say(f"  {word:6}{check.name}" + (f": {check.detail}" if check.ok is False and check.detail else ""), style)
    app.say("What will happen:", "bold")
    for step in plan.expected.steps:
        app.say(f"  - {step}")
    app.say(f"Expected outage: about {plan.expected.rto_ms} ms = {plan.expected.basis}.")
    kind = "objective" if plan.expected.objective_ms is not None else "limit"
    app.say(f"It passes with at most {plan.expected.limit_ms} ms ({kind}), and with no acknowledged mail lost.")


def _begun(
    client: "ControlClient", plan: "Plan", every_ms: int, started_ms: float, checks: "list[Check]", elsewhere: bool
) -> "DrillReport":
    from hamail.practice.report import DrillReport

    status = client.status()
    return DrillReport(
        id=f"{plan.name}-{round(started_ms)}",
        name=plan.name,
        cluster=status.cluster,
        group=plan.group,
        actor=os.environ.get("SUDO_USER") or os.environ.get("USER") or "root",
        probed_from="another machine" if elsewhere else platform.node(),
        every_ms=every_ms,
        config_revision=status.config_revision,
        started_ms=started_ms,
        ended_ms=started_ms,
        source=plan.source,
        checks=tuple(checks),
        expected=plan.expected,
    )


def _write(app: App, folder: Path, report: "DrillReport", probe: "Probe") -> None:
    from hamail.practice import paper
    from hamail.practice.picture import draw

    files: dict[str, Callable[[], str]] = {
        "report.json": lambda: json.dumps(as_json(report), indent=2) + "\n",
        "report.md": lambda: paper.markdown(report),
        "report.html": lambda: paper.html(report, draw(report, probe.lines())),
    }
    for name, make in files.items():
        try:
            (folder / name).write_text(make(), encoding="utf-8")
        except OSError as error:
            click.echo(f"hamailctl: {folder / name}: {error.strerror}", err=True)


def as_json(report: "DrillReport") -> dict[str, Any]:
    import msgspec

    facts: dict[str, Any] = msgspec.to_builtins(report)
    figures = {"rto_ms": report.rto_ms, "rpo": report.rpo, "verdict": report.verdict}
    return {**facts, **figures, "deviations": list(report.deviations())}


def _record(app: App, client: "ControlClient", report: "DrillReport") -> None:
    """Kept by the cluster, so that status can tell of the last drill. Its loss does not make the drill undone."""
    from hamail.control.client import ControlError
    from hamail.control.practice_api import DrillRecordRequest
    from hamail.model.practice import TEXT_CHARS_MAX, DrillRecord

    record = DrillRecord(
        id=report.id,
        name=report.name,
        group=report.group,
        at_ms=round(report.started_ms),
        verdict=report.verdict,
        rto_ms=report.rto_ms,
        rpo=report.rpo,
        expected_rto_ms=report.expected.rto_ms,
        detail="; ".join(report.failures())[:TEXT_CHARS_MAX],
    )
    try:
        client.order("drills/record", DrillRecordRequest(record=record))
    except ControlError as error:
        click.echo(f"hamailctl: the cluster has not kept the record: {error.error}", err=True)


def _tell(app: App, report: "DrillReport", folder: Path) -> None:
    from hamail.practice import paper
    from hamail.practice.report import PASSED

    if app.json:
        app.emit({**as_json(report), "schema": JSON_SCHEMA, "folder": str(folder)})
    style = "bold green" if report.verdict == PASSED else "bold red"
    app.say(f"drill {report.name}: {report.verdict}", style)
    for name, value in paper.figures(report):
        app.say(f"  {name:22} {value}")
    for text in report.deviations():
        app.say(f"  ! {text}", "yellow")
    app.say(f"Report: {folder / 'report.html'}, report.md, report.json; every connection: probe.jsonl")
    sys.stdout.flush()
    if report.verdict != PASSED:
        raise SystemExit(int(Exit.FAILED))


def _abort(app: App) -> None:
    """End the fault, and give a node its power back that a drill has taken."""
    from hamail.control.practice_api import EndDrillRequest
    from hamail.model.practice import Fault

    client = app.client
    order = client.state().drill
    if order is None:
        app.end(Exit.REFUSED, "no drill is under way", hint="A move, of a drill switchover too: hamailctl cancel")
    client.order("drills/end", EndDrillRequest(reason="drill --abort"))
    app.say(f"Drill {order.fault} of {order.target} is ended: what can be undone is undone.")
    if order.fault is Fault.POWER_OFF and not order.rehearse:
        _give_power_back(app, client, order)
    if app.json:
        app.emit({"schema": JSON_SCHEMA, "result": "done", "fault": order.fault, "node": order.target}, "drill-abort")


def _give_power_back(app: App, client: "ControlClient", order: "DrillOrder") -> None:
    """Only when the cluster has settled that the node is out: before that it must not come back."""
    from hamail.control.client import ControlError
    from hamail.control.practice_api import DrillRequest, EndDrillRequest
    from hamail.model.practice import DRILL_MS_MIN, Fault

    app.say(f"Waiting until the cluster has settled that {order.target} is out.", "dim")
    until_s = time.monotonic() + SETTLED_S
    while not _settled(client.state(), order.target):
        if time.monotonic() > until_s:
            app.say(f"{order.target} is not known to be out: look at hamailctl status.", "bold red")
            return
        time.sleep(0.2)
    body = DrillRequest(
        fault=Fault.POWER_ON,
        group=order.group,
        epoch=order.epoch,
        node=order.node,
        target=order.target,
        device=order.device,
        duration_ms=DRILL_MS_MIN,
        reason="drill --abort",
    )
    try:
        client.order("drills/order", body)
        app.say(f"{order.target} is being switched on again by {order.node}.")
        until_s = time.monotonic() + SETTLED_S
        while (now := client.state().drill) is not None and not now.result and time.monotonic() < until_s:
            time.sleep(0.2)
        client.order("drills/end", EndDrillRequest(reason="drill --abort"))
    except ControlError as error:
        app.say(f"{order.target} was not switched on ({error.error}): do it by hand.", "bold red")


def _settled(state: "ClusterState", node: str) -> bool:
    known = state.node(node)
    held = any(g.owner == node for g in state.groups.values())
    return known.incarnation is None and known.fence is None and not held


COMMANDS = (drill,)
