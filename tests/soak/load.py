"""Many mail clients at once, through the floating address: SMTP and LMTP senders, IMAP writers and readers.

`Load` starts and stops the process that does it in the client's network namespace. Every message has an id and a hash;
what became of it is noted as it happens: `invoke`, then `ok` (acknowledged), `fail` (surely not taken) or `info` (sent,
and no answer heard), and `found` for each time that it is read back. A reader goes round the mailboxes, notes what it
finds, and removes it: so the store stays small however many mails there are. A mailbox rests for a minute or more
between the last mail that is sent to it and its reading, which is several failovers.
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
import time
import uuid
from pathlib import Path

from tests.lab import kernel
from tests.lab.background import Background
from tests.lab.mail import DOMAIN, MESSAGE_ID, PASSWORD

SENDER = "load@client.test"
SLOTS = 8  # a slot is in use for SLOT_S and is read just before it is used again
SLOT_S = 12.0
BOXES_PER_SLOT = 3
SMTP_SENDERS, LMTP_SENDERS, APPENDERS = 6, 3, 1
SMTP_PORT, LMTP_PORT, IMAP_PORT = 25, 24, 143
MAILS_PER_CONNECTION = (1, 40)
BODY_BYTES = (120, 700)
CONNECT_LIMIT_S = 1.0
REPLY_LIMIT_S = 6.0
IMAP_LIMIT_S = 6.0
RETRY_S = 0.1
LINE_LIMIT = 4000
APPEND_PAUSE_S = 0.4
DRAIN_LIMIT_S = 240.0  # after the last mail was sent
DRAIN_PAUSE_S = 1.0
UID_LINE = re.compile(rb"UID (\d+)")


class Refused(Exception):
    """The server answered, and not as hoped: the message was surely not taken."""


class Lost(Exception):
    """The connection broke; `unknown`: after the whole message had been sent."""

    def __init__(self, why: str, unknown: bool = False) -> None:
        super().__init__(why)
        self.unknown = unknown


def box(slot: int, number: int) -> str:
    return f"s{slot}b{number}@example.test"


def compose(message_id: str, recipient: str, rng: random.Random) -> tuple[bytes, str]:
    text = rng.randbytes(rng.randint(*BODY_BYTES) // 2).hex()
    body = "".join(f"{text[i : i + 70]}\r\n" for i in range(0, len(text), 70)).encode()
    head = f"From: <{SENDER}>\r\nTo: <{recipient}>\r\nSubject: soak\r\nMessage-ID: <{message_id}>\r\n\r\n".encode()
    return head + body, hashlib.sha256(body).hexdigest()


class Link:
    """One SMTP or LMTP connection; both speak alike with one recipient a message."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, host: str, port: int) -> "Link":
        """Raises Lost or Refused."""
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                self = cls(*await asyncio.open_connection(host, port, limit=LINE_LIMIT))
                await self._reply(b"220")
                self.writer.write(b"LHLO client.test\r\n" if port == LMTP_PORT else b"EHLO client.test\r\n")
                await self._reply(b"250")
        except (OSError, TimeoutError, EOFError, ValueError) as error:
            raise Lost(f"{type(error).__name__} {error}") from error
        return self

    async def send(self, recipient: str, message: bytes) -> None:
        """Returns when it is acknowledged. Raises Refused, or Lost."""
        sent_all = False
        try:
            async with asyncio.timeout(REPLY_LIMIT_S):
                self.writer.write(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
                for expected in (b"250", b"250", b"354"):
                    await self._reply(expected)
                sent_all = True  # from here on the server may have it all, whatever we hear
                self.writer.write(message + b".\r\n")  # bodies are hexadecimal: no line begins with a dot
                await self._reply(b"250")
        except (OSError, TimeoutError, EOFError, ValueError) as error:
            raise Lost(f"{type(error).__name__} {error}", sent_all) from error

    async def _reply(self, expected: bytes) -> None:
        while True:
            line = await self.reader.readline()
            if not line.endswith(b"\n"):
                raise EOFError("connection closed")
            if line[3:4] != b"-":
                break
        if not line.startswith(expected):
            raise Refused(line.decode(errors="replace").strip())

    def close(self, politely: bool) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            if politely:
                self.writer.write(b"QUIT\r\n")
            self.writer.close()


class Clients:
    """The loop of the loading process."""

    def __init__(self, host: str, rate: float, out: Path) -> None:
        self.host, self.rate = host, rate
        self.file = open(out, "w", buffering=1)
        self.run_id = uuid.uuid4().hex[:12]
        self.rng = random.Random()
        self.number = 0
        self.missing: set[str] = set()  # acknowledged and not yet read back
        self.counts = dict.fromkeys(("ok", "fail", "info", "found"), 0)
        self.stop = asyncio.Event()
        self.drained = asyncio.Event()

    def note(self, kind: str, **data: object) -> None:
        record = {"t": time.monotonic_ns(), "src": "client", "kind": kind, "data": data}
        self.file.write(json.dumps(record, separators=(",", ":")) + "\n")

    def outcome(self, kind: str, message_id: str, **data: object) -> None:
        self.counts[kind] += 1
        if kind == "ok":
            self.missing.add(message_id)
        self.note(kind, id=message_id, **data)

    async def run(self) -> None:
        self.note("start", run=self.run_id, rate=self.rate)
        await self.make_boxes()
        pause_s = (SMTP_SENDERS + LMTP_SENDERS) / self.rate
        tasks = [self.send_all(SMTP_PORT, pause_s) for _ in range(SMTP_SENDERS)]
        tasks += [self.send_all(LMTP_PORT, pause_s) for _ in range(LMTP_SENDERS)]
        tasks += [self.append_all() for _ in range(APPENDERS)]
        reader = asyncio.create_task(self.read_round())
        ticker = asyncio.create_task(self.tell())
        await asyncio.gather(*tasks)
        await reader
        await self.drain()
        ticker.cancel()
        self.note("end", missing=len(self.missing))

    async def make_boxes(self) -> None:
        """One after the other: Dovecot 2.3 makes a mailbox at the first delivery, and three first deliveries at once
        can lock each other out of it for three minutes. A user's mailbox is not new at each takeover either.
        """
        for mailbox in (box(slot, number) for slot in range(SLOTS) for number in range(BOXES_PER_SLOT)):
            while not self.stop.is_set() and not await self.take(mailbox):
                await self.pause(0.1)

    def current_box(self) -> str:
        return box(int(time.monotonic() / SLOT_S) % SLOTS, self.rng.randrange(BOXES_PER_SLOT))

    def new_message(self, via: str) -> tuple[str, str, bytes]:
        self.number += 1
        message_id, recipient = f"{self.run_id}.{self.number}@{DOMAIN}", self.current_box()
        message, sha256 = compose(message_id, recipient, self.rng)
        self.note("invoke", id=message_id, sha256=sha256, via=via)
        return message_id, recipient, message

    async def pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self.stop.wait()

    # Sending

    async def send_all(self, port: int, pause_s: float) -> None:
        """One client: several mails a connection, one every `pause_s`. A mail that failed is tried again; one whose
        outcome is unknown is tried again half of the times, as some clients do and some do not."""
        via = "lmtp" if port == LMTP_PORT else "smtp"
        due, link, left, mail = time.monotonic() + self.rng.random() * pause_s, None, 0, None
        while not self.stop.is_set():
            await self.pause(due - time.monotonic())
            if self.stop.is_set():
                break
            try:
                if link is None:
                    link, left = await Link.open(self.host, port), self.rng.randint(*MAILS_PER_CONNECTION)
                mail = mail or self.new_message(via)
                await link.send(*mail[1:])
                self.outcome("ok", mail[0])
                mail, left = None, left - 1
                due = max(due + pause_s, time.monotonic())  # what an outage has held back is not sent in a burst
                if left <= 0:
                    link.close(politely=True)
                    link = None
            except (Refused, Lost) as error:
                link = link and link.close(politely=False)
                if mail:
                    unknown = isinstance(error, Lost) and error.unknown
                    self.outcome("info" if unknown else "fail", mail[0], why=str(error))
                    if unknown and self.rng.random() < 0.5:
                        mail = None
                due = time.monotonic() + RETRY_S
        if link:
            link.close(politely=True)

    async def append_all(self) -> None:
        while not self.stop.is_set():
            message_id, recipient, message = self.new_message("imap")
            try:
                await asyncio.to_thread(append, self.host, recipient, message)
                self.outcome("ok", message_id)
            except Refused as error:
                self.outcome("fail", message_id, why=str(error))
            except Lost as error:
                self.outcome("info" if error.unknown else "fail", message_id, why=str(error))
            await self.pause(APPEND_PAUSE_S)

    # Reading back

    async def read_round(self) -> None:
        """Always the slot that is used next: it has rested longest."""
        last = -1
        while not self.stop.is_set():
            turn = int(time.monotonic() / SLOT_S) + 1
            if turn != last:
                done = [await self.take(box(turn % SLOTS, number)) for number in range(BOXES_PER_SLOT)]
                last = turn if all(done) else last
            await self.pause(0.5)

    async def take(self, mailbox: str) -> bool:
        """Note everything in it, then remove exactly that. False: it could not be read to the end."""
        found: list[tuple[str, str, int, int]] = []
        try:
            await asyncio.to_thread(empty, self.host, mailbox, found)
        except (OSError, imaplib.IMAP4.error, EOFError) as error:
            self.note("unread", box=mailbox, why=f"{type(error).__name__} {error}"[:200])
            done = False
        else:
            done = True
        for message_id, sha256, validity, uid in found:
            self.counts["found"] += 1
            self.missing.discard(message_id)
            self.note("found", id=message_id, sha256=sha256, box=mailbox, validity=validity, uid=uid)
        return done

    async def drain(self) -> None:
        """Read all mailboxes until nothing acknowledged is missing, and once more to the end."""
        self.note("drain", missing=len(self.missing))
        end_s = time.monotonic() + DRAIN_LIMIT_S
        while time.monotonic() < end_s:
            whole = [await self.take(box(s, n)) for s in range(SLOTS) for n in range(BOXES_PER_SLOT)]
            if all(whole) and not self.missing:
                break
            await asyncio.sleep(DRAIN_PAUSE_S)

    async def tell(self) -> None:
        while True:
            self.note("counts", missing=len(self.missing), **self.counts)
            await asyncio.sleep(1)


def append(host: str, mailbox: str, message: bytes) -> None:
    """Raises Refused, or Lost."""
    whole = False
    try:
        link = imaplib.IMAP4(host, IMAP_PORT, timeout=IMAP_LIMIT_S)
        try:
            link.login(mailbox, PASSWORD)
            whole = True
            status, answer = link.append("INBOX", None, None, message)
        finally:
            with contextlib.suppress(OSError):
                link.shutdown()
    except (OSError, EOFError, imaplib.IMAP4.abort) as error:
        raise Lost(f"{type(error).__name__} {error}", whole) from error
    except imaplib.IMAP4.error as error:
        raise Refused(str(error)) from error
    if status != "OK":
        raise Refused(str(answer))


def empty(host: str, mailbox: str, found: list[tuple[str, str, int, int]]) -> None:
    """Adds (id, hash, UIDVALIDITY, UID) of each message to `found`, and only then removes them."""
    link = imaplib.IMAP4(host, IMAP_PORT, timeout=IMAP_LIMIT_S)
    try:
        link.login(mailbox, PASSWORD)
        status, data = link.select("INBOX")
        if status != "OK":
            raise imaplib.IMAP4.error(f"SELECT: {data!r}")
        validity = int(link.response("UIDVALIDITY")[1][0])
        if int(data[0]):
            status, parts = link.uid("FETCH", "1:*", "(UID BODY.PEEK[])")
            if status != "OK":
                raise imaplib.IMAP4.error(f"FETCH: {parts!r}")
            read = [_message(head, text, validity) for head, text in (p for p in parts if isinstance(p, tuple))]
            found += read
            uids = ",".join(str(uid) for *_, uid in read)
            link.uid("STORE", uids, "+FLAGS.SILENT", "(\\Deleted)")
            link.uid("EXPUNGE", uids)
        link.logout()
    finally:
        with contextlib.suppress(OSError):
            link.shutdown()


def _message(head: bytes, text: bytes, validity: int) -> tuple[str, str, int, int]:
    top, _, body = text.partition(b"\r\n\r\n")
    ids = MESSAGE_ID.findall(top)
    return (
        ids[0].decode() if ids else "<none>",
        hashlib.sha256(body).hexdigest(),
        validity,
        int(UID_LINE.search(head)[1]),
    )


class Load(Background):
    """The loading process, seen from outside."""

    abort = signal.SIGKILL

    def __init__(self, netns: str, host: str, path: Path, rate: float) -> None:
        arguments = ["--netns", netns, "--host", host, "--out", str(path), "--rate", str(rate)]
        super().__init__("mail load", "tests.soak.load", arguments, path)

    def begin_stop(self) -> None:
        """Send no more; read back what is there, which ends when nothing is missing or after DRAIN_LIMIT_S."""
        self.require_sound()
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def counts(self) -> dict[str, int]:
        """The latest, a second old at most."""
        with open(self.path, "rb") as file:
            file.seek(max(0, self.path.stat().st_size - (1 << 17)))
            lines = [line for line in file.read().split(b"\n")[:-1] if b'"kind":"counts"' in line]
        return json.loads(lines[-1])["data"] if lines else {"ok": 0, "missing": 0}


async def _run(options: argparse.Namespace, out: Path) -> None:
    clients = Clients(options.host, options.rate, out)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, clients.stop.set)
    await clients.run()


def main() -> None:
    parser = argparse.ArgumentParser(description="mail clients through the floating address")
    parser.add_argument("--netns", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    kernel.die_with_parent()
    out = options.out.absolute()
    kernel.enter_netns(options.netns)
    asyncio.run(_run(options, out))


if __name__ == "__main__":
    main()
