"""The filesystem agent on real ext4 and XFS in loop devices: claim, damage, hangs, honest stop."""

import fcntl
import hashlib
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from agents_support import Answer, call, load, loop_device, meta, need, sh, unmounted_after

from hamail.ocf import claim as claims
from hamail.ocf import unclean
from hamail.ocf.claim import Claim
from hamail.ocf.codes import Code, Failure
from hamail.ocf.ext4 import mmp_in_use, read_superblock
from hamail.ocf.mountpoint import protect
from hamail.ocf.mounts import mounted_at, parse_line
from hamail.ocf.process import find

pytestmark = pytest.mark.root
MIB = 1 << 20
EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2


@dataclass
class Disk:
    agent: ModuleType
    image: Path
    device: str  # a stable name, as an operator gives it
    loop: str
    directory: Path
    fstype: str = "ext4"

    def call(self, action: str, epoch: int = 5, node: str = "n1", evidence: str = "released", **extra: str) -> Answer:
        told = meta(epoch=str(epoch), node=node, cluster="c", group="mail", evidence=evidence)
        given = {"device": self.device, "directory": str(self.directory), "fstype": self.fstype} | extra
        return call(self.agent, action, told, **given)


def make_disk(folder: Path, fstype: str, *options: str) -> Iterator[Disk]:
    need(f"mkfs.{fstype}")
    image = folder / "lun.img"
    with image.open("wb") as file:
        file.truncate((64 if fstype == "ext4" else 320) * MIB)
    sh(f"mkfs.{fstype}", "-q", *(["-F"] if fstype == "ext4" else []), *options, image)
    directory = folder / "mail"
    with loop_device(image) as loop, unmounted_after(directory):
        name = folder / "lun"
        name.symlink_to(loop)
        yield Disk(load("filesystem"), image, str(name), loop, directory, fstype)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    yield from make_disk(tmp_path, "ext4")


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Disk]:
    yield from make_disk(tmp_path, "xfs")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_whole_life(disk: Disk) -> None:
    assert disk.call("monitor").code == 7
    assert disk.call("start").code == 0
    assert disk.call("monitor").code == 0
    assert disk.call("start").code == 0
    assert disk.call("stop").code == 0
    assert disk.call("stop").code == 0
    assert disk.call("monitor").code == 7


def test_whether_it_was_let_go_of_in_order_is_noted(disk: Disk) -> None:
    disk.call("start")
    assert not unclean.marked(str(disk.directory))
    disk.call("stop")
    disk.call("start")
    assert not unclean.marked(str(disk.directory))
    handle = os.open(disk.directory, os.O_RDONLY)
    fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))  # as if the device were gone
    os.close(handle)
    assert disk.call("stop").code == 0
    disk.call("start")
    assert unclean.marked(str(disk.directory))
    unclean.clear(str(disk.directory))
    assert not unclean.marked(str(disk.directory))


def test_mount_point_is_locked_while_unmounted(disk: Disk) -> None:
    disk.call("start")
    (disk.directory / "file").write_text("on the disk")
    disk.call("stop")
    with pytest.raises(PermissionError):
        (disk.directory / "file").write_text("on the root disk")


@pytest.mark.parametrize("kind", ["disk", "xfs"])
def test_older_epoch_is_refused_before_anything_is_written(kind: str, request: pytest.FixtureRequest) -> None:
    disk: Disk = request.getfixturevalue(kind)
    assert disk.call("start", epoch=9, node="n2").code == 0
    assert disk.call("stop", epoch=9, node="n2").code == 0
    before = digest(disk.image)
    refused = disk.call("start", epoch=8, node="n1")
    assert refused.code == 1
    assert "'n2' has claimed the storage under epoch 9" in refused.reason
    assert not os.path.ismount(disk.directory)
    assert digest(disk.image) == before
    assert disk.call("start", epoch=10, node="n1").code == 0


def test_another_cluster_manager_is_not_asked_for_an_epoch(disk: Disk) -> None:
    disk.call("start", epoch=9)
    disk.call("stop", epoch=9)
    assert call(disk.agent, "start", {}, device=disk.device, directory=str(disk.directory)).code == 0


