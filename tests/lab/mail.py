"""Steady mail through the floating address, read back by IMAP while it flows and in full at the end.

`MailLoad` starts and stops the process that does it in the client's network namespace; `read_all` reads every mailbox
once. Each message has an id of its own, is sent to one of a few mailboxes, and is tried again on a new connection until
it is acknowledged or given up, as a mail server would. What became of it is judged by `oracle`.
"""

import argparse
import asyncio
import contextlib
import hashlib
import imaplib
import json
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import kernel
from tests.lab.background import Background
from tests.lab.oracle import Found, Outcome, Sent, Verdict, final, judge

SENDER = "load@client.test"
MAILBOXES = tuple(f"user{i}@example.test" for i in range(1, 5))
PASSWORD = "any"  # the lab's mailboxes take every password
CONNECT_TIMEOUT_S = 1.0
REPLY_TIMEOUT_S = 5.0
RETRY_S = 0.1
GIVE_UP_S = 60.0
IN_FLIGHT_LIMIT = 500
BODY_BYTES = (500, 4000)
IMAP_TIMEOUT_S = 3.0
READ_BACK_S = 1.0
DRAIN_LIMIT_S = 180.0  # Dovecot takes a dead server's lock file for abandoned after two minutes
LINE_LIMIT = 2000
DOMAIN = "load.hamail"  # right-hand side of the message ids
MESSAGE_ID = re.compile(rb"^Message-ID:\s*<([^>]+)>", re.IGNORECASE | re.MULTILINE)


def compose(message_id: str, recipient: str, rng: random.Random) -> tuple[bytes, str]:
    """A message with CRLF line ends, and the SHA-256 of its body."""
    size = rng.randint(*BODY_BYTES)
    text = rng.randbytes(size // 2).hex()
    body = "".join(f"{text[i : i + 70]}\r\n" for i in range(0, len(text), 70)).encode()
    head = f"From: <{SENDER}>\r\nTo: <{recipient}>\r\nSubject: load\r\nMessage-ID: <{message_id}>\r\n\r\n".encode()
    return head + body, hashlib.sha256(body).hexdigest()


class Refused(Exception):
    """The server answered, and not as hoped: the message was surely not taken."""


async def deliver(host: str, port: int, recipient: str, message: bytes) -> tuple[Outcome, str]:
    """One attempt on a new connection: what became of it, and why. Never raises for what the network does."""
    writer, sent_all = None, False
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port, limit=LINE_LIMIT)
        async with asyncio.timeout(REPLY_TIMEOUT_S):
            await _reply(reader, b"220")
            for line in (b"EHLO client.test", f"MAIL FROM:<{SENDER}>".encode(), f"RCPT TO:<{recipient}>".encode()):
                await _say(reader, writer, line, b"250")
            await _say(reader, writer, b"DATA", b"354")
            sent_all = True  # from here on the server may have it all, whatever we hear
            # Bodies are hexadecimal, so no line starts with a dot.
            writer.write(message + b".\r\n")
            await _reply(reader, b"250")
        writer.write(b"QUIT\r\n")
        return Outcome.OK, ""
    except Refused as error:
        return Outcome.FAIL, str(error)
    except (OSError, TimeoutError, EOFError, ValueError) as error:
        return (Outcome.INFO if sent_all else Outcome.FAIL), f"{type(error).__name__} {error}".strip()
    finally:
        if writer is not None:
            writer.close()


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes, expected: bytes) -> None:
    writer.write(line + b"\r\n")
    await _reply(reader, expected)


async def _reply(reader: asyncio.StreamReader, expected: bytes) -> None:
    while True:
        line = await reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError("connection closed")
        if line[3:4] != b"-":
            break
    if not line.startswith(expected):
        raise Refused(line.decode(errors="replace").strip())


