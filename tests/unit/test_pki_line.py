"""The line of a node's certificates: whoever shows one that was followed by another is not the node."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from hamail.enrol.client import Ask, AskError, Pair
from hamail.enrol.issuer import REFUSALS_PER_MINUTE, Peer
from hamail.enrol.messages import Check, Joined, Noted, Orders, Renew, Renewed
from hamail.model.serials import number_of
from hamail.pki import keep as keep_module
from hamail.pki.authority import load_authority, new_key, sign_node
from hamail.pki.files import PkiError
from hamail.pki.keep import Keep, Standing, State
from hamail.pki.line import Line
from hamail.pki.request import new_request
from hamail.setup.problem import SetupError
from hamail.setup.renew import Own, _alone
from tests.unit.enrol_kit import Room, join, member, served

ALARM = "someone uses an old certificate of n2"


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    yield from served(tmp_path, monkeypatch)


def renewed(room: Room, ask: Ask) -> Ask:
    key, request = new_request("mail", "n2")
    answer = ask(Renew(request=request), Renewed)
    return Ask(("127.0.0.1", room.port), "mail", answer.authorities, Pair(pem=key + answer.certificate))


def node(room: Room) -> Ask:
    ask = member(room, *join(room.token(node="n2"), "n2"))
    ask(Joined(), Noted)
    return ask


def checks(ask: Ask) -> bool:
    try:
        ask(Check(trusts=()), Orders)
    except AskError as error:
        assert "this is an old certificate of n2" in str(error) and "hamailctl pki revoke n2" in error.hint
        return False
    return True


def serial(certificate: str) -> int:
    return x509.load_pem_x509_certificate(certificate.encode()).serial_number


# Who has a copy of a key


def test_a_stolen_key_does_not_renew_itself_after_the_node_has(room: Room) -> None:
    stolen = true = node(room)
    true = renewed(room, true)
    assert checks(true)
    with pytest.raises(AskError, match="this is an old certificate of n2"):
        renewed(room, stolen)
    assert not checks(stolen) and checks(true)
    (told, *_) = [json.loads(line) for line in room.told().splitlines() if ALARM in line]
    assert told["host"] == "127.0.0.1" and "hamailctl pki revoke n2" in told["next_step"]
    assert room.keep.state.lines["n2"].misused_from == "127.0.0.1"


def test_a_node_notices_that_its_key_was_used_by_another(room: Room) -> None:
    """The thief is first: the next time that the node asks, within hours, it is told."""
    true = node(room)
    thief = renewed(room, true)
    assert checks(thief)
    assert not checks(true) and ALARM in room.told()


def test_an_answer_that_was_lost_locks_nobody_out(room: Room) -> None:
    true = node(room)
    for _ in range(3):
        renewed(room, true)  # and it never arrives
    assert checks(true)
    after = renewed(room, true)
    assert checks(after) and checks(renewed(room, after))


def test_a_try_to_join_that_failed_takes_nothing_from_the_node(room: Room) -> None:
    """Only when the new machine has shown its certificate is that of the old machine an old one."""
    old = node(room)
    welcome, key = join(room.token(node="n2"), "n2")
    assert checks(old)
    new = member(room, welcome, key)
    new(Joined(), Noted)
    assert checks(new) and not checks(old)


def test_also_a_renewal_to_another_authority_keeps_to_the_line(room: Room) -> None:
    """That is how a stolen key would live on for ever."""
    stolen = node(room)
    room.keep.begin_change()
    true = renewed(room, stolen)
    assert checks(true)
    room.keep.advance(())
    stolen._authorities = room.keep.bundle()
    assert not checks(stolen)
    with pytest.raises(AskError, match="old certificate"):
        renewed(room, stolen)
    assert checks(renewed(room, true))


def test_strangers_do_not_drown_the_alarm(room: Room) -> None:
    stolen = node(room)
    assert checks(renewed(room, stolen))
    for _ in range(3 * REFUSALS_PER_MINUTE):
        room.issuer.answer(Joined(), Peer("10.9.9.9"))
    assert not checks(stolen) and ALARM in room.told()


# What is kept


def test_a_state_of_before_there_were_lines(tmp_path: Path) -> None:
    keep = Keep(tmp_path / "keep")
    keep.create("mail")
    old = {k: v for k, v in json.loads(msgspec.json.encode(keep.state)).items() if k not in ("lines", "issued")}
    (tmp_path / "keep" / "state.json").write_text(json.dumps(old))
    random = x509.random_serial_number()
    assert number_of(random) == 0
    assert keep.shown("n2", random, "h") is Standing.GOOD, "the line begins with what is shown first"
    assert keep.shown("n2", x509.random_serial_number(), "h") is Standing.OLD
    new = keep.certify("n2", new_key().public_key(), days=9).serial_number
    assert keep.shown("n2", new, "h") is Standing.GOOD
    assert keep.shown("n2", random, "h") is Standing.OLD


def test_an_authority_that_was_brought_back_from_a_backup(tmp_path: Path) -> None:
    """What it has issued since is newer than what it knows of: still good. What is older stays old."""
    keep = Keep(tmp_path / "keep")
    keep.create("mail")
    first, second = (keep.certify("n2", new_key().public_key(), days=9).serial_number for _ in "12")
    keep.shown("n2", second, "h")
    backup = (tmp_path / "keep" / "state.json").read_text()
    third = keep.certify("n2", new_key().public_key(), days=9).serial_number
    keep.shown("n2", third, "h")
    (tmp_path / "keep" / "state.json").write_text(backup)
    assert keep.shown("n2", first, "h") is Standing.OLD
    assert keep.shown("n2", third, "h") is Standing.GOOD
    assert keep.shown("n2", second, "h") is Standing.OLD
    assert number_of(first) < number_of(second) < number_of(third)


@pytest.mark.parametrize("when", ["before it is kept", "before it is sent"])
def test_a_crash_leaves_the_old_certificate_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    keep = Keep(tmp_path / "keep")
    keep.create("mail")
    first = keep.certify("n2", new_key().public_key(), days=9).serial_number
    keep.shown("n2", first, "h")
    if when == "before it is kept":
        with monkeypatch.context() as patch:
            patch.setattr(keep_module, "write", lambda *_: (_ for _ in ()).throw(PkiError("the power is gone")))
            with pytest.raises(PkiError):
                keep.certify("n2", new_key().public_key(), days=9)
    else:
        keep.certify("n2", new_key().public_key(), days=9)
    again = Keep(tmp_path / "keep")
    assert again.shown("n2", first, "h") is Standing.GOOD
    last = again.certify("n2", new_key().public_key(), days=9).serial_number
    assert again.shown("n2", last, "h") is Standing.GOOD and again.shown("n2", first, "h") is Standing.OLD


def test_two_processes_that_change_the_state_lose_nothing(tmp_path: Path) -> None:
    Keep(tmp_path / "keep").create("mail")

    def work(name: str) -> None:
        keep = Keep(tmp_path / "keep")
        for _ in range(10):
            keep.certify(name, new_key().public_key(), days=9)

    before = Keep(tmp_path / "keep").state.issued
    threads = [threading.Thread(target=work, args=(name,)) for name in ("n1", "n2", "n3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    state = Keep(tmp_path / "keep").state
    assert set(state.lines) == {"n1", "n2", "n3"}
    assert state.issued >= before + 30
    assert len({number_of(int(line.newest, 16)) for line in state.lines.values()}) == 3


def test_a_state_that_stays_locked_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep_module, "LOCK_TRIES", 2)
    keep = Keep(tmp_path / "keep")
    keep.create("mail")
    with keep._changing(), pytest.raises(PkiError, match="lock: cannot be locked"):
        Keep(tmp_path / "keep").joined("n2")
    keep.joined("n2")


def test_two_renewals_on_a_node_do_not_overtake_each_other(tmp_path: Path) -> None:
    own = Own(tmp_path, os.getgid())
    with _alone(own), pytest.raises(SetupError, match="another renewal is under way"), _alone(own):
        pass
    with _alone(own):
        pass


def test_the_line() -> None:
    line = Line().followed(1 << 64, "t").followed(2 << 64, "t")
    assert line.good(1 << 64) and line.good(2 << 64) and line.shown(1 << 64) == line
    assert not line.shown(2 << 64).good(1 << 64)
    assert not Line(newest="5").good(6), "serials of before they counted are no later than each other"


def test_certificates_made_by_hand_count_too(tmp_path: Path) -> None:
    keep = Keep(tmp_path / "keep")
    keep.create("mail")
    authority = load_authority(tmp_path / "keep" / "1")
    assert number_of(sign_node(authority, "n1", new_key().public_key(), days=9).serial_number) > 1_700_000_000
    assert State(cluster="mail").lines == {}
