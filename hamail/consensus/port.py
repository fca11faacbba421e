"""The narrow port behind which the replicated log lives. Everything else in hamail knows only this.

Leadership is for display and for choosing who coordinates. It is never an authority: only committed entries are.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from msgspec import Struct

from hamail.model.commands import AnyCommand, Outcome, Unknown
from hamail.model.ids import LogIndex, NodeName

Done: TypeAlias = Callable[[Outcome | Unknown], None]
Send: TypeAlias = Callable[[NodeName, bytes], bool]
"""Hand a payload to a peer. False: not connected, the payload is dropped. Order must hold, nothing may come twice."""

NOT_LOGGED: LogIndex = 0  # index of an Outcome that was refused before it could enter the log: surely not done


class Machine(Protocol):
    """The replicated state machine. Deterministic and total: it must never raise, read a clock or roll dice."""

    def refusal(self, sender: NodeName, command: AnyCommand) -> str:
        """Why another node may not have this in the log, empty when it may. Asked by the leader; not replicated."""

    def apply(self, index: LogIndex, command: AnyCommand) -> Outcome:
        """Apply one committed command. `index` is the same on all nodes and only grows."""

    def snapshot(self) -> bytes:
        """The whole state after the last `apply`."""

    def restore(self, data: bytes) -> None:
        """Replace the state by what `snapshot` gave, here or on another node."""


class ConsensusHealth(Struct, frozen=True, kw_only=True):
    """What this node believes. Display only."""

    leader: NodeName | None = None
    is_leader: bool = False
    term: int = 0
    applied: LogIndex = 0
    last_index: LogIndex = 0
    caught_up_term: bool = False  # this leader has applied an entry of its own term, hence all that it inherited
    journal_ok: bool = True
    problem: str = ""  # why this node has stopped for good (fail-stop), in a sentence for the operator
    hindrance: str = ""  # why it takes less than its full part just now; passes by itself
    rejoining: bool = False  # it has forgotten what it has promised, and is not past that yet
    stalled_ms: int = 0  # for how long the disk has not answered a write; nothing is learned or proposed meanwhile
    heard_leader_ms: int = 0  # since a leader was last heard; 0 on the leader itself


class Consensus(Protocol):
    def start(self) -> None:
        """Open the journal and take part. Raises `JournalError`; `health().problem` then says the same."""

    def stop(self) -> None:
        """Take no further part. Proposals without a result end as `Unknown`."""

    def tick(self, now_ns: int) -> None:
        """Do all pending work. Call at least every 50 ms, and soon after `deliver` and `propose` (see `wake`)."""

    def deliver(self, peer: NodeName, payload: bytes) -> None:
        """A payload from an authenticated peer. Cheap; the work is done by the next `tick`."""

    def propose(self, command: AnyCommand, done: Done) -> None:
        """Bring a command into the log, from any node. `done` is called exactly once, from a later `tick` or `stop`.

        With an `Outcome`, the command is applied *on this node* at that index, and so is everything committed before
        it was proposed. An `Outcome` that is not accepted has changed nothing (index 0: it never entered the log).
        """

    def transfer_leadership(self, to: NodeName) -> bool:
        """Ask `to` to take over the lead at once. False: not leader, or `to` is not caught up. True: asked."""

    def health(self) -> ConsensusHealth: ...
