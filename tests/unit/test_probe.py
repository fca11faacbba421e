"""The external prober: outages, fates of mails, and what it does against real sockets."""

import asyncio
import io
import math
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from hamail.cli.main import cli
from hamail.practice.outside import Elsewhere
from hamail.probe import mailbox, records
from hamail.probe.ledger import Fate, Ledger
from hamail.probe.mailing import FAIL, INFO, OK, compose, deliver, digest_of
from hamail.probe.outages import STALL_MS, Tracker, answers, gap_at
from hamail.probe.prober import Plan, Prober
from hamail.probe.services import Account, BadPassword, Service, read_password

ACCOUNT = Account(sender="", recipient="a@example.test")


def test_an_outage_lasts_from_answer_to_answer() -> None:
    tracker = Tracker("smtp", 100.0)
    assert tracker.told(0, 5, True) == []
    tracker.told(100, 101, False, "refused")
    assert tracker.down_since_ms == 5
    tracker.told(200, 201, False)
    tracker.told(300, 310, True)
    assert tracker.down_since_ms is None
    (outage,) = tracker.over()
    assert (outage.from_ms, outage.to_ms, outage.failed, outage.why) == (5, 310, 2, "refused")
    assert tracker.over() == []


def test_attempts_that_hang_in_an_outage_and_fail_after_it_belong_to_it() -> None:
    """So is a planned move: the address is away, nobody refuses, and all that was begun meanwhile times out later."""
    tracker = Tracker("smtp", 100.0)
    tracker.told(0, 1, True)
    assert tracker.told(900, 901, True) == []
    for start in (100, 200, 300):
        assert tracker.told(start, start + 1000, False, "timeout") == []
    found = [x for ms in range(1400, 2500, 100) for x in tracker.told(ms, ms + 1, True)]
    assert [(x.from_ms, x.to_ms, x.failed) for x in found] == [(1, 901, 3)]


def test_answers_that_hang_are_an_outage() -> None:
    tracker = Tracker("smtp", 100.0)
    tracker.told(0, 1, True)
    tracker.told(100, 1 + 100 + STALL_MS, True)
    assert tracker.over() == []
    tracker.told(1200, 4000, True)
    (outage,) = tracker.over()
    assert outage.why == "answers hung"


def test_an_outage_from_the_start_counts() -> None:
    tracker = Tracker("smtp", 100.0)
    tracker.told(0, 1, False, "refused")
    tracker.told(100, 101, True)
    (outage,) = tracker.over()
    assert (outage.from_ms, outage.failed) == (0, 1)


def test_the_gap_at_a_fault() -> None:
    times = [0.0, 10.0, 20.0, 500.0, 510.0, 700.0]
    assert gap_at(times, 15) == (20.0, 500.0)
    assert gap_at(times, 505) == (510.0, 700.0)
    assert gap_at(times, 800) == (700.0, math.inf)
    assert gap_at(times, -5) is None
    assert gap_at(times, 15, until_ms=100) == (10.0, 20.0)


def fates(**outcomes: str) -> Ledger:
    return Ledger({name: Fate("d", outcome, 1.0) for name, outcome in outcomes.items()})


def test_verdict_on_mails() -> None:
    ledger = fates(a=OK, b=OK, c=OK, d=INFO, e=INFO, f=FAIL)
    verdict = ledger.judge({"a": ["d"], "c": ["d", "x"], "d": ["d"]})
    assert verdict.lost == ("b",)
    assert verdict.duplicated == ("c",)
    assert verdict.corrupt == ("c",)
    assert (verdict.sent, verdict.acknowledged, verdict.found) == (6, 3, 3)
    assert (verdict.unknown, verdict.recovered) == (1, 1)
    assert not verdict.clean


def test_a_long_run_forgets_what_is_settled_and_keeps_count() -> None:
    ledger = fates(a=OK, b=OK)
    ledger.settle({"a": ["d"]}, ["a", "b"])
    assert not ledger.open and ledger.settled[0].lost == ("b",)
    ledger.open["c"] = Fate("d", OK, 2.0)
    ledger.settle({"c": ["d"]}, ["c"])
    assert len(ledger.settled) == 1
    assert (ledger.settled[0].acknowledged, ledger.settled[0].lost) == (3, ("b",))


