"""What the nodes of a soak have beyond those of an ordinary lab: canary, LMTP port, quick storage checks, a small disk
for hamail's state."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.lab import cluster
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.soak.load import LMTP_PORT

FILES = Path(__file__).parent / "files"
STATE_BYTES = 4 << 20
STORAGE = 'directory = "/srv/mail", fstype = "ext4" }'
QUICK = 'directory = "/srv/mail", fstype = "ext4", probe_timeout = "2" }\nmonitor_interval = "1s"'
CANARY = """
[groups.mail.resources.canary]
agent = "hamail:systemd"
parameters = { unit = "canary" }
after = ["storage"]
"""
LMTP = f"""
service lmtp {{
  inet_listener lmtp {{
    address = *
    port = {LMTP_PORT}
  }}
}}
"""


def furnish(lab: Lab, detection: str, node: Node, plant: str = "") -> None:
    """Changes the node's disk before its first boot."""
    root = node.root
    source = cluster.cluster_toml(lab.addresses, detection)
    assert STORAGE in source
    cluster.write(root / "etc/hamail/cluster.toml", source.replace(STORAGE, QUICK) + CANARY)
    if node.name != cluster.WITNESS:
        with open(root / "etc/hamail/node.toml", "a") as file:
            file.write('units = ["canary"]\n')  # the table [allow] is its last one
    shutil.copy(FILES / "canary", root / "usr/local/sbin/canary")
    (root / "usr/local/sbin/canary").chmod(0o755)
    shutil.copy(FILES / "canary.service", root / "etc/systemd/system/canary.service")
    with open(root / "etc/dovecot/dovecot.conf", "a") as file:
        file.write(LMTP + ("mail_fsync = never\n" if plant == "no-fsync" else ""))
    small_state(node)


def state_folder(node: Node) -> Path:
    return node.root / "var/lib/hamail"


def small_state(node: Node) -> None:
    """A few MiB of ext4 for hamail's state, mounted where the node's root has it: it can be filled up from outside."""
    image, folder = node.folder / "state.img", state_folder(node)
    owner = folder.stat()
    with image.open("wb") as file:
        file.truncate(STATE_BYTES)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", str(image)], check=True, timeout=60)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True, timeout=20)
    (folder / "lost+found").rmdir()
    os.chown(folder, owner.st_uid, owner.st_gid)
    folder.chmod(0o700)
