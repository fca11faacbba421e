"""systemd units: asked and moved through systemctl, watched through their control group."""

import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from hamail.ocf.codes import Code, Failure
from hamail.ocf.process import Process, boottime_s, find

BOOTED = Path("/run/systemd/system")
CGROUP_ROOTS = (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
PROPERTIES = "LoadState,ActiveState,SubState,MainPID,ControlGroup,Result,Restart,UnitFileState,Type"
CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}
SHOW_TIMEOUT_S = 10.0
SETTLE_POLL_S = 0.01
DOWN = frozenset({"inactive", "failed"})
LINES_SHOWN = 3
UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,249}")


def wrong_unit(text: str) -> str:
    """A parameter check. A leading dash would be an option to systemctl."""
    return "" if UNIT_NAME.fullmatch(text) else "is not the name of a unit"


def systemd_runs() -> bool:
    return BOOTED.is_dir()


@dataclass(frozen=True)
class UnitState:
    name: str
    load: str
    active: str
    sub: str
    main_pid: int
    control_group: str
    result: str
    restart: str
    enabled: str
    kind: str  # of a service: forking, oneshot, …

    @property
    def down(self) -> bool:
        return self.active in DOWN

    def folder(self) -> Path | None:
        """Directory of the unit's control group, None when it has none (then it has no processes)."""
        if not self.control_group:
            return None
        for root in CGROUP_ROOTS:
            folder = root / self.control_group.lstrip("/")
            if (folder / "cgroup.procs").exists():
                return folder
        return None

    def processes(self) -> list[Process]:
        folder = self.folder()
        return [] if folder is None else members(folder)

    def main(self) -> Process | None:
        return find(self.main_pid) if self.main_pid else None


def members(folder: Path) -> list[Process]:
    """Live processes in a control group and those below it."""
    found = []
    for group, _, _ in os.walk(folder):  # not glob: that raises when a group goes away between its listing and its turn
        try:
            pids = Path(group, "cgroup.procs").read_text().split()
        except OSError:
            continue
        found += [p for p in (find(int(word)) for word in pids) if p is not None and p not in found]
    return found


def show(unit: str) -> UnitState:
    """Raises Failure when systemd does not answer: then nothing is known about the unit."""
    done = systemctl(["show", f"--property={PROPERTIES}", unit], SHOW_TIMEOUT_S)
    values = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if done.returncode or "ActiveState" not in values:
        raise Failure(Code.GENERIC, f"systemd does not tell about {unit}: {done.stderr.strip() or 'no answer'}")
    return UnitState(
        name=unit,
        load=values.get("LoadState", ""),
        active=values["ActiveState"],
        sub=values.get("SubState", ""),
        main_pid=int(values.get("MainPID") or 0),
        control_group=values.get("ControlGroup", ""),
        result=values.get("Result", ""),
        restart=values.get("Restart", "no"),
        enabled=values.get("UnitFileState", ""),
        kind=values.get("Type", ""),
    )


def systemctl(words: list[str], seconds: float) -> "subprocess.CompletedProcess[str]":
    """Raises Failure when it does not end in time: the outcome is unknown."""
    try:
        return subprocess.run(
            ["systemctl", "--no-pager", "--no-ask-password", *words],
            capture_output=True,
            text=True,
            errors="replace",
            env=CLEAN,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise Failure(
            Code.GENERIC, f"systemctl {' '.join(words)} did not end within {seconds:.0f} s; outcome unknown"
        ) from None
    except FileNotFoundError:
        raise Failure(Code.INSTALLED, "systemctl is missing on this node") from None


def start(unit: str, seconds: float) -> None:
    """Start and wait for the job. Raises Failure with the last lines of the unit's journal."""
    done = systemctl(["start", unit], seconds)
    if done.returncode and show(unit).result == "start-limit-hit":
        # systemd counts our restarts too; hamail has its own limit
        systemctl(["reset-failed", unit], SHOW_TIMEOUT_S)
        done = systemctl(["start", unit], seconds)
    if done.returncode:
        raise Failure(Code.GENERIC, f"systemctl start {unit} failed: {last_words(unit) or done.stderr.strip()}")


def stop(unit: str, seconds: float) -> None:
    """Stop and wait for the job. Raises Failure (assume that it still runs)."""
    done = systemctl(["stop", unit], seconds)
    if done.returncode:
        raise Failure(Code.GENERIC, f"systemctl stop {unit} failed: {done.stderr.strip() or last_words(unit)}")


def begin_stop(unit: str) -> None:
    """Ask for a stop without waiting: from now on systemd does not restart the unit by itself."""
    done = systemctl(["stop", "--no-block", unit], SHOW_TIMEOUT_S)
    if done.returncode:
        raise Failure(Code.GENERIC, f"systemctl stop {unit} failed: {done.stderr.strip()}")


def settle(unit: str, seconds: float) -> UnitState:
    """The state once it is neither coming up nor going down, or the last one seen when the time is over."""
    end_s = boottime_s() + seconds
    while True:
        state = show(unit)
        if state.active not in {"activating", "deactivating"} or boottime_s() > end_s:
            return state
        time.sleep(SETTLE_POLL_S)


def forget_failure(unit: str) -> None:
    systemctl(["reset-failed", unit], SHOW_TIMEOUT_S)


def last_words(unit: str) -> str:
    try:
        done = subprocess.run(
            ["journalctl", "--no-pager", "-q", "-o", "cat", "-n", str(LINES_SHOWN), "-u", unit],
            capture_output=True,
            text=True,
            errors="replace",
            env=CLEAN,
            timeout=SHOW_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "; ".join(line.strip() for line in done.stdout.splitlines() if line.strip())
