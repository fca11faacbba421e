"""A cluster of real `SyncObjConsensus` nodes in one process: virtual clock, network and disks, one seed."""

import hashlib
from collections import deque
from pathlib import Path
from random import Random

import msgspec

from hamail.consensus.codec import decode_envelope
from hamail.consensus.journal import initialise
from hamail.consensus.memory_disk import MemoryDisk
from hamail.consensus.syncobj import SyncObjConsensus
from hamail.model.commands import Annotate, AnyCommand, Outcome, Unknown
from hamail.model.timings import Timings

MS = 1_000_000
STATE_DIR = Path("/state")

TIMINGS = Timings(
    detection_ms=1000, heartbeat_ms=100, tick_ms=50, lease_ms=3000, renew_ms=375, stop_budget_ms=1000, wait_ms=3500,
    watchdog_ms=5000, watchdog_wait_ms=9000, restart_grace_ms=3000, settle_ms=1000, raft_append_ms=50,
    election_min_ms=300, election_max_ms=600, leader_fallback_ms=300, fence_check_ms=60000, propose_ms=2000,
)  # fmt: skip


def note(text: str) -> Annotate:
    return Annotate(at_ms=0, event=text)


class ListMachine:
    """The state is the list of what was applied. 'raise ...' raises, 'reject ...' is rejected."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, str]] = []
        self.raise_on: str | None = None

    def refusal(self, sender: str, command: AnyCommand) -> str:
        return ""

    def apply(self, index: int, command: AnyCommand) -> Outcome:
        assert isinstance(command, Annotate)
        if self.raise_on is not None and command.event == self.raise_on:
            raise RuntimeError("boom")
        if command.event.startswith("reject"):
            return Outcome(index=index, accepted=False, reasons=("no",))
        self.applied.append((index, command.event))
        return Outcome(index=index, accepted=True)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.applied)

    def restore(self, data: bytes) -> None:
        self.applied = [(i, e) for i, e in msgspec.msgpack.decode(data)]

    @property
    def events(self) -> list[str]:
        return [event for _, event in self.applied]


class Cluster:
    def __init__(self, size: int = 3, seed: int = 1, *, compact_entries: int = 2000, delay_ms: int = 1) -> None:
        self.rng = Random(seed)
        self.now_ns = 5 * MS
        self.names = [f"n{i}" for i in range(1, size + 1)]
        self.disks = {name: MemoryDisk() for name in self.names}
        self.nodes: dict[str, SyncObjConsensus] = {}
        self.machines: dict[str, ListMachine] = {}
        self.compact_entries = compact_entries
        self.delay_ms = delay_ms
        self.cut: set[tuple[str, str]] = set()  # directed
        self.frozen: set[str] = set()
        self.wire: deque[tuple[int, str, str, bytes]] = deque()
        self.trace = hashlib.sha256()
        self.sent: list[tuple[str, str, bytes]] | None = None
        self.raise_on: str | None = None
        for name in self.names:
            initialise(STATE_DIR, "test", name, disk=self.disks[name])
        for name in self.names:
            self.boot(name)

    def boot(self, name: str) -> SyncObjConsensus:
        machine = ListMachine()
        machine.raise_on = self.raise_on
        node = SyncObjConsensus(
            node=name,
            voters=self.names,
            cluster="test",
            path=STATE_DIR,
            machine=machine,
            timings=TIMINGS,
            send=lambda to, payload: self._send(name, to, payload),
            now_ns=lambda: self.now_ns,
            rng=Random(f"{name}/{self.rng.random()}"),
            disk=self.disks[name],
            compact_entries=self.compact_entries,
        )
        self.machines[name] = machine
        node.start()
        self.nodes[name] = node
        return node

    def kill(self, name: str, *, power: bool = False, rng: Random | None = None) -> None:
        self.nodes.pop(name)
        if power:
            self.disks[name].power_cut(rng)
        else:
            self.disks[name].process_death()
        self.wire = deque(item for item in self.wire if name not in item[1:3])

    def _send(self, sender: str, to: str, payload: bytes) -> bool:
        self.trace.update(f"{self.now_ns} {sender} {to} ".encode() + payload)
        if self.sent is not None:
            self.sent.append((sender, to, payload))
        if (sender, to) in self.cut or to not in self.nodes:
            return False
        self.wire.append((self.now_ns + self.delay_ms * MS, sender, to, payload))
        return True

    def isolate(self, name: str) -> None:
        for other in self.names:
            if other != name:
                self.cut |= {(name, other), (other, name)}

    def heal(self) -> None:
        self.cut.clear()

    def run(self, ms: int, until=None) -> bool:
        """Advance in steps of 1 ms; every node ticks every 50 ms and after deliveries."""
        end = self.now_ns + ms * MS
        while self.now_ns < end:
            self.now_ns += MS
            woken = set()
            waiting = len(self.wire)
            for _ in range(waiting):
                at, sender, to, payload = self.wire.popleft()
                if at > self.now_ns or to in self.frozen:
                    self.wire.append((at, sender, to, payload))
                elif to in self.nodes and (sender, to) not in self.cut:
                    self.nodes[to].deliver(sender, payload)
                    woken.add(to)
            for name in self.names:
                due = (self.now_ns // MS) % 50 == 0
                if name in self.nodes and name not in self.frozen and (name in woken or due):
                    self.nodes[name].tick(self.now_ns)
            if until is not None and until():
                return True
        return until is None

    def leader(self) -> str | None:
        leaders = [n for n, node in self.nodes.items() if node.health().is_leader and node.health().caught_up_term]
        return leaders[0] if len(leaders) == 1 else None

    def elect(self, ms: int = 5000) -> str:
        assert self.run(ms, lambda: self.leader() is not None), {n: x.health() for n, x in self.nodes.items()}
        leader = self.leader()
        assert leader is not None
        return leader

    def command(self, text: str) -> AnyCommand:
        return note(text)

    def propose(self, name: str, text: str) -> list[Outcome | Unknown]:
        results: list[Outcome | Unknown] = []
        self.nodes[name].propose(note(text), results.append)
        self.nodes[name].tick(self.now_ns)
        return results

    def commit(self, name: str, text: str, ms: int = 4000) -> Outcome | Unknown:
        results = self.propose(name, text)
        assert self.run(ms, lambda: bool(results)), "no result in time"
        assert len(results) == 1
        return results[0]

    def bodies(self) -> list[tuple[str, str, object]]:
        return [(s, t, decode_envelope(p).body) for s, t, p in self.sent or []]
