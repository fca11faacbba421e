"""Outside availability probe: every 10 ms a new connection that must get the greeting of the service.

Runs as a process of its own in the client's network namespace (`Probe` starts it). One thread and plain non-blocking
sockets, because at 200 connections a second the probe must not become the load that it measures. A connection is closed
by a reset as soon as the greeting is in, so that nothing lingers on either side.

**Outage** is the longest time between the ends of two successive successes, of those that reach past the fault: from
the last greeting that a client got before to the first that one got after. No success after the fault: it is endless.
"""

import argparse
import bisect
import contextlib
import math
import select
import signal
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import kernel
from tests.lab.background import Background

NS_PER_MS = 1_000_000
INTERVAL_MS = 10
TIMEOUT_MS = 1000
IN_FLIGHT_LIMIT = 2 * TIMEOUT_MS // INTERVAL_MS  # per service; beyond it an attempt fails at once
FLUSH_NS = 100 * NS_PER_MS
GREETINGS = {"smtp": b"220 ", "imap": b"* OK"}
GREETING_LIMIT = 512
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Attempt:
    """One connection; times are nanoseconds of CLOCK_MONOTONIC."""

    service: str
    started: int
    done: int
    ok: bool
    why: str = ""


@dataclass(frozen=True)
class Outage:
    start: int
    end: float  # math.inf: nothing succeeded after the fault

    @property
    def ms(self) -> float:
        return (self.end - self.start) / NS_PER_MS


def outage(attempts: Iterable[Attempt], service: str, fault: int, until: int | None = None) -> Outage:
    """The outage that a client of `service` saw because of something at `fault` and before `until`.

    Raises ValueError when nothing succeeded before the fault: there was no service that could be lost.
    """
    ends = sorted(a.done for a in attempts if a.service == service and a.ok and (until is None or a.done <= until))
    after = bisect.bisect_right(ends, fault)
    if after == 0:
        raise ValueError(f"{service} did not answer before the fault")
    gaps = [Outage(ends[i - 1], ends[i]) for i in range(after, len(ends))]
    return max(gaps, key=lambda g: g.ms) if gaps else Outage(ends[-1], math.inf)


def success_ratio(attempts: Sequence[Attempt], service: str) -> float:
    mine = [a.ok for a in attempts if a.service == service]
    return sum(mine) / len(mine) if mine else 0.0


def load(path: Path) -> list[Attempt]:
    """Attempts of a probe's file; a line that is still being written is left out."""
    attempts = []
    with open(path) as lines:
        for line in lines:
            if not line.endswith("\n"):
                break
            service, started, done, ok, why = line.rstrip("\n").split(" ", 4)
            attempts.append(Attempt(service, int(started), int(done), ok == "1", why))
    return attempts


@dataclass
class _Flight:
    service: str
    greeting: bytes
    sock: socket.socket
    started: int
    connected: bool = False
    got: bytes = b""


