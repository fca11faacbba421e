"""Inputs that fuzzing has found: each once ended in an exception that nobody had declared; now it is refused."""

import logging
from zlib import crc32

import msgspec
import pytest

from hamail.config import ConfigError, parse_cluster
from hamail.consensus.journal import FILE, Journal, JournalError, initialise
from hamail.consensus.memory_disk import MemoryDisk
from hamail.consensus.records import HEADER, Identity, batch
from hamail.control.client import Failed, Invalid, OutcomeUnknown, _error, _tame, part
from hamail.daemon.barred import _MAGIC, BarredError, BarredFile
from hamail.executor.ledger import Ledger
from hamail.executor.metadata import parse
from hamail.ocf.agent import Call
from hamail.ocf.claim import ClaimError, decode
from hamail.ocf.codes import Failure
from hamail.ocf.parameters import Kind, Parameter
from hamail.ocf.parameters import parse as parse_parameters

MANY_DIGITS = "9" * 5000  # Python refuses to read more than 4300 of them, with an error of its own
NOT_TEXT = b'{"cluster":"\xff"}'
DEEP = b"[" * 2000


@pytest.mark.parametrize("claim", [NOT_TEXT, b'{"x":' + DEEP], ids=["not text", "deep"])
def test_a_claim_that_is_no_text(claim):
    with pytest.raises(ClaimError, match="damaged"):
        decode(claim)


@pytest.mark.parametrize("page", [b'{"boot_id":"\xff"}', b'{"x":' + DEEP], ids=["not text", "deep"])
def test_a_ledger_that_is_no_text_leaves_unknown_what_was_held(tmp_path, page, caplog):
    """An executor that did not start any more would leave its services with nobody to mind their deadlines."""
    path = tmp_path / "ledger"
    path.write_bytes(page)
    with caplog.at_level(logging.CRITICAL):
        assert "unknown" in Ledger(path, "boot").page.doomed


def test_barred_epochs_of_groups_that_are_no_text(tmp_path):
    body = msgspec.msgpack.encode({"mail": 1}).replace(b"mail", b"\xff\xff\xff\xff")
    path = tmp_path / "barred"
    path.write_bytes(_MAGIC + crc32(body).to_bytes(4, "big") + body)
    with pytest.raises(BarredError, match="damaged"):
        BarredFile(path).load()


def test_a_journal_with_a_name_that_is_no_text(tmp_path):
    disk = MemoryDisk()
    initialise(tmp_path, "name", "n1", disk=disk)
    image = bytearray(batch(1, [Identity(1, "name", "n1")]))
    where = image.index(b"name")
    payload = bytes(image[HEADER.size :]).replace(b"name", b"\xff\xff\xff\xff")
    length = int.from_bytes(image[:4], "little")
    assert where < HEADER.size + length
    checksum = crc32(payload[:length], crc32((1).to_bytes(4, "little")))
    head = b"".join(n.to_bytes(4, "little") for n in (length, 1, checksum))
    whole = head + crc32(head).to_bytes(4, "little") + payload
    disk.damage(tmp_path / FILE, 0, whole.ljust(len(disk.read(tmp_path / FILE)), b"\0"))
    with pytest.raises(JournalError, match="record of no known kind"):
        Journal(tmp_path, "name", "n1", disk=disk)


def test_a_number_of_thousands_of_digits_in_the_configuration():
    with pytest.raises(ConfigError, match="is not TOML"):
        parse_cluster(f"x = {MANY_DIGITS}", "cluster.toml")


def test_a_parameter_of_thousands_of_digits():
    declared = (Parameter(name="count", short="count", kind=Kind.INTEGER),)
    with pytest.raises(Failure, match="must be a whole number"):
        parse_parameters(declared, {"OCF_RESKEY_count": MANY_DIGITS})
    assert Call("monitor", {"OCF_CHECK_LEVEL": MANY_DIGITS}, {}, 1000).level == 0


def test_meta_data_with_a_depth_of_thousands_of_digits():
    action = f'<action name="monitor" interval="10" depth="{MANY_DIGITS}"/>'
    assert parse(f'<resource-agent name="x">{action}</resource-agent>').deep_intervals_ms == {}


@pytest.mark.parametrize("answer", [b'{"code":"\xff"}', DEEP], ids=["not text", "deep"])
def test_an_error_of_hamaild_that_makes_no_sense(answer):
    assert isinstance(_error(500, answer, ""), Failed)
    assert isinstance(_error(500, answer, "ctl-12345678"), OutcomeUnknown)


def test_words_of_a_command_line_that_are_no_text():
    """Python reads them as surrogates, which no JSON and no address of a request can carry."""
    from hamail.control.client import ControlClient

    with pytest.raises(Invalid, match="not UTF-8"):
        ControlClient("/nowhere").check_move("ma\udcff")
    assert part("ma\udcff") == "ma%3F"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (rb'"\u001b[2J"', b'"?[2J"'),
        (rb'"\u009b2J\u0007"', b'"?2J?"'),
        (rb'"\\u001b"', rb'"\\u001b"'),
        (rb'"a\nb\tc"', rb'"a\nb\tc"'),
        (b"\x1b[2J\n\xc2\x9b", b"?[2J\n?"),
        ('"\u00e9\u0103"'.encode(), '"\u00e9\u0103"'.encode()),
    ],
)
def test_nothing_in_an_answer_steers_the_terminal(said, shown):
    assert _tame(said) == shown
