"""The last resort: a machine on which a stop hangs must reset itself."""

from hamail.doctor.findings import Findings
from hamail.doctor.line import Opinions, fail, ok, unknown, warn

SOFTWARE = "software watchdog"


def armed(f: Findings) -> Opinions:
    for node in f.mail_nodes():
        device = f.spec.nodes[node].watchdog_device
        if device is None:
            yield warn(
                node,
                "has no watchdog: if stopping hangs there, nothing resets it, and the others must fence it",
                f"set watchdog_device for {node} in cluster.toml and its node.toml (modprobe softdog without hardware)",
            )
            continue
        report = f.reports.get(node)
        if f.before_start:
            yield unknown(node, f"{device} is armed once hamail-executor runs", "meanwhile: wdctl")
        elif report is None:
            yield unknown(node, f.why_unknown(node))
        elif report.watchdog is None:
            yield unknown(node, "its hamaild has no connection to its executor", "systemctl status hamail-executor")
        elif not report.watchdog.armed:
            why = report.watchdog.detail or "nobody feeds it"
            remedy = f"on {node}: wdctl {device}; another program may hold it (systemd's RuntimeWatchdogSec, watchdog)"
            yield fail(node, f"{device} is not armed: {why}", f"{remedy}; then restart hamail-executor")
        elif report.watchdog.timeout_s and report.watchdog.timeout_s != f.spec.watchdog_timeout_s:
            said, wanted = report.watchdog.timeout_s, f.spec.watchdog_timeout_s
            yield fail(
                node,
                f"{device} resets after {said} s, but the other nodes count with {wanted} s",
                f"set watchdog_timeout = {said}s in cluster.toml and node.toml: the driver does not take {wanted} s",
            )
        elif SOFTWARE in report.watchdog.identity.lower():
            text = f"{device} is softdog: it ends a hang of programs, not one of the kernel"
            yield warn(
                node, text, "use the machine's own watchdog where it has one (iTCO_wdt, ipmi_watchdog, sp5100_tco)"
            )
        else:
            what = report.watchdog.identity or "a watchdog"
            yield ok(node, f"{device} ({what}) is armed, {report.watchdog.timeout_s} s")


def guests(f: Findings) -> Opinions:
    """A paused guest stops its clock and its watchdog together: the cluster must know which nodes are guests."""

    def one(node: str, machine: object) -> Opinions:
        facts = f.machine(node)
        assert facts is not None
        believed = f.spec.nodes[node].virtual
        if not facts.virtual:
            yield unknown(node, "nobody can tell whether it is a virtual machine")
        elif facts.virtual != "none" and not believed:
            text = f"is a virtual machine ({facts.virtual}), and cluster.toml does not say so"
            yield warn(node, text, f"set virtual = true in [nodes.{node}]: a lease alone is then not believed")
        elif facts.virtual == "none" and believed:
            yield warn(node, "is called virtual in cluster.toml and is none", f"remove `virtual` from [nodes.{node}]")
        else:
            yield ok(node, "real hardware" if facts.virtual == "none" else f"a virtual machine ({facts.virtual})")

    yield from f.each_machine(one)
