"""`hamailctl doctor`: everything that bites later, looked at now."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hamail.cli.app import JSON_SCHEMA, App, Exit, examples, json_option, pass_app
from hamail.doctor.areas import AREAS

if TYPE_CHECKING:
    from hamail.config.doctor import DoctorConfig
    from hamail.doctor.findings import Findings
    from hamail.doctor.line import Line

CLUSTER_FILE, NODE_FILE = Path("/etc/hamail/cluster.toml"), Path("/etc/hamail/node.toml")
WITH_DNS = ("dns", "same")  # areas that look at names or served certificates


@click.command(
    short_help="Look for everything that bites later, with remedies.",
    epilog=examples(
        "hamailctl doctor",
        "hamailctl doctor --only fence --only storage",
        "hamailctl doctor --before-start",
        "hamailctl doctor --only dns --nameserver 192.0.2.53 --domain example.org",
    )
    + "\n\nExit code 1 when there is a failure; a warning, or what nobody could tell, is none.",
)
@click.option("--only", "areas", multiple=True, type=click.Choice(AREAS), help="One area; may be given again.")
@click.option("--before-start", is_flag=True, help="This machine and the configuration file only, without hamaild.")
@click.option("--quiet", "-q", is_flag=True, help="Only what is not ok.")
@click.option("--nameserver", metavar="ADDRESS", default="", help="Ask this one, as 192.0.2.53 or 192.0.2.53#5353.")
@click.option("--hostname", metavar="NAME", default="", help="Of the mail service.  [default: Postfix' myhostname]")
@click.option("--domain", "domains", metavar="NAME", multiple=True, help="That receives mail here; may be given again.")
@click.option("--selector", "selectors", metavar="[DOMAIN:]NAME", multiple=True, help="Of a DKIM key.")
@click.option("--no-dns", is_flag=True, help="Ask no name server.")
@click.option(
    "--config", "cluster_file", metavar="FILE", type=click.Path(path_type=Path), default=CLUSTER_FILE,
    show_default=True, help="With --before-start.",
)  # fmt: skip
@click.option(
    "--node-config", "node_file", metavar="FILE", type=click.Path(path_type=Path), default=NODE_FILE, show_default=True
)
@json_option
@pass_app
def doctor(
    app: App, areas: tuple[str, ...], before_start: bool, quiet: bool, nameserver: str, hostname: str,
    domains: tuple[str, ...], selectors: tuple[str, ...], no_dns: bool, cluster_file: Path, node_file: Path,
) -> None:  # fmt: skip
    """Look at nodes, fencing, storage, mail programs and DNS before they fail you.

    Each line has a verdict (ok, warn, fail, unknown), a reason, and what to do. Unknown is not failure.
    """
    from hamail.doctor.checks import judged

    wanted = areas or AREAS
    findings = _before_start(app, cluster_file) if before_start else _of_cluster(app)
    known = _configured(app, node_file)
    if not no_dns and set(wanted) & set(WITH_DNS):
        from hamail.config.doctor import DoctorConfig

        given = DoctorConfig(
            nameserver=nameserver or known.nameserver,
            hostname=hostname or known.hostname,
            domains=domains or known.domains,
            selectors=selectors or known.selectors,
        )
        findings = _with_names(app, findings, given, serving=not before_start)
    lines = judged(findings, wanted)
    _show(app, lines, quiet, before_start)
    if any(line.verdict == "fail" for line in lines):
        raise SystemExit(int(Exit.FAILED))


def _of_cluster(app: App) -> "Findings":
    from hamail.control.client import DaemonDown
    from hamail.doctor.findings import Findings

    client = app.client
    try:
        status = client.status()
    except DaemonDown as error:
        app.end(Exit.NOT_DONE, error.error, hint="Without it: hamailctl doctor --before-start")
    state = client.state()
    if not state.config.revision:
        text = "the cluster has not started yet: no majority of nodes has been reached"
        app.end(Exit.REFUSED, text, hint="Until then: hamailctl doctor --before-start")
    if not app.json and app.console.is_terminal:
        app.say("asking the nodes ...", "dim")
    answer = client.reports()
    return Findings(
        spec=state.spec,
        timings=client.timings().timings,
        me=status.node,
        at_ms=status.at_ms,
        status=status,
        reports=answer.reports,
        silent=answer.silent,
    )


def _before_start(app: App, cluster_file: Path) -> "Findings":
    from hamail.config import ConfigError, load_cluster
    from hamail.config.local import local_interfaces, whose
    from hamail.core.timing import derive
    from hamail.doctor.findings import Findings
    from hamail.doctor.here import connect, look

    try:
        spec, _ = load_cluster(cluster_file)
    except ConfigError as error:
        app.end(Exit.REFUSED, f"{cluster_file} cannot be used", [str(problem) for problem in error.problems])
    me = whose(spec, local_interfaces())
    report = look(spec) if me is not None else None
    silent = {name: "before the start each node sees only itself: run this there, too" for name in spec.nodes}
    return Findings(
        spec=spec,
        timings=derive(spec.detection_ms, spec.watchdog_timeout_s),
        me=me,
        at_ms=time.time_ns() // 1_000_000,
        before_start=True,
        reports={me: report} if me is not None and report is not None else {},
        silent=silent,
        reach={name: connect(node.address, node.port) for name, node in spec.nodes.items() if name != me},
    )


def _configured(app: App, node_file: Path) -> "DoctorConfig":
    """`[doctor]` of node.toml; a machine that is no node has none."""
    from hamail.config import ConfigError, load_node
    from hamail.config.doctor import DoctorConfig

    if not node_file.exists():
        return DoctorConfig()
    try:
        return load_node(node_file).doctor
    except ConfigError as error:
        app.end(Exit.REFUSED, f"{node_file} cannot be used", [str(problem) for problem in error.problems])


def _with_names(app: App, findings: "Findings", given: "DoctorConfig", *, serving: bool) -> "Findings":
    import msgspec

    from hamail.doctor import questions, served
    from hamail.doctor.dns_facts import DnsFacts
    from hamail.doctor.resolve import NoNameServer, Resolver, gather

    address, _, port = given.nameserver.partition("#")
    try:
        resolver = Resolver(address, int(port or 53))
    except NoNameServer as error:
        return msgspec.structs.replace(findings, dns=DnsFacts(hostname="", down=str(error)))
    except ValueError as error:
        app.end(Exit.USAGE, f"--nameserver {given.nameserver}: {error}")
    hostname = given.hostname or questions.hostname(findings)
    domains = given.domains or questions.domains(findings)
    selectors = questions.selectors(findings, given.selectors, domains)
    facts = gather(resolver, hostname, domains, findings.vips(), selectors)
    shown = served.look(findings.vips(), smtp=findings.has("postfix"), imap=findings.has("dovecot")) if serving else {}
    return msgspec.structs.replace(findings, dns=facts, served=shown)


def _show(app: App, lines: "tuple[Line, ...]", quiet: bool, before_start: bool) -> None:
    counts = {verdict: sum(line.verdict == verdict for line in lines) for verdict in ("ok", "warn", "fail", "unknown")}
    if app.json:
        kept = [line for line in lines if not quiet or line.verdict != "ok"]
        app.emit({"schema": JSON_SCHEMA, "before_start": before_start, "counts": counts, "lines": kept})
        return
    from hamail.cli.doctor_view import render

    app.console.print(render(lines, counts, quiet))
