"""What makes a lab's nodes a hamail cluster: configuration, certificates and secrets, put where an operator would."""

import os
import secrets
import shutil
import subprocess
from pathlib import Path

from tests.lab import pdu
from tests.lab.switch import Addresses

NAME = "lab"
MAIL_NODES = ("n1", "n2")
WITNESS = "n3"
NODES = (*MAIL_NODES, WITNESS)
UNITS = {True: ("hamaild.service",), False: ("hamaild.service", "hamail-executor.service")}

CLUSTER = """\
[cluster]
name = "{name}"
detection = "{detection}"
quarantine = "off"               # here nodes are lost all the time: what follows must be the same each time
watchdog_timeout = "5s"

[nodes.n1]
address = "{n1}"
watchdog_device = "/dev/watchdog"

[nodes.n2]
address = "{n2}"
watchdog_device = "/dev/watchdog"

[nodes.n3]
address = "{n3}"
witness = true

[fencing.pdu]
agent = "fence_lab"
targets = {{ n1 = "n1", n2 = "n2" }}
parameters = {{ ip = "{pdu}", username = "{user}" }}
secret_files = {{ password = "/etc/hamail/secrets/pdu" }}
timeout = "10s"

[groups.mail]
failovers = "off"
nodes = ["n1", "n2"]

[groups.mail.resources.storage]
agent = "hamail:filesystem"
parameters = {{ device = "/dev/lun", directory = "/srv/mail", fstype = "ext4" }}

[groups.mail.resources.dovecot]
agent = "hamail:dovecot"
after = ["storage"]

[groups.mail.resources.postfix]
agent = "hamail:postfix"
after = ["storage"]

[groups.mail.resources.vip]
agent = "hamail:vip"
parameters = {{ address = "{vip}/24 {vip6}/64", interface = "eth0" }}
after = ["dovecot"]
"""

NODE = """\
node = "{node}"
"""
WATCHDOG = 'watchdog_device = "/dev/watchdog"\n'
ALLOW = '[allow]\nagents = ["lab:*"]\ndrills = true\n'  # the tests' own agents


def cluster_toml(addresses: Addresses, detection: str) -> str:
    hosts = {host: addresses.v4(host) for host in (*NODES, "pdu")}
    names = {"name": NAME, "detection": detection, "user": pdu.USER}
    return CLUSTER.format(**hosts, **names, vip=addresses.vip, vip6=addresses.vip6)


def make_certificates(folder: Path) -> None:
    """The cluster's authority in `folder`/ca, the nodes' certificates beside it."""
    from hamail.pki.authority import create_authority, issue  # only `up` needs the cryptography library

    create_authority(folder / "ca", NAME)
    for node in NODES:
        issue(folder / "ca", NAME, node, folder / node)


def make_password(file: Path) -> None:
    file.write_text(secrets.token_hex(16) + "\n")
    file.chmod(0o600)


def configure(root: Path, node: str, addresses: Addresses, detection: str, certificates: Path, password: Path) -> None:
    """Write into the node's disk what differs from node to node."""
    witness = node == WITNESS
    hosts = [*NODES, "client", "pdu"]
    lines = [f"{address} {h}.lab {h}" for h in hosts for address in (addresses.v4(h), addresses.v6(h))]
    vips = [f"{address} mail.lab" for address in (addresses.vip, addresses.vip6)]
    write(root / "etc/hosts", "\n".join(["127.0.0.1 localhost", "::1 localhost", *lines, *vips]) + "\n")
    write(root / "etc/hostname", f"{node}\n")
    write(root / "etc/machine-id", f"{NODES.index(node) + 1:032x}\n")
    write(root / "etc/hamail/cluster.toml", cluster_toml(addresses, detection))
    write(root / "etc/hamail/node.toml", NODE.format(node=node) + ("" if witness else WATCHDOG + ALLOW))
    group = group_id(root, "hamail")
    place = root / "etc/hamail/pki"
    place.mkdir(parents=True, exist_ok=True)
    for file in (certificates / node).iterdir():
        shutil.copyfile(file, place / file.name)
        own(place / file.name, 0o640, group)
    own(place, 0o750, group)
    if not witness:
        place = root / "etc/hamail/secrets"
        place.mkdir(parents=True, exist_ok=True)
        own(place, 0o700, 0)
        shutil.copyfile(password, place / "pdu")
        own(place / "pdu", 0o600, 0)


def initialise(root: Path) -> None:
    """The node's empty journal, as an operator makes it once. Raises RuntimeError with what hamaild says."""
    command = ["chroot", str(root), "runuser", "-u", "hamail", "--", "/usr/bin/hamaild", "--initialise"]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if result.returncode:
        raise RuntimeError(f"hamaild --initialise: exit code {result.returncode}: {result.stderr.strip()[-1000:]}")


def enable(root: Path, node: str) -> None:
    """hamail starts at boot: `systemctl enable`, from outside."""
    wants = root / "etc/systemd/system/multi-user.target.wants"
    for unit in UNITS[node == WITNESS]:
        link = wants / unit
        link.unlink(missing_ok=True)
        link.symlink_to(f"/usr/lib/systemd/system/{unit}")


def group_id(root: Path, name: str) -> int:
    for line in (root / "etc/group").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split(":")[2])
    raise LookupError(f"no group {name} in {root}: was hamail installed there?")


def own(path: Path, mode: int, group: int) -> None:
    os.chown(path, 0, group)
    path.chmod(mode)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