def crashed_copy(disk: Disk, folder: Path) -> Path:
    """The storage as it is right now, as the survivor of a power cut would find it: the journal not replayed."""
    copy = folder / "crashed.img"
    shutil.copyfile(disk.image, copy)
    return copy


def make_journal_busy(disk: Disk) -> None:
    for number in range(200):
        path = disk.directory / f"box-{number}"
        path.write_bytes(os.urandom(2000))
        if number % 3 == 0:
            path.unlink()
    handle = os.open(disk.directory, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def test_claim_is_readable_with_a_dirty_journal_and_reading_writes_nothing(disk: Disk, tmp_path: Path) -> None:
    disk.call("start", epoch=7, node="n2")
    with (disk.directory / "orphan").open("wb") as orphan:  # deleted while open: an orphan inode, as mail servers have
        orphan.write(b"x" * 10_000)
        make_journal_busy(disk)
        (disk.directory / "orphan").unlink()
        os.fsync(orphan.fileno())
        copy = crashed_copy(disk, tmp_path)
    with loop_device(copy) as loop:
        assert read_superblock(loop).dirty_journal
        before = digest(copy)
        assert claims.peek(loop, "ext4") == Claim(cluster="c", group="mail", epoch=7, node="n2")
        assert digest(copy) == before


def test_without_the_checkpoint_the_claim_would_not_be_seen(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason for the checkpoint: an fsync makes a new file durable, but only in the journal."""
    monkeypatch.setattr(claims, "checkpoint", lambda handle: None)
    disk.call("start", epoch=7, node="n2")
    copy = crashed_copy(disk, tmp_path)
    with loop_device(copy) as loop:
        assert claims.peek(loop, "ext4") is None


def test_claim_of_a_crashed_xfs_is_readable(xfs: Disk, tmp_path: Path) -> None:
    assert xfs.call("start", epoch=7, node="n2").code == 0
    make_journal_busy(xfs)
    copy = crashed_copy(xfs, tmp_path)
    xfs.call("stop")
    with loop_device(copy) as loop:
        before = digest(copy)
        child = os.fork()
        if child == 0:
            os._exit(0 if claims.peek(loop, "xfs") == Claim(cluster="c", group="mail", epoch=7, node="n2") else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert digest(copy) == before


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Claim(cluster="c", group="mail", epoch=9, node="n2"), "epoch 9"),
        (Claim(cluster="c", group="mail", epoch=8, node="n2"), "same epoch"),
        (Claim(cluster="other", group="mail", epoch=1, node="n2"), "cluster 'other'"),
        (Claim(cluster="c", group="web", epoch=1, node="n1"), "group 'web'"),
        (Claim(cluster="c", group="mail", epoch=8, node="n1"), ""),
        (Claim(cluster="c", group="mail", epoch=7, node="n2"), ""),
        (None, ""),
    ],
)
def test_who_may_follow_whom(found: Claim | None, words: str) -> None:
    said = claims.conflict(found, Claim(cluster="c", group="mail", epoch=8, node="n1"))
    assert (words in said) if words else said == ""


def test_damaged_claim_is_refused() -> None:
    with pytest.raises(claims.ClaimError, match="damaged"):
        claims.decode(b'{"cluster": "c"')
    assert claims.decode(b"\0" * 4096) is None


def test_damage_is_repaired_only_as_far_as_fsck_dares(disk: Disk) -> None:
    disk.call("start")
    disk.call("stop")
    set_error_flag(disk.image)
    repaired = disk.call("start")
    assert repaired.code == 0, repaired.err
    assert "e2fsck -p" in repaired.err
    assert not read_superblock(disk.loop).has_error


def test_damage_beyond_that_is_left_to_a_human(disk: Disk) -> None:
    sh("debugfs", "-w", "-R", "clri <2>", disk.loop)  # no root directory any more
    set_error_flag(disk.image)
    refused = disk.call("start")
    assert refused.code == 1
    assert not os.path.ismount(disk.directory)


def set_error_flag(image: Path) -> None:
    sh("debugfs", "-w", "-R", "set_super_value state 2", image)


def test_mmp_is_cleared_only_after_a_fence(tmp_path: Path) -> None:
    for disk in make_disk(tmp_path, "ext4", "-O", "mmp", "-E", "mmp_update_interval=1"):
        superblock = read_superblock(disk.loop)
        assert not mmp_in_use(disk.loop, superblock)
        block = superblock.mmp_block * superblock.block_bytes
        with disk.image.open("r+b") as file:  # a node that died with the file system mounted
            file.seek(block + 4)
            file.write(struct.pack("<I", 0x1234))
        assert mmp_in_use(disk.loop, superblock)
        commands: list[str] = []
        true_run = disk.agent.run

        def recorded(call, words, commands=commands, true_run=true_run):
            commands.append(words[0])
            return true_run(call, words)

        disk.agent.run = recorded
        answer = disk.call("start", evidence="fenced")
        assert (answer.code, commands) == (0, ["tune2fs", "mount"]), answer.err
        assert answer.took_ms < 5000
        disk.call("stop")
        commands.clear()
        disk.call("start", evidence="promises expired")
        assert "tune2fs" not in commands
        disk.call("stop")


def holder(directory: Path, code: str) -> subprocess.Popen[str]:
    opening = f"import signal, time\nf = open({str(directory / 'held')!r}, 'w')\n"
    program = f"{opening}{code}\nprint(1, flush=True)\ntime.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    return child


def test_stop_ends_those_that_hold_this_file_system_and_nobody_else(disk: Disk, tmp_path: Path) -> None:
    disk.call("start")
    (tmp_path / "elsewhere").mkdir()
    with holder(disk.directory, "") as polite, holder(tmp_path / "elsewhere", "") as bystander:
        answer = disk.call("stop")
        assert answer.code == 0
        assert str(polite.pid) in answer.err
        assert polite.wait(5) == -signal.SIGTERM
        assert bystander.poll() is None
        bystander.kill()


def test_a_stubborn_holder_is_killed(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hamail.ocf.unmount.TERM_WAIT_S", 0.2)
    disk.call("start")
    with holder(disk.directory, "signal.signal(signal.SIGTERM, signal.SIG_IGN)") as stubborn:
        assert disk.call("stop").code == 0
        assert stubborn.wait(5) == -signal.SIGKILL


def test_a_busy_mount_is_a_failed_stop_with_names_and_never_lazy(disk: Disk) -> None:
    disk.call("start")
    held = (disk.directory / "held").open("w")  # by this very process, which is not to be killed
    answer = disk.call("stop")
    assert answer.code == 1
    assert "stays mounted on this node" in answer.reason
    assert mounted_at(str(disk.directory)) is not None
    held.close()
    assert disk.call("stop").code == 0


def test_a_lazily_unmounted_file_system_is_not_called_released(disk: Disk) -> None:
    disk.call("start")
    held = (disk.directory / "held").open("w")
    sh("umount", "-l", disk.directory)
    refused = disk.call("start")
    assert refused.code == 1
    assert "held by the kernel" in refused.reason
    held.close()
    assert disk.call("start").code == 0


def copied_mount(seconds: float) -> subprocess.Popen[str]:
    """A process with a mount namespace of its own, which holds a copy of every mount for a while."""
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"echo; exec sleep {seconds}"]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    return child


def test_stop_waits_until_a_copy_of_the_mount_is_gone(disk: Disk) -> None:
    disk.call("start")
    with copied_mount(1.5):
        answer = disk.call("stop")
        assert answer.code == 0, answer.err
        assert answer.took_ms > 500
    assert disk.call("start").code == 0


def test_a_copy_of_the_mount_that_stays_is_a_failed_stop_with_its_holder(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hamail.ocf.unmount.RELEASE_WAIT_S", 0.3)
    disk.call("start")
    with copied_mount(60) as other:
        answer = disk.call("stop")
        other.kill()
    assert answer.code == 1
    assert f"mount namespace of: {other.pid}" in answer.reason


def test_read_only_after_errors_is_a_failure(disk: Disk) -> None:
    disk.call("start")
    sh("mount", "-o", "remount,ro", disk.directory)
    found = disk.call("monitor")
    assert found.code == 1
    assert "read-only" in found.reason


def test_a_hanging_write_is_a_failure_in_time_and_not_piled_up(disk: Disk) -> None:
    disk.call("start")
    sh("fsfreeze", "-f", disk.directory)
    try:
        found = disk.call("monitor", probe_timeout="1")
        assert found.code == 1
        assert "storage hangs" in found.reason
        assert found.took_ms < 2500
        again = disk.call("monitor", probe_timeout="1")
        assert again.code == 1
        assert again.took_ms < 2500
    finally:
        sh("fsfreeze", "-u", disk.directory)


def test_a_file_system_left_frozen_is_thawed_and_released(disk: Disk) -> None:
    disk.call("start")
    sh("fsfreeze", "-f", disk.directory)
    answer = disk.call("stop")
    assert answer.code == 0, answer.err
    assert disk.call("start").code == 0


@pytest.mark.parametrize("name", ["/dev/sda1", "/dev/vdb", "/dev/nvme0n1p2", "/dev/loop3", "/dev/dm-4"])
def test_unstable_device_names_are_refused(name: str) -> None:
    agent = load("filesystem")
    refused = call(agent, "validate-all", device=name, directory="/srv/mail")
    assert refused.code == 6
    assert "unstable name" in refused.reason
    assert call(agent, "validate-all", device=name, directory="/srv/mail", device_check="off").code == 0


@pytest.mark.parametrize("name", ["/dev/disk/by-id/x", "/dev/mapper/mpatha", "/dev/lun", "/dev/vg0/mail"])
def test_stable_device_names_are_accepted(name: str) -> None:
    assert call(load("filesystem"), "validate-all", device=name, directory="/srv/mail").code == 0


def test_missing_device(tmp_path: Path) -> None:
    agent = load("filesystem")
    given = {"device": str(tmp_path / "none"), "directory": str(tmp_path / "mnt")}
    environ = {"OCF_RESKEY_CRM_meta_timeout": "1500"}
    assert call(agent, "start", environ, **given).code == 1
    assert call(agent, "stop", **given).code == 0
    assert call(agent, "monitor", **given).code == 7


def test_mountinfo_names_with_blanks() -> None:
    mount = parse_line("36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - ext4 /dev/x\\040y rw,errors=continue")
    assert mount is not None
    assert (mount.point, mount.source, mount.writable) == ("/mnt/a b", "/dev/x y", True)
    assert parse_line("garbage") is None
    for broken in ("ro", "rw,emergency_ro"):
        found = parse_line(f"36 35 98:0 / /mnt rw - ext4 /dev/x {broken}")
        assert found is not None
        assert not found.writable


def test_failure_codes_are_those_of_the_standard() -> None:
    assert [int(c) for c in Code] == [0, 1, 2, 3, 4, 5, 6, 7, 190]
    assert Failure(Code.GENERIC, "x").reason == "x"
    assert find(2**22 + 1) is None


def test_a_node_that_has_never_mounted_it_has_its_mount_point_locked_as_well(disk: Disk) -> None:
    """Found by doctor: only a start or a stop locked it, so a standby's lay open until its first takeover."""
    disk.directory.mkdir(exist_ok=True)
    assert not disk.call("validate-all").code and disk.directory.stat().st_mode & 0o777  # nobody prepares: as it was
    assert disk.call("validate-all", evidence="prepare").code == 0
    assert disk.directory.stat().st_mode & 0o777 == 0


def test_preparing_locks_no_folder_that_is_in_use(disk: Disk) -> None:
    """Neither the mail of a server that is about to become a node, nor /srv because a hostile hamaild names it."""
    disk.directory.mkdir(exist_ok=True)
    (disk.directory / "somebody's").write_text("x")
    mode = disk.directory.stat().st_mode
    assert disk.call("validate-all", evidence="prepare").code == 0
    assert disk.directory.stat().st_mode == mode


def test_what_is_mounted_is_never_locked(disk: Disk) -> None:
    """The look at the mounts may be a moment old."""
    assert disk.call("start").code == 0
    mode = disk.directory.stat().st_mode
    assert protect(str(disk.directory)) == ""
    assert disk.directory.stat().st_mode == mode
    (disk.directory / "mail-goes-on").write_text("x")
