"""One node under test whose peers are played by the test, message by message: PySyncObj as shipped, or ours.

Both speak PySyncObj's message dicts here, so that one script shows a fault on the one and its absence on the other.
The stock node differs from what is shipped only in its clock and its (in-memory) transport.
"""

import pickle
from random import Random
from typing import Any

import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from hamail.consensus import seams
from hamail.consensus.codec import (
    Answer,
    Envelope,
    Known,
    PreVoteAnswer,
    Proposal,
    decode_envelope,
    encode_command,
    encode_envelope,
    from_library,
    to_library,
)
from hamail.consensus.journal import initialise
from hamail.consensus.memory_disk import MemoryDisk
from hamail.consensus.syncobj import SyncObjConsensus
from hamail.model.commands import Outcome
from tests.consensus.cluster import MS, STATE_DIR, TIMINGS, ListMachine, note

NO_OP = b"\x01"


class ScriptTransport(Transport):
    ready = True

    def __init__(self) -> None:
        super().__init__(None, None, [])
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        self.sent.append((node.id, message))
        return True

    def destroy(self) -> None:
        pass


class StockMachine(SyncObj):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.events: list[str] = []

    @replicated
    def put(self, text: str) -> str:
        if text == "raise":
            raise RuntimeError("boom")
        self.events.append(text)
        return text


