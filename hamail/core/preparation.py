"""While the proof that a former owner is out is awaited: let the agents ask ahead what the start would have to ask."""

from typing import TYPE_CHECKING

from hamail.core import node
from hamail.model import actions as a
from hamail.model.ids import Epoch, GroupName

if TYPE_CHECKING:
    from hamail.core.local import Local


class Preparation:
    def __init__(self, local: "Local") -> None:
        self.l = local
        self._done: dict[GroupName, Epoch] = {}  # once for each epoch that is about to end

    def step(self) -> None:
        state = self.l.e.state
        for name in node.expected(state, self.l.e.me):
            epoch = state.group(name).epoch
            if self._done.get(name) != epoch and name not in self.l.held and self.l.cleaning.done and self.l.joined:
                self._done[name] = epoch
                self.l.ask(a.Prepare(id=self.l.next_id(), group=state.spec.groups[name]))