class Prober:
    """The loop of the probing process."""

    def __init__(self, targets: Mapping[str, tuple[str, int]], out: Path, interval_ms: float) -> None:
        self.targets = {name: (*self._resolve(host), port) for name, (host, port) in targets.items()}
        self.interval_ns = int(interval_ms * NS_PER_MS)
        self.file = open(out, "w", buffering=1 << 16)
        self.epoll = select.epoll()
        self.flights: OrderedDict[int, _Flight] = OrderedDict()  # oldest first: all have the same time limit
        self.in_flight = dict.fromkeys(targets, 0)
        self.running = True

    @staticmethod
    def _resolve(host: str) -> tuple[int, str]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.inet_pton(family, host)
        return family, host

    def run(self) -> None:
        """Until SIGTERM. Attempts of all services are spread evenly over the interval."""
        names = list(self.targets)
        step_ns = self.interval_ns // len(names)
        turn, next_start = 0, time.monotonic_ns()
        next_flush = next_start
        while self.running:
            now = time.monotonic_ns()
            if now >= next_start:
                self._start(names[turn], now)
                turn = (turn + 1) % len(names)
                # After a stall go on at the usual rate; a burst of what was missed would only add load.
                next_start = max(next_start + step_ns, now)
                continue
            self._expire(now)
            if now >= next_flush:
                self.file.flush()
                next_flush = now + FLUSH_NS
            for fd, events in self.epoll.poll((next_start - now) / 1e9):
                self._ready(fd, events, time.monotonic_ns())
        self.file.close()

    def _start(self, name: str, now: int) -> None:
        if self.in_flight[name] >= IN_FLIGHT_LIMIT:
            self._note(name, now, now, False, "too many in flight")
            return
        family, host, port = self.targets[name]
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect((host, port))
        except BlockingIOError:
            pass
        except OSError as error:
            sock.close()
            self._note(name, now, time.monotonic_ns(), False, error.strerror)
            return
        self.flights[sock.fileno()] = _Flight(name, GREETINGS[name], sock, now)
        self.in_flight[name] += 1
        # The greeting comes first and unasked, so only readable matters; a refused connect shows as an error.
        self.epoll.register(sock.fileno(), select.EPOLLIN)

    def _ready(self, fd: int, events: int, now: int) -> None:
        flight = self.flights.get(fd)
        if flight is None:
            return
        try:
            data = flight.sock.recv(GREETING_LIMIT)
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(fd, now, False, error.strerror)
            return
        flight.got += data
        if flight.got.startswith(flight.greeting) and b"\n" in flight.got:
            self._finish(fd, now, True, "")
        elif not data:
            self._finish(fd, now, False, "closed without a greeting")
        elif b"\n" in flight.got or len(flight.got) > GREETING_LIMIT:
            self._finish(fd, now, False, "wrong greeting")

    def _expire(self, now: int) -> None:
        while self.flights:
            fd, flight = next(iter(self.flights.items()))
            if now - flight.started < TIMEOUT_MS * NS_PER_MS:
                return
            self._finish(fd, now, False, "timeout")

    def _finish(self, fd: int, now: int, ok: bool, why: str) -> None:
        flight = self.flights.pop(fd)
        self.in_flight[flight.service] -= 1
        with contextlib.suppress(OSError):
            flight.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        flight.sock.close()
        self._note(flight.service, flight.started, now, ok, why)

    def _note(self, service: str, started: int, done: int, ok: bool, why: str) -> None:
        self.file.write(f"{service} {started} {done} {int(ok)} {why}\n")


class Probe(Background):
    """The probing process, seen from outside. `targets`: service -> (address, port); `netns`: the client's, a path."""

    def __init__(
        self, netns: str, targets: Mapping[str, tuple[str, int]], path: Path, interval_ms: float = INTERVAL_MS
    ) -> None:
        arguments = ["--netns", netns, "--out", str(path), "--interval-ms", str(interval_ms)]
        arguments += [f"--target={name}={host}={port}" for name, (host, port) in targets.items()]
        super().__init__("probe", "tests.lab.probe", arguments, path)

    def attempts(self) -> list[Attempt]:
        """What was tried so far (up to a tenth of a second ago). Raises RuntimeError when the probe died."""
        self.require_sound()
        return load(self.path)

    def wait_until_up(self, services: Sequence[str], limit_s: float) -> bool:
        """Wait until the latest answer of each service is a greeting."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            latest = {a.service: a.ok for a in self.attempts()}
            if all(latest.get(s) for s in services):
                return True
            time.sleep(0.1)
        return False

    def stop(self) -> list[Attempt]:
        self.end()
        return self.attempts()


def main() -> None:
    parser = argparse.ArgumentParser(description="outside availability probe")
    parser.add_argument("--netns", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--interval-ms", type=float, default=INTERVAL_MS)
    parser.add_argument("--target", action="append", required=True, help="SERVICE=ADDRESS=PORT")
    options = parser.parse_args()
    kernel.die_with_parent()
    kernel.hurry()  # late attempts would look like an outage
    out = options.out.absolute()
    kernel.enter_netns(options.netns)
    split = (target.split("=") for target in options.target)
    prober = Prober({name: (host, int(port)) for name, host, port in split}, out, options.interval_ms)

    def stop(*_: object) -> None:
        prober.running = False

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    prober.run()


if __name__ == "__main__":
    main()
