"""Puts the parts of hamaild together."""

import asyncio
import random
import signal
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from hamail import __version__
from hamail.audit.reading import NAME
from hamail.audit.trail import Trail
from hamail.consensus.journal import JournalError, JournalMissing, Work
from hamail.consensus.syncobj import SyncObjConsensus, Written
from hamail.control.server import ControlServer
from hamail.core.engine import Engine
from hamail.daemon.audit_keeper import AuditKeeper
from hamail.daemon.backend import DaemonBackend
from hamail.daemon.barred import BarredError, BarredFile
from hamail.daemon.certificate_watch import CertificateWatch
from hamail.daemon.config_checks import ConfigChecks
from hamail.daemon.executor_link import ExecutorLink
from hamail.daemon.prober import Prober
from hamail.daemon.reports import Reports
from hamail.daemon.revocations import Revocations
from hamail.daemon.shell import Shell, boottime_ns, wall_ms
from hamail.executor.notify import from_environment
from hamail.executor.policy import Policy
from hamail.model.ids import NodeName
from hamail.model.messages import AnyMessage, ConfigAsk, ConfigTold, Revoked
from hamail.model.spec import ClusterSpec
from hamail.transport.certificates import Certificates, revocation_of
from hamail.transport.transport import Transport

if TYPE_CHECKING:
    from hamail.config.node import NodeConfig

ALIVE_EVERY_S = 1.0
FLUSH_S = 0.05
INITIALISE = (
    "As root: hamaild --initialise --replaced-disk (without the last word if this node is new), then restart hamaild"
)

log = structlog.get_logger("hamail")


