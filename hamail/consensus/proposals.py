"""Commands proposed on this node that have no result yet. Each ends exactly once.

A proposal knows itself again when its command is applied here, by the mark it carries in the log; so a result means
that this node has applied it. It is sent a second time only after a sure word that it has not entered any log.
"""

from collections import deque

from msgspec import Struct

from hamail.consensus.port import NOT_LOGGED, Done
from hamail.model.commands import Outcome, Unknown
from hamail.model.ids import NodeName

MAX_WAITING = 1024
MS = 1_000_000  # ns


class Proposed(Struct, kw_only=True):
    number: int
    command: bytes
    done: Done
    deadline_ns: int
    not_before_ns: int = 0
    sent_to: NodeName | None = None


class Proposals:
    def __init__(self, timeout_ms: int, retry_ms: int) -> None:
        self._timeout_ns = timeout_ms * MS
        self._retry_ns = retry_ms * MS
        self._number = 0
        self._waiting: dict[int, Proposed] = {}  # in order of their deadlines
        self._unsent: deque[Proposed] = deque()
        self._finished: deque[tuple[Done, Outcome | Unknown]] = deque()

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def refuse(self, done: Done, why: str) -> None:
        """Surely not done: it was never sent."""
        self._finished.append((done, Outcome(index=NOT_LOGGED, accepted=False, reasons=(why,))))

    def add(self, number: int, command: bytes, done: Done, now_ns: int) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self.refuse(done, f"{MAX_WAITING} commands are waiting for the log already")
            return
        proposed = Proposed(number=number, command=command, done=done, deadline_ns=now_ns + self._timeout_ns)
        self._waiting[number] = proposed
        self._unsent.append(proposed)

    def to_send(self, leader: NodeName, now_ns: int) -> list[Proposed]:
        """Those to hand to the leader now; they count as sent."""
        ready = []
        for _ in range(len(self._unsent)):
            proposed = self._unsent.popleft()
            if proposed.number not in self._waiting:
                continue
            if proposed.not_before_ns > now_ns:
                self._unsent.append(proposed)
                continue
            proposed.sent_to = leader
            ready.append(proposed)
        return ready

    def not_done(self, number: int, said_by: NodeName, now_ns: int) -> None:
        """The one it was sent to has surely not logged it: try again a little later."""
        proposed = self._waiting.get(number)
        if proposed is not None and proposed.sent_to == said_by:
            proposed.sent_to = None
            proposed.not_before_ns = now_ns + self._retry_ns
            self._unsent.append(proposed)

    def applied(self, number: int, outcome: Outcome) -> None:
        proposed = self._waiting.pop(number, None)
        if proposed is not None:
            self._finished.append((proposed.done, outcome))

    def lose(self, number: int, why: str) -> None:
        proposed = self._waiting.pop(number, None)
        if proposed is not None:
            self._finished.append((proposed.done, Unknown(why=why)))

    def lose_sent_elsewhere(self, leader: NodeName) -> None:
        """A new leader: what was sent to another may or may not be in the log."""
        lost = [p.number for p in self._waiting.values() if p.sent_to is not None and p.sent_to != leader]
        for number in lost:
            self.lose(number, "the leader changed meanwhile")

    def lose_all(self, why: str) -> None:
        for number in list(self._waiting):
            self.lose(number, why)
        self._unsent.clear()

    def expire(self, now_ns: int) -> None:
        while self._waiting:
            first = next(iter(self._waiting.values()))
            if first.deadline_ns > now_ns:
                return
            if first.sent_to is None:
                self.lose(first.number, "no leader could be reached in time; the command was not sent")
            else:
                self.lose(first.number, f"no result in time from the log (sent to {first.sent_to})")

    def finished(self) -> list[tuple[Done, Outcome | Unknown]]:
        """Results to report, each once."""
        if not self._finished:
            return []
        results = list(self._finished)
        self._finished.clear()
        return results

    @property
    def has_finished(self) -> bool:
        return bool(self._finished)

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)
