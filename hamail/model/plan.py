"""What hamail would do: the body of `hamailctl plan --json`."""

from enum import StrEnum

from msgspec import Struct

from hamail.model.ids import GroupName, NodeName
from hamail.model.state import Event, Evidence, Phase

PLAN_SCHEMA = "hamail/plan/1"


class Service(StrEnum):
    UNINTERRUPTED = "uninterrupted"
    INTERRUPTED = "interrupted"  # and back by itself
    DOWN = "down"  # until a person does something, or what failed comes back


class Step(Struct, frozen=True, kw_only=True):
    at_ms: int  # since the fault, or since now
    event: Event  # index 0: it happens outside of the log


class Forecast(Struct, frozen=True, kw_only=True):
    """What becomes of one group."""

    group: GroupName
    before: NodeName | None  # who serves it now
    after: NodeName | None  # who serves it in the end
    service: Service
    outage_ms: int | None  # estimate; None: it does not end by itself
    phase: Phase  # in the end
    trigger: str  # of the last move; "" when there is none
    result: str  # of the last move
    evidence: Evidence | None  # why it was certain that nobody held it
    nodes: dict[NodeName, str]  # why each node has it, could have it, or could not, in the end
    then: str  # what a person has to do; "" when nothing
    estimated_from: int  # moves of the past; 0: durations are assumed


class Plan(Struct, frozen=True, kw_only=True):
    schema: str
    node: NodeName  # whose view it starts from
    at_ms: int
    supposed: tuple[str, ...]
    steps: tuple[Step, ...]
    groups: tuple[Forecast, ...]
    at_rest: bool  # False: it would go on like this; what is told is where it was given up
    continues: bool  # every group is served in the end


class Risk(Struct, frozen=True, kw_only=True):
    """One single failure, and what it would mean."""

    failure: str  # in words
    supposed: tuple[str, ...]  # as `plan --if` takes it
    continues: bool
    outage_ms: int | None  # the longest of any group; 0: none; None: it does not end by itself
    why: str  # why service would not continue, or what it would rest upon
