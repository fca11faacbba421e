"""After a silent partition or a power cut the link is back within half a second. Two network namespaces, real TCP."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from transport_kit import PATIENCE_S, make_pki, now_ns

pytestmark = pytest.mark.root

BACK_WITHIN_MS = 500
PEER = Path(__file__).with_name("transport_peer.py")
ADDRESS = {"n1": "10.213.7.1", "n2": "10.213.7.2"}
OTHER = {"n1": "n2", "n2": "n1"}


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


class Peer:
    def __init__(self, pki, namespace, name):
        self.lines = []
        arguments = [str(pki), name, ADDRESS[name], OTHER[name], ADDRESS[OTHER[name]]]
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, str(PEER), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def first(self, since_ns, key):
        """When it first said that after `since_ns`."""
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE_S:
            for line in list(self.lines):
                if line["at_ns"] >= since_ns and line.get(key):
                    return line["at_ns"]
            time.sleep(0.005)
        raise AssertionError(f"nothing with {key!r} came")

    def nonces(self):
        return [line["heard"] for line in list(self.lines) if "heard" in line]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


class Net:
    def __init__(self, pki):
        self.pki = pki
        self.names = {n: f"hamail-t{os.getpid()}-{n}" for n in ADDRESS}
        self.peers = {}

    def build(self):
        for namespace in self.names.values():
            run("ip", "netns", "add", namespace)
        one, two = self.names.values()
        run("ip", "-n", one, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", two)
        for name, namespace in self.names.items():
            run("ip", "-n", namespace, "address", "add", f"{ADDRESS[name]}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                run("ip", "-n", namespace, "link", "set", device, "up")

    def cut(self, name, *chains):
        """Packets vanish without a word; the carrier stays."""
        rules = "".join(f"add chain inet cut {c} {{ type filter hook {c} priority 0; policy drop; }}\n" for c in chains)
        text = f"add table inet cut\n{rules}"
        command = ["ip", "netns", "exec", self.names[name], "nft", "-f", "-"]
        subprocess.run(command, input=text, text=True, check=True, capture_output=True)

    def heal(self, name):
        """The time of the healing is taken just after it, so that what is measured is never too short by much."""
        run("ip", "netns", "exec", self.names[name], "nft", "delete", "table", "inet", "cut")
        return now_ns()

    def boot(self, name):
        self.peers[name] = Peer(self.pki, self.names[name], name)

    def destroy(self):
        for peer in self.peers.values():
            peer.kill()
        for namespace in self.names.values():
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


@pytest.fixture
def net(tmp_path_factory):
    built = Net(make_pki(tmp_path_factory.mktemp("pki")))
    with contextlib.ExitStack() as stack:
        stack.callback(built.destroy)
        built.build()
        for name in ADDRESS:
            built.boot(name)
        for peer in built.peers.values():
            peer.first(0, "heard")
        yield built


def back_after_ms(net, since_ns):
    return {name: (peer.first(since_ns, "heard") - since_ns) / 1e6 for name, peer in net.peers.items()}


@pytest.mark.parametrize(
    ("chains", "cuts_s"),
    [
        pytest.param(("input", "output"), (0.35, 0.65, 0.95, 1.25, 1.6, 2.4), id="both ways"),
        pytest.param(("input",), (0.65, 1.6), id="in"),
        pytest.param(("output",), (0.65, 1.6), id="out"),
    ],
)
def test_back_after_a_silent_partition(net, chains, cuts_s):
    took = []
    for cut_s in cuts_s:
        net.cut("n2", *chains)
        time.sleep(cut_s)
        took.append((cut_s, back_after_ms(net, net.heal("n2"))))
        time.sleep(0.3)
    assert all(ms < BACK_WITHIN_MS for _, each in took for ms in each.values()), took
    for peer in net.peers.values():
        nonces = peer.nonces()
        assert nonces == sorted(set(nonces))  # in order, none twice, across all those reconnects


def test_back_after_a_power_cut(net):
    """The peer loses all its connections without a packet, and comes back after a while."""
    net.cut("n2", "input", "output")
    net.peers["n2"].kill()
    time.sleep(1.0)
    net.heal("n2")
    net.boot("n2")
    started = net.peers["n2"].first(0, "started")
    took = back_after_ms(net, started)
    assert all(ms < BACK_WITHIN_MS for ms in took.values()), took
