"""What this machine is and has: looked at, never changed."""

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from hamail.config.local import Interfaces, local_interfaces
from hamail.config.rules.addresses import Interface

COMMAND_TIMEOUT_S = 20
KERNEL_NAMES = re.compile(r"/dev/((sd|vd|xvd|hd)[a-z]+\d*|nvme\d+n\d+(p\d+)?|mmcblk\d+(p\d+)?|dm-\d+|md\d+|loop\d+)")
STABLE_FOLDERS = ("by-uuid", "by-id", "by-partuuid")  # by-path names the cable, not the disk
WATCHDOG = "/dev/watchdog"
Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def run(words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Never raises for what the program does: a missing one counts as one that failed."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        return subprocess.run(
            list(words), check=False, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(list(words), 127, "", str(error))


class Machine:
    """`root` is where its file system begins: another folder in tests."""

    def __init__(self, root: Path = Path("/"), run: Run = run) -> None:
        self.root = root
        self.run = run

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def has(self, program: str) -> bool:
        return shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is not None

    @property
    def interfaces(self) -> Interfaces:
        return local_interfaces()

    def addresses(self) -> tuple[str, ...]:
        """All that others could reach it by."""
        found = {str(i.ip) for entries in self.interfaces.values() for i in entries if not _local(i)}
        return tuple(sorted(found))

    def interface_for(self, wanted: Interface) -> str:
        """The interface that has the network of this address; empty when none has."""
        for name, entries in sorted(self.interfaces.items()):
            if any(entry.network == wanted.network and not _local(entry) for entry in entries):
                return name
        return ""

    # Storage

    def stable_names(self, device: str) -> list[str]:
        """Names of the same block device that do not change with the order in which disks are found."""
        target = self.path(device).resolve()
        found = []
        for folder in STABLE_FOLDERS:
            for link in sorted(self.path(f"/dev/disk/{folder}").glob("*")):
                if link.resolve() == target:
                    found.append(f"/dev/disk/{folder}/{link.name}")
        return found

    def proposed_devices(self) -> list[str]:
        """Stable names of all that has a file system and is not mounted."""
        mounted = {self._device_of(source) for source in self._mounts().values()}
        links = sorted(self.path("/dev/disk/by-uuid").glob("*"))
        return [f"/dev/disk/by-uuid/{link.name}" for link in links if link.resolve() not in mounted]

    def device_trouble(self, device: str) -> tuple[str, str]:
        """Why this cannot be the shared device, and the next step; two empty texts when it can."""
        if KERNEL_NAMES.fullmatch(device):
            names = self.stable_names(device)
            hint = (
                f"Use: {names[0]}" if names else f"Its stable names: ls -l /dev/disk/by-*/ | grep {Path(device).name}"
            )
            return f"{device} may be another disk after the next boot, and on the other node", hint
        try:
            status = self.path(device).stat()
        except OSError as error:
            return f"{device}: {error.strerror}", "Which disks are here: lsblk -o NAME,SIZE,FSTYPE,UUID,WWN"
        if self.root == Path("/") and not stat.S_ISBLK(status.st_mode):
            return f"{device} is not a block device", "Which disks are here: lsblk -o NAME,SIZE,FSTYPE,UUID,WWN"
        return "", ""

    def fstype(self, device: str) -> str:
        """Empty when there is no file system, or none that blkid knows."""
        done = self.run(["blkid", "-o", "value", "-s", "TYPE", device])
        return done.stdout.strip() if done.returncode == 0 else ""

    def mounted_at(self, device: str) -> str:
        """Where it is mounted now; empty if nowhere."""
        wanted = self._device_of(device)
        return next((point for point, source in self._mounts().items() if self._device_of(source) == wanted), "")

    def fstab_line(self, device: str, mount: str) -> int:
        """The line of /etc/fstab that mounts this device, or anything at this place, at boot; 0: none does."""
        try:
            lines = self.path("/etc/fstab").read_text(errors="replace").splitlines()
        except OSError:
            return 0
        wanted = self._device_of(device)
        for number, line in enumerate(lines, 1):
            words = line.split("#")[0].split()
            if len(words) < 4 or "noauto" in words[3].split(","):
                continue
            source = re.sub(r"^(UUID|PARTUUID)=\"?([^\"]*)\"?$", _by_uuid, words[0])
            if words[1].rstrip("/") == mount.rstrip("/") or self._device_of(source) == wanted:
                return number
        return 0

    def _device_of(self, source: str) -> Path:
        return self.path(source).resolve() if source.startswith("/") else Path(source)

    def _mounts(self) -> dict[str, str]:
        """Mount point -> source."""
        found = {}
        for line in self.path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            left, _, right = line.partition(" - ")
            found[left.split()[4]] = right.split()[1]
        return found

    # The rest

    def watchdog(self) -> str:
        """Its device; empty when there is none."""
        return WATCHDOG if self.path(WATCHDOG).exists() else ""

    def virtual(self) -> bool:
        """A guest: a pause stops its clocks and its watchdog together."""
        return self.run(["systemd-detect-virt", "--vm", "--quiet"]).returncode == 0

    def has_systemd(self) -> bool:
        return self.path("/run/systemd/system").is_dir()

    def active(self, unit: str) -> bool:
        return self.run(["systemctl", "is-active", "--quiet", unit]).returncode == 0

    def enabled(self, unit: str) -> bool:
        return self.run(["systemctl", "is-enabled", "--quiet", unit]).returncode == 0

    @staticmethod
    def is_root() -> bool:
        return os.geteuid() == 0


def _local(interface: Interface) -> bool:
    return interface.ip.is_loopback or interface.ip.is_link_local


def _by_uuid(found: "re.Match[str]") -> str:
    return f"/dev/disk/by-{found[1].lower()}/{found[2]}"
