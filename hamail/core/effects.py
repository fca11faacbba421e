"""What the engine wants done. Effects are carried out in the order given.

`SaveBarred` is a barrier: everything after it may happen only once it is durable. If it cannot be made durable, the
node is passive from then on and nothing after it may happen.
"""

from typing import TypeAlias

from msgspec import Struct

from hamail.model.actions import AnyRequest
from hamail.model.commands import AnyCommand
from hamail.model.ids import Epoch, GroupName, NodeName
from hamail.model.messages import AnyMessage


class Send(Struct, frozen=True):
    to: NodeName
    message: AnyMessage


class Propose(Struct, frozen=True):
    """Answer with `Engine.proposed(key, ...)` exactly once."""

    key: str
    command: AnyCommand


class Ask(Struct, frozen=True):
    """A request for the executor on this node."""

    request: AnyRequest


class SaveBarred(Struct, frozen=True):
    barred: dict[GroupName, Epoch]


class Transfer(Struct, frozen=True):
    """Hand the leadership of the log to another node."""

    to: NodeName


class Note(Struct, frozen=True):
    """For the log of this node. `level` is info or warning."""

    level: str
    text: str


Effect: TypeAlias = Send | Propose | Ask | SaveBarred | Transfer | Note