class Load:
    """The loop of the loading process."""

    def __init__(self, host: str, ports: tuple[int, int], rate: float, out: Path, mailboxes: Sequence[str]) -> None:
        self.host, (self.smtp_port, self.imap_port), self.rate = host, ports, rate
        self.mailboxes = mailboxes
        self.file = open(out, "w", buffering=1)
        self.run_id = uuid.uuid4().hex[:12]
        self.rng = random.Random()
        self.tasks: set[asyncio.Task[None]] = set()
        self.stop = asyncio.Event()

    def note(self, kind: str, **data: object) -> None:
        record = {"t": time.monotonic_ns(), "src": "client", "kind": kind, "data": data}
        self.file.write(json.dumps(record, separators=(",", ":")) + "\n")

    async def run(self) -> None:
        self.note("start", run=self.run_id, rate=self.rate)
        readers = [asyncio.create_task(self.read_back(mailbox)) for mailbox in self.mailboxes]
        started, number = time.monotonic(), 0
        while not self.stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), max(0.0, started + number / self.rate - time.monotonic()))
            if self.stop.is_set():
                break
            number += 1
            if len(self.tasks) < IN_FLIGHT_LIMIT:
                task = asyncio.create_task(self.send(number))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
        if self.tasks:
            await asyncio.wait(self.tasks)
        await asyncio.gather(*readers)
        self.note("end", sent=number)

    async def send(self, number: int) -> None:
        message_id = f"{self.run_id}.{number}@{DOMAIN}"
        recipient = self.mailboxes[number % len(self.mailboxes)]
        message, sha256 = compose(message_id, recipient, self.rng)
        # Noted before anything is sent: a load that is killed must not leave messages that look like phantoms.
        self.note("send", id=message_id, sha256=sha256)
        give_up = time.monotonic() + GIVE_UP_S
        outcomes, why = [], ""
        while not outcomes or (outcomes[-1] is not Outcome.OK and time.monotonic() < give_up):
            if outcomes:
                await asyncio.sleep(RETRY_S)
            outcome, why = await deliver(self.host, self.smtp_port, recipient, message)
            outcomes.append(outcome)
        self.note("sent", id=message_id, outcome=final(outcomes), attempts=len(outcomes), why=why)

    async def read_back(self, mailbox: str) -> None:
        """What arrives in a mailbox, by its id, as an IMAP client sees it that looks once a second."""
        seen = 0
        while not self.stop.is_set():
            try:
                new, seen = await asyncio.to_thread(fetch_new, self.host, self.imap_port, mailbox, seen)
            except (OSError, imaplib.IMAP4.error) as error:
                self.note("unread", mailbox=mailbox, why=f"{type(error).__name__} {error}".strip())
            else:
                if new:
                    self.note("seen", ids=new)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), READ_BACK_S)


@contextlib.contextmanager
def _selected(host: str, port: int, mailbox: str, timeout_s: float = IMAP_TIMEOUT_S):
    link = imaplib.IMAP4(host, port, timeout=timeout_s)
    try:
        link.login(mailbox, PASSWORD)
        status, data = link.select("INBOX", readonly=True)
        if status != "OK":
            raise imaplib.IMAP4.error(f"SELECT: {data!r}")
        yield link
        link.logout()
    finally:
        with contextlib.suppress(OSError):
            link.shutdown()


