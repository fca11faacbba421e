"""What a simulated cluster needs of its replicated log, whichever it is."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from hamail.model.commands import AnyCommand, Outcome, Unknown
from hamail.model.ids import LogIndex, NodeName

if TYPE_CHECKING:
    from hamail.simulation.daemon import Daemon
    from hamail.simulation.machine import Machine

Done: TypeAlias = Callable[[Outcome | Unknown], None]
Committed: TypeAlias = Callable[[LogIndex, AnyCommand], None]


class Seat(Protocol):
    """The place of one hamaild in the log, from its start to its end."""

    def start(self) -> None:
        """Open what the disk holds and take part. Applies what is surely committed; tells the engine of a failure."""

    def look(self) -> None:
        """Before each tick of the engine: tell it what hinders the log."""

    def deliver(self, peer: NodeName, payload: bytes) -> None: ...

    def propose(self, command: AnyCommand, done: Done) -> None:
        """`done` is called at most once, and never after `end`."""

    def transfer(self, to: NodeName) -> None: ...

    def end(self) -> None:
        """The process is gone."""


class Log(Protocol):
    late_share: float  # of proposals whose proposer gives up before their fate is known

    @property
    def leader(self) -> NodeName | None:
        """Whom the world would call the leader now. Nobody in the cluster may ask this."""

    @property
    def entries(self) -> Sequence[AnyCommand | None]:
        """What is committed, as far as anybody knows: entry i has index i + 1; None where there is no command."""

    def start(self) -> None:
        """Once, when all machines are there."""

    def seat(self, daemon: "Daemon") -> Seat: ...

    def propose(self, sender: NodeName, command: AnyCommand, done: Done) -> None:
        """An operator's command on this node. `done` may never be called, as when the node dies."""

    def break_journal(self, machine: "Machine", problem: str) -> None:
        """Nothing can be made durable there any more."""

    def disk_replaced(self, machine: "Machine") -> None:
        """It is empty, and an operator sets the node up anew."""

    def disk_put_back(self, machine: "Machine") -> None:
        """It went back to an earlier time."""
