"""Small helpers that outlive an action, and small notes in a root-only run directory."""

import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from hamail.ocf.process import Process, boottime_s, find, send, wait_gone

RUN = Path("/run/hamail-agents")
KILL_WAIT_S = 1.0
DESCRIPTORS_MAX = 4096


def note_path(name: str) -> Path:
    RUN.mkdir(mode=0o700, exist_ok=True)
    return RUN / re.sub(r"[^A-Za-z0-9_.:-]", "_", name)


def note(name: str, text: str = "") -> None:
    """Remember `text`, or the moment (CLOCK_BOOTTIME seconds)."""
    note_path(name).write_text(text or f"{boottime_s():.3f}")


def noted(name: str) -> str:
    try:
        return note_path(name).read_text()
    except OSError:
        return ""


def noted_s(name: str) -> float | None:
    """The moment remembered by `note`; None when there is none or it is from a later boot than this."""
    try:
        moment_s = float(noted(name))
    except ValueError:
        return None
    return moment_s if moment_s <= boottime_s() else None


def forget(name: str) -> None:
    note_path(name).unlink(missing_ok=True)


def detach(name: str, work: Callable[[], None], keep: Sequence[int] = ()) -> None:
    """Run `work` in a process of its own that delays nobody and holds no descriptor but `keep`; one per name."""
    end(name)
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    code = 1
    try:
        os.setsid()
        grandchild = os.fork()
        if grandchild == 0:
            _become_helper(keep)
            work()
        else:
            # written before the caller goes on, so that a stop right after the start finds it
            helper = find(grandchild)
            if helper is not None:
                note(name, f"{helper.pid} {helper.start_ticks}")
        code = 0
    finally:
        os._exit(code)


def _become_helper(keep: Sequence[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    low = 3
    for kept in sorted(keep):
        os.closerange(low, kept)
        low = kept + 1
    os.closerange(low, low + DESCRIPTORS_MAX)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_DFL)
    os.chdir("/")


def recall(name: str) -> Process | None:
    """The live process remembered under `name`."""
    words = noted(name).split()
    if len(words) != 2 or not all(w.isdigit() for w in words):
        return None
    process = find(int(words[0]))
    return process if process is not None and process.start_ticks == int(words[1]) else None


def end(name: str) -> None:
    """Kill the helper of this name, if it lives, and wait until it is gone."""
    process = recall(name)
    if process is not None:
        send([process], signal.SIGKILL)
        wait_gone([process], KILL_WAIT_S)
    forget(name)
