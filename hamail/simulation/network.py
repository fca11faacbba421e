"""Links between nodes, as the transport gives them: one connection for every ordered pair, in order, nothing twice.

A lost packet is repeated and holds up what follows it; after too many repetitions the connection breaks. What was
under way on a broken connection, or to a process that has ended, is lost; the next connection is a new one.
"""

import random
from collections.abc import Callable
from typing import TypeAlias

from hamail.model.ids import NodeName
from hamail.model.messages import AnyMessage
from hamail.simulation.agenda import MS, Agenda

Deliver: TypeAlias = Callable[[NodeName, NodeName, AnyMessage], None]
Life: TypeAlias = Callable[[NodeName], object | None]
Pair: TypeAlias = tuple[NodeName, NodeName]  # sender, receiver

REPEAT_MS = 200  # first repetition of a lost packet; each one after it takes twice as long
REPEATS_MAX = 5  # then the connection breaks
REDIAL_MS = (20.0, 500.0)


class Network:
    """Everything public that is keyed by a pair is a fault of that direction; `heal` ends them all."""

    def __init__(self, agenda: Agenda, rng: random.Random, deliver: Deliver, life: Life) -> None:
        """`life`: the process of a node that messages are for, None while there is none."""
        self._agenda = agenda
        self._rng = rng
        self._deliver = deliver
        self._life = life
        self.delay_ms: tuple[float, float] = (0.2, 1.0)
        self.slow_ms: dict[Pair, float] = {}  # so much later
        self.jitter_ms: dict[Pair, float] = {}  # up to so much later, each message anew
        self.loss: dict[Pair, float] = {}  # share of packets that get lost on their way
        self.flap_ms: dict[Pair, float] = {}  # the connection breaks again and again, on average after so long
        self._blocked: set[Pair] = set()
        self._last_ns: dict[Pair, int] = {}
        self._connection: dict[Pair, int] = {}  # number of the one that lives
        self._down_until_ns: dict[Pair, int] = {}
        self._next_flap_ns: dict[Pair, int] = {}

    # ---- faults -------------------------------------------------------------------------------------------------

    def block(self, sender: NodeName, receiver: NodeName) -> None:
        """One way. What is under way is lost as well, as with a connection that breaks."""
        self._blocked.add((sender, receiver))

    def cut(self, a: NodeName, b: NodeName) -> None:
        self.block(a, b)
        self.block(b, a)

    def mend(self, a: NodeName, b: NodeName) -> None:
        self._blocked -= {(a, b), (b, a)}

    def drop(self, sender: NodeName, receiver: NodeName) -> None:
        """The connection breaks now; a new one is dialled."""
        pair = (sender, receiver)
        self._connection[pair] = self._connection.get(pair, 0) + 1
        self._down_until_ns[pair] = self._agenda.now_ns + int(self._rng.uniform(*REDIAL_MS) * MS)

    def heal(self) -> None:
        self._blocked.clear()
        for faults in (self.slow_ms, self.jitter_ms, self.loss, self.flap_ms):
            faults.clear()
        self._next_flap_ns.clear()
        self._down_until_ns.clear()

    # ---- what goes over it --------------------------------------------------------------------------------------

    def open(self, sender: NodeName, receiver: NodeName) -> bool:
        return sender == receiver or (sender, receiver) not in self._blocked

    def both_ways(self, a: NodeName, b: NodeName) -> bool:
        return self.open(a, b) and self.open(b, a)

    def some_delay_ms(self, sender: NodeName, receiver: NodeName) -> float:
        """How long something sent now takes."""
        pair = (sender, receiver)
        delay_ms = self._rng.uniform(*self.delay_ms) + self.slow_ms.get(pair, 0.0)
        if pair in self.jitter_ms:
            delay_ms += self._rng.uniform(0, self.jitter_ms[pair])
        return delay_ms

    def under_way_ns(self, sender: NodeName, receiver: NodeName) -> int:
        """Until the last thing that was sent has arrived; what arrives until then may be as old as that."""
        return max(0, self._last_ns.get((sender, receiver), 0) - self._agenda.now_ns)

    def send(self, sender: NodeName, receiver: NodeName, message: AnyMessage) -> bool:
        """False: not connected, the message is dropped."""
        pair = (sender, receiver)
        if pair in self._blocked:
            return False
        arrives = self._agenda.now_ns + int(self.some_delay_ms(sender, receiver) * MS)
        life = self._life(receiver)
        if life is None or not self._connected(pair):
            return False
        if pair in self.loss:
            repeats = self._repeats(self.loss[pair])
            if repeats > REPEATS_MAX:
                self.drop(sender, receiver)
                return True  # the sender does not know
            arrives += ((1 << repeats) - 1) * REPEAT_MS * MS
        arrives = max(arrives, self._last_ns.get(pair, 0))
        self._last_ns[pair] = arrives
        connection = self._connection.get(pair, 0)

        def arrive() -> None:
            alive = connection == self._connection.get(pair, 0) and self._life(receiver) is life
            if alive and pair not in self._blocked:
                self._deliver(sender, receiver, message)

        self._agenda.at(arrives, arrive)
        return True

    def _connected(self, pair: Pair) -> bool:
        if pair in self.flap_ms:
            due_ns = self._next_flap_ns.get(pair)
            if due_ns is None or self._agenda.now_ns >= due_ns:
                pause_ms = self._rng.expovariate(1 / self.flap_ms[pair])
                self._next_flap_ns[pair] = self._agenda.now_ns + int(pause_ms * MS)
                if due_ns is not None:
                    self.drop(*pair)
        return self._agenda.now_ns >= self._down_until_ns.get(pair, 0)

    def _repeats(self, loss: float) -> int:
        repeats = 0
        while repeats <= REPEATS_MAX and self._rng.random() < loss:
            repeats += 1
        return repeats