class StockPuppet:
    def __init__(self, size: int, monkeypatch: Any, **conf: Any) -> None:
        seams.remove()
        self.now = 1000.0
        monkeypatch.setattr(pysyncobj.syncobj, "monotonicTime", lambda: self.now)
        self.names = [f"n{i}" for i in range(1, size + 1)]
        self.peers = {name: Node(name) for name in self.names[1:]}
        self.wire = ScriptTransport()
        settings = SyncObjConf(
            autoTick=False, appendEntriesUseBatch=False, commandsWaitLeader=False, useFork=False, **conf
        )
        self.node = StockMachine(Node("n1"), list(self.peers.values()), settings, transport=self.wire)
        for peer in self.peers.values():
            self.wire._onNodeConnected(peer)
        self.answers: list[tuple[Any, int]] = []
        self.tick()

    def tick(self, ms: int = 0) -> None:
        self.now += ms / 1000
        self.node.doTick(0)

    def deliver(self, peer: str, message: dict[str, Any], sender_term: int | None = None) -> None:
        self.wire._onMessageReceived(self.peers.get(peer, Node(peer)), message)

    def campaign(self, voters: list[str]) -> None:
        self.tick(2000)
        for voter in voters:
            self.deliver(voter, {"type": "response_vote", "term": self.term})
        self.tick()

    def propose(self, text: str) -> None:
        self.node.put(text, callback=lambda result, error: self.answers.append((result, error)))
        self.tick()

    @property
    def acknowledged(self) -> list[str]:
        return [result for result, error in self.answers if error == 0]

    def entry(self, text: str, index: int, term: int) -> tuple[bytes, int, int]:
        return (b"\x00" + pickle.dumps((0, (text,)), 2), index, term)

    @property
    def events(self) -> list[str]:
        return self.node.events

    @property
    def term(self) -> int:
        return self.node.raftCurrentTerm

    @property
    def is_leader(self) -> bool:
        return self.node._isLeader()

    @property
    def last_index(self) -> int:
        return self.node._SyncObj__raftLog[-1][1]

    def sent(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        return [(to, message) for to, message in self.wire.sent if message["type"] == kind]


class OurPuppet:
    def __init__(
        self, size: int, *, voters: list[str] | None = None, disk: MemoryDisk | None = None, heard_by: str | None = None
    ) -> None:
        """`heard_by`: the peers that this life has met, all if it is None."""
        self.now_ns = 1000 * 1000 * MS
        self.names = voters or [f"n{i}" for i in range(1, size + 1)]
        self.machine = ListMachine()
        self.out: list[tuple[str, Envelope]] = []
        self.results: list[Any] = []
        self.sequence = 0
        self.disk = disk or MemoryDisk()
        if not self.disk.exists(STATE_DIR / "journal"):
            initialise(STATE_DIR, "test", "n1", disk=self.disk)
        life = len(self.disk.read(STATE_DIR / "journal").rstrip(b"\0"))
        self.node = SyncObjConsensus(
            node="n1", voters=self.names, cluster="test", path=STATE_DIR, machine=self.machine, timings=TIMINGS,
            send=self._send, now_ns=lambda: self.now_ns, rng=Random(life), disk=self.disk,
        )  # fmt: skip
        self.node.start()
        self.tick()
        for peer in self.names[1:] if heard_by is None else heard_by.split():
            self.meet(peer)

    def meet(self, peer: str, known: tuple[int, int] = (0, 0), term: int = 0) -> None:
        """The peer shows that it is no old copy, and says what it knows of this node."""
        asked = [e.body for to, e in self.out if to == peer and isinstance(e.body, Known)]
        if asked:
            self.node.deliver(peer, self.payload(Answer(asked[-1].incarnation, asked[-1].position), term))
        self.node.deliver(peer, self.payload(Known(*known), term))
        self.tick()

    def _send(self, to: str, payload: bytes) -> bool:
        self.out.append((to, decode_envelope(payload)))
        return True

    def tick(self, ms: int = 0) -> None:
        self.now_ns += ms * MS
        self.node.tick(self.now_ns)

    def payload(self, body: Any, sender_term: int | None = None) -> bytes:
        self.sequence += 1
        return encode_envelope(Envelope(1, 1, self.sequence, self.term if sender_term is None else sender_term, body))

    def deliver(self, peer: str, message: dict[str, Any], sender_term: int | None = None) -> None:
        body = from_library(message)
        if sender_term is None:
            sender_term = message.get("term", self.term)
        self.node.deliver(peer, self.payload(body, sender_term))
        self.tick()

    def campaign(self, voters: list[str]) -> None:
        before = len(self.out)
        for _ in range(20):
            self.tick(100)
            asked = [e.body for _, e in self.out[before:] if type(e.body).__name__ == "PreVote"]
            if asked:
                break
        for peer in self.names[1:]:
            self.node.deliver(peer, self.payload(PreVoteAnswer(asked[-1].round, True)))
        self.tick()
        for voter in voters:
            self.deliver(voter, {"type": "response_vote", "term": self.term})

    def propose(self, text: str) -> None:
        self.node.propose(note(text), lambda result: self.results.append((text, result)))
        self.tick()

    @property
    def acknowledged(self) -> list[str]:
        return [text for text, result in self.results if isinstance(result, Outcome) and result.accepted]

    def entry(self, text: str, index: int, term: int) -> tuple[bytes, int, int]:
        return (encode_command(Proposal("n2", 1, index, note(text))), index, term)

    @property
    def events(self) -> list[str]:
        return self.machine.events

    @property
    def term(self) -> int:
        return self.node.health().term

    @property
    def is_leader(self) -> bool:
        return self.node.health().is_leader

    @property
    def last_index(self) -> int:
        return self.node.health().last_index

    def sent(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        messages = []
        for to, envelope in self.out:
            if type(envelope.body).__name__ in ("RequestVote", "Vote", "Append", "Chunk", "Ack", "TimeoutNow"):
                message = to_library(envelope.body)
                if message["type"] == kind:
                    messages.append((to, message))
        return messages


def append(term: int, previous: tuple[int, int], entries: list[tuple[bytes, int, int]], commit: int) -> dict[str, Any]:
    index, previous_term = previous
    return {
        "type": "append_entries", "term": term, "commit_index": commit, "entries": entries,
        "prevLogIdx": index, "prevLogTerm": previous_term,
    }  # fmt: skip


def ack(next_index: int, *, success: bool = True, reset: bool = False) -> dict[str, Any]:
    return {"type": "next_node_idx", "next_node_idx": next_index, "reset": reset, "success": success}
