"""All checkers that look at what is true on the machines, told of each change at the moment at which it happens.

A finding is kept and raised by `look` after the event: some events happen inside of code that would catch an exception.
"""

from typing import TYPE_CHECKING

from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.ids import GroupName, NodeName, ResourceName
from hamail.model.spec import Requirement
from hamail.model.state import ClusterState
from hamail.simulation.checkers.active import Active
from hamail.simulation.checkers.audit import Audit
from hamail.simulation.checkers.claims import Hazard, unclaimed
from hamail.simulation.checkers.configuration import Configuration
from hamail.simulation.checkers.doubt import Doubt
from hamail.simulation.checkers.fences import Fences
from hamail.simulation.checkers.gate import Gate
from hamail.simulation.checkers.grants import Grants
from hamail.simulation.checkers.hands_off import HandsOff
from hamail.simulation.checkers.members import Members
from hamail.simulation.checkers.status import Status
from hamail.simulation.checkers.violation import Violation

if TYPE_CHECKING:
    from hamail.simulation.machine import Machine
    from hamail.simulation.premises import End, Thing
    from hamail.simulation.world import World


class Checker:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.hazards: set[Hazard] = set()
        self.excused: dict[str, int] = {}  # invariant -> how often it broke where nothing was claimed
        self.active = Active(self)
        self.grants = Grants(self)
        self.gate = Gate(self)
        self.doubt = Doubt(self)
        self.fences = Fences(self)
        self.hands_off = HandsOff(self)
        self.audit = Audit(self)
        self.members = Members(self)
        self.configuration = Configuration(self)
        self.status = Status(self)
        self._finding: Violation | None = None

    # ---- findings -----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Call after every event. Raises Violation."""
        if self.world.now_ns >= self.status.due_ns:
            self.status.sample()
        if self._finding is not None:
            finding, self._finding = self._finding, None
            raise finding

    def found(self, invariant: str, group: GroupName, what: str) -> None:
        """`group` "": it concerns no one group, so what every one of them claims counts."""
        groups = {**self.world.spec.groups, **self.world.state.spec.groups}
        spec = groups.get(group)
        asked = {spec.requires} if spec else {g.requires for g in groups.values()} or {Requirement.FENCING}
        if any(invariant in unclaimed(r, self.hazards) for r in asked):
            self.excused[invariant] = self.excused.get(invariant, 0) + 1
            return
        if self._finding is None:
            at_s = self.world.now_ns / 1e9
            self._finding = Violation(f"at {at_s:.3f} s: {invariant}: {what}\n{self.world.recent()}")

    def hazard(self, hazard: Hazard) -> None:
        """This has taken effect: what `claims.PRICE` names for it is not claimed any more."""
        self.hazards.add(hazard)

    @property
    def intervals(self) -> list[tuple[GroupName, NodeName, int, int | None]]:
        return self.active.intervals

    # ---- what happens -------------------------------------------------------------------------------------------

    def placed(self, machine: "Machine", group: GroupName, name: ResourceName, thing: "Thing") -> None:
        self.active.placed(machine, group, name, thing)
        self.grants.placed(machine, group, name, thing)
        self.audit.placed(machine, group, name, thing)
        self.members.placed(machine, group)

    def taken(self, machine: "Machine", group: GroupName, name: ResourceName, thing: "Thing", end: "End") -> None:
        self.active.taken(machine, group, name, thing, end)

    def began(self, machine: "Machine", group: GroupName, name: ResourceName, action: str) -> None:
        """An agent was called to start or stop."""
        self.hands_off.began(machine, group, name, action)

    def told(self, machine: "Machine", notice: a.AnyNotice) -> None:
        """An executor says something."""
        if isinstance(notice, a.GroupUp):
            self.audit.told(machine, notice)
        elif isinstance(notice, a.FenceResult):
            self.fences.told(notice)
        else:
            self.doubt.told(machine, notice)
            if isinstance(notice, a.GroupDown) or (isinstance(notice, a.GroupStartFailed) and notice.clean):
                self.grants.ended(machine, notice.group, notice.epoch)

    def proposed(self, machine: "Machine", command: c.AnyCommand) -> None:
        """A hamaild wants this in the log."""
        self.doubt.proposed(machine, command)

    def committed(self, before: ClusterState, command: c.AnyCommand, outcome: c.Outcome) -> None:
        """The log has a new entry."""
        self.configuration.committed(before, command, outcome, self.world.state)
        if not outcome.accepted:
            return
        state, index = self.world.state, outcome.index
        self.hands_off.committed(before, command)
        self.members.committed(command, state)
        self.audit.committed(before, command, index, state)
        match command:
            case c.Grant():
                self.grants.granted(before, command, index)
            case c.OrderFence():
                self.fences.ordered(command, index, state)
            case c.FenceDone():
                self.fences.done(command)
            case c.AckMaintenance(on=True, node=node):
                self.hands_off.acknowledged(node)
            case c.ApplyConfig():
                self.active.reconfigured()
            case _:
                pass
