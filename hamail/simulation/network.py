"""Links between nodes: a delay and a block for every ordered pair; in order, as TCP has it."""

import random
from collections.abc import Callable
from typing import TypeAlias

from hamail.model.ids import NodeName
from hamail.model.messages import AnyMessage
from hamail.simulation.agenda import MS, Agenda

Deliver: TypeAlias = Callable[[NodeName, NodeName, AnyMessage], None]


class Network:
    def __init__(self, agenda: Agenda, rng: random.Random, deliver: Deliver) -> None:
        self._agenda = agenda
        self._rng = rng
        self._deliver = deliver
        self.delay_ms: tuple[float, float] = (0.2, 1.0)
        self.slow_ms: dict[tuple[NodeName, NodeName], float] = {}  # extra delay of a direction
        self._blocked: set[tuple[NodeName, NodeName]] = set()
        self._last_ns: dict[tuple[NodeName, NodeName], int] = {}

    def block(self, sender: NodeName, receiver: NodeName) -> None:
        """One way. What is under way is lost as well, as with a connection that breaks."""
        self._blocked.add((sender, receiver))

    def cut(self, a: NodeName, b: NodeName) -> None:
        self.block(a, b)
        self.block(b, a)

    def mend(self, a: NodeName, b: NodeName) -> None:
        self._blocked -= {(a, b), (b, a)}

    def heal(self) -> None:
        self._blocked.clear()
        self.slow_ms.clear()

    def open(self, sender: NodeName, receiver: NodeName) -> bool:
        return sender == receiver or (sender, receiver) not in self._blocked

    def both_ways(self, a: NodeName, b: NodeName) -> bool:
        return self.open(a, b) and self.open(b, a)

    def some_delay_ms(self, sender: NodeName, receiver: NodeName) -> float:
        """How long something sent now takes."""
        return self._rng.uniform(*self.delay_ms) + self.slow_ms.get((sender, receiver), 0.0)

    def send(self, sender: NodeName, receiver: NodeName, message: AnyMessage) -> bool:
        """False: not connected, the message is dropped."""
        if not self.open(sender, receiver):
            return False
        pair = (sender, receiver)
        arrives = self._agenda.now_ns + int(self.some_delay_ms(sender, receiver) * MS)
        arrives = max(arrives, self._last_ns.get(pair, 0))
        self._last_ns[pair] = arrives

        def arrive() -> None:
            if self.open(sender, receiver):
                self._deliver(sender, receiver, message)

        self._agenda.at(arrives, arrive)
        return True
