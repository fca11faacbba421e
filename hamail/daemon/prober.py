"""The first answer after a move, seen from outside the owner: a connection that gets its banner.

Only what an outside client sees tells when the outage was over, so a node that does not own the group asks, and adds
the point to the move's timeline.
"""

import asyncio
import contextlib

from hamail.daemon.shell import Shell, wall_ms
from hamail.model.commands import Annotate
from hamail.model.ids import NodeName
from hamail.model.spec import GroupSpec
from hamail.model.state import Phase, Stamp

WELL_KNOWN = {"postfix": (25, b"220"), "dovecot": (143, b"* OK")}
TRY_EVERY_S = 0.05
ANSWER_TIMEOUT_S = 1.0
GIVE_UP_S = 30.0
LOOK_EVERY_MS = 1000


def doors(spec: GroupSpec) -> tuple[tuple[str, int, bytes], ...]:
    """(address, port, banner) of every service that clients reach through the group's floating address."""
    addresses = [
        a.split("/")[0]
        for r in spec.resources
        if r.agent.endswith(":vip")
        for a in r.parameters.get("address", "").split()[:1]
    ]
    services = [WELL_KNOWN[t] for r in spec.resources if (t := r.agent.partition(":")[2]) in WELL_KNOWN]
    return tuple((address, port, banner) for address in addresses[:1] for port, banner in services)


def asks(me: NodeName, owner: NodeName | None, leader: NodeName | None) -> bool:
    """One outside the owner: the leader; where the owner leads, all others. The answer that is told first counts."""
    return me != owner and leader in (me, owner)


class Prober:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._seen: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._probes: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        for task in (*self._probes, *([self._task] if self._task else [])):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        engine = self._shell.engine
        self._seen = {name: g.epoch for name, g in engine.state.groups.items()}
        applied = engine.state.applied
        while True:
            applied = await self._shell.wait_applied(applied, LOOK_EVERY_MS / 1000)
            for name, g in engine.state.groups.items():
                if g.phase is not Phase.ACTIVE or self._seen.get(name) == g.epoch:
                    continue
                self._seen[name] = g.epoch
                if asks(engine.me, g.owner, self._shell.health().leader) and name in engine.state.spec.groups:
                    task = asyncio.get_running_loop().create_task(self._first_answer(name, g.epoch))
                    self._probes.add(task)
                    task.add_done_callback(self._probes.discard)

    async def _first_answer(self, group: str, epoch: int) -> None:
        engine = self._shell.engine
        for address, port, banner in doors(engine.state.spec.groups[group]):
            if not await _answers(address, port, banner):
                return
        command = Annotate(at_ms=wall_ms(), group=group, epoch=epoch, stamps={Stamp.ANSWERED: wall_ms()})
        if self._shell.consensus is not None:
            self._shell.propose(command, lambda _: None)


async def _answers(address: str, port: int, banner: bytes) -> bool:
    """Ask until the banner comes; False after GIVE_UP_S."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + GIVE_UP_S
    while loop.time() < end_s:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(address, port)
                try:
                    line = await reader.readline()
                finally:
                    writer.close()
            if line.startswith(banner):
                return True
        except (OSError, TimeoutError, ValueError):
            pass  # not there yet
        await asyncio.sleep(TRY_EVERY_S)
    return False
