"""Answers found ahead of a start: used once, and only while fresh."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hamail.ocf import detached, prepared


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(detached, "RUN", tmp_path / "run")
    yield


def test_a_fresh_answer_is_given_once() -> None:
    prepared.keep("dovecot", '{"base": "/run"}')
    assert prepared.take("dovecot") == '{"base": "/run"}'
    assert prepared.take("dovecot") is None


def test_an_answer_without_text_is_still_an_answer() -> None:
    prepared.keep("vip-eth0-10.0.0.1/24")
    assert prepared.take("vip-eth0-10.0.0.1/24") == ""


@pytest.mark.parametrize("age_s", [prepared.FRESH_S + 0.1, -5.0])
def test_old_answers_and_those_of_another_boot_are_none(age_s: float) -> None:
    prepared.keep("x", "text")
    path = detached.note_path("x.prepared")
    moment = float(path.read_text().split()[0])
    path.write_text(f"{moment - age_s} text")
    assert prepared.take("x") is None


def test_garbage_is_no_answer() -> None:
    detached.note_path("x.prepared").write_bytes(os.urandom(0) + b"what is this")
    assert prepared.take("x") is None


def test_what_was_read_from_files_is_true_until_one_of_them_changes(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "conf.d" / "10-mail.conf").write_text("mail_location = maildir:/srv/mail/%u")
    prepared.remember("dovecot", "settings", prepared.fingerprint(folder))
    assert prepared.recall("dovecot", folder) == "settings"
    assert prepared.recall("dovecot", folder) == "settings"
    (folder / "conf.d" / "10-mail.conf").write_text("mail_location = maildir:/srv/post/%u")
    assert prepared.recall("dovecot", folder) is None


def test_a_new_file_counts_as_a_change(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "main.cf").write_text("x")
    prepared.remember("postfix", "settings", prepared.fingerprint(folder))
    (folder / "master.cf").write_text("y")
    assert prepared.recall("postfix", folder) is None


def test_what_cannot_be_seen_is_not_remembered(tmp_path: Path) -> None:
    prepared.remember("x", "text", prepared.fingerprint(tmp_path / "nowhere"))
    assert prepared.recall("x", tmp_path / "nowhere") is None