def fetch_new(host: str, port: int, mailbox: str, after_uid: int) -> tuple[list[str], int]:
    """Ids of the messages above a UID, and the highest UID now. Raises OSError or IMAP4.error."""
    with _selected(host, port, mailbox) as link:
        _, parts = link.uid("FETCH", f"{after_uid + 1}:*", "(UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
    ids, highest = [], after_uid
    for head, text in (p for p in parts if isinstance(p, tuple)):
        uid = int(re.search(rb"UID (\d+)", head)[1])
        if uid > after_uid:  # "N:*" always gives the last message
            highest = max(highest, uid)
            ids += [m.decode() for m in MESSAGE_ID.findall(text)]
    return ids, highest


def fetch_all(host: str, port: int, mailbox: str) -> list[Found]:
    """Every message of a mailbox with the hash of its body. Raises OSError or IMAP4.error."""
    found = []
    with _selected(host, port, mailbox, timeout_s=30) as link:
        status, parts = link.uid("FETCH", "1:*", "(BODY.PEEK[])")
        if status != "OK":
            raise imaplib.IMAP4.error(f"FETCH: {parts!r}")
    for _, text in (p for p in parts if isinstance(p, tuple)):
        head, _, body = text.partition(b"\r\n\r\n")
        ids = MESSAGE_ID.findall(head)
        found.append(Found(ids[0].decode() if ids else "<none>", hashlib.sha256(body).hexdigest()))
    return found


@dataclass(frozen=True)
class Progress:
    """Counts while the load runs."""

    sent: int
    acknowledged: int
    seen: int
    retried: int
    in_flight: int


def records(path: Path) -> list[dict]:
    """Records of a load's file; a line that is still being written is left out."""
    with open(path) as lines:
        return [json.loads(line) for line in lines if line.endswith("\n")]


def messages(history: Iterable[dict]) -> list[Sent]:
    """What was sent, of one load or of several. A message without an outcome (the load was killed) is unknown."""
    started: dict[str, str] = {}
    ended: dict[str, Sent] = {}
    for record in history:
        data = record["data"]
        if record["kind"] == "send":
            if data["id"] in started:
                raise ValueError(f"{data['id']} was sent as two messages")
            started[data["id"]] = data["sha256"]
        elif record["kind"] == "sent":
            sha256 = started[data["id"]]
            ended[data["id"]] = Sent(data["id"], sha256, Outcome(data["outcome"]), data["attempts"], record["t"])
    return [ended.get(m) or Sent(m, sha256, Outcome.INFO) for m, sha256 in started.items()]


def progress(history: Iterable[dict]) -> Progress:
    kinds: Counter[str] = Counter()
    acknowledged = retried = 0
    seen: set[str] = set()
    for record in history:
        kinds[record["kind"]] += 1
        if record["kind"] == "sent":
            acknowledged += record["data"]["outcome"] == Outcome.OK
            retried += record["data"]["attempts"] > 1
        elif record["kind"] == "seen":
            seen.update(record["data"]["ids"])
    return Progress(kinds["send"], acknowledged, len(seen), retried, kinds["send"] - kinds["sent"])


class MailLoad(Background):
    """The loading process, seen from outside. `netns` is the client's, a path; `host` the floating address."""

    abort = signal.SIGKILL  # told to end, it would still wait for the outcomes

    def __init__(
        self, netns: str, host: str, path: Path, rate: float = 10.0, ports: tuple[int, int] = (25, 143)
    ) -> None:
        self.netns, self.host, self.ports = netns, host, ports
        arguments = [*_arguments("load", netns, host, ports, path), "--rate", str(rate)]
        super().__init__("mail load", "tests.lab.mail", arguments, path)

    def progress(self) -> Progress:
        return progress(records(self.path))

    def stop(self) -> list[Sent]:
        """Send no more, wait until each message has its outcome. Raises RuntimeError when the load died."""
        self.end(GIVE_UP_S + 30)
        return messages(records(self.path))


def _arguments(what: str, netns: str, host: str, ports: tuple[int, int], out: Path) -> list[str]:
    words = [what, "--netns", netns, "--host", host, "--out", str(out)]
    return [*words, "--smtp-port", str(ports[0]), "--imap-port", str(ports[1])]


def read_all(netns: str, host: str, out: Path, ports: tuple[int, int] = (25, 143)) -> list[Found]:
    """Every message in every mailbox of the load. Raises RuntimeError when a mailbox cannot be read."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.lab.mail", *_arguments("read", netns, host, ports, out)],
        check=False,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise RuntimeError(f"mailboxes cannot be read: {result.stderr.strip().splitlines()[-1:]}")
    return [Found(r["data"]["id"], r["data"]["sha256"]) for r in records(out) if r["kind"] == "found"]


def queued(run: Callable[[str], str]) -> list[Found]:
    """Messages of the load that still wait in the queue of the active node. `run(script)` gives a script's output."""
    script = (
        'postqueue -j | sed \'s/.*"queue_id": "\\([^"]*\\)".*/\\1/\' | while read id; do postcat -qh "$id"; done; true'
    )
    return [Found(m.decode(), "") for m in MESSAGE_ID.findall(run(script).encode()) if m.endswith(DOMAIN.encode())]


def verdict(load: MailLoad, sent: Sequence[Sent], run: Callable[[str], str], limit_s: float = DRAIN_LIMIT_S) -> Verdict:
    """Drain the queue, read everything back, and judge. Waits for acknowledged messages up to `limit_s`."""
    end = time.monotonic() + limit_s
    out = load.path.with_suffix(".found")
    while True:
        try:
            found = read_all(load.netns, load.host, out, load.ports)
            missing = {m.message_id for m in sent if m.outcome is Outcome.OK} - {f.message_id for f in found}
        except RuntimeError:
            if time.monotonic() > end:
                raise
            continue  # a mailbox may be locked for a while after a failover
        if not missing or time.monotonic() > end:
            break
        run("postqueue -f")
        time.sleep(1)
    waiting = queued(run) if missing else []
    run_id = next(r["data"]["run"] for r in records(load.path) if r["kind"] == "start")
    mine = [f for f in found + waiting if f.message_id.startswith(run_id) or not f.message_id.endswith(DOMAIN)]
    return judge(sent, mine)


async def _load(options: argparse.Namespace, out: Path) -> None:
    load = Load(options.host, (options.smtp_port, options.imap_port), options.rate, out, MAILBOXES)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, load.stop.set)
    await load.run()


def _read(options: argparse.Namespace, out: Path) -> None:
    with open(out, "w") as file:
        for mailbox in MAILBOXES:
            for found in fetch_all(options.host, options.imap_port, mailbox):
                data = {"id": found.message_id, "sha256": found.sha256, "mailbox": mailbox}
                file.write(json.dumps({"kind": "found", "data": data}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="mail load through the floating address")
    parser.add_argument("what", choices=("load", "read"))
    parser.add_argument("--netns", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--smtp-port", type=int, default=25)
    parser.add_argument("--imap-port", type=int, default=143)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    kernel.die_with_parent()
    out = options.out.absolute()
    kernel.enter_netns(options.netns)
    if options.what == "load":
        asyncio.run(_load(options, out))
    else:
        _read(options, out)


if __name__ == "__main__":
    main()