class Server:
    """Speaks enough SMTP or LMTP. `manners`: what it does after the body."""

    def __init__(self, manners: str = "250 taken") -> None:
        self.manners = manners
        self.bodies: list[bytes] = []
        self.greeting = b"220 here\r\n"
        self.server: asyncio.Server | None = None
        self.port = 0

    async def start(self, port: int = 0) -> "Server":
        self.server = await asyncio.start_server(self.talk, "127.0.0.1", port)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.greeting)
        try:
            while line := await reader.readline():
                word = line[:4].upper()
                if word == b"DATA":
                    writer.write(b"354 go\r\n")
                    self.bodies.append(await reader.readuntil(b"\r\n.\r\n"))
                    if self.manners == "hang up":
                        break
                    writer.write(f"{self.manners}\r\n".encode())
                elif word == b"QUIT":
                    break
                else:
                    writer.write(b"250 fine\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()


@pytest.mark.parametrize(("manners", "outcome"), [("250 taken", OK), ("450 later", FAIL), ("hang up", INFO)])
@pytest.mark.parametrize("name", ["smtp", "lmtp"])
async def test_fate_of_one_mail(manners: str, outcome: str, name: str) -> None:
    server = await Server(manners).start()
    message = compose("run", 1, ACCOUNT)
    found, why = await asyncio.to_thread(deliver, Service(name, "127.0.0.1", server.port), ACCOUNT, message)
    await server.stop()
    assert found == outcome, why
    body = server.bodies[0].partition(b"\r\n\r\n")[2].removesuffix(b".\r\n")
    assert digest_of(body) == message.digest


async def test_nobody_there_is_surely_not_taken() -> None:
    outcome, _ = await asyncio.to_thread(deliver, Service("smtp", "127.0.0.1", 1), ACCOUNT, compose("r", 1, ACCOUNT))
    assert outcome == FAIL


async def test_a_password_does_not_go_without_tls() -> None:
    server = await Server().start()
    account = Account(sender="", recipient="a@b.c", user="u", password="hush")
    service = Service("submission", "127.0.0.1", server.port)
    outcome, why = await asyncio.to_thread(deliver, service, account, compose("r", 1, account))
    await server.stop()
    assert outcome == FAIL and "was not sent" in why
    assert "hush" not in repr(account)


async def test_the_prober_sees_an_outage_and_writes_it_down() -> None:
    server = await Server().start()
    out = io.BytesIO()
    plan = Plan(
        target="127.0.0.1",
        services=(Service("smtp", "127.0.0.1", server.port),),
        every_ms=20,
        for_ms=None,
        mail_every_ms=100,
        account=ACCOUNT,
        detail=True,
    )
    prober = Prober(plan, records.Writer(out))
    run = asyncio.create_task(prober.run())
    await asyncio.sleep(0.4)
    await server.stop()
    down_ms = prober.clock.now_ms()
    await asyncio.sleep(0.4)
    up_ms = prober.clock.now_ms()
    again = await Server().start(server.port)
    await asyncio.sleep(0.4)
    prober.stop()
    await run
    await again.stop()
    lines = list(records.read(io.BytesIO(out.getvalue()), "x"))
    assert isinstance(lines[0], records.Start) and isinstance(lines[-1], records.End)
    outage = max((x for x in lines if isinstance(x, records.Outage)), key=lambda x: x.ms)
    assert outage.from_ms < up_ms <= outage.to_ms, "from the last answer before to the first one after"
    assert outage.ms > (up_ms - down_ms) / 2 and outage.failed
    assert prober.worst_ms["smtp"] == outage.ms
    assert outage.from_ms in [x.since_ms for x in lines if isinstance(x, records.Down)]
    assert gap_at(answers(lines)["smtp"], outage.from_ms + 100) == (outage.from_ms, outage.to_ms)
    assert prober.verdict is not None and prober.verdict.acknowledged >= 4
    assert not prober.verdict.lost, "nothing is known of loss where the mailbox is not read"


async def test_a_wrong_greeting_is_no_answer() -> None:
    server = Server()
    server.greeting = b"421 overloaded\r\n"
    await server.start()
    plan = Plan(target="x", services=(Service("smtp", "127.0.0.1", server.port),), every_ms=20, for_ms=200)
    prober = Prober(plan, records.Writer(None, keep=True))
    await prober.run()
    await server.stop()
    assert prober.trackers["smtp"].last_ok_ms is None
    assert "421" in prober.trackers["smtp"].why


def test_password_files(tmp_path: Path) -> None:
    file = tmp_path / "p"
    file.write_text("secret\nmore\n")
    file.chmod(0o644)
    with pytest.raises(BadPassword, match="others can read it") as refused:
        read_password(file)
    assert "secret" not in str(refused.value)
    file.chmod(0o600)
    assert read_password(file) == "secret"


def test_damaged_records_are_named_by_their_line() -> None:
    good = b'{"kind":"tally","at_ms":1,"service":"smtp","from_ms":0,"checks":1,"failed":0}\n'
    with pytest.raises(records.BadRecords, match=r"f\.jsonl:2: "):
        list(records.read([good, b'{"kind":"nonsense"}\n'], "f.jsonl"))
    assert len(list(records.read([good, b'{"kind"'], "f.jsonl"))) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--port", "smpt=25"], "smtp=2525"),
        (["--every", "1ms"], "--every"),
        (["--mail-every", "1ms"], "--mail-every"),
        (["--user", "u@x.y"], "--password-file"),
        (["--to", "nobody"], "not a mail address"),
        (["--submission", "--to", "a@b.c"], "--user"),
        (["--lmtp-through", "host:nan"], "HOST:PORT"),
    ],
)
def test_wrong_usage(words: list[str], says: str) -> None:
    result = CliRunner().invoke(cli, ["probe", "127.0.0.1", *words])
    assert result.exit_code == 2
    assert says in result.output


