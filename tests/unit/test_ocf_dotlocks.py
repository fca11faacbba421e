"""Stale lock files of Dovecot are found, and nothing else is touched."""

from pathlib import Path

from hamail.ocf import dotlocks


def test_lock_files_go_and_everything_else_stays(tmp_path: Path) -> None:
    box = tmp_path / "bob"
    for folder in ("cur", "new", "tmp", ".Sent/cur"):
        (box / folder).mkdir(parents=True)
    stale = [box / "dovecot-uidlist.lock", box / ".Sent" / "dovecot-uidlist.lock", box / "subscriptions.lock"]
    kept = [box / "dovecot-uidlist", box / "cur" / "dovecot-uidlist.lock", box / "new" / "1.mail", box / "my.lock"]
    for file in (*stale, *kept):
        file.write_text("")
    assert dotlocks.remove(str(tmp_path), lambda: True) == (3, True)
    assert not any(file.exists() for file in stale)
    assert all(file.exists() for file in kept)


def test_it_ends_in_time_and_says_so(tmp_path: Path) -> None:
    for user in "abc":
        (tmp_path / user).mkdir()
    assert dotlocks.remove(str(tmp_path), lambda: False) == (0, False)
