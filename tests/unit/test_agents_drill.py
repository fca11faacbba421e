"""The faults for practice, for real: the kernel gives the network back by itself, a lost disk answers nothing."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents_support import AGENTS, ROOT, call, load, loop_device, need, sh, unmounted_after

from hamail.ocf.codes import Code

pytestmark = pytest.mark.root
SPACES = (f"ha-drill-a-{os.getpid()}", f"ha-drill-b-{os.getpid()}")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """Two namespaces with a wire between them."""
    need("nft")
    a, b = SPACES
    try:
        for name in SPACES:
            sh("ip", "netns", "add", name)
            sh("ip", "-n", name, "link", "set", "lo", "up")
        sh("ip", "-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b)
        for name, address in ((a, "10.9.8.1/24"), (b, "10.9.8.2/24")):
            sh("ip", "-n", name, "address", "add", address, "dev", "eth0")
            sh("ip", "-n", name, "link", "set", "eth0", "up")
        yield a, b
    finally:
        for name in SPACES:
            subprocess.run(["ip", "netns", "del", name], check=False)


def drill(space: str, action: str, **parameters: str) -> subprocess.CompletedProcess[str]:
    given = {f"OCF_RESKEY_{key}": value for key, value in parameters.items()}
    words = ["ip", "netns", "exec", space, sys.executable, str(AGENTS / "drill"), action]
    return subprocess.run(words, env=ENVIRONMENT | given, capture_output=True, text=True, check=False)


def heard(a: str, address: str = "10.9.8.2") -> bool:
    words = ["ip", "netns", "exec", a, "ping", "-q", "-c1", "-W1", address]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_the_kernel_gives_the_network_back_by_itself(pair: tuple[str, str]) -> None:
    a, b = pair
    assert heard(a)
    assert drill(a, "validate-all", fault="network-loss", seconds="2").returncode == 0
    assert heard(a), "asking changes nothing"
    done = drill(a, "start", fault="network-loss", seconds="2")
    assert done.returncode == 0, done.stderr
    assert not heard(a) and not heard(b, "10.9.8.1")
    assert heard(a, "127.0.0.1"), "the loopback stays"
    until = time.monotonic() + 6
    while not heard(a) and time.monotonic() < until:
        time.sleep(0.1)
    assert heard(a) and heard(b, "10.9.8.1"), "nobody was told to open it"


def test_it_is_opened_at_once_when_told(pair: tuple[str, str]) -> None:
    a, _ = pair
    assert drill(a, "start", fault="network-loss", seconds="100").returncode == 0
    assert drill(a, "start", fault="network-loss", seconds="100").returncode == 0, "twice is once"
    assert not heard(a)
    assert drill(a, "stop", fault="network-loss").returncode == 0
    assert heard(a)
    tables = sh("ip", "netns", "exec", a, "nft", "list", "tables")
    assert "hamail_drill" not in tables
    assert drill(a, "stop", fault="network-loss").returncode == 0


def test_a_lost_file_system_keeps_what_was_synced(tmp_path: Path) -> None:
    need("mkfs.ext4")
    image, directory = tmp_path / "disk", tmp_path / "mnt"
    directory.mkdir()
    with image.open("wb") as file:
        file.truncate(32 << 20)
    sh("mkfs.ext4", "-q", image)
    agent = load("drill")
    with loop_device(image) as device, unmounted_after(directory):
        sh("mount", device, directory)
        with (directory / "kept").open("w") as file:
            file.write("synced")
            file.flush()
            os.fsync(file.fileno())
        given = {"fault": "storage-loss", "directory": str(directory)}
        assert call(agent, "validate-all", **given).code == 0
        assert (directory / "kept").read_text() == "synced"
        assert call(agent, "start", **given).code == 0
        with pytest.raises(OSError), (directory / "new").open("w") as file:
            file.write("x")
            file.flush()
            os.fsync(file.fileno())
        sh("umount", directory)
        sh("mount", device, directory)
        assert (directory / "kept").read_text() == "synced", "a mount brings it back"


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ({"fault": "storage-loss", "directory": "/proc"}, Code.UNIMPLEMENTED, "not possible on this storage"),
        ({"fault": "storage-loss", "directory": "/nosuch"}, Code.INSTALLED, "nothing is mounted at /nosuch"),
        ({"fault": "fire"}, Code.CONFIGURED, "network-loss, storage-loss"),
        ({"fault": "network-loss", "seconds": "soon"}, Code.CONFIGURED, "seconds"),
    ],
)
@pytest.mark.parametrize("action", ["start", "validate-all"])
def test_what_cannot_be_done_is_refused(action: str, given: dict[str, str], code: Code, says: str) -> None:
    answer = call(load("drill"), action, **given)
    assert answer.code == code and says in answer.reason