def test_the_command_line_needs_no_hamaild(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    words = [
        "probe",
        "127.0.0.1",
        "--smtp",
        "--port",
        "smtp=1",
        "--for",
        "300ms",
        "--every",
        "50ms",
        "--json",
        str(file),
    ]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 1
    assert "never answered" in result.output
    with file.open("rb") as lines:
        assert any(isinstance(x, records.Tally) for x in records.read(lines, "f"))


class Mailbox:
    """Speaks enough IMAP for one mailbox. As Dovecot does, it tells what it can do in full only after the login."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.deleted = ""
        self.expunged = ""
        self.port = 0

    async def start(self) -> "Mailbox":
        server = await asyncio.start_server(self.talk, "127.0.0.1", 0, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        return self

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK here\r\n")
        inside = False
        while line := (await reader.readline()).decode().strip():
            tag, _, rest = line.partition(" ")
            word = rest.upper()
            inside = inside or word.startswith("LOGIN")
            if word.startswith("CAPABILITY"):
                writer.write(b"* CAPABILITY IMAP4rev1" + (b" UIDPLUS" if inside else b"") + b"\r\n")
            elif "SEARCH" in word:
                writer.write(b"* SEARCH 4 7\r\n")
            elif "STORE" in word:
                self.deleted = rest.split()[2]
            elif "EXPUNGE" in word:
                self.expunged = rest.split()[2]
            writer.write(f"{tag} OK done\r\n".encode())
        writer.close()


async def test_the_probe_s_mails_really_leave_the_mailbox() -> None:
    server = await Mailbox().start()
    account = Account(sender="", recipient="a@b.c", user="u", password="hush", plain=True)
    await asyncio.to_thread(mailbox.remove, Service("imap", "127.0.0.1", server.port), account, "run")
    assert (server.deleted, server.expunged) == ("4,7", "4,7")


@pytest.mark.parametrize(("name", "readable"), [("mail.example.org", True), ("other.example.org", False)])
async def test_imaps_must_bear_the_name_that_was_given(
    name: str, readable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-subj", "/CN=mail", "-addext", "subjectAltName=DNS:mail.example.org", "-keyout", key, "-out", cert]
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    server = await Mailbox(context).start()
    account = Account(sender="", recipient="a@b.c", user="u", password="hush", tls_name=name)
    ask = asyncio.to_thread(mailbox.everything, Service("imaps", "127.0.0.1", server.port), account, "run")
    if readable:
        assert (await ask).uids == (4, 7)
    else:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await ask


def test_a_probe_through_ssh_ends_with_its_standard_input_and_gives_its_verdict(tmp_path: Path) -> None:
    words = "hamail.cli.main probe 127.0.0.1 --smtp --port smtp=1 --every 50ms --for 0ms --detail --until-eof --json -"
    elsewhere = Elsewhere(f"{sys.executable} -m {words}", tmp_path / "probe.jsonl")
    begun_ms = records.Clock().now_ms()
    elsewhere.start()
    time.sleep(0.3)
    elsewhere.stop()
    lines = elsewhere.lines()
    assert isinstance(lines[0], records.Start) and isinstance(lines[-1], records.End)
    with (tmp_path / "probe.jsonl").open("rb") as file:
        assert list(records.read(file, "f")) == lines, "what is kept is what was reckoned with"
    assert all(begun_ms <= line.at_ms <= records.Clock().now_ms() for line in lines)


def test_the_records_of_another_clock_are_shifted_and_lengths_stay() -> None:
    outage = records.Outage(at_ms=30.0, service="smtp", from_ms=10.0, to_ms=20.0, failed=3)
    moved = records.shifted(outage, 1000.0)
    assert (moved.at_ms, moved.from_ms, moved.to_ms, moved.ms, moved.failed) == (1030.0, 1010.0, 1020.0, 10.0, 3)
    tally = records.Tally(at_ms=30.0, service="smtp", from_ms=0.0, checks=9, failed=0, slowest_ms=4.0)
    assert records.shifted(tally, 1000.0).slowest_ms == 4.0


def test_a_probe_whose_mails_nobody_takes_says_why_and_ends_with_1() -> None:
    words = ["probe", "127.0.0.1", "--smtp", "--port", "smtp=1", "--to", "a@b.c", "--for", "300ms"]
    result = CliRunner().invoke(cli, [*words, "--mail-every", "100ms"])
    assert result.exit_code == 1
    assert "The last that was not taken: ConnectionRefusedError" in result.output
