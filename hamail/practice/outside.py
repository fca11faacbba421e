"""The probe of a drill: a prober in a thread of its own, or one on another machine that writes its records here."""

import asyncio
import contextlib
import imaplib
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from hamail.probe import records
from hamail.probe.mailbox import Place, news
from hamail.probe.prober import Plan, Prober
from hamail.probe.records import AnyLine, Check, End, Start
from hamail.probe.services import SHOWS_MAIL
from hamail.probe.sessions import Sessions

STEADY_MS = 1000.0  # so long every answer must come before service counts as back
REMOTE_END_S = 90.0


class Probe(Protocol):
    sessions_held: dict[str, int]
    sessions_dropped: dict[str, int]

    def start(self) -> None: ...
    def lines(self) -> list[AnyLine]: ...
    def now_ms(self) -> float: ...
    def mailbox(self) -> str | None: ...
    def end_sessions(self) -> None: ...
    def stop(self) -> None: ...


class Inside:
    """In this process. `file` gets every record."""

    def __init__(self, plan: Plan, file: Path) -> None:
        self._plan = plan
        self._file = file
        self._clock = records.Clock()
        self._writer: records.Writer | None = None
        self._prober: Prober | None = None
        self._sessions: Sessions | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
        self.sessions_held: dict[str, int] = {}
        self.sessions_dropped: dict[str, int] = {}

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        with self._file.open("wb") as stream:
            self._writer = records.Writer(stream, keep=True)
            asyncio.run(self._probe(self._writer))

    async def _probe(self, writer: records.Writer) -> None:
        self._loop = asyncio.get_running_loop()
        self._prober = Prober(self._plan, writer, self._clock)
        self._sessions = Sessions(self._plan.services)
        await self._sessions.open()
        self._ready.set()
        await self._prober.run()

    def lines(self) -> list[AnyLine]:
        kept = self._writer.kept if self._writer is not None else None
        return list(kept or ())

    def now_ms(self) -> float:
        return self._clock.now_ms()

    def mailbox(self) -> str | None:
        """Why it cannot be read, "" when it can; None when it is not to be. Blocks."""
        prober, account = self._prober, self._plan.account
        if prober is None or account is None or not (prober.sends and prober.reads):
            return None
        door = next(s for s in self._plan.services if s.name in SHOWS_MAIL)
        try:
            news(door, account, prober.run_id, Place())
        except (OSError, imaplib.IMAP4.error) as error:
            return str(error)
        return ""

    def end_sessions(self) -> None:
        if self._loop is None or self._sessions is None or not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._sessions.close(), self._loop).result(timeout=10)
        self.sessions_held = dict(self._sessions.held)
        self.sessions_dropped = dict(self._sessions.dropped)

    def stop(self) -> None:
        if self._loop is not None and self._prober is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._prober.stop)
        self._thread.join()


class Elsewhere:
    """A command that runs `hamailctl probe … --detail --until-eof --json -` on another machine, by ssh for instance.

    Its clock may differ: its times are shifted to ours by what the first record shows. It is told to end by the end of
    its standard input, which ssh passes on; a signal would reach ssh alone, and the verdict on the mails never us.
    """

    def __init__(self, command: str, file: Path) -> None:
        self._words = shlex.split(command)
        self._file = file
        self._clock = records.Clock()
        self._lines: list[AnyLine] = []
        self._ready = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._read, name="probe", daemon=True)
        self.problem = ""
        self.sessions_held: dict[str, int] = {}
        self.sessions_dropped: dict[str, int] = {}

    def start(self) -> None:
        """Raises OSError when the command cannot be run."""
        self._process = subprocess.Popen(self._words, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        self._thread.start()
        self._ready.wait(timeout=30)

    def _read(self) -> None:
        shift_ms = 0.0
        try:
            with self._file.open("wb") as copy:
                for line in records.read(self._copied(), "the prober's output"):
                    if not self._lines:
                        shift_ms = self._clock.now_ms() - line.at_ms
                    ours = records.shifted(line, shift_ms)
                    records.Writer(copy).write(ours)
                    self._lines.append(ours)
                    self._ready.set()
        except records.BadRecords as error:
            self.problem = str(error)
        finally:
            self._ready.set()

    def _copied(self) -> Iterator[bytes]:
        assert self._process is not None and self._process.stdout is not None
        yield from self._process.stdout

    def lines(self) -> list[AnyLine]:
        return list(self._lines)

    def now_ms(self) -> float:
        return self._clock.now_ms()

    def mailbox(self) -> str | None:
        """A prober elsewhere does not tell before its end."""
        return None

    def end_sessions(self) -> None:
        """A prober elsewhere holds none."""

    def stop(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended by itself
            self._process.stdin.close()
        begin = next((line for line in self._lines if isinstance(line, Start)), None)
        if begin is None or not begin.until_eof:
            self._process.terminate()
        self._thread.join(timeout=REMOTE_END_S)
        self._process.kill()
        self._process.wait()


def ends(lines: Sequence[AnyLine]) -> End | None:
    return next((line for line in reversed(lines) if isinstance(line, End)), None)


def steady(lines: Sequence[AnyLine], services: Sequence[str], now_ms: float, since_ms: float) -> bool:
    """Has every service answered, and nothing but answered, for a while, beginning after `since_ms`?"""
    begin = max(since_ms, now_ms - STEADY_MS)
    if now_ms - since_ms < STEADY_MS:
        return False
    good = dict.fromkeys(services, 0)
    for line in reversed(lines):
        if line.at_ms < begin:
            break
        if isinstance(line, Check) and line.started_ms >= begin and line.service in good:
            if not line.ok:
                return False
            good[line.service] += 1
    return all(good.values())


def wait_steady(probe: Probe, services: Sequence[str], seconds: float) -> bool:
    end_s, since = time.monotonic() + seconds, probe.now_ms()
    while time.monotonic() < end_s:
        if steady(probe.lines(), services, probe.now_ms(), since):
            return True
        time.sleep(0.1)
    return False
