"""The mail-loss oracle with hand-written histories, a bad one per verdict, and what a delivery makes of a server."""

import asyncio
import random

import pytest

from tests.lab import mail
from tests.lab.oracle import Found, Outcome, Sent, final, judge

OK, FAIL, INFO = Outcome.OK, Outcome.FAIL, Outcome.INFO


def sent(number, outcome=OK):
    return Sent(f"m{number}", f"hash{number}", outcome)


def found(number, sha256=None):
    return Found(f"m{number}", f"hash{number}" if sha256 is None else sha256)


def test_all_is_well():
    verdict = judge([sent(1), sent(2)], [found(2), found(1)])
    assert verdict.passed
    assert (verdict.acknowledged, verdict.found) == (2, 2)


def test_acknowledged_and_gone_is_lost():
    verdict = judge([sent(1), sent(2)], [found(2)])
    assert verdict.lost == ("m1",)
    assert not verdict.passed


def test_another_body_is_corrupt_also_of_an_unacknowledged_message():
    for outcome in (OK, INFO, FAIL):
        verdict = judge([sent(1, outcome)], [found(1, "other")])
        assert verdict.corrupt == ("m1",)
        assert not verdict.passed


def test_one_bad_copy_beside_a_good_one_is_corrupt():
    assert not judge([sent(1)], [found(1), found(1, "other")]).passed


def test_what_nobody_sent_is_a_phantom():
    verdict = judge([sent(1)], [found(1), found(7)])
    assert verdict.phantom == ("m7",)
    assert verdict.found == 1
    assert not verdict.passed


def test_copies_are_counted_and_allowed():
    verdict = judge([sent(1)], [found(1), found(1), found(1)])
    assert verdict.duplicated == ("m1", "m1")
    assert verdict.passed


def test_unknown_and_refused_messages_may_be_there_or_not():
    verdict = judge([sent(1, INFO), sent(2, INFO), sent(3, FAIL), sent(4, FAIL)], [found(1), found(3)])
    assert (verdict.recovered, verdict.unknown, verdict.resurrected) == (("m1",), ("m2",), ("m3",))
    assert verdict.failed == 2
    assert verdict.passed


def test_the_queue_counts_as_there():
    verdict = judge([sent(1), sent(2)], [found(1, ""), found(2), found(2, "")])
    assert verdict.passed
    assert (verdict.queued, verdict.duplicated) == (1, ())


def test_two_messages_with_one_id_are_an_error():
    with pytest.raises(ValueError, match="m1 was sent"):
        judge([sent(1), sent(1)], [])


def test_one_acknowledgement_is_enough_and_doubt_beats_failure():
    assert final([FAIL, INFO, OK]) is OK
    assert final([FAIL, INFO, FAIL]) is INFO
    assert final([FAIL]) is FAIL


def test_a_killed_load_leaves_unknown_messages():
    history = [
        {"kind": "send", "t": 1, "data": {"id": "a", "sha256": "x"}},
        {"kind": "send", "t": 2, "data": {"id": "b", "sha256": "y"}},
        {"kind": "sent", "t": 3, "data": {"id": "a", "outcome": "ok", "attempts": 2}},
        {"kind": "seen", "t": 4, "data": {"ids": ["a"]}},
    ]
    assert mail.messages(history) == [Sent("a", "x", OK, 2, 3), Sent("b", "y", INFO)]
    assert mail.progress(history) == mail.Progress(sent=2, acknowledged=1, seen=1, retried=1, in_flight=1)
    with pytest.raises(ValueError, match="two messages"):
        mail.messages([history[0], history[0]])


ANSWERS = [b"220 x\r\n", b"250-x\r\n250 y\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 queued\r\n"]


async def attempt(answers, close_early=False):
    """One delivery against a server that gives these answers in turn and then closes; also what it got as body."""
    got = []

    async def serve(reader, writer):
        for number, answer in enumerate(answers):
            if number == 5:
                got.append(await reader.readuntil(b"\r\n.\r\n"))
            elif number:
                await reader.readline()
            if answer is not None:
                writer.write(answer)
        if len(answers) == 5 and not close_early:
            got.append(await reader.readuntil(b"\r\n.\r\n"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    message, _ = mail.compose("id@x", "to@x", random.Random(1))
    outcome, why = await mail.deliver("127.0.0.1", server.sockets[0].getsockname()[1], "to@x", message)
    server.close()
    return outcome, why, message, got


async def test_acknowledged():
    outcome, _, message, got = await attempt(ANSWERS)
    assert outcome is OK
    assert got == [message + b".\r\n"]


@pytest.mark.parametrize("refusal", range(6))
async def test_refused_at_any_step_is_surely_not_taken(refusal):
    outcome, why, *_ = await attempt([*ANSWERS[:refusal], b"451 try later\r\n"])
    assert (outcome, why) == (FAIL, "451 try later")


@pytest.mark.parametrize("step", range(5))
async def test_lost_before_the_body_is_surely_not_taken(step):
    outcome, why, *_ = await attempt(ANSWERS[:step])
    assert outcome is FAIL, why


async def test_lost_after_the_body_is_unknown():
    assert (await attempt(ANSWERS[:5]))[0] is INFO
    assert (await attempt([*ANSWERS[:5], b"250 not a whole li"]))[0] is INFO


async def test_nobody_there_is_surely_not_taken():
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    assert (await mail.deliver("127.0.0.1", port, "to@x", b""))[0] is FAIL


async def test_a_silent_server_times_out(monkeypatch):
    monkeypatch.setattr(mail, "REPLY_TIMEOUT_S", 0.05)
    outcome, why, *_ = await attempt([None, *[None] * 3])
    assert (outcome, why.split()[0]) == (FAIL, "TimeoutError")


def test_bodies_survive_the_way():
    message, sha256 = mail.compose("id@x", "to@x", random.Random(2))
    assert message.endswith(b"\r\n")
    assert not any(line.startswith(b".") for line in message.split(b"\r\n"))
    assert len(sha256) == 64


def test_queued_ids_are_taken_from_the_headers_of_the_load_only():
    text = "Message-ID: <abc.1@load.hamail>\nmessage-id: <other@elsewhere>\nMessage-Id: <abc.2@load.hamail>\n"
    assert mail.queued(lambda script: text) == [Found("abc.1@load.hamail", ""), Found("abc.2@load.hamail", "")]
