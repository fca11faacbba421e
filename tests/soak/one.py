"""One lab under fire: `python -m tests.soak.one --lab NAME --seed TEXT --out FOLDER`, started by `tests.soak`.

Step after step of the seed's schedule: wait until the cluster is healthy, do the faults, take them back, put the power
on again. Meanwhile the recorder, the probe and the mail clients run. At the end all mail is read back, everything seen
goes into FOLDER/history.jsonl, that is checked, and FOLDER/result.json says what came out.
"""

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.cluster.ask import NoAnswer, ask
from tests.cluster.world import World
from tests.lab import arrivals, instruments, pdu, probe
from tests.lab.cluster import MAIL_NODES, NODES
from tests.lab.lab import Lab, LabError
from tests.lab.mail import queued
from tests.lab.node import NodeError
from tests.soak import history, results
from tests.soak.faults import KINDS, PLANTS
from tests.soak.load import Load
from tests.soak.nemesis import FAILURES, Nemesis
from tests.soak.outfit import furnish
from tests.soak.schedule import FENCE_KIND, Step, steps

PROBE_MS = 60.0
HEALTHY_S = 60.0  # after a step; beyond it the cluster is stuck, which ends the run
FIRST_S = 150.0  # for the boot of a lab beside others
CLEAR_AFTER_S = 1.0  # an operator looks at what does not come back, and types `hamailctl clear`
CLEAR_PAUSE_S = 2.0
AFTER_S = 5.0  # a fault's outage may begin this long after it was taken back
DARK_S = 12.0
DRAIN_S = 270.0
POLL_S = 0.05
AGAIN_S = 0.25
PROBE_TAIL = 2000  # bytes: the last attempts
FLUSH_S = 2.0
WATCHDOG = re.compile(r"^(\d+) watchdog expired", re.MULTILINE)


