"""A machine that is a folder: its programs answer from a table, its mail programs are the real ones where installed."""

import grp
import ipaddress
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from hamail.setup.answers import Answers, Fence
from hamail.setup.machine import Machine
from hamail.setup.node import Layout

INTERFACES = {
    "lo": (ipaddress.ip_interface("127.0.0.1/8"),),
    "eth0": (ipaddress.ip_interface("10.0.0.11/24"), ipaddress.ip_interface("fe80::1/64")),
    "eth1": (ipaddress.ip_interface("fd00::11/64"),),
}
DEVICE = "/dev/disk/by-id/wwn-1"


class Bench(Machine):
    """`said`: first words of a command -> (exit code, output); everything else fails."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, self.answer)
        self.said: dict[tuple[str, ...], tuple[int, str]] = {("blkid",): (0, "ext4\n")}
        self.ran: list[list[str]] = []
        self.programs: set[str] = set()
        self.here = dict(INTERFACES)

    def answer(self, words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        self.ran.append(list(words))
        for length in range(len(words), 0, -1):
            if (found := self.said.get(tuple(words[:length]))) is not None:
                return subprocess.CompletedProcess(list(words), found[0], found[1], found[1])
        return subprocess.CompletedProcess(list(words), 1, "", "no")

    @property
    def interfaces(self):
        return self.here

    def has(self, program: str) -> bool:
        return program in self.programs


def make_bench(root: Path) -> Bench:
    (root / "dev/disk/by-id").mkdir(parents=True)
    (root / "dev/disk/by-uuid").mkdir()
    (root / "dev/sdb1").touch()
    (root / "dev/watchdog").touch()
    for name in ("by-id/wwn-1", "by-uuid/1234-5678"):
        (root / "dev/disk" / name).symlink_to("../../sdb1")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text("21 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    (root / "etc").mkdir()
    (root / "etc/fstab").write_text("# nothing\nUUID=aa / ext4 defaults 0 1\n")
    return Bench(root)


def layout(root: Path) -> Layout:
    return Layout(root / "etc/hamail", root / "var/lib/hamail", grp.getgrgid(os.getegid()).gr_name)


def answers(root: Path, **changes: object) -> Answers:
    password = root / "pdu.password"
    password.write_text("canary\n")
    fence = Fence(
        name="pdu",
        agent="fence_apc_snmp",
        targets={"n1": "1", "n2": "2"},
        parameters={"ip": "10.0.0.250"},
        secrets={"password": str(password)},
    )
    given = {
        "cluster": "mail",
        "nodes": {"n1": "10.0.0.11", "n2": "10.0.0.12"},
        "witness": {"n3": "10.0.0.13"},
        "vips": ("10.0.0.100/24",),
        "interface": "eth0",
        "device": DEVICE,
        "mount": "/srv/mail",
        "fstype": "ext4",
        "fences": (fence,),
        "watchdog": "/dev/watchdog",
    }
    return Answers(**{**given, **changes})


@pytest.fixture
def no_journal(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each journal that was made stands for a lost one."""
    made: list[bool] = []

    def initialise(layout: Layout, rejoining: bool) -> None:
        (layout.state / "log").mkdir(parents=True)
        (layout.state / "log" / "journal").write_text("empty")
        made.append(rejoining)

    monkeypatch.setattr("hamail.setup.node.initialise_journal", initialise)
    return made
