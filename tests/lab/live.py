"""A takeover told while it happens: lines from the kernel, from the clients and from hamail, on one clock."""

import contextlib
import json
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from tests.lab.cluster import WITNESS
from tests.lab.evidence import parse
from tests.lab.lab import Lab
from tests.lab.probe import Attempt

NS_PER_MS = 1_000_000
FAILURES_TOLERATED_NS = 150 * NS_PER_MS  # shorter breaks are not told
EVENTS_LIMIT_S = 1800  # after that a forgotten follower in a node ends by itself
COMPONENTS = {"mount": "mail store", "postfix": "Postfix", "dovecot": "Dovecot", "vip": "address"}
STYLES = {"kernel": "cyan", "clients": "green", "hamail": "magenta", "lab": "bold"}


class Tail:
    """Whole lines that have been added to a file."""

    def __init__(self, path: Path) -> None:
        self._file = open(path)
        self._file.seek(0, 2)
        self._rest = ""

    def lines(self) -> list[str]:
        *whole, self._rest = (self._rest + self._file.read()).split("\n")
        return whole

    def close(self) -> None:
        self._file.close()


def kernel_line(record: dict) -> str:
    """A record of the evidence in words; "" for what is not worth a line."""
    node, data = record.get("node", ""), record.get("data", {})
    kind, _, address = data.get("component", "").partition(" ")
    what = " ".join(filter(None, (COMPONENTS.get(kind, kind), address)))
    match record["kind"]:
        case "power":
            return f"{node} {'is powered' if data['on'] else 'is off: not one process left'}"
        case "held":
            return f"{node} has {what}" + (" mounted" if kind == "mount" else "")
        case "released":
            return f"{node} has {what} no more"
    return ""


class ServiceWatch:
    """Turns connection attempts into "stopped" and "is back" lines for one service."""

    def __init__(self, service: str, since: int) -> None:
        self.service = service
        self.last_success = since
        self.first_failure: int | None = None
        self.out = False

    def feed(self, attempt: Attempt) -> tuple[int, str] | None:
        """A time and a line when this attempt is a turn."""
        if not attempt.ok:
            self.first_failure = self.first_failure or attempt.done
            if not self.out and attempt.done - self.last_success > FAILURES_TOLERATED_NS:
                self.out = True
                return attempt.done, f"{self.service.upper()} does not answer ({attempt.why})"
            return None
        gap_ms = (attempt.done - self.last_success) / NS_PER_MS
        self.last_success = max(self.last_success, attempt.done)
        self.first_failure = None
        if self.out or gap_ms * NS_PER_MS > FAILURES_TOLERATED_NS:
            self.out = False
            return attempt.done, f"{self.service.upper()} answers again, {gap_ms / 1000:.2f} s after its last answer"
        return None


class Events:
    """hamail's own sentences, followed on the witness, which no scenario of the demo hurts."""

    def __init__(self, lab: Lab) -> None:
        command = ["timeout", str(EVENTS_LIMIT_S), "hamailctl", "events", "--follow", "--json"]
        self._process = lab.nodes[WITNESS].popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._queue: deque[dict] = deque(maxlen=1000)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                self._queue.append(json.loads(line))

    def new(self, since_wall_ms: int) -> list[dict]:
        found = []
        while self._queue:
            event = self._queue.popleft()
            if event.get("at_ms", 0) >= since_wall_ms:
                found.append(event)
        return found

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


class Live:
    """Prints what happens from now on, with the time since `start`."""

    def __init__(self, console: Console, evidence: Path, probe: Path, events: Events | None) -> None:
        self.console, self.events = console, events
        self._evidence, self._probe = Tail(evidence), Tail(probe)
        self.start = time.monotonic_ns()
        self._wall_offset_ns = time.time_ns() - self.start
        self._services = {s: ServiceWatch(s, self.start) for s in ("smtp", "imap")}
        self.last_break = self.start  # when a client last failed

    def begin(self) -> int:
        """The moment of the fault: times count from here."""
        self.start = time.monotonic_ns()
        return self.start

    def pump(self) -> None:
        """Print what came since the last call, in the order of time."""
        told = [*self._kernel(), *self._clients(), *self._hamail()]
        for at, who, text in sorted(told):
            self.say(at, who, text)

    def say(self, at: int, who: str, text: str) -> None:
        since = (at - self.start) / 1e9
        self.console.print(f"  [dim]{since:+8.3f} s[/]  [{STYLES[who]}]{who:8}[/] {text}", soft_wrap=True)

    def close(self) -> None:
        self._evidence.close()
        self._probe.close()

    def _kernel(self) -> Iterable[tuple[int, str, str]]:
        return [(r["t"], "kernel", line) for r in parse(self._evidence.lines()) if (line := kernel_line(r))]

    def _clients(self) -> Iterable[tuple[int, str, str]]:
        for line in self._probe.lines():
            service, started, done, ok, why = line.split(" ", 4)
            attempt = Attempt(service, int(started), int(done), ok == "1", why)
            if not attempt.ok:
                self.last_break = attempt.done
            turn = self._services[service].feed(attempt)
            if turn:
                yield turn[0], "clients", turn[1]

    def _hamail(self) -> Iterable[tuple[int, str, str]]:
        """Stamped when they reach us: the wall clock of a sentence is only good to a millisecond, and for display."""
        if self.events is None:
            return
        for event in self.events.new((self.start + self._wall_offset_ns) // NS_PER_MS - 1000):
            yield event["at_ms"] * NS_PER_MS - self._wall_offset_ns, "hamail", event["sentence"]
