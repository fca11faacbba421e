"""Nodes that own nothing, were missed by a majority and are heard again: nobody else would count how often.

Only the coordinator watches. What an owner does is in the log anyway: it is fenced and joins again.
"""

from hamail.core.facts import Facts
from hamail.core.lease import MS
from hamail.model import commands as c
from hamail.model.ids import LogIndex, NodeName
from hamail.model.state import ClusterState


class Returns:
    def __init__(self) -> None:
        self._missed: dict[NodeName, tuple[int, LogIndex]] = {}  # since when, and which life of it

    def forget(self) -> None:
        """The lead was won or lost."""
        self._missed.clear()

    @property
    def missing(self) -> frozenset[NodeName]:
        return frozenset(self._missed)

    def step(self, state: ClusterState, facts: Facts) -> tuple[c.NodeBack, ...]:
        """Call at each turn of the coordinator."""
        back = []
        for name in watched(state):
            heard, life = facts.node(name), state.node(name).joined_at
            if heard.suspected:
                self._missed.setdefault(name, (facts.now_ns - heard.silent_ms * MS, life))
            elif heard.alive and heard.ready and name in self._missed:
                since_ns, missed_life = self._missed.pop(name)
                if life == missed_life:  # otherwise it has restarted, and its join was counted
                    silent_ms = (facts.now_ns - since_ns) // MS
                    back.append(c.NodeBack(at_ms=facts.at_ms, node=name, silent_ms=silent_ms))
        self._missed = {n: missed for n, missed in self._missed.items() if n in watched(state)}
        return tuple(back)


def watched(state: ClusterState) -> tuple[NodeName, ...]:
    """Mail nodes that have joined and own nothing."""
    owners = {state.group(name).owner for name in state.spec.groups}
    return tuple(
        name
        for name, spec in sorted(state.spec.nodes.items())
        if not spec.witness and state.node(name).incarnation is not None and name not in owners
    )
