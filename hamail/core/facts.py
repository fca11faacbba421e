"""What a node knows besides the log when it decides: who is alive, who is ready, who has released. All local belief."""

from msgspec import Struct

from hamail.model.ids import Epoch, GroupName, NodeName
from hamail.model.situation import NodeFacts

__all__ = ["Facts", "NodeFacts"]


class Facts(Struct, frozen=True, kw_only=True):
    now_ns: int
    at_ms: int  # wall clock, only copied into commands
    me: NodeName
    nodes: dict[NodeName, NodeFacts]
    settled: bool  # this node has listened long enough to know who is there
    released_by: dict[tuple[GroupName, Epoch], tuple[NodeName, ...]] = {}  # voters that said yes
    majority_at_ns: dict[tuple[GroupName, Epoch], int] = {}  # when this node had yeses from a majority
    fence_retry_at_ns: dict[NodeName, int] = {}  # do not order the next attempt before
    behind_ms: dict[NodeName, int] = {}  # for how long it has been heard without following the log
    retry_in_ms: dict[GroupName, int] = {}  # groups that nobody could start: until they are tried again
    fence_open_ms: dict[NodeName, int] = {}  # for how long this node has seen the open fence order of the node

    def node(self, name: NodeName) -> NodeFacts:
        return self.nodes.get(name, NodeFacts())
