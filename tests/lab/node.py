"""One real machine of the lab: systemd as PID 1 on its own disk, network card, LUN path and watchdog.

What is on is exactly what runs in the node's cgroups (`cgroup.py`), so any process of the lab may cut or restore its
power; a lock keeps them from doing both at once, and a power-on's number keeps late orders away from the next one.
"""

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import lun
from tests.lab.cgroup import HIERARCHIES, Cgroup
from tests.lab.fuse import unmount
from tests.lab.image import SOURCE, SUITE
from tests.lab.switch import Switch, run

LOCK_TIMEOUT_S = 60.0
SERVER_TIMEOUT_S = 30.0
DARK_TIMEOUT_S = 40.0  # a power-on that waits for its servers looks dark for up to SERVER_TIMEOUT_S
BOOT_TIMEOUT_S = 90.0
RUN_TIMEOUT_S = 60.0
POLL_S = 0.02
REBOOT_STATUS = 133  # of systemd-nspawn --keep-unit when somebody inside has called reboot(2)
# nspawn would give a node the control groups of the host; systemd from Debian 13 on wants the new ones only.
NSPAWN = {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"} | (
    {} if SUITE == "bookworm" else {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
)
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}


class NodeError(Exception):
    """A node did not do in time what it was told."""


class Node:
    def __init__(self, lab: str, prefix: str, name: str, folder: Path, switch: Switch, image: Path | None) -> None:
        self.lab = lab
        self.name = name
        self.folder = folder
        self.switch = switch
        self.image = image  # of the LUN; None: a node without storage and watchdog, such as the witness
        self.root = folder / "root"
        self.log = folder / "node.log"
        self.machine = Cgroup(f"{prefix}-{name}")
        self.path = Cgroup(f"{prefix}-{name}.lun")
        self.watchdog = Cgroup(f"{prefix}-{name}.watchdog")

    # Power

    @property
    def powered(self) -> bool:
        """False only when no process of the node, nor its way to the LUN, is left."""
        return self.machine.populated() or self.path.populated()

    def cut(self) -> None:
        """Power cut: all at one stroke; what was not synced to the LUN is lost. Returns when it is really off."""
        with self._locked():
            self._cut()

    def cut_power(self) -> None:
        """What a power switch does: off at one stroke, now. `tidy` removes afterwards what only the lab has."""
        with self._locked():
            self._off()

    def tidy(self, generation: int) -> None:
        """Remove what a `cut_power` of that power-on has left."""
        with self._locked():
            if generation == self.generation and not self.powered:
                self._cut()

    def on(self, wait: bool = True) -> None:
        """Power on, if it is off; with `wait` until systemd has finished booting."""
        with self._locked():
            if not self.powered:
                self._power_up()
        if wait:
            self.wait_booted()

    def power_lost(self, generation: int, again: bool) -> None:
        """The machine of that power-on has ended by itself, or its watchdog wants it to; `again`: and it boots anew."""
        with self._locked():
            if generation == self.generation:
                self._cut()
                if again:
                    self._power_up()

    @property
    def generation(self) -> int:
        """How many times the power has been put on."""
        try:
            return int((self.folder / "generation").read_text())
        except FileNotFoundError:
            return 0

    def wait_booted(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Until systemd says that booting has finished. Failed units do not count: tests look at theirs."""
        deadline_s = time.monotonic() + timeout_s
        dark_s = time.monotonic() + DARK_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self.machine.populated():
                dark_s = time.monotonic() + DARK_TIMEOUT_S
            elif time.monotonic() > dark_s:
                raise NodeError(f"{self.name} is off and nobody puts it on (log: {self.log})")
            if self.init() and self._boot_state() in ("running", "degraded"):
                return
            time.sleep(POLL_S)
        raise NodeError(f"{self.name} has not booted within {timeout_s:.0f} s (log: {self.log})")

    def freeze(self, pause_watchdog: bool = False) -> None:
        """Stall the whole node; its kernel still answers. `pause_watchdog`: as when a hypervisor pauses a guest."""
        if pause_watchdog:
            self.watchdog.send(signal.SIGUSR1)
        self.machine.freeze(True)

    def thaw(self) -> None:
        if not self.machine.populated():
            return
        self.machine.freeze(False)
        self.watchdog.send(signal.SIGUSR2)

    # Storage

    def san_off(self) -> None:
        """The path to the LUN is gone: I/O errors until the node is power-cycled."""
        self.path.kill()

    def san_hang(self) -> None:
        """I/O on the LUN hangs."""
        self.path.send(signal.SIGSTOP)

    def san_resume(self) -> None:
        self.path.send(signal.SIGCONT)

    # Use

    def init(self) -> int:
        """Host's process id of the node's PID 1; 0 when it is off."""
        for pid in self.machine.processes():
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            numbers = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
            if len(numbers) > 1 and numbers[-1] == "1":
                return pid
        return 0

    def enter(self, command: list[str]) -> list[str]:
        """The command line that runs `command` inside."""
        init = self.init()
        if not init:
            raise NodeError(f"{self.name} is off")
        return ["nsenter", "-t", str(init), "-a", *command]

    def run(
        self, command: str | list[str], check: bool = True, timeout_s: float = RUN_TIMEOUT_S, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run inside as root; a string goes through the shell. Raises NodeError on failure (if `check`) or no end."""
        words = ["sh", "-c", command] if isinstance(command, str) else command
        # A time limit inside as well: killing nsenter alone would leave the command running in the node.
        limited = self.enter(["timeout", "-k", "1", str(timeout_s), *words])
        try:
            result = subprocess.run(
                limited,
                check=False,
                capture_output=True,
                text=True,
                input=input,
                timeout=timeout_s + 5,
                env=ENVIRONMENT,
            )
        except subprocess.TimeoutExpired as error:
            raise NodeError(f"{self.name}: no end of {command!r} within {timeout_s:.0f} s") from error
        if check and result.returncode:
            what = command if isinstance(command, str) else shlex.join(command)
            raise NodeError(f"{self.name}: {what}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def popen(self, command: list[str], **options: object) -> subprocess.Popen[str]:
        """Start inside and do not wait."""
        return subprocess.Popen(self.enter(command), text=True, env=ENVIRONMENT, **options)

    def remove(self) -> None:
        """Everything of the node but its folder and its network namespace."""
        with self._locked():
            self._cut()
            unmount(self.root)

    # Inside the lock

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        deadline_s = time.monotonic() + LOCK_TIMEOUT_S
        with (self.folder / "lock").open("w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline_s:
                        raise NodeError(
                            f"{self.name}: its power is being switched for {LOCK_TIMEOUT_S:.0f} s"
                        ) from None
                    time.sleep(POLL_S)
            yield

    def _off(self) -> None:
        self.switch.disconnect(self.name)
        # The path first: else the kernel would flush what was not synced when the node's mounts go.
        self.path.kill()
        self.machine.kill()

    def _cut(self) -> None:
        self._off()
        for file in ("lun", "watchdog"):
            lun.detach(self.folder / file)
            unmount(self.folder / file)
        for group in (self.path, self.machine):
            group.remove()
        self.watchdog.kill()
        self.watchdog.remove()

    def _power_up(self) -> None:
        self._cut()  # what an earlier power-on may have left
        try:
            self._start()
        except BaseException:
            self._cut()  # half on would count as on
            raise

    def _start(self) -> None:
        self.mount_root()
        self.switch.attach(self.name)
        generation = self.generation + 1
        (self.folder / "generation.new").write_text(str(generation))
        (self.folder / "generation.new").rename(self.folder / "generation")  # others read it at any moment
        binds = []
        if self.image is not None:
            file = self._serve("lun", self.path, ["tests.lab.lun", str(self.folder / "lun"), str(self.image)])
            binds.append(f"--bind={lun.attach(file)}:/dev/lun")
            order = [self.lab, self.name, str(generation)]
            file = self._serve("watchdog", self.watchdog, ["tests.lab.watchdog", str(self.folder / "watchdog"), *order])
            binds.append(f"--bind={file}:/dev/watchdog")
        self._boot(binds, generation)

    def mount_root(self) -> None:
        """The disk: its own layer over those of the image, named in `layers` by the lab."""
        if os.path.ismount(self.root):
            return
        lower = ":".join((self.folder / "layers").read_text().split())
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir(exist_ok=True)
        options = f"lowerdir={lower},upperdir={self.folder}/upper,workdir={self.folder}/work"
        run("mount", "-t", "overlay", f"hamail-lab-{self.lab}-{self.name}", "-o", options, str(self.root))

    def _serve(self, name: str, group: Cgroup, module: list[str]) -> Path:
        """Start a FUSE file server in its cgroup and wait for its mount."""
        file = self.folder / name
        server = self._spawn(group, [sys.executable, "-SE", "-m", *module])
        deadline_s = time.monotonic() + SERVER_TIMEOUT_S
        while not os.path.ismount(file):
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise NodeError(f"{self.name}: the server of its {name} did not start (log: {self.log})")
            time.sleep(0.005)
        return file

    def _boot(self, binds: list[str], generation: int) -> None:
        # nsenter and not --network-namespace-path: with that, /sys/class/net would show the host's devices.
        nspawn = ["nsenter", f"--net=/run/netns/{self.switch.namespace_of(self.name)}", "systemd-nspawn", "--quiet"]
        nspawn += ["--register=no", "--keep-unit", "--boot", "-M", self.machine.name, f"--hostname={self.name}"]
        nspawn += ["-D", str(self.root), "--capability=CAP_NET_ADMIN,CAP_NET_RAW", "--console=pipe"]
        nspawn += ["--resolv-conf=off", "--timezone=off", "--link-journal=no", *binds]
        ended = [sys.executable, "-m", "tests.lab", "--lab", self.lab, "power-lost", self.name, str(generation)]
        script = f"{shlex.join(nspawn)}; exec {shlex.join(ended)} $?"
        self._spawn(self.machine, ["sh", "-c", script])

    def _spawn(self, group: Cgroup, command: list[str]) -> subprocess.Popen[bytes]:
        """Start something that outlives this process, in its cgroup before its first own step."""
        group.create()
        enter = "".join(f"echo $$ >{root}/{group.name}/cgroup.procs; " for root in HIERARCHIES)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                ["sh", "-e", "-c", f'{enter}exec "$@"', "-", *command],
                cwd=SOURCE,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **NSPAWN, "PYTHONDONTWRITEBYTECODE": "1"},
            )

    def _boot_state(self) -> str:
        try:
            return self.run(["systemctl", "is-system-running", "--wait"], check=False, timeout_s=30).stdout.strip()
        except NodeError:
            return "off"
