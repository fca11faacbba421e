"""What will happen, in the order of virtual time. The only clock of the simulation."""

import heapq
from collections.abc import Callable
from typing import TypeAlias

MS = 1_000_000
Deed: TypeAlias = Callable[[], None]


class Agenda:
    def __init__(self) -> None:
        self.now_ns = 0
        self.happened = 0
        self._heap: list[tuple[int, int, int, Deed]] = []
        self._sequence = 0

    def at(self, real_ns: int, deed: Deed, rank: int = 0) -> None:
        """Deeds for the same time happen by rank, and then in the order in which they were put down."""
        self._sequence += 1
        heapq.heappush(self._heap, (max(real_ns, self.now_ns), rank, self._sequence, deed))

    def after_ms(self, delay_ms: float, deed: Deed) -> None:
        self.at(self.now_ns + int(delay_ms * MS), deed)

    def next_ns(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    @property
    def length(self) -> int:
        """How much is still to come."""
        return len(self._heap)

    def step(self) -> None:
        """Let the next thing happen."""
        self.now_ns, _, _, deed = heapq.heappop(self._heap)
        self.happened += 1
        deed()
