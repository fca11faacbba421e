"""Three whole hamailds in one loop: real links, real log, real control sockets; only the executors are played."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from hamail.config.allow import Allow
from hamail.consensus.journal import initialise
from hamail.core.placement import refusal
from hamail.daemon.daemon import Daemon
from hamail.executor import wire
from hamail.model import actions as a
from hamail.model.commands import Outcome, RequestMove, SetStandby
from hamail.model.spec import ClusterSpec, FenceDeviceSpec, GroupSpec, NodeSpec, ResourceSpec
from hamail.model.state import Incarnation, Phase
from hamail.pki.authority import (
    create_authority,
    issue,
    load_authority,
    new_key,
    private_pem,
    public_pem,
    sign_node,
)
from hamail.pki.files import write
from hamail.pki.revocations import statement

NODES = ("n1", "n2", "n3")


class PlayedExecutor:
    """Says yes to everything at once, like a machine on which every start and stop takes no time."""

    def __init__(self, name: str, path: Path, world: "World") -> None:
        self.name, self.path, self.world = name, path, world
        self.incarnation = Incarnation(boot_id=f"boot-{name}", executor_id=f"executor-{name}")
        self.held: dict[str, a.GroupStatus] = {}
        self.clean = False
        self.writer: asyncio.StreamWriter | None = None
        self.server: asyncio.Server | None = None
        self.refuse_start = ""

    async def start(self) -> None:
        self.server = await asyncio.start_unix_server(self.talk, str(self.path))

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        try:
            while (request := await wire.read_request(reader)) is not None:
                for notice in self.answer(request):
                    writer.write(wire.encode(notice))
        except (OSError, wire.WireError):
            pass
        finally:
            writer.close()

    def answer(self, r: a.AnyRequest) -> list[a.AnyNotice]:
        match r:
            case a.Hello():
                return [
                    a.Welcome(
                        incarnation=self.incarnation,
                        groups=self.held,
                        watchdog=a.WatchdogStatus(),
                        clean=self.clean,
                    )
                ]
            case a.CleanUp():
                self.clean = True
                return [a.Cleaned(ok=True)]
            case a.StartGroup():
                if self.refuse_start:
                    return [
                        a.GroupStartFailed(
                            group=r.group.name, epoch=r.epoch, resource="x", detail=self.refuse_start, clean=True
                        )
                    ]
                resources = {x.name: "up" for x in r.group.resources}
                self.held[r.group.name] = a.GroupStatus(epoch=r.epoch, state="up", resources=resources)
                self.world.started(self.name)
                return [a.Accepted(id=r.id), a.GroupUp(group=r.group.name, epoch=r.epoch, took_ms=1)]
            case a.StopGroup():
                self.held.pop(r.group, None)
                self.world.active.discard(self.name)
                return [a.GroupDown(group=r.group, epoch=r.epoch, took_ms=1)]
            case a.RunFence():
                self.world.power_off(r.target)
                return [a.FenceResult(order=r.order, target=r.target, ok=True, detail="", took_ms=1)]
            case a.CheckFence():
                return [a.FenceChecked(device=r.device, ok=True, detail="")]
            case _:
                return []


class World:
    def __init__(self, root: Path, spec: ClusterSpec) -> None:
        self.root, self.spec = root, spec
        self.daemons: dict[str, Daemon] = {}
        self.executors: dict[str, PlayedExecutor] = {}
        self.active: set[str] = set()
        self.most_active = 0

    def started(self, name: str) -> None:
        self.active.add(name)
        self.most_active = max(self.most_active, len(self.active))

    def power_off(self, name: str) -> None:
        """At once, without any good-bye."""
        self.active.discard(name)
        daemon = self.daemons.get(name)
        if daemon is not None:
            daemon.shell.stop()
            daemon.shell.links = None

    async def boot(self, name: str) -> Daemon:
        directory = self.root / name
        config = SimpleNamespace(
            node=name,
            state_dir=directory,
            certificates=self.root / "pki" / name,
            executor_socket=directory / "executor.sock",
            control_socket=directory / "control.sock",
            control_group=os.getgid(),
            bind_address=None,
            agent_dirs=(),
            allow=Allow(),
        )
        if not directory.exists():
            directory.mkdir()
            initialise(directory / "log", self.spec.name, name)
        if name not in self.executors and not self.spec.nodes[name].witness:
            self.executors[name] = PlayedExecutor(name, config.executor_socket, self)
            await self.executors[name].start()
        daemon = self.daemons[name] = Daemon(config, self.spec, "")  # type: ignore[arg-type]
        await daemon.start()
        return daemon

    async def until(self, what: Callable[[], bool], limit_s: float = 20) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + limit_s
        while not what():
            if loop.time() > end:
                lines = [f"{n}: {d.engine.state.group('mail')}" for n, d in self.daemons.items()]
                pytest.fail("\n".join(["not reached:", *lines]))
            await asyncio.sleep(0.01)

    async def until_whole(self) -> None:
        """The group runs on n1, and everybody has heard that n2 could take it."""
        await self.until(lambda: self.on("n1", "n2"))
        await self.until(
            lambda: all(not refusal(d.engine.state, d.engine.facts(), "mail", "n2") for d in self.daemons.values())
        )

    def on(self, name: str, seen_by: str) -> bool:
        g = self.daemons[seen_by].engine.state.group("mail")
        return g.owner == name and g.phase is Phase.ACTIVE


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    ports = free_ports(3)
    nodes = {
        n: NodeSpec(name=n, address="127.0.0.1", port=p, witness=n == "n3") for n, p in zip(NODES, ports, strict=True)
    }
    spec = ClusterSpec(
        name="mail",
        nodes=nodes,
        detection_ms=600,
        fencing={"pdu": FenceDeviceSpec(name="pdu", agent="fence_x", targets={"n1": "1", "n2": "2"})},
        groups={
            "mail": GroupSpec(
                name="mail", nodes=("n1", "n2"), resources=(ResourceSpec(name="x", agent="hamail:systemd"),)
            )
        },
    )
    create_authority(tmp_path / "ca", "mail")
    for n in NODES:
        issue(tmp_path / "ca", "mail", n, tmp_path / "pki" / n)
    world = World(tmp_path, spec)
    for n in NODES:
        await world.boot(n)
    yield world
    for daemon in world.daemons.values():
        await daemon.stop()
    for executor in world.executors.values():
        assert executor.server is not None
        executor.server.close()
    assert world.most_active <= 1


async def test_the_preferred_node_gets_the_group_and_a_switchover_moves_it(world: World) -> None:
    await world.until_whole()
    epoch = world.daemons["n2"].engine.state.group("mail").epoch
    result: list[object] = []
    command = RequestMove(at_ms=0, group="mail", target="n2", expected_epoch=epoch, actor="root", reason="test")
    world.daemons["n2"].shell.propose(command, result.append)
    await world.until(lambda: world.on("n2", "n1"))
    assert isinstance(result[0], Outcome)
    assert result[0].accepted
    move = world.daemons["n1"].engine.state.moves[-1]
    assert (move.result, move.source, move.target, move.actor) == ("done", "n1", "n2", "root")


async def test_a_dead_owner_is_fenced_and_the_standby_takes_over(world: World) -> None:
    await world.until_whole()
    world.power_off("n1")
    await world.until(lambda: world.on("n2", "n3"))
    move = world.daemons["n3"].engine.state.moves[-1]
    assert {"detected", "decided", "fenced", "granted", "done"} <= set(move.stamps)


async def test_an_owner_whose_certificate_is_revoked_is_fenced_and_comes_back_with_a_new_one(world: World) -> None:
    """One other node is told, by its file; the word goes round before the links end."""
    await world.until_whole()
    pki = world.root / "pki"
    authority = load_authority(world.root / "ca")
    said = statement(authority, {"n1": world.daemons["n1"].certificates.own.number + 1})  # type: ignore[union-attr]
    write(pki / "n2" / "ca.pem", public_pem(authority.certificate) + said.encode(), 0o644)
    await world.until(lambda: world.on("n2", "n3"))
    assert all("n1" in world.daemons[n].revocations.below for n in ("n2", "n3"))
    assert "n1" in world.daemons["n3"].backend._revoked() or not world.daemons["n3"].transport.links()["n1"].up
    await world.daemons["n1"].stop()
    await world.boot("n1")
    await asyncio.sleep(1.0)
    assert not any(world.daemons[n].transport.links()["n1"].up for n in ("n2", "n3")), "also after its restart"
    await world.daemons["n1"].stop()
    later = sign_node(authority, "n1", (key := new_key()).public_key(), days=9, number=1 << 33)
    write(pki / "n1" / "node.pem", private_pem(key) + public_pem(later), 0o600)
    await world.boot("n1")
    await world.until(lambda: not refusal((d := world.daemons["n2"]).engine.state, d.engine.facts(), "mail", "n1"))
    assert world.on("n2", "n3")


async def test_a_restart_of_hamaild_moves_nothing(world: World) -> None:
    await world.until_whole()
    epoch = world.daemons["n2"].engine.state.group("mail").epoch
    await world.daemons["n1"].stop()
    await asyncio.sleep(1.0)  # longer than detection, shorter than what the lease allows
    await world.boot("n1")
    await world.until(lambda: world.daemons["n1"].engine.local.leases.get("mail") is not None)
    await world.until(lambda: (world.daemons["n1"].engine.local.lease_ms("mail") or 0) > 0)
    await asyncio.sleep(0.5)
    assert world.on("n1", "n2")
    assert world.daemons["n2"].engine.state.group("mail").epoch == epoch


async def test_what_is_only_for_display_cannot_stop_the_ticks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.until_whole()
    asked: list[int] = []

    def fails() -> None:
        asked.append(1)
        raise AttributeError("a fault in the alerts")

    monkeypatch.setattr(world.daemons["n1"].backend, "status", fails)
    await world.until(lambda: len(asked) > 1)
    assert world.on("n1", "n2") and world.daemons["n2"].engine.facts().node("n1").alive


async def test_a_target_that_cannot_start_gives_the_group_back(world: World) -> None:
    await world.until_whole()
    world.executors["n2"].refuse_start = "no such device"
    world.daemons["n3"].shell.propose(SetStandby(at_ms=0, node="n1", standby=True), lambda _: None)
    await world.until(lambda: world.daemons["n3"].engine.state.group("mail").owner is None)
    world.daemons["n3"].shell.propose(SetStandby(at_ms=0, node="n1", standby=False), lambda _: None)
    await world.until(lambda: world.on("n1", "n3"))


def test_the_state_survives_the_snapshot_codec() -> None:
    from hamail.core.apply import empty_state
    from hamail.model.state import ClusterState

    state = empty_state()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=ClusterState) == state
