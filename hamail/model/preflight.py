"""What was looked at before an order, and what came of it: shown before the question, and before a scheduled move."""

from enum import StrEnum

from msgspec import Struct

from hamail.model.ids import GroupName, NodeName, ResourceName


class Verdict(StrEnum):
    GOOD = "good"
    NOTE = "note"  # worth knowing; keeps nobody from anything
    UNKNOWN = "unknown"  # could not be looked at; that is no failure
    WARNING = "warning"  # --force goes on in spite of it
    BAD = "bad"  # it is refused, whatever is said


class Check(Struct, frozen=True, kw_only=True):
    name: str
    verdict: Verdict
    reason: str
    next_step: str = ""


class PhaseBudget(Struct, frozen=True, kw_only=True):
    """How long a phase of the order may take."""

    phase: str  # stop | fence | wait | start
    usual_ms: int | None = None  # what it took of late; None: not known
    seen: int = 0  # moves of the past that it is the median of
    limit_ms: int | None = None  # after this long it is given up; None: as the agents' own time-outs say


class PreflightAsk(Struct, frozen=True, kw_only=True):
    order: str  # switchover | failover | standby | restart | ban
    group: GroupName = ""  # all but standby
    node: NodeName = ""  # standby
    to: NodeName | None = None  # switchover, failover; None: the best node. ban: from which node
    resource: ResourceName = ""  # restart; "": every one


class Preflight(Struct, frozen=True, kw_only=True):
    order: str  # switchover | failover | standby | restart | ban | revocation
    group: GroupName = ""  # standby, revocation: ""
    node: NodeName = ""  # standby, revocation, ban: the node
    resource: ResourceName = ""  # restart: "" for every one
    source: NodeName | None = None
    target: NodeName | None = None
    checks: tuple[Check, ...] = ()
    loss: tuple[str, ...] = ()  # what may be lost, in sentences
    proof: str = ""  # failover: what will prove that the owner is out
    budget: tuple[PhaseBudget, ...] = ()
    refusals: tuple[str, ...] = ()  # of the checks that are bad, each with its next step
    warnings: tuple[str, ...] = ()
