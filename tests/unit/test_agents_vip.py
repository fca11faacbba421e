"""The vip agent in two network namespaces joined by a wire."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents_support import AGENTS, ROOT, sh

from hamail.ocf.process import find

pytestmark = pytest.mark.root
ADDRESSES = "10.9.7.100/24 fd09:7::100/64"


class Pair:
    def __init__(self) -> None:
        self.a, self.b = (f"ha-vip-{os.getpid()}-{side}" for side in "ab")

    def up(self) -> None:
        for name in (self.a, self.b):
            sh("ip", "netns", "add", name)
        sh("ip", "-n", self.a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.b)
        for number, name in enumerate((self.a, self.b), 1):
            for link in ("lo", "eth0"):
                sh("ip", "-n", name, "link", "set", link, "up")
            sh("ip", "-n", name, "addr", "add", f"10.9.7.{number}/24", "dev", "eth0")
            sh("ip", "-n", name, "addr", "add", f"fd09:7::{number}/64", "dev", "eth0", "nodad")

    def down(self) -> None:
        for name in (self.a, self.b):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def run(self, node: str, action: str, **parameters: str) -> subprocess.CompletedProcess[str]:
        """As another cluster manager would: executed, with nothing but the environment."""
        given = {"address": ADDRESSES, "interface": "eth0", "arp_repeat": "0"} | parameters
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(ROOT)}
        environ |= {f"OCF_RESKEY_{k}": v for k, v in given.items()}
        words = ["ip", "netns", "exec", node, sys.executable, str(AGENTS / "vip"), action]
        return subprocess.run(words, env=environ, capture_output=True, text=True, check=False, timeout=30)

    def shown(self, node: str) -> str:
        return sh("ip", "-n", node, "-o", "addr", "show", "dev", "eth0")


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    try:
        made.up()
        yield made
    finally:
        made.down()


def test_a_whole_life(pair: Pair) -> None:
    assert pair.run(pair.a, "monitor").returncode == 7
    assert pair.run(pair.a, "start").returncode == 0
    assert "10.9.7.100/24" in pair.shown(pair.a)
    assert "fd09:7::100/64" in pair.shown(pair.a)
    assert pair.run(pair.a, "monitor").returncode == 0
    assert pair.run(pair.a, "start").returncode == 0  # started already
    assert pair.run(pair.a, "stop").returncode == 0
    assert "100/" not in pair.shown(pair.a)
    assert pair.run(pair.a, "stop").returncode == 0  # stopped already
    assert pair.run(pair.a, "monitor").returncode == 7


@pytest.mark.parametrize("address", ADDRESSES.split())
def test_an_address_in_use_is_refused_with_the_owners_mac(pair: Pair, address: str) -> None:
    assert pair.run(pair.b, "start", address=address).returncode == 0
    mac = sh("ip", "-n", pair.b, "-o", "link", "show", "eth0").partition("link/ether ")[2].split()[0]
    refused = pair.run(pair.a, "start", address=address)
    assert refused.returncode == 1
    assert mac in refused.stderr
    assert address not in pair.shown(pair.a)


def test_neighbours_learn_the_new_place_without_asking(pair: Pair) -> None:
    """The former owner is cut off, as after a fence; a third station's tables must follow by the announcement alone."""
    assert pair.run(pair.a, "start", conflict_wait_ms="0").returncode == 0
    fake = "02:00:00:00:00:99"
    for ip in ("10.9.7.100", "fd09:7::100"):
        sh("ip", "-n", pair.b, "neigh", "replace", ip, "lladdr", fake, "dev", "eth0", "nud", "stale")
    time.sleep(1.1)  # the neighbour table ignores changes for a second: the repeats exist for that
    assert pair.run(pair.a, "start").returncode == 0
    mac = sh("ip", "-n", pair.a, "-o", "link", "show", "eth0").partition("link/ether ")[2].split()[0]
    neighbours = sh("ip", "-n", pair.b, "neigh", "show")
    assert neighbours.count(mac) >= 2, neighbours
    assert fake not in neighbours


def test_another_prefix_is_not_our_address(pair: Pair) -> None:
    sh("ip", "-n", pair.a, "addr", "add", "10.9.7.100/32", "dev", "eth0")
    found = pair.run(pair.a, "monitor", address="10.9.7.100/24")
    assert found.returncode == 1
    assert "10.9.7.100/32 instead of 10.9.7.100/24" in found.stderr
    assert pair.run(pair.a, "stop", address="10.9.7.100/24").returncode == 0
    assert "10.9.7.100" not in pair.shown(pair.a)


def test_a_similar_address_is_left_alone(pair: Pair) -> None:
    sh("ip", "-n", pair.a, "addr", "add", "10.9.7.10/24", "dev", "eth0")
    assert pair.run(pair.a, "monitor", address="10.9.7.1/24").returncode == 0
    assert pair.run(pair.a, "stop", address="10.9.7.100/24").returncode == 0
    assert "10.9.7.10/24" in pair.shown(pair.a)


def test_lost_carrier_is_a_failure(pair: Pair) -> None:
    assert pair.run(pair.a, "start").returncode == 0
    sh("ip", "-n", pair.b, "link", "set", "eth0", "down")
    found = pair.run(pair.a, "monitor")
    assert found.returncode == 1
    assert "lost its link" in found.stderr
    assert pair.run(pair.a, "stop").returncode == 0


def test_failed_duplicate_detection_is_seen_and_repaired(pair: Pair) -> None:
    sh("ip", "-n", pair.b, "addr", "add", "fd09:7::100/64", "dev", "eth0", "nodad")
    sh("ip", "-n", pair.a, "addr", "add", "fd09:7::100/64", "dev", "eth0")
    end = time.monotonic() + 5
    while "dadfailed" not in pair.shown(pair.a) and time.monotonic() < end:
        time.sleep(0.05)
    found = pair.run(pair.a, "monitor", address="fd09:7::100/64")
    assert found.returncode == 1
    assert "failed duplicate detection" in found.stderr
    sh("ip", "-n", pair.b, "addr", "del", "fd09:7::100/64", "dev", "eth0")
    assert pair.run(pair.a, "start", address="fd09:7::100/64").returncode == 0
    assert "dadfailed" not in pair.shown(pair.a)


def test_the_repeating_helper_dies_with_the_stop(pair: Pair) -> None:
    assert pair.run(pair.a, "start", arp_repeat="4").returncode == 0
    notes = list(Path("/run/hamail-agents").glob("vip-eth0-10.9.7.100_24_*.repeat"))
    assert len(notes) == 1
    pid = int(notes[0].read_text().split()[0])
    assert find(pid) is not None
    assert pair.run(pair.a, "stop").returncode == 0
    assert find(pid) is None


def test_missing_interface(pair: Pair) -> None:
    assert pair.run(pair.a, "start", interface="eth7").returncode == 5
    assert pair.run(pair.a, "monitor", interface="eth7").returncode == 7
    assert pair.run(pair.a, "stop", interface="eth7").returncode == 0
    refused = pair.run(pair.a, "start", address="10.9.7.100")
    assert refused.returncode == 6
    assert "no prefix length" in refused.stderr
