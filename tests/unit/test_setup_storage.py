"""The folders of a new mail store: on an empty disk only. Whether one is empty is asked of a real file system."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hamail.setup import storage
from hamail.setup.machine import Machine
from hamail.setup.problem import SetupError
from tests.unit.setup_kit import Bench, make_bench

pytestmark = pytest.mark.skipif(
    not shutil.which("debugfs", path="/usr/sbin:/sbin"), reason="e2fsprogs is not installed"
)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk.img"


def make(disk: Path, *content: str) -> None:
    folder = disk.with_suffix(".d")
    folder.mkdir()
    for name in content:
        (folder / name).write_text("x")
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-d", folder, disk, "2M"], check=True, capture_output=True)


def test_empty_is_what_mkfs_has_left(disk: Path) -> None:
    make(disk)
    assert storage.empty(Machine(), str(disk), "ext4")


@pytest.mark.parametrize("name", ["mail", ".hamail-claim", "a b"])
def test_one_name_on_it_is_enough(disk: Path, name: str) -> None:
    make(disk, name)
    assert not storage.empty(Machine(), str(disk), "ext4")


def test_what_cannot_be_read_is_not_empty(disk: Path, tmp_path: Path) -> None:
    assert not storage.empty(Machine(), str(tmp_path / "none"), "ext4")
    disk.write_bytes(b"garbage" * 1000)
    assert not storage.empty(Machine(), str(disk), "ext4")
    make(disk)
    assert not storage.empty(Machine(), str(disk), "xfs"), "nobody has looked"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "root").mkdir()
    bench = make_bench(tmp_path / "root")
    listing = "\n/2/040755/0/0/./\n/2/040755/0/0/../\n/11/040700/0/0/lost+found/\n"
    bench.said |= {("debugfs",): (0, listing), ("mount",): (0, ""), ("umount",): (0, "")}
    bench.said[("doveconf",)] = (0, "userdb {\n  args = uid=daemon gid=daemon home=/srv\n}\n")
    return bench


def test_folders_are_made_and_the_disk_is_let_go(bench: Bench) -> None:
    made = storage.prepare(bench, "/dev/sdb1", "/srv/mail", "ext4")
    assert made == ["/srv/mail/queue", "/srv/mail/box for user daemon"]
    box = (bench.root / "srv/mail/box").stat()
    if os.geteuid() == 0:
        assert box.st_uid == 1
    assert box.st_mode & 0o777 == 0o700
    assert [words[0] for words in bench.ran if "mount" in words[0]] == ["mount", "umount"]


def test_a_disk_with_something_on_it_is_left_alone(bench: Bench) -> None:
    bench.said[("debugfs",)] = (0, "/2/040755/0/0/./\n/12/040755/0/0/mail/\n")
    with pytest.raises(SetupError, match="is not empty"):
        storage.prepare(bench, "/dev/sdb1", "/srv/mail", "ext4")
    assert not any("mount" in words[0] for words in bench.ran)


def test_a_mounted_disk_is_left_alone(bench: Bench) -> None:
    (bench.root / "proc/self/mountinfo").write_text("30 1 8:17 / /mnt rw - ext4 /dev/sdb1 rw\n")
    with pytest.raises(SetupError, match="is mounted at /mnt"):
        storage.prepare(bench, "/dev/sdb1", "/srv/mail", "ext4")


def test_a_failure_lets_the_disk_go(bench: Bench) -> None:
    bench.programs = {"postfix"}
    with pytest.raises(SetupError, match="postfix check"):
        storage.prepare(bench, "/dev/sdb1", "/srv/mail", "ext4")
    assert bench.ran[-1][0] == "umount"


def test_the_owner_of_the_mailboxes_in_the_language_of_dovecot_2_4(bench: Bench) -> None:
    said = (Path(__file__).parent / "dovecot24/pair-n.txt").read_text().replace("vmail", "no-such-user")
    bench.said[("doveconf",)] = (0, said)
    assert storage.mail_user(bench) == "daemon"


def test_nobody_owns_the_mailboxes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.said[("doveconf",)] = (0, "protocols = imap\n")
    monkeypatch.setattr(storage, "USERS", ("nobody-of-that-name",))
    with pytest.raises(SetupError, match="who owns the mailboxes"):
        storage.mail_user(bench)
