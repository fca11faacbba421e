"""S10: the replicated history says what happened: the intent before the deed, the result after it, nothing else."""

from typing import TYPE_CHECKING

from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.ids import Epoch, GroupName, LogIndex, NodeName, ResourceName
from hamail.model.state import ClusterState, Event, Phase

if TYPE_CHECKING:
    from hamail.simulation.checkers.checker import Checker
    from hamail.simulation.machine import Machine
    from hamail.simulation.premises import Thing

EVENTS_SEEN_MAX = 20  # of one command


class Audit:
    def __init__(self, checker: "Checker") -> None:
        self._c = checker
        self._intended: set[tuple[GroupName, Epoch]] = set()  # grants of which the history tells
        self._up: set[tuple[GroupName, Epoch]] = set()  # truly up at some time, all of it
        self._reported: set[tuple[GroupName, Epoch]] = set()

    # ---- the log ------------------------------------------------------------------------------------------------

    def committed(self, before: ClusterState, command: c.AnyCommand, index: LogIndex, state: ClusterState) -> None:
        events = _of(index, state)
        for name in state.spec.groups:
            g, was = state.group(name), before.group(name)
            moved = (g.phase, g.owner, g.epoch) != (was.phase, was.owner, was.epoch)
            if moved and not any(e.group == name and e.sentence for e in events):
                what = type(command).__name__
                self._c.found("S10", name, f"{what} takes {name} from {was.phase} to {g.phase}; the history is silent")
        match command:
            case c.Grant(group=group, node=node):
                if any(e.group == group and e.node == node for e in events):
                    self._intended.add((group, index))
            case c.Started(group=group, node=node, epoch=epoch):
                self._reported.add((group, epoch))
                if (group, epoch) not in self._up:
                    self._c.found("S10", group, f"the history says that {node} runs {group}, which it never did")
            case c.OrderFence(target=target) | c.FenceDone(target=target):
                if not any(e.node == target for e in events):
                    self._c.found("S10", "", f"the history is silent about {type(command).__name__} of {target}")
            case _:
                pass

    # ---- the world ----------------------------------------------------------------------------------------------

    def placed(self, machine: "Machine", group: GroupName, name: ResourceName, thing: "Thing") -> None:
        if thing.epoch and (group, thing.epoch) not in self._intended:
            self._c.found("S10", group, f"{machine.name} starts {name} of {group}; the history does not tell of it")

    def told(self, machine: "Machine", notice: a.GroupUp) -> None:
        key = (notice.group, notice.epoch)
        executor = machine.executor
        held = executor.groups.get(notice.group) if executor is not None else None
        things = machine.premises.of(notice.group)
        if held is not None and len(things) == len(held.spec.resources):
            self._up.add(key)

    def all_told(self) -> None:
        """When all has been quiet for a while: what runs is in the history. Call it at the end of a run."""
        state = self._c.world.state
        for name, machine in self._c.world.machines.items():
            for group, held in machine.executor.groups.items() if machine.executor is not None else ():
                g = state.group(group)
                known = (group, held.epoch) in self._reported and g.owner == name and g.phase is Phase.ACTIVE
                if held.state == "up" and not known:
                    self._c.found("S10", group, f"{group} is up on {name} under epoch {held.epoch}; the history is not")
        for at_ns, order, hit in self._c.fences.cuts:
            self._known_cut(state, at_ns, order, hit)

    def _known_cut(self, state: ClusterState, at_ns: int, order: LogIndex, hit: NodeName) -> None:
        oldest = state.events[0].index if state.events else 0
        if order > oldest and not any(e.index == order and e.node for e in state.events):
            self._c.found(
                "S10", "", f"{hit} was cut at {at_ns / 1e9:.3f} s; the history does not tell of order {order}"
            )


def _of(index: LogIndex, state: ClusterState) -> list[Event]:
    return [e for e in state.events[-EVENTS_SEEN_MAX:] if e.index == index]
