"""The whole process: readiness, SIGTERM, a crash and its restart, the watchdog's magic close, its size."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest
from click.testing import CliRunner
from executor_world import Client, root_folder, service_agent, write_agent

from hamail.executor import main as main_module
from hamail.executor.clock import boottime_ns
from hamail.executor.executor import Executor, Settings
from hamail.executor.processes import Processes
from hamail.model.actions import Accepted, Cleaned, CleanUp, Configure, GroupUp, Maintain, Refused, StartGroup
from hamail.model.spec import GroupSpec, ResourceSpec
from hamail.model.state import Evidence

pytestmark = pytest.mark.root
S = 10**9
WAIT_S = 8.0


class Process:
    def __init__(self, folder: Path, agents: str | None = None) -> None:
        self.folder = folder
        self.socket = folder / "run-executor" / "executor.sock"
        config = folder / "node.toml"
        config.write_text(
            f'node = "n1"\nrun_dir = "{folder}/run"\nagent_dirs = ["{agents or folder / "agents"}"]\n'
            f'watchdog_device = "{folder}/watchdog"\nwatchdog_timeout = "5s"\n'
        )
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify_path = folder / "notify"
        self.notify_path.unlink(missing_ok=True)
        self.notify.bind(str(self.notify_path))
        self.notify.settimeout(WAIT_S)
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", "hamail.executor.main", "--config", str(self.folder / "node.toml")],
            env=os.environ | {"NOTIFY_SOCKET": str(self.notify_path), "PYTHONPATH": os.getcwd()},
            stderr=(self.folder / "log").open("ab"),
        )
        while "READY=1" not in self.notify.recv(1000).decode():
            pass

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.child is not None
        self.child.send_signal(number)
        return self.child.wait(WAIT_S)


@pytest.fixture
def process():
    with root_folder() as folder:
        write_agent(folder / "agents", "hamail", "service", service_agent("service"))
        (folder / "watchdog").touch()
        process = Process(folder)
        process.start()
        try:
            yield process
        finally:
            if process.child and process.child.poll() is None:
                process.stop()
            process.notify.close()
            remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    for line in (folder / "log").read_text().splitlines():
        if "cgroups below " in line:
            root = Path(line.rpartition(" ")[2])
            for _try in range(20):
                for child in [p for p in root.glob("*") if p.is_dir()]:
                    (child / "cgroup.kill").exists() and (child / "cgroup.kill").write_text("1")
                    try:
                        child.rmdir()
                    except OSError:
                        time.sleep(0.01)
                try:
                    root.rmdir()
                except OSError:
                    continue
                break


def group_in(folder: Path) -> GroupSpec:
    resource = ResourceSpec(name="smtp", agent="hamail:service", parameters={"state": str(folder / "smtp.state")})
    return GroupSpec(name="mail", nodes=("n1", "n2"), resources=(resource,))


async def bring_up(process: Process, epoch: int = 1) -> int:
    client = await Client.connect(process.socket)
    group = group_in(process.folder)
    client.send(Configure(id=1, cluster="c", groups=(group,)))
    client.send(CleanUp(id=2))
    assert (await client.next(Cleaned)).ok
    now = boottime_ns()
    client.send(
        StartGroup(
            id=3, group=group, epoch=epoch, soft_ns=now + 60 * S, hard_ns=now + 65 * S, evidence=Evidence.RELEASED
        )
    )
    await client.next(GroupUp)
    return int((process.folder / "smtp.state").read_text().split()[0])


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"


async def test_sigterm_stops_what_is_held_and_closes_the_watchdog(process):
    pid = await bring_up(process)
    assert process.stop() == 0
    assert gone(pid)
    assert "verified stopped" in process.log()
    assert not process.socket.exists()


async def test_crash_leaves_services_and_the_next_life_cleans_up(process):
    pid = await bring_up(process)
    first = (await Client.connect(process.socket)).welcome.incarnation
    servers = psutil.Process(process.child.pid).children()
    assert len(servers) == 1
    process.stop(signal.SIGKILL)
    assert not gone(pid)
    servers[0].wait(2)  # the agent server does not outlive its executor
    process.start()
    assert gone(pid)  # before it was ready, and without any word of hamaild
    client = await Client.connect(process.socket)
    assert client.welcome.groups == {} and not client.welcome.clean
    assert client.welcome.incarnation.boot_id == first.boot_id
    assert client.welcome.incarnation.executor_id != first.executor_id
    await bring_up(process, epoch=2)


async def test_a_restarted_executor_does_not_feed_a_watchdog_that_was_given_up(process):
    await bring_up(process)
    process.stop(signal.SIGKILL)
    ledger = process.folder / "run-executor" / "executor.held"
    page = msgspec.json.decode(ledger.read_bytes())
    assert [held["epoch"] for held in page["groups"]] == [1]
    ledger.write_bytes(msgspec.json.encode(page | {"doomed": "a group was not stopped in time"}))
    process.start()
    watchdog = (await Client.connect(process.socket)).welcome.watchdog
    assert not watchdog.armed and watchdog.detail == "not fed any more: a group was not stopped in time"
    process.stop(signal.SIGKILL)
    ledger.write_bytes(msgspec.json.encode(page | {"doomed": "x", "groups": [], "boot_id": "the boot before"}))
    process.start()
    assert "not fed" not in (await Client.connect(process.socket)).welcome.watchdog.detail
    process.stop(signal.SIGKILL)
    ledger.write_bytes(b"garbage")
    process.start()
    assert "cannot be read" in (await Client.connect(process.socket)).welcome.watchdog.detail


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_an_executor_replaced_during_maintenance_touches_nothing(process, number):
    pid = await bring_up(process)
    client = await Client.connect(process.socket)
    client.send(Maintain(id=4, on=True))
    await client.next(Accepted)
    assert process.stop(number) == (0 if number == signal.SIGTERM else -number)
    for _life in range(2):  # and the one after it knows it as well
        process.start()
        client = await Client.connect(process.socket)
        assert client.welcome.maintenance and not client.welcome.clean
        client.send(Configure(id=1, cluster="c", groups=(group_in(process.folder),)))
        client.send(CleanUp(id=2))
        assert "maintenance" in (await client.next(Refused)).why
        assert not gone(pid)
        process.stop(signal.SIGKILL)
    process.start()
    client = await Client.connect(process.socket)
    client.send(Maintain(id=1, on=False))
    client.send(Configure(id=2, cluster="c", groups=(group_in(process.folder),)))
    client.send(CleanUp(id=3))
    assert (await client.next(Cleaned)).ok
    assert gone(pid)


async def test_only_one_executor_per_node(process):
    second = subprocess.run(
        [sys.executable, "-m", "hamail.executor.main", "--config", str(process.folder / "node.toml"), "--no-systemd"],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert second.returncode == 1 and "another hamail-executor runs already" in second.stderr


async def test_size_of_executor_and_agent_server(process):
    await bring_up(process)
    await asyncio.sleep(0.2)
    main = psutil.Process(process.child.pid)
    pss = sum(p.memory_full_info().pss for p in [main, *main.children()]) / 1e6
    before = sum(sum(p.cpu_times()[:4]) for p in [main, *main.children()])
    await asyncio.sleep(3)
    used = sum(sum(p.cpu_times()[:4]) for p in [main, *main.children()]) - before
    print(f"PSS {pss:.1f} MB, CPU {used * 20:.2f} s/min")
    assert pss < 45


def test_only_root_runs_it(monkeypatch):
    monkeypatch.setattr(main_module, "forbid_core_dumps", lambda: None)  # it would be for the whole test run
    monkeypatch.setattr(main_module.os, "geteuid", lambda: 65534)
    done = CliRunner().invoke(main_module.main, ["--no-systemd"])
    assert done.exit_code == 1 and "must run as root" in done.output


def test_what_is_wrong_with_its_configuration_is_told(tmp_path):
    (tmp_path / "node.toml").write_text('node = "n1"\nwatchdog_timeout = "soon"\ncolour = "blue"\n')
    done = subprocess.run(
        [sys.executable, "-m", "hamail.executor.main", "--config", str(tmp_path / "node.toml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert done.returncode == 1 and "watchdog_timeout" in done.stderr and "colour" in done.stderr
    assert "Traceback" not in done.stderr


def test_memory_that_cannot_be_locked_is_told_and_no_reason_to_stop(monkeypatch, caplog):
    class Refuses:
        def mlockall(self, _flags):
            main_module.ctypes.set_errno(12)
            return -1

    monkeypatch.setattr(main_module.ctypes, "CDLL", lambda *_a, **_k: Refuses())
    with caplog.at_level("INFO"):
        main_module._lock_memory()
    assert "memory is not locked: Cannot allocate memory" in caplog.text


async def served(folder, agents, watchdog_device=None):
    settings = Settings(node="n1", agent_dirs=(agents,), watchdog_device=watchdog_device, watchdog_timeout_s=5)
    place = main_module.Place(folder, folder / "executor.sock", settings)
    return await main_module._serve(place, Processes.fork((agents,)), main_module.notify.Notifier(None))


async def test_a_bug_in_the_pulse_ends_the_process_and_leaves_the_watchdog_armed(monkeypatch, caplog):
    """What feeds the watchdog is gone, so it must bite, whatever was verified on the way out."""

    async def bug(_executor):
        raise ValueError("a bug")

    disarmed = []
    monkeypatch.setattr(Executor, "run", bug)
    monkeypatch.setattr(main_module.Watchdog, "disarm", lambda _self: disarmed.append(1))
    with root_folder() as folder:
        assert await served(folder, folder / "agents") == 1
    assert disarmed == []
    assert "the executor's pulse has ended" in caplog.text and "ValueError: a bug" in caplog.text
    assert "the watchdog stays armed" in caplog.text


async def test_what_is_not_verified_stopped_leaves_the_watchdog_armed(monkeypatch, caplog):
    async def not_clean(executor):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(1000)

    async def unverified(_executor):
        return False

    disarmed = []
    monkeypatch.setattr(Executor, "run", not_clean)
    monkeypatch.setattr(Executor, "shutdown", unverified)
    monkeypatch.setattr(main_module.Watchdog, "disarm", lambda _self: disarmed.append(1))
    with root_folder() as folder:
        assert await served(folder, folder / "agents") == 1
    assert disarmed == [] and "not everything is verified stopped" in caplog.text
