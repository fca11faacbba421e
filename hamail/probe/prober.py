"""The prober: opens connections at a steady pace, sends mail, reads it back, and writes down what it saw."""

import asyncio
import contextlib
import imaplib
import ssl
import uuid
from collections import deque
from collections.abc import Awaitable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hamail.probe import mailbox, mailing, records
from hamail.probe.ledger import Fate, Ledger, Verdict, total
from hamail.probe.mailbox import Place
from hamail.probe.outages import Tracker
from hamail.probe.services import GREETING_BYTES_MAX, SHOWS_MAIL, TAKES_MAIL, Account, Service

EVERY_MIN_MS, EVERY_MAX_MS = 10, 60_000
MAIL_EVERY_MIN_MS = 100
CHECK_TIMEOUT_MS = 1000
SLACK_MS = 200.0  # a busy machine may end an attempt so much late
CHECKS_IN_FLIGHT_MAX = 100  # per service; beyond it an attempt fails at once
MAILS_IN_FLIGHT_MAX = 64
THREADS_MAX = 16
READ_EVERY_S = 1.0
TALLY_EVERY_MS = 60_000
SETTLE_EVERY_MS = 600_000  # a long run judges what it has sent, takes it out of the mailbox and forgets it
SETTLE_AGE_MS = 120_000  # Dovecot may honour the lock file of a dead server for so long
DRAIN_S = 60.0  # at the end, for what is acknowledged and not in the mailbox yet
WHY_CHARS_MAX = 200


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`every_ms`: the pace of connections to each service; `mail_every_ms` 0: no mail. `for_ms` None: until told."""

    target: str
    services: tuple[Service, ...]
    every_ms: int = 200
    for_ms: int | None = 300_000
    mail_every_ms: int = 0
    account: Account | None = None
    detail: bool = False
    keep_mail: bool = False
    until_eof: bool = False
    drain_s: float = DRAIN_S


class Prober:
    """`run` returns when the time is up or after `stop`; then `verdict` and `trackers` say what was found."""

    def __init__(self, plan: Plan, writer: records.Writer, clock: records.Clock | None = None) -> None:
        self.plan = plan
        self.run_id = uuid.uuid4().hex[:12]
        self.clock = clock or records.Clock()
        self.trackers = {
            s.name: Tracker(s.name, float(plan.every_ms), CHECK_TIMEOUT_MS + SLACK_MS) for s in plan.services
        }
        self.worst_ms: dict[str, float] = {}
        self.outages: deque[records.Outage] = deque(maxlen=1000)
        self.ledger = Ledger()
        self.problem = ""  # why the mailbox cannot be read
        self.verdict: Verdict | None = None
        self.read = False  # was the mailbox read in full at the end?
        self.acknowledged = 0
        self.not_taken = ""  # why the last mail that was not acknowledged was not
        self.last_ok_ms: dict[str, float] = {}
        self._writer = writer
        self._stop = asyncio.Event()
        self._threads = ThreadPoolExecutor(max_workers=THREADS_MAX, thread_name_prefix="probe")
        self._flights: set[asyncio.Task[None]] = set()
        self._in_flight = dict.fromkeys(self.trackers, 0)
        self._mails_in_flight = 0
        self._tallies: dict[str, list[float]] = {}  # service -> [from, checks, failed, slowest]
        self._number = 0

    def stop(self) -> None:
        self._stop.set()

    @property
    def sends(self) -> bool:
        return bool(self.plan.mail_every_ms and self.plan.account and self._by(TAKES_MAIL))

    @property
    def reads(self) -> bool:
        return bool(self.plan.account and self.plan.account.user and self._by(SHOWS_MAIL))

    def _by(self, names: tuple[str, ...]) -> list[Service]:
        return [s for s in self.plan.services if s.name in names]

    async def run(self) -> None:
        self._begin()
        loops: list[Awaitable[None]] = [self._pace(s, n) for n, s in enumerate(self.plan.services)]
        loops += [self._pace_mail()] if self.sends else []
        loops += [self._read_back(), self._settle_often()] if self.reads and self.sends else []
        loops.append(self._tally_often())
        if self.plan.for_ms is not None:
            asyncio.get_running_loop().call_later(self.plan.for_ms / 1000, self._stop.set)
        try:
            await asyncio.gather(*loops)
            if self._flights:
                await asyncio.wait(set(self._flights))
            for tracker in self.trackers.values():
                self._note(tracker.over())
            self._tally(self.clock.now_ms())
            await self._judge()
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)
        self._end()

    def _begin(self) -> None:
        now = self.clock.now_ms()
        self._tallies = {name: [now, 0, 0, 0.0] for name in self.trackers}
        self._writer.write(
            records.Start(
                at_ms=now,
                run=self.run_id,
                target=self.plan.target,
                services={s.name: s.place for s in self.plan.services},
                every_ms=self.plan.every_ms,
                mail_every_ms=self.plan.mail_every_ms if self.sends else 0,
                until_eof=self.plan.until_eof,
            )
        )

    async def _sleep(self, seconds: float) -> bool:
        """False when the probe has been told to stop meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        return not self._stop.is_set()

    # -- connections -----------------------------------------------------------------------------------------------

    async def _pace(self, service: Service, position: int) -> None:
        """Connections at an even pace; after a stall at the usual pace, since a burst would only add load."""
        loop = asyncio.get_running_loop()
        period_s = self.plan.every_ms / 1000
        due_s = loop.time() + period_s * position / len(self.plan.services)
        while await self._sleep(max(0.0, due_s - loop.time())):
            due_s = max(due_s + period_s, loop.time())
            self._fly(self._check(service))

    def _fly(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._flights.add(task)
        task.add_done_callback(self._flights.discard)

    async def _check(self, service: Service) -> None:
        started_ms = self.clock.now_ms()
        if self._in_flight[service.name] >= CHECKS_IN_FLIGHT_MAX:
            self._told(service.name, started_ms, False, "too many attempts hang already")
            return
        self._in_flight[service.name] += 1
        why = ""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_MS / 1000):
                why = await _greeting(service)
        except TimeoutError:
            why = f"no greeting within {CHECK_TIMEOUT_MS} ms"
        except (OSError, ssl.SSLError, ValueError, EOFError) as error:
            why = (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:WHY_CHARS_MAX]
        finally:
            self._in_flight[service.name] -= 1
        self._told(service.name, started_ms, not why, why)

    def _told(self, name: str, started_ms: float, ok: bool, why: str) -> None:
        now, tracker, tally = self.clock.now_ms(), self.trackers[name], self._tallies[name]
        was_up = tracker.down_since_ms is None
        tally[1] += 1
        tally[2] += not ok
        tally[3] = max(tally[3], now - started_ms)
        if self.plan.detail or not ok:
            self._writer.write(records.Check(at_ms=now, service=name, started_ms=started_ms, ok=ok, why=why))
        outages = tracker.told(started_ms, now, ok, why)
        if ok:
            self.last_ok_ms[name] = now
        if was_up and tracker.down_since_ms is not None:
            self._writer.write(records.Down(at_ms=now, service=name, since_ms=tracker.down_since_ms, why=why))
        self._note(outages)

    def _note(self, outages: list[records.Outage]) -> None:
        for outage in outages:
            self.worst_ms[outage.service] = max(outage.ms, self.worst_ms.get(outage.service, 0.0))
            self.outages.append(outage)
            self._writer.write(outage)

    async def _tally_often(self) -> None:
        while await self._sleep(TALLY_EVERY_MS / 1000):
            self._tally(self.clock.now_ms())

    def _tally(self, now: float) -> None:
        for name, (since, checks, failed, slowest) in self._tallies.items():
            self._writer.write(
                records.Tally(
                    at_ms=now,
                    service=name,
                    from_ms=since,
                    checks=int(checks),
                    failed=int(failed),
                    slowest_ms=round(slowest, 3),
                )
            )
            self._tallies[name] = [now, 0, 0, 0.0]

    # -- mail ------------------------------------------------------------------------------------------------------

    async def _pace_mail(self) -> None:
        doors = self._by(TAKES_MAIL)
        loop, due_s = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        while await self._sleep(max(0.0, due_s - loop.time())):
            due_s = max(due_s + self.plan.mail_every_ms / 1000, loop.time())
            if self._mails_in_flight < MAILS_IN_FLIGHT_MAX:
                self._number += 1
                self._fly(self._mail(doors[self._number % len(doors)], self._number))

    async def _mail(self, service: Service, number: int) -> None:
        account = self.plan.account
        assert account is not None
        message = mailing.compose(self.run_id, number, account)
        self.ledger.open[message.id] = fate = Fate(message.digest)
        self._mails_in_flight += 1
        started_ms = self.clock.now_ms()
        try:
            loop = asyncio.get_running_loop()
            outcome, why = await loop.run_in_executor(self._threads, mailing.deliver, service, account, message)
        finally:
            self._mails_in_flight -= 1
        fate.outcome, fate.ended_ms = outcome, self.clock.now_ms()
        self.acknowledged += outcome == mailing.OK
        self.not_taken = why or self.not_taken
        self._writer.write(
            records.Mail(
                at_ms=fate.ended_ms,
                service=service.name,
                id=message.id,
                started_ms=started_ms,
                outcome=outcome,
                why=why,
            )
        )

    async def _read_back(self) -> None:
        """What arrives, as a mail client sees it that looks once a second."""
        service, place = self._by(SHOWS_MAIL)[0], Place()
        account = self.plan.account
        assert account is not None
        while await self._sleep(READ_EVERY_S):
            try:
                ids = await asyncio.get_running_loop().run_in_executor(
                    self._threads, mailbox.news, service, account, self.run_id, place
                )
            except (OSError, imaplib.IMAP4.error) as error:
                self.problem = f"the mailbox cannot be read: {error}"[:WHY_CHARS_MAX]
                continue
            self.problem = ""
            self._arrived(ids)

    def _arrived(self, ids: list[str]) -> None:
        now = self.clock.now_ms()
        for name in ids:
            fate = self.ledger.open.get(name)
            if fate is not None and not fate.seen:
                fate.seen = True
                after_ms = max(0.0, now - fate.ended_ms) if fate.ended_ms else 0.0
                self._writer.write(records.Seen(at_ms=now, id=name, after_ms=round(after_ms, 3)))

    async def _settle_often(self) -> None:
        while await self._sleep(SETTLE_EVERY_MS / 1000):
            copies = await self._copies()
            if copies is None:
                continue  # it stays open until the mailbox can be read
            old = self.clock.now_ms() - SETTLE_AGE_MS
            self.ledger.settle(copies.digests, [n for n, f in self.ledger.open.items() if 0 < f.ended_ms < old])

    async def _copies(self) -> mailbox.Copies | None:
        service, account = self._by(SHOWS_MAIL)[0], self.plan.account
        assert account is not None
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, mailbox.everything, service, account, self.run_id)
        except (OSError, imaplib.IMAP4.error) as error:
            self.problem = f"the mailbox cannot be read: {error}"[:WHY_CHARS_MAX]
            return None
        self.problem = ""
        return found

    async def _judge(self) -> None:
        """Wait for what is acknowledged, read the mailbox in full, and say what became of every message."""
        copies: mailbox.Copies | None = None
        if self.reads and self.sends:
            loop = asyncio.get_running_loop()
            end_s = loop.time() + self.plan.drain_s
            while True:
                copies = await self._copies()
                waiting = None if copies is None else [n for n in self.ledger.missing() if n not in copies.digests]
                if waiting == [] or loop.time() >= end_s:
                    break
                await asyncio.sleep(READ_EVERY_S)
        self.read = copies is not None
        if not self.sends:
            return
        now = self.ledger.judge(copies.digests if copies is not None else {})
        if not self.read:  # nothing is known of loss
            now = Verdict(
                sent=now.sent,
                acknowledged=now.acknowledged,
                found=0,
                lost=(),
                duplicated=(),
                corrupt=(),
                unknown=now.unknown,
                recovered=0,
            )
        self.verdict = total([*self.ledger.settled, now])
        if self.read and not self.plan.keep_mail:
            service, account = self._by(SHOWS_MAIL)[0], self.plan.account
            assert account is not None
            with contextlib.suppress(OSError, imaplib.IMAP4.error):  # they are only in the way
                await asyncio.get_running_loop().run_in_executor(
                    self._threads, mailbox.remove, service, account, self.run_id
                )

    def _end(self) -> None:
        for tracker in self.trackers.values():
            if tracker.down_since_ms is not None:
                down_ms = self.clock.now_ms() - tracker.down_since_ms
                self.worst_ms[tracker.service] = max(down_ms, self.worst_ms.get(tracker.service, 0.0))
        v = self.verdict
        facts = {} if v is None else {k: getattr(v, k) for k in Verdict.__dataclass_fields__}
        worst = {name: round(ms, 3) for name, ms in self.worst_ms.items()}
        self._writer.write(
            records.End(at_ms=self.clock.now_ms(), read=self.read, worst_ms=worst, problem=self.problem, **facts)
        )


async def _greeting(service: Service) -> str:
    """Connect and hear the greeting: "" when it is the right one, else what is wrong."""
    context = _UNCHECKED if service.kind.tls else None  # this asks whether somebody serves; mail checks who
    if service.is_path:
        reader, writer = await asyncio.open_unix_connection(service.host, limit=GREETING_BYTES_MAX)
    else:
        reader, writer = await asyncio.open_connection(
            service.host, service.port, ssl=context, limit=GREETING_BYTES_MAX
        )
    try:
        line = await reader.readline()
        if line.startswith(service.kind.greeting):
            writer.write(service.kind.farewell)
            return ""
        said = line.decode(errors="replace").strip()
        return f"said {said[:80]!r}" if said else "closed without a greeting"
    finally:
        writer.close()


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_UNCHECKED = _unchecked()
