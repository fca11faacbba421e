"""The evidence recorder against a throwaway node: its own network, mount and PID namespaces, and a loop device."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
import uuid

import pytest

from tests.lab.recorder import Recorder

pytestmark = pytest.mark.root
VIP, VIP6 = "10.99.0.100", "fd99::100"
LUN = "/opt/lun"


def sh(*argv, check=True):
    return subprocess.run([str(a) for a in argv], check=check, capture_output=True, text=True)


class Node:
    """A PID-namespace init in a network namespace; commands run inside as the lab's do."""

    def __init__(self, name):
        self.netns, self.proc = name, None
        sh("ip", "netns", "add", name)
        sh("ip", "-n", name, "link", "set", "lo", "up")

    def on(self):
        argv = [
            "ip",
            "netns",
            "exec",
            self.netns,
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        self.proc = subprocess.Popen(
            [*argv, "sh", "-c", "echo up; while :; do sleep 1000 & wait; done"], stdout=subprocess.PIPE
        )
        self.proc.stdout.readline()
        self.init = int(open(f"/proc/{self.proc.pid}/task/{self.proc.pid}/children").read().split()[0])

    def run(self, script):
        return sh("nsenter", "-t", self.init, "-m", "-p", "-n", "sh", "-c", script)

    def cut(self):
        os.kill(self.init, signal.SIGKILL)
        self.proc.wait()

    def remove(self):
        if self.proc and self.proc.poll() is None:
            self.cut()
        sh("ip", "netns", "del", self.netns, check=False)


@pytest.fixture
def lab(tmp_path):
    tag = uuid.uuid4().hex[:6]
    with contextlib.ExitStack() as stack:
        image = tmp_path / "lun.img"
        with open(image, "wb") as file:
            file.truncate(8 << 20)
        sh("mke2fs", "-q", "-t", "ext4", image)
        loop = sh("losetup", "-f", "--show", image).stdout.strip()
        stack.callback(sh, "losetup", "-d", loop, check=False)
        nodes = {}
        for name in ("n1", "n2"):
            nodes[name] = Node(f"rec-{tag}-{name}")
            stack.callback(nodes[name].remove)
        nodes["n1"].on()
        number = os.stat(loop).st_rdev
        nodes["n1"].run(
            f"mount -t tmpfs t /opt && mknod /opt/lun b {os.major(number)} {os.minor(number)} && echo {loop} >/opt/loop"
        )
        recorder = Recorder(
            tmp_path / "evidence.jsonl",
            {n: f"/run/netns/{node.netns}" for n, node in nodes.items()},
            (VIP, VIP6),
            f"/run/netns/{nodes['n2'].netns}",
            lun=LUN,
        )
        stack.enter_context(recorder)
        yield nodes["n1"], nodes["n2"], recorder, loop


FAKE_DOVECOT = """mount -t tmpfs t /usr/local && cp /bin/sleep /usr/local/dovecot && mount -t tmpfs t /usr/sbin &&
cp /usr/local/dovecot /usr/sbin/ && setsid -f /usr/sbin/dovecot 100 >/dev/null 2>&1"""
KILL_DOVECOT = """for p in /proc/[0-9]*; do
[ "$(readlink $p/exe)" = /usr/sbin/dovecot ] && kill -9 ${p#/proc/}; done; true"""


def test_recorder_sees_what_nodes_hold(lab):
    n1, n2, recorder, _ = lab
    time.sleep(0.15)
    start = time.monotonic_ns()
    n1.run(f"mount $(cat /opt/loop) /mnt && ip addr add {VIP}/24 dev lo && ip addr add {VIP6}/64 dev lo nodad")
    n1.run(FAKE_DOVECOT)
    time.sleep(0.3)
    both_from = time.monotonic_ns()
    n2.on()
    time.sleep(0.25)
    n2.run(f"ip addr add {VIP}/24 dev lo")
    time.sleep(0.2)
    n1.cut()
    both_to = time.monotonic_ns()
    time.sleep(0.15)
    n2.run(f"ip addr del {VIP}/24 dev lo; ip addr add {VIP}/24 dev lo; ip addr del {VIP}/24 dev lo")  # flaps
    time.sleep(0.1)
    evidence = recorder.stop()

    assert evidence.components() == ("dovecot", "mount", f"vip {VIP}", f"vip {VIP6}")
    for component in evidence.components():
        (held,) = (h for h in evidence.holds if h.node == "n1" and h.component == component)
        assert start < held.certain_start and held.certain_end < both_to, component
        assert held.possible_end - held.certain_end < 100e6
    assert [(n, on) for _, n, on in evidence.power] == [("n1", True), ("n2", True), ("n1", False)]
    overlap = evidence.overlap_ms(f"vip {VIP}")
    assert 100 < overlap < (both_to - both_from) / 1e6
    assert overlap <= evidence.double_active_ms() < overlap + 5  # its own address against everything that n1 had
    assert len([h for h in evidence.holds if h.node == "n2" and h.component == f"vip {VIP}"]) == 2  # the flap was seen


def test_recorder_follows_unmount_and_a_killed_service(lab):
    n1, _, recorder, _ = lab
    n1.run(f"mount $(cat /opt/loop) /mnt; {FAKE_DOVECOT}")
    time.sleep(0.3)
    evidence = recorder.read()
    assert evidence.active_nodes(time.monotonic_ns() - 250_000_000) == ("n1",)
    killed = time.monotonic_ns()
    n1.run(f"{KILL_DOVECOT}; umount /mnt")
    time.sleep(0.2)
    evidence = recorder.stop()
    ends = {h.component: h.possible_end for h in evidence.holds}
    assert set(ends) == {"mount", "dovecot"}
    assert all(killed < end < killed + 500_000_000 for end in ends.values())
    assert evidence.conclusive()
    assert evidence.cpu_s < 0.5


@pytest.mark.parametrize("late_s", [0.3, 1.5])
def test_a_process_that_turns_into_a_service_is_seen_from_then_on(lab, late_s):
    n1, _, recorder, _ = lab
    n1.run(
        FAKE_DOVECOT.partition("&& setsid")[0]
        + f"&& setsid -f sh -c 'sleep {late_s}; exec /usr/sbin/dovecot 9' >/dev/null 2>&1"
    )
    time.sleep(late_s + 1.4)
    (held,) = recorder.stop().holds
    assert held.component == "dovecot"
    assert held.certain_end - held.certain_start > 1e9


def test_a_dead_recorder_gives_no_evidence(lab):
    recorder = lab[2]
    recorder._process.kill()
    recorder._process.wait()
    with pytest.raises(RuntimeError):
        recorder.read()
    with pytest.raises(RuntimeError):
        recorder.stop()


@pytest.mark.skipif(not shutil.which("arping"), reason="needs arping")
def test_announcements_are_recorded(tmp_path):
    tag = uuid.uuid4().hex[:6]
    a, b = f"rec-{tag}-a", f"rec-{tag}-b"
    try:
        for ns in (a, b):
            sh("ip", "netns", "add", ns)
        sh("ip", "-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "p-n1", "netns", b)
        sh("ip", "-n", a, "link", "set", "eth0", "up")
        sh("ip", "-n", b, "link", "set", "p-n1", "up")
        sh("ip", "-n", a, "addr", "add", f"{VIP}/24", "dev", "eth0")
        with Recorder(tmp_path / "e.jsonl", {"n1": f"/run/netns/{a}"}, (VIP,), f"/run/netns/{b}") as recorder:
            sh("ip", "netns", "exec", a, "arping", "-q", "-U", "-c", "1", "-w", "1", "-I", "eth0", VIP, check=False)
            time.sleep(0.05)
            evidence = recorder.stop()
        assert {(x.port, x.address, x.kind) for x in evidence.announcements} == {("p-n1", VIP, "arp")}
    finally:
        for ns in (a, b):
            sh("ip", "netns", "del", ns, check=False)
