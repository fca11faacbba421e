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
    assumed: bool = False  # its time rests upon a duration that no record has shown


class PhaseTime(Struct, frozen=True, kw_only=True):
    """One phase of the move that is foretold, in the order of time."""

    phase: str  # detect | fence | wait | stop | failing stop | grant | start | failing start
    node: NodeName  # whose phase it is
    usual_ms: int | None = None  # median of the records; None: no record yet
    seen: int = 0  # moves that it is the median of
    limit_ms: int | None = None  # it is over by then, or given up; None: as the agents' own time-outs say
    parts: dict[str, int] = {}  # of a start: what it usually goes into, in milliseconds


class Forecast(Struct, frozen=True, kw_only=True):
    """What becomes of one group."""

    group: GroupName
    before: NodeName | None  # who serves it now
    after: NodeName | None  # who serves it in the end
    service: Service
    outage_ms: int | None  # estimate; None: it does not end by itself
    assumed: bool  # the estimate rests upon durations that no record has shown
    phases: tuple[PhaseTime, ...]  # of the move; empty where nothing moves
    usual_ms: int | None  # sum of what the phases usually take; None: one of them has no record yet, or nothing moves
    limit_ms: int | None  # sum of their limits; None: one of them has none here, or nothing moves
    counted_from: str  # where the first phase begins: "the last word of n1", "the order"; "" when nothing moves
    phase: Phase  # in the end
    trigger: str  # of the last move; "" when there is none
    result: str  # of the last move
    evidence: Evidence | None  # why it was certain that nobody held it
    nodes: dict[NodeName, str]  # why each node has it, could have it, or could not, in the end
    then: str  # what a person has to do; "" when nothing
    estimated_from: int  # starts of the past that are in the records


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
    assumed: bool  # it rests upon durations that no record has shown
    why: str  # why service would not continue, or what it would rest upon
