"""A whole executor in the test's event loop: real agent server, real processes, fake agents in a root-owned folder."""

import asyncio
import contextlib
import shutil
import tempfile
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from hamail.executor.cgroups import detect
from hamail.executor.clock import boottime_ns
from hamail.executor.executor import Executor, Settings
from hamail.executor.ledger import Ledger
from hamail.executor.processes import Processes
from hamail.executor.server import Server
from hamail.executor.watchdog import Watchdog
from hamail.executor.wire import encode, read_notice
from hamail.model.actions import AnyNotice, AnyRequest, Cleaned, CleanUp, Configure, Hello, StartGroup, Welcome
from hamail.model.spec import GroupSpec, ResourceSpec
from hamail.model.state import Evidence

WAIT_S = 8.0
T = TypeVar("T")

META = """<?xml version="1.0"?>
<resource-agent name="{name}" version="1.0"><version>1.1</version>
<parameters>
<parameter name="state"><content type="string"/></parameter>
<parameter name="mode"><content type="string" default="ok"/></parameter>
<parameter name="delay"><content type="string" default="0"/></parameter>
<parameter name="pid_file"><content type="string"/></parameter>
</parameters>
<actions><action name="start" timeout="5s"/><action name="stop" timeout="5"/>
<action name="monitor" timeout="2000ms" interval="10" depth="0"/></actions></resource-agent>
"""

SERVICE = '''\
#!/usr/bin/env python3
"""A service with a main process; `mode` says how it misbehaves."""
import os, signal, subprocess, sys, time

META = """{meta}"""


def main(argv, environ):
    action = argv[1]
    if action == "meta-data":
        print(META)
        return 0
    state = environ.get("OCF_RESKEY_state", "")
    mode = environ.get("OCF_RESKEY_mode", "ok")
    with open(state + ".log", "a") as log:
        log.write(f"{action} {environ.get('OCF_RESKEY_CRM_meta_hamail_epoch')} {time.monotonic():.3f}\\n")
    time.sleep(float(environ.get("OCF_RESKEY_delay", "0")))
    if mode == action + "-hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    if mode == action + "-flood":
        block = b"x" * (1 << 20)
        for _ in range(1024):
            os.write(1, block)
    if mode == action + "-77":
        sys.stderr.write("ocf-exit-reason:a strange end\\nmore talk\\n")
        return 77
    if mode == action + "-6":
        return 6
    if mode == action + "-killed":
        os.kill(os.getpid(), signal.SIGSEGV)
    if mode == action + "-raise":
        raise RuntimeError("a bug in the agent")
    if mode == action + "-garbage":
        os.write(2, b"ocf-exit-reason:\\xff\\xfe bad \\x1b[2J\\n")
        return 1
    if mode == action + "-children":
        child("sleep", "1000")
    return globals()[action](state, mode)


def child(*command):
    return subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL).pid


def running(state):
    try:
        pid, start = open(state).read().split()
        fields = open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()
        return (int(pid), int(start)) if fields[19] == start and fields[0] not in "ZX" else None
    except (OSError, ValueError):
        return None


def start(state, mode):
    if running(state):
        return 0
    if mode == "stubborn":
        pid = child("/bin/sh", "-c", "trap '' TERM INT HUP; while :; do sleep 1; done")
    else:
        pid = child("sleep", "1000")
    ticks = open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[19]
    open(state, "w").write(f"{{pid}} {{ticks}}")
    if mode != "silent":
        print(f"hamail-watch: pid={{pid}} start={{ticks}}")
    return 0


def stop(state, mode):
    found = running(state)
    if found and mode != "lies":
        os.kill(found[0], signal.SIGTERM)
        while mode != "stubborn" and running(state):
            time.sleep(0.002)
    return 0


def monitor(state, mode):
    if mode == "sick" and os.path.exists(state + ".sick"):
        print("ocf-exit-reason:it is sick", file=sys.stderr)
        return 1
    found = running(state)
    if found is None:
        return 7
    if mode != "silent":
        print("hamail-watch: pid=%d start=%d" % found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv, os.environ))
'''


def service_agent(name: str) -> str:
    return SERVICE.replace("{meta}", META.format(name=name)).replace("{{", "{").replace("}}", "}")


def write_agent(folder: Path, provider: str, name: str, text: str | None = None) -> Path:
    path = folder / provider / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text) if text else service_agent(name))
    path.chmod(0o755)
    return path