class Daemon:
    """Composes the parts; `run` returns after SIGTERM or SIGINT."""

    def __init__(self, node: "NodeConfig", spec: ClusterSpec, source: str) -> None:
        """Raises CertificateError, ValueError. A damaged state file makes the node passive, it raises nothing."""
        barred = BarredFile(node.state_dir / "barred")
        problem = ""
        try:
            known = barred.load()
        except BarredError as e:
            known, problem = {}, str(e)
        self.engine = Engine(
            me=node.node,
            bootstrap=spec,
            source=source,
            barred=known,
            life=str(uuid.uuid4()),
            now_ns=boottime_ns(),
            version=__version__,
        )
        self.notifier = from_environment()
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._alive_at_s = 0.0
        self.shell = Shell(self.engine, barred, self._alive, self._in_thread)
        self.transport = self._transport(node, spec)
        self.certificates = CertificateWatch(self.transport, Certificates.of(node.certificates))
        self.revocations = self._revocations(node, spec)
        self.shell.links = self.transport
        self.consensus = self._consensus(node, spec)
        self.audit = AuditKeeper(self.shell, Trail(node.state_dir / NAME, node.node, log.warning))
        self.audit.trail.take_up()  # before the log is: what it knows of already is not taken down twice
        if not problem:
            problem = self._open_log()
        if problem:
            self.engine.fail(problem)
        self.link = ExecutorLink(node.executor_socket, self.shell.on_notice, self.shell.on_executor_lost)
        if not spec.nodes[node.node].witness:
            self.shell.executor = self.link
        self.reports = Reports(self.engine, self.transport.send, self.link.send if self.shell.executor else None)
        self.shell.asides = self.reports
        agents = () if spec.nodes[node.node].witness else node.agent_dirs
        policy = Policy(**msgspec.structs.asdict(node.allow))
        self.configs = ConfigChecks(self.engine, self.transport.send, agents, policy)
        self.backend = DaemonBackend(self.shell, self.reports, self.configs, self.certificates.expiries, self._revoked)
        self.control = ControlServer(self.backend, node.control_socket, node.control_group, self.audit.asked)
        self.prober = Prober(self.shell)

    async def run(self) -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await self.start()
        await stopping.wait()
        await self.stop()

    async def start(self) -> None:
        """Raises OSError or LookupError when an address or the socket cannot be had."""
        self.revocations.begin()
        self.certificates.start(await self.transport.start())
        self.revocations.start()
        await self.control.start()
        self.audit.start()
        if self.shell.executor is not None:
            self.link.start()
        self.shell.start()
        self.prober.start()
        self.notifier.send("READY=1", f"STATUS={self.engine.problem or 'running'}")
        log.info("hamaild is up", node=self.engine.me, version=__version__)

    async def stop(self) -> None:
        """Say good-bye, then end everything; what runs on this node stays with the executor."""
        self.notifier.send("STOPPING=1")
        await self.prober.stop()
        await self.certificates.stop()
        await self.revocations.stop()
        self.reports.close()
        self.configs.close()
        self.shell.perform(self.engine.leave(boottime_ns(), wall_ms()))
        await asyncio.sleep(FLUSH_S)
        self.shell.stop()
        await self.control.stop()
        await self.audit.stop()
        await self.link.stop()
        if self.shell.consensus is not None:
            self.consensus.stop()
        self._disk.shutdown()
        await self.transport.stop()

    def _alive(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._alive_at_s >= ALIVE_EVERY_S:
            self._alive_at_s = now_s
            self.notifier.send("WATCHDOG=1")
            # Notes since when what is pending. Not in here: a fault in what is only told would end the ticks.
            asyncio.get_running_loop().call_soon(self.backend.status)

    def _transport(self, node: "NodeConfig", spec: ClusterSpec) -> Transport:
        me = spec.nodes[node.node]
        return Transport(
            me=node.node,
            cluster=spec.name,
            peers={name: (n.address, n.port) for name, n in spec.nodes.items() if name != node.node},
            bind=(node.bind_address or me.address, me.port),
            certificates=Certificates.of(node.certificates),
            on_message=self._on_message,
            on_link=lambda peer, up, why: None,  # the transport itself writes the log line
            now_ns=boottime_ns,
        )

    def _revocations(self, node: "NodeConfig", spec: ClusterSpec) -> Revocations:
        return Revocations(
            spec.name,
            Certificates.of(node.certificates),
            node.state_dir,
            revoke=self.transport.revoke,
            links=self.transport.links,
            send=self.transport.send,
            understands=self._same_version,
        )

    def _revoked(self) -> frozenset[NodeName]:
        """Who shows a certificate that counts no more, this node included."""
        own, below = self.certificates.own, self.revocations.below
        mine = {own.node} if own is not None and own.number < below.get(own.node, 0) else set()
        links = self.transport.links()
        return frozenset(mine | {peer for peer, link in links.items() if link.why == revocation_of(peer)})

    def _same_version(self, peer: NodeName) -> bool:
        known = self.engine.members.peers.get(peer)
        return known is not None and known.heartbeat is not None and known.heartbeat.version == __version__

    def _on_message(self, sender: NodeName, message: AnyMessage) -> None:
        if isinstance(message, Revoked):
            self.revocations.hear(message)
        elif isinstance(message, ConfigAsk | ConfigTold):
            self.configs.hear(sender, message)
        else:
            self.shell.on_message(sender, message)

    def _consensus(self, node: "NodeConfig", spec: ClusterSpec) -> SyncObjConsensus:
        return SyncObjConsensus(
            node=node.node,
            voters=spec.voters(),
            cluster=spec.name,
            path=node.state_dir / "log",
            machine=self.shell.machine,
            timings=self.engine.timings,
            send=self.shell.send_raft,
            now_ns=boottime_ns,
            rng=random.Random(),  # noqa: S311 - election jitter
            background=self._write,
            wake=self.shell.wake,
        )

    def _write(self, work: Work, written: Written) -> None:
        self._in_thread(work, written)

    def _in_thread(self, work: Callable[[], None], done: Callable[[Any], None]) -> None:
        """Let a thread wait for the disk: leases and heartbeats must not."""
        loop = asyncio.get_running_loop()

        def run() -> None:
            error: Exception | None = None
            try:
                work()
            except (JournalError, BarredError) as e:
                error = e
            loop.call_soon_threadsafe(done, error)

        self._disk.submit(run)

    def _open_log(self) -> str:
        """Why this node takes no part; empty when it does."""
        try:
            self.consensus.start()
        except JournalMissing as e:
            return f"{e}. {INITIALISE}"
        except JournalError as e:
            return str(e)
        self.shell.consensus = self.consensus
        return ""