class Soak:
    def __init__(self, lab: Lab, out: Path, options: argparse.Namespace) -> None:
        self.lab, self.out, self.options = lab, out, options
        self.world = World(lab)
        self._file = open(out / "nemesis.jsonl", "w", buffering=1)
        self._lock = threading.Lock()
        self._told = dict.fromkeys(NODES, 0)  # log index up to which each node's events are in the history
        self.owners: list[str] = []
        self.problems: list[str] = []
        self.ending = False  # after the present step
        self.commit = commit()
        self.wall_ns = time.time_ns() - time.monotonic_ns()
        self.started_s = time.monotonic()

    def note(self, kind: str, src: str = "nemesis", node: str = "", t: int = 0, **data: Any) -> None:
        record = {"t": t or time.monotonic_ns(), "src": src, "node": node, "kind": kind, "data": data}
        with self._lock:
            self._file.write(json.dumps(record, separators=(",", ":")) + "\n")

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.started_s:7.1f} s  {text}", flush=True)

    @property
    def pdu_mode(self) -> pdu.Mode:
        """When no fault makes it another one."""
        return pdu.Mode.LIAR if self.options.plant == "liar" else pdu.Mode.OK

    @property
    def failovers(self) -> int:
        return sum(a != b for a, b in pairwise(self.owners))

    # The run

    def run(self) -> None:
        options = self.options
        outfit = partial(furnish, self.lab, options.detection, plant=options.plant)
        self.lab.up(options.detection, watchdog_resets=True, furnish=outfit)
        self.lab.pdu_mode = self.pdu_mode
        self.world.nodes = self.lab.nodes
        self.world.wait_healthy(FIRST_S)
        self.say(f"lab {self.lab.name} is healthy")
        with ExitStack() as stack:
            recorder = stack.enter_context(instruments.recorder(self.lab, self.out / "evidence.jsonl"))
            vip = self.lab.addresses.vip
            targets = {"smtp": (vip, 25), "imap": (vip, 143)}
            netns = instruments.netns(self.lab, "client")
            watch = stack.enter_context(probe.Probe(netns, targets, self.out / "probe.txt", PROBE_MS))
            load = stack.enter_context(Load(netns, vip, self.out / "mail.jsonl", options.rate))
            end_s = time.monotonic() + options.minutes * 60
            nemesis = Nemesis(self.lab, self.note)
            try:
                for step in steps(options.seed, options.kinds.split(",") if options.kinds else ()):
                    enough = self.failovers >= options.failovers or step.number > options.steps
                    if enough or self.ending or time.monotonic() > end_s:
                        break
                    self.one(nemesis, step, load)
                self.settle()
            except (*FAILURES, AssertionError) as error:
                self.problems.append(f"{type(error).__name__}: {error}"[:2000])
                self.note("stuck", why=self.problems[-1])
                self.say(f"STUCK: {self.problems[-1]}")
            self.read_back(load)
            watch.stop()
            recorder.stop()

    def one(self, nemesis: Nemesis, step: Step, load: Load) -> None:
        active = self.settle()
        hit = {f.kind: nemesis.targets(f, active) for f in step.faults}
        fenced = {n for kind, nodes in hit.items() if kind == FENCE_KIND or KINDS[kind].fences for n in nodes}
        self.note("step", step=step.number, name=step.name, family=step.family, active=active,
                  may_be_fenced=sorted(fenced), schedule=asdict(step))  # fmt: skip
        started_s = time.monotonic()
        nemesis.run(step, active)
        self.restore(step)
        took_s = time.monotonic() - started_s
        owner = self.settle()
        self.note("healthy", step=step.number, active=owner)
        counts = load.counts()
        self.say(
            f"{step.number:4} {step.name}: {active} -> {owner}, {took_s:.1f} s, healthy after "
            f"{time.monotonic() - started_s - took_s:.1f} s; {self.failovers} failovers, {counts['ok']} mails "
            f"acknowledged, {counts['missing']} not yet read back"
        )

    def restore(self, step: Step) -> None:
        """All faults away, all nodes on. A cut that this makes (of a lost LUN path) is noted as ours."""
        self.lab.heal()
        self.lab.pdu_mode = self.pdu_mode
        for name, node in self.lab.nodes.items():
            node.thaw()
            node.san_resume()
            whole = node.path.populated() and node.machine.populated()
            if name in MAIL_NODES and node.powered and not whole:
                self.note("cut", nodes=[name], why="its LUN path is lost", step=step.number)
                node.cut()
        self.power_on()

    def power_on(self) -> None:
        """Without waiting for the boot: a node may be fenced in the middle of it, and is put on again then."""
        for node in self.lab.nodes.values():
            node.on(wait=False)

    def settle(self) -> str:
        """Waits until the cluster is healthy and nobody is banned; returns the active node. Raises LabError."""
        started_s = cleared_s = time.monotonic()
        while why := self.unwell():
            now_s = time.monotonic()
            if now_s - started_s > HEALTHY_S:
                raise LabError(f"the cluster is not healthy after {HEALTHY_S:.0f} s: {why}")
            if now_s - started_s > CLEAR_AFTER_S and now_s - cleared_s > CLEAR_PAUSE_S and self.needs_clear():
                cleared_s = now_s
                self.note("clear", why=why)
                self.ctl("clear mail --reason soak")
            if self.world.group().get("phase") != "fencing" or now_s - started_s > DARK_S:
                self.power_on()  # fenced after everything was put on; nobody puts it on while it is being fenced
            time.sleep(POLL_S)
        self.ctl_events()
        owner = self.world.active
        if not self.owners or self.owners[-1] != owner:
            self.owners.append(owner)
        return owner

    def unwell(self) -> str:
        """Why the next step may not begin yet; "" when it may. Two looks: a node that has not caught up yet tells how
        things were."""
        for pause_s in (AGAIN_S, 0):
            why = self.world.unhealthy() or self.banned() or self.unserved()
            if why:
                return why
            time.sleep(pause_s)
        return ""

    def unserved(self) -> str:
        """What the clients say: the latest attempt at each service, which may be a tenth of a second old."""
        with open(self.out / "probe.txt", "rb") as file:
            file.seek(max(0, file.seek(0, 2) - PROBE_TAIL))
            lines = [line.decode().split(" ", 4) for line in file.read().split(b"\n")[1:-1]]
        latest = {words[0]: words[3:] for words in lines}
        failing = [f"{name} {' '.join(words[1:])}" for name, words in latest.items() if words[0] != "1"]
        return f"clients are not served: {', '.join(failing)}" if failing or not latest else ""

    def banned(self) -> str:
        candidates = self.world.group().get("candidates", ())
        return next((c["reason"] for c in candidates if c["node"] in MAIL_NODES and not c["eligible"]), "")

    def needs_clear(self) -> bool:
        group = self.world.group()
        return bool(group) and (group["phase"] in ("fencing", "blocked", "idle") or "fail" in self.banned())

    def ctl(self, words: str) -> None:
        for name in MAIL_NODES:
            try:
                if self.lab.nodes[name].run(f"hamailctl {words}", check=False, timeout_s=10).returncode == 0:
                    return
            except NodeError:
                continue

    def ctl_events(self) -> None:
        """What each node tells about the log, so that it can be compared."""
        for name in NODES:
            try:
                events = ask(self.lab.nodes[name], f"events?after={self._told[name]}")["events"]
            except NoAnswer:
                continue
            for event in events:
                kept = {key: event[key] for key in ("index", "sentence", "actor")}
                self.note("event", "daemon", name, t=event["at_ms"] * 1_000_000 - self.wall_ns, **kept)
            self._told[name] = max([self._told[name], *(e["index"] for e in events)])

    def read_back(self, load: Load) -> None:
        """Everything acknowledged is looked for, the queue included."""
        load.begin_stop()
        end_s = time.monotonic() + DRAIN_S
        while load.running and time.monotonic() < end_s:
            self._on_active("postqueue -f")
            time.sleep(FLUSH_S)
        load.require_sound()
        if load.counts()["missing"]:
            for found in queued(self._on_active):
                self.note("found", "client", id=found.message_id, sha256="")

    def _on_active(self, script: str) -> str:
        try:
            return self.lab.run(self.world.active, script, check=False, timeout_s=30).stdout
        except (*FAILURES, KeyError) as error:
            self.say(f"{script}: {error}")
            return ""

    # The end

    def collect(self) -> None:
        """One history out of what all instruments have written."""
        sources = [history.lines(self.out / f"{name}.jsonl") for name in ("evidence", "nemesis", "mail")]
        sources.append(history.lines(self.lab.folder / pdu.RECORD))
        for name in MAIL_NODES:
            folder = self.lab.nodes[name].folder
            sources.append([{**record, "node": name} for record in arrivals.read(folder)])
            log = (folder / "node.log").read_text(errors="replace")
            expired = [int(t) for t in WATCHDOG.findall(log)]
            sources.append([{"t": t, "src": "watchdog", "node": name, "kind": "watchdog"} for t in expired])
        useful = [(r for r in source if r["kind"] not in ("counts", "unread")) for source in sources]
        addresses = {name: self.lab.addresses.v4(name) for name in NODES}
        header = {
            "seed": self.options.seed,
            "detection": self.options.detection,
            "addresses": addresses,
            "commit": commit(),
        }
        history.merge(self.out / "history.jsonl", header, useful)

    def journals(self) -> None:
        for name, node in self.lab.nodes.items():
            with open(self.out / f"{name}.log", "w") as file:
                folder = node.root / "var/log/journal"
                command = ["journalctl", "-D", str(folder), "--no-pager", "-o", "short-precise", "-q"]
                units = [
                    f"--unit={u}"
                    for u in ("hamaild", "hamail-executor", "hamail-agents", "postfix*", "dovecot", "canary")
                ]
                subprocess.run([*command, *units], check=False, stdout=file, stderr=subprocess.STDOUT, timeout=120)
            shutil.copy(node.log, self.out / f"{name}.node.log")


def commit() -> str:
    result = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], check=False, capture_output=True, text=True)
    return result.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description="one lab under fire")
    parser.add_argument("--lab", required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--failovers", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=1000)
    parser.add_argument("--detection", default="1s")
    parser.add_argument("--rate", type=float, default=15)
    parser.add_argument("--kinds", default="")
    parser.add_argument("--plant", choices=list(PLANTS), default="")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    soak = Soak(Lab(options.lab), options.out, options)
    failed = False

    def end(*_: object) -> None:
        soak.ending = True

    signal.signal(signal.SIGTERM, end)
    try:
        soak.run()
    except Exception:
        soak.problems.append(traceback.format_exc())
        print(soak.problems[-1], flush=True)
    try:
        soak.journals()
        soak.collect()
        facts = {"lab": options.lab, "seed": options.seed, "commit": soak.commit, "problems": soak.problems}
        facts["seconds"] = round(time.monotonic() - soak.started_s)
        found = results.of_lab(options.out, facts)
        (options.out / "result.json").write_text(json.dumps(found, indent=1))
        failed = not found["passed"]
        if failed:
            shutil.copy(soak.lab.image, options.out / "lun.img")
    finally:
        soak.lab.down()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
