"""hamaild and hamail-executor where systemd is not PID 1: plain namespaces, the services' own commands.

One machine carries the whole cluster: a mail node with its executor, and two witnesses on addresses of their own.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hamail.pki.authority import create_authority, issue
from tests.lab.cluster import group_id, own, write
from tests.lab.lab import Lab
from tests.lab.node import ENVIRONMENT

NODES = ("a", "b", "c")
VIP = "10.99.0.100"
WAIT_S = 30.0
STOP_S = 20.0

CLUSTER = """
[cluster]
name = "plain"

[nodes.a]
address = "10.99.0.1"

[nodes.b]
address = "10.99.0.2"
witness = true

[nodes.c]
address = "10.99.0.3"
witness = true

[groups.mail]
nodes = ["a"]
shared_storage = false
requires = "lease"

[groups.mail.resources.dovecot]
agent = "hamail:dovecot"

[groups.mail.resources.postfix]
agent = "hamail:postfix"

[groups.mail.resources.vip]
agent = "hamail:vip"
parameters = { address = "10.99.0.100/24", interface = "eth0" }
after = ["dovecot", "postfix"]
"""
NODE = """
node = "{name}"
state_dir = "/var/lib/hamail/{name}"
run_dir = "/run/hamail/{name}"
certificates = "/etc/hamail/{name}"
bind_address = "{address}"
"""
# PID 1 of the namespaces. It only waits, as an init of a container does.
INIT = r"""
mount -t proc proc "$ROOT/proc"
mount -t tmpfs run "$ROOT/run"
mount -t tmpfs tmp "$ROOT/tmp"
mount --rbind /dev "$ROOT/dev"
ip link set lo up
ip link add eth0 type veth peer name eth1
ip link set eth1 up
ip link set eth0 up
for last in 1 2 3; do ip addr add 10.99.0.$last/24 dev eth0; done
install -d "$ROOT/run/hamail"
chroot "$ROOT" chown hamail:hamail /run/hamail
exec chroot "$ROOT" /bin/sh -c 'trap "exit 0" TERM; echo ready; while :; do sleep 1 & wait $!; done'
"""


class Plain:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.init = subprocess.Popen(
            ["unshare", "-m", "-n", "-p", "-u", "-i", "--fork", "--kill-child", "sh", "-e", "-c", INIT],
            env={**ENVIRONMENT, "ROOT": str(root)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.init.stdout is not None
        assert self.init.stdout.readline() == "ready\n"
        children = Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()
        self.inside = ["nsenter", "-t", children[0], "-m", "-n", "-p", "-u", "-i", "-r", "-w"]
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        words = [*self.inside, "sh", "-c", command]
        result = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60)
        assert not check or result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result

    def start(self, name: str, *command: str) -> None:
        log = open(self.root / f"root/{name}.log", "wb")
        self.daemons[name] = subprocess.Popen([*self.inside, *command], env=ENVIRONMENT, stdout=log, stderr=log)

    def log(self, name: str) -> str:
        return (self.root / f"root/{name}.log").read_text()

    def group(self) -> dict:
        shown = self.run("hamailctl --socket /run/hamail/a/control.sock status --json", check=False)
        groups = json.loads(shown.stdout)["groups"] if shown.returncode == 0 else []
        return groups[0] if groups else {}

    def until(self, condition, what: str) -> None:
        end_s = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end_s, f"{what}\n{self.log('executor')}\n{self.log('a')}"
            time.sleep(0.1)

    def pid(self, daemon: str) -> int:
        """nsenter's child: the process itself."""
        parent = self.daemons[daemon].pid
        return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])

    def end(self) -> None:
        self.init.kill()
        self.init.wait()
        for daemon in self.daemons.values():
            daemon.wait(10)


def furnish(root: Path, folder: Path) -> None:
    group = group_id(root, "hamail")
    create_authority(folder / "ca", "plain")
    write(root / "etc/hamail/cluster.toml", CLUSTER)
    write(root / "etc/hosts", f"127.0.0.1 localhost\n{VIP} mail.lab\n")
    shutil.rmtree(root / "srv/mail", ignore_errors=True)
    subprocess.run(["cp", "-a", str(root / "srv/lun"), str(root / "srv/mail")], check=True)
    for number, name in enumerate(NODES, 1):
        issue(folder / "ca", "plain", name, folder / name)
        place = root / f"etc/hamail/{name}"
        shutil.copytree(folder / name, place)
        own(place, 0o750, group)
        for file in place.iterdir():
            own(file, 0o640, group)
        write(root / f"etc/hamail/{name}.toml", NODE.format(name=name, address=f"10.99.0.{number}"))


@pytest.fixture
def plain(bare: Lab) -> Iterator[Plain]:
    """A root of its own over the layers of the lab's nodes; everything goes with the namespaces' PID 1."""
    with tempfile.TemporaryDirectory(prefix="hamail-plain", dir=bare.folder) as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        for part in ("upper", "work", "root"):
            (folder / part).mkdir()
        root = folder / "root"
        lower = ":".join((bare.nodes["n1"].folder / "layers").read_text().split())
        options = f"lowerdir={lower},upperdir={folder}/upper,workdir={folder}/work"
        subprocess.run(["mount", "-t", "overlay", "plain", "-o", options, str(root)], check=True)
        stack.callback(subprocess.run, ["umount", "-l", str(root)], check=True)
        furnish(root, folder)
        machine = Plain(root)
        stack.callback(machine.end)
        yield machine


def test_mail_group_without_systemd(plain: Plain) -> None:
    for name in NODES:
        plain.run(f"install -d -o hamail -g hamail /var/lib/hamail/{name} /run/hamail/{name}")
        plain.run(f"runuser -u hamail -- hamaild --config /etc/hamail/{name}.toml --initialise")
    plain.start("executor", "/usr/bin/hamail-executor", "--config", "/etc/hamail/a.toml", "--no-systemd")
    for name in NODES:
        plain.start(name, "runuser", "-u", "hamail", "--", "/usr/bin/hamaild", "--config", f"/etc/hamail/{name}.toml")
    plain.until(lambda: plain.group().get("phase") == "active", "the group is active")
    assert not plain.run("ls /run/systemd/system", check=False).stdout
    banner = "import socket; s = socket.create_connection(('%s', %d), 5); print(s.recv(100))"
    for port, greeting in ((25, "220 "), (143, "* OK")):
        assert greeting in plain.run(f'python3 -c "{banner % (VIP, port)}"').stdout
    master = "cat /srv/mail/queue/pid/master.pid"
    before = plain.run(master).stdout
    plain.run(f"kill -9 {before}")
    plain.until(lambda: plain.run(master, check=False).stdout.strip() not in ("", before.strip()), "another master")
    plain.until(lambda: plain.group()["resources"]["postfix"] == "up", "restarted in place")
    os.kill(plain.pid("executor"), signal.SIGTERM)
    assert plain.daemons["executor"].wait(STOP_S) == 0, plain.log("executor")
    assert not plain.run("pgrep -x 'master|dovecot'", check=False).stdout, "nothing runs"
    assert VIP not in plain.run("ip -o addr").stdout, "the address is gone"
