"""The running cluster as the tests see it: what hamail says, what the kernel proves, what clients see."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hamail.control.client import ControlClient
from hamail.model.situation import Situation
from tests.cluster import timed
from tests.cluster.ask import SOCKET, NoAnswer, ask
from tests.lab import instruments, mail
from tests.lab.cluster import MAIL_NODES, NODES, WITNESS
from tests.lab.evidence import Evidence
from tests.lab.lab import Lab, LabError
from tests.lab.mail import MailLoad
from tests.lab.node import Node, NodeError
from tests.lab.oracle import Sent, Verdict
from tests.lab.probe import Probe
from tests.lab.recorder import Recorder

DETECTION = "1s"
BUILD = Path(__file__).resolve().parents[2] / "build"
MAIL_RATE = 2.0
POLL_S = 0.02
HEALTHY_S = 45.0
RECOVERED_S = 45.0  # after a test, with all faults taken back
DRAIN_S = 150.0  # after a power cut Dovecot honours a dead server's lock files for two minutes
FORGIVEN_NS = 1_000_000_000
SEEN_S = 2.0  # how long the recorder may take to have written what has happened
MASTER_PID = "/srv/mail/queue/pid/master.pid"


class World:
    """One lab with a recorder and a mail load that last as long as it does."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.nodes: dict[str, Node] = {}
        self.recorder: Recorder | None = None
        self.load: MailLoad | None = None
        self.began_ns = 0
        self.began_at = 0.0  # wall clock
        self.last_event = 0
        self.promised: dict[int, int] = {}  # move -> what `hamailctl plan` said it takes at most, in milliseconds
        self.before: Situation | None = None  # all that a plan would have been made from when the test began
        self.forgiven: list[tuple[int, int]] = []  # times in which a test itself made two nodes hold something

    # Life

    def start(self) -> None:
        self.lab.up(detection=DETECTION, watchdog_resets=True)
        self.nodes = self.lab.nodes
        self.wait_healthy(HEALTHY_S)
        # Only now: a lab has its addresses once it is up.
        evidence = BUILD / self.lab.name  # another session at the same time has its own
        evidence.mkdir(parents=True, exist_ok=True)
        self.recorder = instruments.recorder(self.lab, evidence / "cluster-evidence.jsonl").start()
        self.load = instruments.mail_load(self.lab, evidence / "cluster-mail.jsonl", MAIL_RATE).start()

    def stop(self) -> None:
        for instrument in (self.load, self.recorder):
            if instrument is not None:
                instrument.__exit__()

    def begin(self) -> None:
        """A test begins: with a healthy cluster, or not at all."""
        self.wait_healthy(HEALTHY_S)
        # As whoever has mended a failure does: a node that has just failed is no good target.
        self.client("n1").clear("mail")
        self.began_ns, self.began_at = time.monotonic_ns(), time.time()
        self.last_event = max((e["index"] for e in self.ask("events?after=0")["events"]), default=0)
        self.lab.struck.clear()
        self.promised.clear()
        self.before = self.client(WITNESS).situation()

    def end(self) -> None:
        """A test ends: all faults are taken back, the cluster must recover by itself, and never were two active."""
        self.lab.restore()
        try:
            self.wait_healthy(RECOVERED_S)
        finally:
            evidence = self.check_evidence(self.began_ns)
        for line in timed.check(timed.read(self.moves()), evidence, self.lab.struck, self.before, self.promised):
            print(line)

    def check_evidence(self, start_ns: int) -> Evidence:
        evidence = self.evidence()
        doubles = [span for span in evidence.overlaps(start=start_ns) if not self._is_forgiven(span)]
        held = {c: evidence.overlap_ms(c, start_ns) for c in evidence.components()}
        assert not doubles, f"two nodes active at once: {doubles}; milliseconds: {held}"
        assert evidence.conclusive(start_ns), "the recorder did not see everything"
        return evidence

    def forgive(self, why: str) -> None:
        """For the next moment two nodes may hold something, because the test itself puts it there."""
        assert why
        now = time.monotonic_ns()
        self.forgiven.append((now, now + FORGIVEN_NS))

    def _is_forgiven(self, span: tuple[int, int]) -> bool:
        return any(start <= span[0] and span[1] <= end for start, end in self.forgiven)

    # What hamail says

    def ask(self, path: str, node: str = "") -> dict[str, Any]:
        """From `node`, or from one that has a quorum, or from any. Raises NoAnswer."""
        return ask(self.nodes[node or self._teller()], path)

    def _teller(self) -> str:
        """Who is to be asked: the witness is hardly ever hit by a fault, and a cut-off node knows old things only."""
        answering, errors = [], []
        for name in (WITNESS, *MAIL_NODES):
            try:
                if ask(self.nodes[name], "status")["quorum"]:
                    return name
                answering.append(name)
            except NoAnswer as error:
                errors.append(str(error))
        if not answering:
            raise NoAnswer("; ".join(errors))
        return answering[0]

    def status(self, node: str = "") -> dict[str, Any] | None:
        try:
            return self.ask("status", node)
        except NoAnswer:
            return None

    def alerts(self, node: str) -> set[str]:
        """What it calls pending: "no-standby mail"."""
        status = self.status(node) or {"alerts": ()}
        return {f"{alert['name']} {alert['subject']}" for alert in status["alerts"]}

    def group(self, node: str = "", name: str = "mail") -> dict[str, Any]:
        """A group as a node sees it; {} when it gives no answer."""
        status = self.status(node)
        return next((g for g in status["groups"] if g["name"] == name), {}) if status else {}

    def view(self, of: str, by: str = "") -> dict[str, Any]:
        """What a node sees of another one; {} when it gives no answer."""
        status = self.status(by)
        return next((n for n in status["nodes"] if n["name"] == of), {}) if status else {}

    @property
    def active(self) -> str:
        group = self.group()
        return group["owner"] if group and group["phase"] == "active" else ""

    def epoch(self, node: str = "") -> int:
        return self.group(node)["epoch"]

    def events(self) -> list[dict[str, Any]]:
        """Of this test."""
        return self.ask(f"events?after={self.last_event}")["events"]

    def told(self) -> str:
        """All sentences of this test."""
        return "\n".join(e["sentence"] for e in self.events())

    def moves(self) -> list[dict[str, Any]]:
        """Of this test, oldest first."""
        return [m for m in self.ask("history")["moves"] if m["id"] > self.last_event]

    def why(self, node: str = "") -> str:
        return "\n".join(self.ask("why/mail", node)["sentences"])

    def ctl(self, node: str, words: str, code: int | None = 0, timeout_s: float = 60) -> subprocess.CompletedProcess:
        """Run hamailctl in a node; `code` is the exit code that it must end with (None: any)."""
        result = self.nodes[node].run(f"hamailctl {words}", check=False, timeout_s=timeout_s)
        said = f"hamailctl {words}: exit code {result.returncode}\n{result.stdout}{result.stderr}"
        assert code is None or result.returncode == code, said
        return result

    def unhealthy(self) -> str:
        owners = set()
        for name in NODES:
            status = self.status(name)
            if status is None:
                return f"{name} gives no status"
            passive = [view["detail"] for view in status["nodes"] if view["name"] == name and not view["ready"]]
            if not status["quorum"] or passive:
                return f"{name}: quorum {status['quorum']}; {'; '.join(passive)}"
            for group in status["groups"]:
                if group["phase"] != "active":
                    return f"{name} sees {group['name']} {group['phase']}: {group['sentence']}"
                if set(group["resources"].values()) - {"up", "unknown"}:
                    return f"{name} sees {group['name']}: {group['resources']}"
                owners.add((group["name"], group["owner"]))
            for view in status["nodes"]:
                able = view["witness"] or (view["joined"] and view["ready"] and not view["standby"])
                if not view["alive"] or view["suspected"] or not able:
                    return f"{name} sees {view['name']} not ready: {view['detail'] or 'silent or not joined'}"
        return "" if len(owners) == 1 else f"nodes disagree about the owner: {sorted(owners)}"

    def wait_healthy(self, seconds: float) -> None:
        deadline_s = time.monotonic() + seconds
        while why := self.unhealthy():
            if time.monotonic() > deadline_s:
                raise LabError(f"the cluster is not healthy after {seconds:.0f} s: {why}")
            time.sleep(POLL_S)

    # Waiting

    def until(self, condition: Callable[[], Any], seconds: float, what: str = "") -> float:
        """Wait for it; returns how many seconds that took. Fails the test when it takes longer."""
        started_s = time.monotonic()
        while not condition():
            waited_s = time.monotonic() - started_s
            assert waited_s < seconds, f"not within {seconds} s: {what}\n{self.story()}"
            time.sleep(POLL_S)
        return time.monotonic() - started_s

    def until_active(self, node: str, seconds: float = 10) -> float:
        return self.until(lambda: self.active == node, seconds, f"the group active on {node}")

    def until_told(self, pattern: str, seconds: float = 10) -> str:
        """Wait until an event of this test says it; returns the match."""
        self.until(lambda: re.search(pattern, self.told()), seconds, f"an event that says {pattern!r}")
        return re.search(pattern, self.told()).group(0)

    def never(self, condition: Callable[[], Any], seconds: float, what: str) -> None:
        """Watch for so long that it does not happen."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            assert not condition(), f"{what}\n{self.story()}"
            time.sleep(POLL_S)

    def story(self) -> str:
        """What happened in this test, for the report of a failure."""
        try:
            return f"-- events:\n{self.told()}\n-- why:\n{self.why()}"
        except NoAnswer as error:
            return f"-- nobody answers: {error}"

    def save_logs(self, file: Path) -> None:
        """What the nodes that are on have written since this test began, for the reader of a failure."""
        units = "-u hamaild -u hamail-executor -u 'postfix*' -u dovecot"
        parts = [self.story()]
        for name, node in self.nodes.items():
            try:
                command = f"journalctl --no-pager -o short-precise --since @{self.began_at:.0f} {units}"
                parts.append(f"== {name}\n{node.run(command, check=False, timeout_s=10).stdout}")
            except NodeError as error:
                parts.append(f"== {name}: {error}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(parts))

    # What the kernel proves

    def evidence(self) -> Evidence:
        """Everything up to now."""
        now, end_s = time.monotonic_ns(), time.monotonic() + SEEN_S
        while True:
            evidence = self.recorder.read()
            if evidence.until >= now:
                return evidence
            assert time.monotonic() < end_s, "the recorder is not awake"
            time.sleep(0.1)

    def holders(self) -> set[str]:
        """Nodes that hold anything at all right now, by kernel evidence."""
        evidence = self.evidence()
        return set(evidence.active_nodes(evidence.until - 300_000_000)) & set(evidence.active_nodes(evidence.until))

    def holds(self, node: str) -> bool:
        """Ask the node's kernel directly for mount, address, mail processes. A node that is off holds nothing."""
        vip = self.lab.addresses.vip
        look = f"grep -q ' /srv/mail ' /proc/mounts || ip -o addr | grep -q ' {vip}/' || pgrep -x 'master|dovecot'"
        return self.nodes[node].powered and self.nodes[node].run(look, check=False, timeout_s=10).returncode == 0

    # What clients see

    @contextmanager
    def probing(self, name: str) -> Iterator[Probe]:
        with instruments.probe(self.lab, BUILD / f"cluster-probe-{name}.txt") as probe:
            time.sleep(0.3)
            yield probe

    def verdict(self) -> Verdict:
        """Stop the mail load and judge every message of it."""
        sent: list[Sent] = self.load.stop()
        return mail.verdict(self.load, sent, lambda script: self.nodes[self.active].run(script).stdout, DRAIN_S)

    # Configuration

    def source(self) -> str:
        return self.ask("config")["config"]["source"]

    def client(self, node: str) -> ControlClient:
        return ControlClient(f"/proc/{self.nodes[node].init()}/root/{SOCKET}")

    def apply(self, source: str, node: str = "n1") -> None:
        self.nodes[node].run(["sh", "-c", "cat >/tmp/new.toml"], input=source)
        self.ctl(node, "config apply /tmp/new.toml --yes --reason test")

    # Processes

    def main_pid(self, node: str, unit: str) -> int:
        return int(self.nodes[node].run(f"systemctl show -P MainPID {unit}").stdout)

    def journal(self, node: str, unit: str) -> str:
        """What a unit has written since this boot."""
        return self.nodes[node].run(f"journalctl -b --no-pager -o cat -u {unit}").stdout