@contextlib.contextmanager
def root_folder() -> Any:
    """A folder that root alone can write, which a pytest folder below /tmp is not."""
    folder = Path(tempfile.mkdtemp(prefix="hamail-test-", dir="/run"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class World:
    """One executor and a way to talk to it."""

    def __init__(self, folder: Path, executor: Executor, notices: list[AnyNotice]) -> None:
        self.folder = folder
        self.executor = executor
        self.notices = notices
        self._id = 0

    def resource(self, name: str, agent: str = "hamail:service", **given: Any) -> ResourceSpec:
        fields = {k: given.pop(k) for k in list(given) if k in ResourceSpec.__struct_fields__}
        fields.setdefault("monitor_interval_ms", 60_000)
        parameters = {"state": str(self.folder / f"{name}.state")} | {k: str(v) for k, v in given.items()}
        return ResourceSpec(name=name, agent=agent, parameters=fields.pop("parameters", parameters), **fields)

    def group(self, *resources: ResourceSpec, name: str = "mail") -> GroupSpec:
        return GroupSpec(name=name, nodes=("n1", "n2"), resources=resources)

    def ask(self, kind: type[Any], **fields: Any) -> str:
        self._id += 1
        return self.executor.handle(kind(id=self._id, **fields))

    async def clean(self, *groups: GroupSpec) -> Cleaned:
        assert self.ask(Configure, cluster="test", groups=groups) == ""
        assert self.ask(CleanUp) == ""
        return await self.wait_for(Cleaned)

    def start(self, group: GroupSpec, epoch: int = 1, soft_s: float = 60.0, hard_s: float | None = None) -> str:
        now = boottime_ns()
        return self.ask(
            StartGroup,
            group=group,
            epoch=epoch,
            soft_ns=now + int(soft_s * 1e9),
            hard_ns=now + int((hard_s or soft_s + 5) * 1e9),
            evidence=Evidence.RELEASED,
        )

    async def wait_for(self, kind: type[T], where: Callable[[T], bool] = lambda _n: True, wait_s: float = WAIT_S) -> T:
        """The first notice of a kind, taken out of what has come."""
        async with asyncio.timeout(wait_s):
            while True:
                for notice in self.notices:
                    if isinstance(notice, kind) and where(notice):
                        self.notices.remove(notice)
                        return notice
                await asyncio.sleep(0.002)

    def log(self, name: str) -> list[str]:
        path = self.folder / f"{name}.state.log"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def last_start_s(self, name: str) -> float:
        """When its last start was begun (monotonic clock)."""
        lines = [line.split() for line in (self.folder / f"{name}.state.log").read_text().splitlines()]
        return max(float(at_s) for action, _epoch, at_s in lines if action == "start")

    def pid(self, name: str) -> int:
        return int((self.folder / f"{name}.state").read_text().split()[0])


@contextlib.asynccontextmanager
async def world(folder: Path, watchdog: Watchdog | None = None, *, pulse: bool = True) -> AsyncIterator[World]:
    """Agents must have been written before. `service` of the provider hamail is always there."""
    agents = folder / "agents"
    if not (agents / "hamail" / "service").exists():
        write_agent(agents, "hamail", "service")
    processes = Processes.fork((agents,))
    processes.attach()
    settings = Settings(node="n1", agent_dirs=(agents,), watchdog_device=None, watchdog_timeout_s=5)
    sets = detect(folder)
    ledger = Ledger(folder / "held", "test-boot")
    executor = Executor(settings, processes, sets, watchdog or Watchdog(None, 5), ledger)
    await executor.recover()
    notices: list[AnyNotice] = []
    executor.listen(notices.append)
    task = asyncio.create_task(executor.run()) if pulse else None
    try:
        yield World(folder, executor, notices)
    finally:
        await executor.shutdown()
        if task:
            task.cancel()
        executor.close()
        processes.close()
        _remove_cgroups(sets)


def _remove_cgroups(sets: Any) -> None:
    root = sets._root
    if root is None or not root.exists():
        return
    for procs in root.glob("*/cgroup.procs"):
        with contextlib.suppress(OSError):
            (procs.parent / "cgroup.kill").write_text("1")
    for _try in range(50):
        for child in [p for p in root.iterdir() if p.is_dir()]:
            with contextlib.suppress(OSError):
                child.rmdir()
        with contextlib.suppress(OSError):
            root.rmdir()
            return


class Client:
    """hamaild's end of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, welcome: Welcome) -> None:
        self.reader, self.writer, self.welcome = reader, writer, welcome

    @classmethod
    async def connect(cls, path: Path) -> "Client":
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(encode(Hello(id=1, version="test")))
        welcome = await read_notice(reader)
        assert isinstance(welcome, Welcome)
        return cls(reader, writer, welcome)

    def send(self, request: AnyRequest) -> None:
        self.writer.write(encode(request))

    async def next(self, kind: type[T]) -> T:
        async with asyncio.timeout(WAIT_S):
            while True:
                notice = await read_notice(self.reader)
                assert notice is not None, "the connection has ended"
                if isinstance(notice, kind):
                    return notice


async def serve(executor: Executor, path: Path) -> Server:
    server = Server(executor, path)
    await server.open()
    return server
