"""What the lab needs of a machine, probed by doing it. `missing()` names each lack in a few words."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab import cgroup

PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "arping": "iputils-arping",
    "mke2fs": "e2fsprogs",
    "losetup": "mount",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
SPACE_BYTES = 2 << 30
PROBE_TIMEOUT_S = 20

NETWORK = """set -e
ip link add br0 type bridge
ip link add v0 type veth peer name v1
nft 'add table bridge t; add chain bridge t c { type filter hook forward priority 0; }'"""
OVERLAY = """set -e
mkdir lower upper work root
mount -t overlay probe -o lowerdir=lower,upperdir=upper,workdir=work root"""


def missing(folder: Path) -> list[str]:
    """Everything that this machine lacks to host a lab whose files lie in `folder`; empty if it can."""
    if sys.platform != "linux":
        return ["Linux"]
    if os.geteuid() != 0:
        return ["root"]
    lacks = [f"{program} (package {package})" for program, package in PROGRAMS.items() if not shutil.which(program)]
    if not _opens("/dev/fuse"):
        lacks.append("/dev/fuse")
    if not _opens("/dev/loop-control"):
        lacks.append("loop devices (/dev/loop-control)")
    if not (cgroup.V2 / "cgroup.procs").exists():
        lacks.append("the cgroup v2 hierarchy")
    elif not os.access(cgroup.V2 / "cgroup.procs", os.W_OK) or not _cgroup_kill():
        lacks.append("a writable cgroup v2 hierarchy with cgroup.kill and cgroup.freeze (Linux 5.14)")
    if not _works("--net", NETWORK):
        lacks.append("network namespaces with bridge, veth and nftables bridge filtering")
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f"probe.{os.getpid()}"
    scratch.mkdir()
    try:
        if not _works("--mount", OVERLAY, scratch):
            lacks.append(f"overlay mounts over {folder} (set HAMAIL_LAB_DIR to a folder on ext4 or xfs)")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if shutil.disk_usage(folder).free < SPACE_BYTES:
        lacks.append(f"{SPACE_BYTES >> 30} GiB of free space in {folder}")
    return lacks


def sentence(lacks: list[str]) -> str:
    return "this machine cannot host the lab; it lacks: " + "; ".join(lacks)


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError:
        return False
    return True


def _cgroup_kill() -> bool:
    probe = cgroup.Cgroup(f"hamail-probe-{os.getpid()}")
    try:
        probe.create()
        return all((cgroup.V2 / probe.name / file).exists() for file in ("cgroup.kill", "cgroup.freeze"))
    except OSError:
        return False
    finally:
        probe.remove()


def _works(namespace: str, script: str, folder: Path = Path("/")) -> bool:
    command = ["unshare", namespace, "sh", "-c", script]
    try:
        return (
            subprocess.run(command, check=False, cwd=folder, capture_output=True, timeout=PROBE_TIMEOUT_S).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
