"""Everything that a decision is made from, as one node knows it: what `hamailctl plan` reads, live or from a file."""

from msgspec import Struct

from hamail.model.ids import DeviceName, GroupName, NodeName
from hamail.model.state import ClusterState

SITUATION_SCHEMA = "hamail/situation/1"
MOVES_TOLD = 20  # of the history: enough to estimate durations from


class NodeFacts(Struct, frozen=True, kw_only=True):
    """What a node hears of another one, or knows of itself."""

    alive: bool = False  # heard within `detection` by this node
    suspected: bool = False  # a majority of voters miss it
    accusers: tuple[NodeName, ...] = ()
    silent_ms: int = 0
    ready: bool = False  # its executor is connected and its journal healthy
    detail: str = ""
    watchdog_armed: bool = False
    fence_ready: dict[DeviceName, str] = {}  # devices it can reach -> "" or why it would fail
    restarting: bool = False
    holds: tuple[GroupName, ...] | None = None  # groups of which something runs there, by its own word; None: unknown


class Situation(Struct, frozen=True, kw_only=True):
    """`state` comes without its events and requests, without the text of the configuration, and with few moves."""

    schema: str
    cluster: str
    node: NodeName  # who tells
    at_ms: int
    coordinator: NodeName | None
    state: ClusterState
    heard: dict[NodeName, NodeFacts]
    retry_in_ms: dict[GroupName, int] = {}
    behind_ms: dict[NodeName, int] = {}
