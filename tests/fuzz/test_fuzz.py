"""Every target for about a second, from a fixed seed; its kept inputs first. `make fuzz` is the long version."""

import importlib.util
import os
import subprocess
import sys
import time

import pytest

from tests.fuzz.guard import CPU_MS_MAX, Finding, Guard
from tests.fuzz.targets import NAMES

CPU_S = "0.8"  # for each target


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_found(name, tmp_path):
    """In a process of its own, as a target puts itself where sockets, clocks and daemons would be."""
    command = [sys.executable, "-B", "-m", "tests.fuzz.worker", name, "--engine", "plain", "--seconds", CPU_S]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    saved = [path.read_bytes() for path in tmp_path.glob("crash-*")]
    assert done.returncode == 0 and not saved, f"{done.stderr[-1500:]}\n{saved!r:.3000}"


def test_atheris_is_here():
    """Without it `make fuzz` still runs, but blindly, and says so: nobody shall learn of that by accident."""
    assert importlib.util.find_spec("atheris") is not None


def slow(_data):
    end_s = time.thread_time() + CPU_MS_MAX / 1000 + 0.02
    while time.thread_time() < end_s:
        pass


def greedy(data):
    assert bytearray(b"x") * (64 << 20)


def writes(_data):
    open("/dev/shm/never", "w").close()


def runs(_data):
    os.system("true")


@pytest.mark.parametrize("bad", [slow, greedy, writes, runs])
def test_what_an_input_must_not_do_is_found(bad):
    guard = Guard(bad)
    with pytest.raises(Finding):
        guard(b"x")


def test_what_comes_out_undeclared_is_found():
    with pytest.raises(ZeroDivisionError):
        Guard(lambda _data: 1 / 0)(b"")
