"""The console script hamail-executor."""

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import os
import signal
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from hamail.executor import notify
from hamail.executor.agent_server import serve_activated
from hamail.executor.cgroups import detect
from hamail.executor.clock import boottime_ns
from hamail.executor.executor import Executor, Settings
from hamail.executor.ledger import Ledger
from hamail.executor.policy import Policy
from hamail.executor.processes import Processes
from hamail.executor.secrecy import forbid_core_dumps
from hamail.executor.server import Server
from hamail.executor.watchdog import Watchdog
from hamail.executor.wire import PROTOCOL

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_NOTIFY_INTERVAL_MAX_S = 5.0
_LOOK_INTERVAL_S = 0.25  # whether what is held has changed
_LOCK_WAIT_S = 1.0

log = logging.getLogger("hamail.executor")


class OneLine(logging.Formatter):
    """A message may quote what hamaild or an agent has sent: that must not look like a line of the executor's own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        return "".join(c if c.isprintable() else "?" for c in super().formatMessage(record))


@dataclass(frozen=True)
class Place:
    """Where this executor lives."""

    run_dir: Path  # root's own: nobody else may put a file or a link there
    socket: Path
    settings: Settings
    agent_server: Path | None = None  # the socket of the one that systemd starts; None: it is forked


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/hamail/node.toml"),
    show_default=True,
    help="The file that describes this node.",
)
@click.option("--no-systemd", is_flag=True, help="Send no readiness to systemd.")
@click.option(
    "--agent-server",
    type=click.Path(path_type=Path),
    help="Have agents run by the server behind this socket, instead of a child process.",
)
@click.option("--serve-agents", is_flag=True, help="Be that server; systemd hands over the socket.")
def main(config: Path, no_systemd: bool, agent_server: Path | None, serve_agents: bool) -> None:
    """The root process of hamail: starts and stops resources, and is the dead-man's switch."""
    from hamail.config import ConfigError, load_node

    forbid_core_dumps()
    if os.geteuid() != 0:
        raise click.ClickException("hamail-executor must run as root")
    try:
        node = load_node(config)
    except ConfigError as error:
        raise click.ClickException("\n".join(f"{p.place}: {p.reason}" for p in error.problems)) from error
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(levelname)s %(message)s"))
    logging.basicConfig(level=node.log_level.upper(), handlers=[handler])
    if serve_agents:
        serve_activated(node.agent_dirs)
        return
    settings = Settings(
        node=node.node,
        agent_dirs=node.agent_dirs,
        watchdog_device=node.watchdog_device,
        watchdog_timeout_s=node.watchdog_timeout_s,
        policy=Policy(**msgspec.structs.asdict(node.allow)),
    )
    place = Place(node.executor_dir, node.executor_socket, settings, agent_server)
    sys.exit(run(place, notify.Notifier(None) if no_systemd else notify.from_environment()))


def run(place: Place, notifier: notify.Notifier) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code: 0 only when everything held was verified stopped."""
    if not place.run_dir.exists():
        place.run_dir.mkdir(parents=True)
        place.run_dir.chmod(0o755)  # whatever the umask: hamaild must reach the socket
    _refuse_foreign(place.run_dir)
    lock = _only_one(place.run_dir)
    try:
        # before there is an event loop, and while this process is small: the two share their pages
        address = place.agent_server
        processes = Processes.connect(address) if address else Processes.fork(place.settings.agent_dirs)
        _lock_memory()
        return asyncio.run(_serve(place, processes, notifier))
    finally:
        os.close(lock)


async def _serve(place: Place, processes: Processes, notifier: notify.Notifier) -> int:
    loop = asyncio.get_running_loop()
    processes.attach()
    sets = detect(place.run_dir)
    log.info("%s", sets.detail)
    watchdog = Watchdog(place.settings.watchdog_device, place.settings.watchdog_timeout_s)
    ledger = Ledger(place.run_dir / "executor.held", _boot_id())
    executor = Executor(place.settings, processes, sets, watchdog, ledger)
    await executor.recover()
    server = Server(executor, place.socket)
    with contextlib.suppress(OSError):  # an upgrade reads it, and restarts nothing by itself where it is missing
        (place.run_dir / "protocol").write_text(f"{PROTOCOL}\n")
    await server.open()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    pulse = asyncio.create_task(executor.run())
    notices = asyncio.create_task(_keep_notifying(notifier, executor))
    notifier.send("READY=1")
    log.info("ready: %s", place.socket)
    await asyncio.wait((asyncio.create_task(stopped.wait()), pulse), return_when=asyncio.FIRST_COMPLETED)
    if pulse.done():
        # A bug in the heart of the process: the watchdog is not fed from here on, and that is right.
        log.critical("the executor's pulse has ended", exc_info=pulse.exception())
    notifier.send("STOPPING=1", "STATUS=stopping what is held")
    clean = await executor.shutdown() and not pulse.done()
    notices.cancel()
    pulse.cancel()
    if clean:
        watchdog.disarm()
    else:
        log.critical("not everything is verified stopped: the watchdog stays armed and will reset this machine")
    await server.close()
    executor.close()
    processes.close()
    sets.remove()
    return 0 if clean else 1


async def _keep_notifying(notifier: notify.Notifier, executor: Executor) -> None:
    """Tell systemd that the event loop turns, and what is held: an upgrade asks for it before it restarts anything."""
    interval_s = min(_NOTIFY_INTERVAL_MAX_S, int(os.environ.get("WATCHDOG_USEC", "10000000")) / 2e6)
    told, due_ns = "", 0
    while True:
        sentence, now_ns = executor.sentence(), boottime_ns()
        if sentence != told or now_ns >= due_ns:
            notifier.send("WATCHDOG=1", f"STATUS={sentence}")
            told, due_ns = sentence, now_ns + int(interval_s * 1e9)
        await asyncio.sleep(min(interval_s, _LOOK_INTERVAL_S))


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _refuse_foreign(run_dir: Path) -> None:
    """Root reads and replaces files there. Who else could write it could have root believe or overwrite anything."""
    found = run_dir.lstat()
    if found.st_uid != 0 or found.st_mode & 0o022 or not stat.S_ISDIR(found.st_mode):
        raise click.ClickException(f"{run_dir} must be a folder that only root can write")


def _only_one(run_dir: Path) -> int:
    """Two executors on one node would stop each other's resources. Returns the descriptor that holds the lock."""
    descriptor = os.open(run_dir / "executor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until_s = time.monotonic() + _LOCK_WAIT_S  # an executor that has just been killed may be on its way out
    while not _locked(descriptor):
        if time.monotonic() < until_s:
            time.sleep(0.02)
            continue
        os.close(descriptor)
        raise click.ClickException(f"another hamail-executor runs already ({run_dir}/executor.lock is locked)")
    return descriptor


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_memory() -> None:
    """Keep this process in memory, so that the dead-man's switch does not wait for a slow swap device."""
    libc = ctypes.CDLL(None, use_errno=True)
    # ON_FAULT: lock what is used, not every page of every library
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        log.info("memory is not locked: %s", os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main()
