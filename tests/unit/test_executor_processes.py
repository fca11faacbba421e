"""Running one program with limits: time, output, what it leaves behind; with cgroups and without."""

import asyncio
import os
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from executor_world import _remove_cgroups, root_folder, write_agent

from hamail.executor import cgroups, verify
from hamail.executor.cgroups import (
    CgroupSet,
    MarkedSet,
    ProcessSets,
    cgroup_dirs,
    describe,
    detect,
    is_zombie,
    kill_cgroup,
)
from hamail.executor.processes import ENVIRONMENT_BYTES_MAX, OUTPUT_BYTES_MAX, Job, Processes

pytestmark = pytest.mark.root


@pytest.fixture
def folder():
    with root_folder() as made:
        yield made


@pytest.fixture(params=["cgroup", "mark"])
async def run(folder, request):
    processes = Processes.fork((folder,))
    processes.attach()
    sets = detect(folder) if request.param == "cgroup" else ProcessSets(None, "", f"test-{os.getpid()}")
    assert sets.by_cgroup == (request.param == "cgroup")
    members = sets.get("x")

    async def go(script, timeout_ms=3000, **fields):
        path = write_agent(folder, "scripts", "x", script)
        job = Job(
            path=path,
            arguments=("start",),
            environment={"PATH": "/usr/bin:/bin"},
            processes=members,
            timeout_ms=timeout_ms,
            **fields,
        )
        return await processes.run(job)

    go.members = members
    go.processes = processes
    go.folder = folder
    yield go
    members.signal(signal.SIGKILL)
    processes.close()
    if sets.by_cgroup:
        _remove_cgroups(sets)


def gone(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


async def test_exit_code_and_output(run):
    done = await run("#!/bin/sh\necho out; echo err >&2; cat; exit 42\n", stdin=b"given\n")
    assert (done.exit_code, done.stdout, done.stderr) == (42, "out\ngiven\n", "err\n")
    assert not done.timed_out and done.left_behind == ()


async def test_environment_is_clean(run, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "x")
    done = await run("#!/bin/sh\nenv\n")
    assert "SECRET" not in done.stdout and "PATH=/usr/bin:/bin" in done.stdout
    done = await run("#!/bin/sh\nls -l /proc/self/fd; pwd; umask; ps -o pid=,sid= $$\n")
    assert "\n/\n0022\n" in done.stdout
    assert not [line for line in done.stdout.splitlines() if " 9 -> " in line]
    pid, sid = done.stdout.split()[-2:]
    assert pid == sid


async def test_time_limit_with_term_ignored(run):
    script = "#!/bin/sh\ntrap '' TERM\necho here\nwhile :; do sleep 1; done\n"
    began = time.monotonic()
    done = await run(script, timeout_ms=200, grace_ms=100)
    assert done.timed_out and done.exit_code is None and done.why == "timed out after 200 ms"
    assert done.stdout == "here\n"
    assert time.monotonic() - began < 1
    assert run.members.pids() == []


async def test_grace_lets_a_program_tidy_up(run):
    done = await run("#!/bin/sh\ntrap 'echo tidied; exit 0' TERM\nwhile :; do sleep 0.05; done\n", timeout_ms=200)
    assert done.timed_out and done.stdout == "tidied\n"


async def test_double_forked_children_are_found_and_killed(run):
    pid_file = run.folder / "pid"
    script = f"#!/bin/sh\nsetsid sh -c 'setsid sleep 1000 & echo $! > {pid_file}' &\nsleep 0.2\nexit 0\n"
    done = await run(script)
    pid = int(pid_file.read_text())
    assert done.exit_code == 0 and any(str(pid) in line and "sleep" in line for line in done.left_behind)
    assert gone(pid) and done.stuck == ()


async def test_what_a_service_leaves_may_stay(run):
    pid_file = run.folder / "pid"
    done = await run(f"#!/bin/sh\nsetsid sleep 1000 & echo $! > {pid_file}\nexit 0\n", keep_children=True)
    pid = int(pid_file.read_text())
    assert done.exit_code == 0 and not gone(pid) and pid in run.members.pids()
    done = await run("#!/bin/sh\nexit 1\n", keep_children=True)  # a failed start leaves nothing
    assert gone(pid)


async def test_a_gigabyte_is_drained_and_not_kept(run):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    script = "#!/bin/sh\nhead -c 1073741824 /dev/zero | tr '\\0' x\necho last >&2\nexit 3\n"
    done = await run(script, timeout_ms=30_000)
    ticking.cancel()
    assert done.exit_code == 3 and len(done.stdout) == OUTPUT_BYTES_MAX and done.stderr == "last\n"
    assert ticks > done.took_ms / 10 / 4  # the loop has turned all the time
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


async def test_the_last_words_on_stderr_are_kept(run):
    done = await run("#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' x >&2\necho last >&2\n")
    assert len(done.stderr) == OUTPUT_BYTES_MAX and done.stderr.endswith("xlast\n")


async def test_a_daemon_that_keeps_the_pipes_does_not_hold_us_up(run):
    began = time.monotonic()
    done = await run("#!/bin/sh\nsetsid sleep 1000 &\necho done\n", keep_children=True)
    assert done.stdout == "done\n" and time.monotonic() - began < 1


async def test_cancelled_run_is_killed_at_once(run):
    pid_file = run.folder / "pid"
    task = asyncio.create_task(run(f"#!/bin/sh\ntrap '' TERM\necho $$ > {pid_file}\nwhile :; do sleep 1; done\n"))
    while not pid_file.exists() or not pid_file.read_text():
        await asyncio.sleep(0.01)
    task.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 0.1
    pid = int(pid_file.read_text())
    async with asyncio.timeout(1):
        while not gone(pid):
            await asyncio.sleep(0.005)


async def test_not_an_executable_format(run):
    done = await run("no shebang and no program\n")
    assert done.exit_code == 126 and "Exec format error" in done.stderr


async def test_too_much_input_or_environment_is_refused(run):
    assert "over" in (await run("#!/bin/sh\n", stdin=b"x" * 40_000)).why


def test_cgroups_that_may_not_be_touched():
    assert cgroup_dirs("/") == []
    assert cgroup_dirs("") == []
    assert cgroup_dirs("/etc") == []
    assert cgroup_dirs("../..") == []
    assert cgroup_dirs("/sys/fs/cgroup/unified") == []
    own = open("/proc/self/cgroup").read().splitlines()[-1].partition("::")[2]
    assert cgroup_dirs(own) == []  # holds this very process


def test_marked_set_of_nobody():
    assert MarkedSet("a test that nobody runs in").pids() == []


def test_processes_of_a_systemd_unit_are_found_by_its_name():
    mount = next(Path(m) for m in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if Path(m, "cgroup.procs").exists())
    slice_dir = mount / "system.slice"
    made = [d for d in (slice_dir, slice_dir / "system-x.slice", slice_dir / "system-x.slice" / "x@-.service")]
    fresh = [d for d in made if not d.exists()]
    for folder in fresh:
        folder.mkdir()
    child = subprocess.Popen(["sleep", "1000"])
    try:
        (made[-1] / "cgroup.procs").write_text(str(child.pid))
        assert cgroup_dirs("x@-.service") == [made[-1]]
        assert cgroup_dirs("/system.slice/system-x.slice/x@-.service") == [made[-1]]
        assert cgroup_dirs(str(made[-1])) == [made[-1]]
        assert verify.processes_left((), (), ["x@-.service"]) == [f"process {describe(child.pid)}"]
        kill_cgroup(made[-1])
        assert child.wait(2) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()
        for folder in reversed(fresh):
            folder.rmdir()


async def test_too_large_an_environment_is_refused(run):
    job = Job(
        path=write_agent(run.folder, "scripts", "x", "#!/bin/sh\n"),
        arguments=("start",),
        environment={"OCF_RESKEY_x": "x" * ENVIRONMENT_BYTES_MAX},
        processes=run.members,
        timeout_ms=1000,
    )
    assert "parameters are over" in (await run.processes.run(job)).why


async def test_a_signal_without_a_name(run):
    done = await run("#!/bin/sh\nkill -40 $$\nsleep 5\n")
    assert (done.exit_code, done.why) == (None, "killed by signal 40 (unknown)")


async def test_a_server_that_dies_too_often_is_not_started_again(run, caplog):
    run.processes._starts_left = 0
    os.kill(run.processes._server_pid, signal.SIGKILL)
    await asyncio.sleep(0.1)
    assert "is not started again" in caplog.text
    done = await run("#!/bin/sh\n")
    assert done.exit_code is None and "not run: the agent server does not answer" in done.why


async def test_a_run_that_waits_to_be_sent_is_sent_to_the_next_server(run, monkeypatch):
    real, first = socket.send_fds, run.processes._server_pid

    def busy(*given):
        if run.processes._server_pid == first:
            raise BlockingIOError
        return real(*given)

    monkeypatch.setattr("hamail.executor.processes.socket.send_fds", busy)
    waits = asyncio.create_task(run("#!/bin/sh\necho done\n", timeout_ms=8000))
    await asyncio.sleep(0.05)
    os.kill(first, signal.SIGKILL)
    assert (await waits).stdout == "done\n"


def test_what_cannot_be_named_or_is_gone(monkeypatch):
    child = subprocess.Popen(["true"])
    child.wait()
    assert describe(child.pid) == f"{child.pid} (gone)"
    assert is_zombie(child.pid)
    sent = []
    monkeypatch.setattr(cgroups.os, "kill", lambda pid, number: sent.append((pid, number)))
    for pid in (0, 1, os.getpid(), child.pid):
        cgroups._send(pid, signal.SIGTERM)
    assert sent == [(child.pid, signal.SIGTERM)], "never init, never oneself"


@pytest.mark.parametrize("ends", [True, False])
def test_where_the_kernel_kills_no_cgroup_at_once_each_process_is_killed(monkeypatch, ends):
    """As under cgroup v1; what hangs in the kernel is not killed for ever."""
    left, killed, pauses = [71, 72], [], []
    monkeypatch.setattr(cgroups, "_kill_at_once", lambda _path: False)
    monkeypatch.setattr(cgroups, "pids_below", lambda _path: list(left))
    monkeypatch.setattr(cgroups.time, "sleep", pauses.append)

    def kill(pid, number):
        killed.append((pid, number))
        if ends:
            left.remove(pid)

    monkeypatch.setattr(cgroups, "_send", kill)
    kill_cgroup(Path("/sys/fs/cgroup/x"))
    rounds = 1 if ends else cgroups.KILL_ROUNDS_MAX
    assert killed == [(71, signal.SIGKILL), (72, signal.SIGKILL)] * rounds and len(pauses) == rounds
    killed.clear()
    left[:] = [71, 72]
    CgroupSet(Path("/sys/fs/cgroup/x"), "x").signal(signal.SIGKILL)
    assert len(killed) == 2 * rounds
