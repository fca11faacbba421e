"""The cluster run forward in thought: the real `apply` and coordinator over supposed facts, until all is at rest.

Nothing leaves it. Only what the core does not decide is modelled, in `pretence`: that an agent, a fence device, a vote
takes its time and ends as supposed. There is no chance in it: what may be lost or late is for the simulator to try.
"""

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from hamail.core import coordinator, estimates, expiry
from hamail.core.apply import apply
from hamail.core.estimates import Estimates
from hamail.core.facts import Facts
from hamail.core.hypotheses import Hypothesis, Suppose
from hamail.core.pretence import Pretence
from hamail.core.timing import derive
from hamail.model import commands as c
from hamail.model.ids import Epoch, GroupName, NodeName
from hamail.model.situation import NodeFacts, Situation
from hamail.model.state import Event, Phase, Severity

MS = 1_000_000
TURNS_MAX = 2000
HORIZON_MS = 1_800_000
NEVER_MS = 10**9  # longer than the horizon

Act = Callable[[], None]


class Sandbox:
    """`run()` once; then `state`, `told`, `served` and `gaps` tell the rest. Times are milliseconds since the fault."""

    def __init__(self, situation: Situation, supposed: Iterable[Hypothesis] = (), *, ends: bool = True) -> None:
        self.situation = situation
        self._ends = ends  # what holds for a time ends when its time is over
        self.state = replace(situation.state, events=())
        self.t = derive(self.state.spec.detection_ms, self.state.spec.watchdog_timeout_s)
        self.supposed = tuple(supposed)
        self.now_ms = 0
        self.told: list[tuple[int, Event]] = []
        self.served: dict[GroupName, NodeName | None] = {}
        self.gaps: dict[GroupName, list[int]] = {}  # begin, end, begin, ... of the times without service
        self.estimates: dict[GroupName, Estimates] = {
            name: estimates.of(self.state, name) for name in self.state.spec.groups
        }
        self.off = {n for n in self.state.spec.nodes if self._heard(n).suspected}
        self._silent_since_ms = {n: -self._heard(n).silent_ms for n in self.off}
        self._cut = {frozenset((situation.node, n)) for n in self.state.spec.nodes if self._deaf_to(n)}
        self._cut |= {frozenset((by, n)) for n in self.state.spec.nodes for by in self._heard(n).accusers if by != n}
        self._agenda: list[tuple[int, int, Act]] = []
        self._number = 0
        self._released: dict[tuple[GroupName, Epoch], tuple[NodeName, ...]] = {}
        self._majority_ms: dict[tuple[GroupName, Epoch], int] = {}
        self.assumed_from_ms = NEVER_MS  # what comes later rests upon an assumed duration
        self.at_rest = False  # nothing is left to do, and nothing to wait for
        self.coordinator: NodeName | None = situation.coordinator
        self._elected_ms = 0
        self._pretence = Pretence(self)

    def _heard(self, name: NodeName) -> NodeFacts:
        return self.situation.heard.get(name, NodeFacts())

    def _deaf_to(self, name: NodeName) -> bool:
        heard = self._heard(name)
        return name != self.situation.node and not heard.alive and not heard.suspected

    # ---- the run -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        for name in self.state.spec.groups:
            g = self.state.group(name)
            self.served[name] = g.owner if g.phase is Phase.ACTIVE and self.can_serve(g.owner) else None
            self.gaps[name] = [] if self.served[name] else [0]
        for h in self.supposed:
            self._suppose(h)
        for ms in (self.t.detection_ms, self.t.settle_ms):
            self.after(ms, lambda: None)
        for *_, until_ms in expiry.limited(self.state) if self._ends else ():
            if until_ms - self.at_ms <= HORIZON_MS:
                self.after(max(0, until_ms - self.at_ms), lambda: None)
        for _ in range(TURNS_MAX):
            self._notice_service()
            if (self._elect() and self._decide()) or self._pretence.step():
                continue
            if not self._next():
                self.at_rest = not self._agenda
                return

    def after(self, ms: int, act: Act, *, assumed: bool = False) -> None:
        self._number += 1
        if assumed:
            self.assumed_from_ms = min(self.assumed_from_ms, self.now_ms + ms)
        self._agenda.append((self.now_ms + ms, self._number, act))

    def _next(self) -> bool:
        """Let time pass until something happens."""
        due = min(self._agenda, key=lambda x: x[:2], default=None)
        if due is None or due[0] > HORIZON_MS:
            return False
        self._agenda.remove(due)
        self.now_ms = max(self.now_ms, due[0])
        due[2]()
        return True

    def put(self, command: c.AnyCommand) -> None:
        """Into the log that is not there."""
        self.state, _ = apply(replace(self.state, events=()), self.state.applied + 1, command)
        self.told += [(self.now_ms, event) for event in self.state.events]

    def tell(self, sentence: str, group: GroupName = "", node: NodeName = "") -> None:
        """Something that happens outside of the log."""
        told = Event(index=0, at_ms=self.at_ms, kind="supposed", sentence=sentence, group=group, node=node)
        self.told.append((self.now_ms, replace(told, severity=Severity.WARNING)))

    @property
    def at_ms(self) -> int:
        return self.situation.at_ms + self.now_ms

    def _decide(self) -> bool:
        """Let the coordinator propose. Did anything come of it?"""
        before = replace(self.state, applied=0, requests=(), events=())
        for command in coordinator.decide(self.state, self.facts(), self.t):
            if self._ends or not isinstance(command, c.Expire):
                self.put(command)
        return replace(self.state, applied=0, requests=(), events=()) != before

    def _suppose(self, h: Hypothesis) -> None:
        match h.suppose:
            case Suppose.NODE_DOWN:
                self.switch_off(h.node)
                self.tell(f"{h.node} loses its power.", node=h.node)
            case Suppose.NODE_CUT_OFF:
                self._cut |= {frozenset((h.node, other)) for other in self.state.spec.nodes if other != h.node}
                self.tell(f"{h.node} runs on, but nobody hears it.", node=h.node)
            case Suppose.LINK_DOWN:
                self._cut.add(frozenset((h.node, h.other)))
                self.tell(f"{h.node} and {h.other} do not hear each other.", node=h.node)
            case Suppose.SWITCHOVER:
                epoch = self.state.group(h.group).epoch
                order = c.RequestMove(at_ms=self.at_ms, group=h.group, target=h.node, expected_epoch=epoch)
                self.put(replace(order, actor="you", request=f"plan {h}"))
            case Suppose.STANDBY:
                standby = c.SetStandby(at_ms=self.at_ms, node=h.node, standby=True)
                self.put(replace(standby, actor="you", request=f"plan {h}"))
            case _:
                pass

    # ---- who hears whom ------------------------------------------------------------------------------------------

    def switch_off(self, name: NodeName) -> None:
        self.off.add(name)
        self._silent_since_ms.setdefault(name, self.now_ms)

    def hears(self, a: NodeName, b: NodeName) -> bool:
        return not {a, b} & self.off and (a == b or frozenset((a, b)) not in self._cut)

    def majority(self, name: NodeName) -> bool:
        """Does it hear enough voters for a lease, or to lead?"""
        return sum(self.hears(name, voter) for voter in self.state.spec.voters()) >= self.state.spec.majority()

    def can_serve(self, name: NodeName | None) -> bool:
        return name is not None and name not in self.off and (self.state.maintenance.on or self.majority(name))

    def reports(self, name: NodeName) -> bool:
        """Do its words reach the log?"""
        return self.coordinator is not None and self.majority(name) and self.majority(self.coordinator)

    def silent_ms(self, name: NodeName) -> int:
        """Since it fell silent for whoever does not hear it."""
        return self.now_ms - self._silent_since_ms.get(name, 0)

    def _elect(self) -> bool:
        """Is there a coordinator? The present one stays; else one that hears a majority, a witness first."""
        if self.coordinator is not None and self.majority(self.coordinator):
            return self.now_ms >= self._elected_ms
        able = [n for n in self.state.spec.voters() if self.majority(n)]
        able.sort(key=lambda n: (not self.state.spec.nodes[n].witness, n))
        self.coordinator = able[0] if able else None
        if able:
            self._elected_ms = self.now_ms + self.t.election_max_ms
            self.after(self.t.election_max_ms, lambda: None)
        return False

    def facts(self) -> Facts:
        """What the coordinator knows now."""
        me = self.coordinator or self.situation.node
        return Facts(
            now_ns=self.now_ms * MS,
            at_ms=self.at_ms,
            me=me,
            nodes={name: self._known(me, name) for name in self.state.spec.nodes},
            settled=True,
            released_by=self._released,
            majority_at_ns={key: ms * MS for key, ms in self._majority_ms.items()},
            fence_retry_at_ns={n: NEVER_MS * MS for n in self.state.spec.nodes if self._all_tried(n)},
            behind_ms={n: ms for n, ms in self.situation.behind_ms.items() if n not in self.off},
        )

    def _known(self, me: NodeName, name: NodeName) -> NodeFacts:
        spec, heard = self.state.spec, self._heard(name)
        late = self.silent_ms(name) >= self.t.detection_ms
        missing = [v for v in spec.voters() if v != name and self.hears(me, v) and not self.hears(v, name)]
        accusers = tuple(missing) if late else ()
        silent_ms = 0 if self.hears(me, name) else self.silent_ms(name)
        deaf = late and not self.majority(name)
        return replace(
            heard,
            alive=name == me or silent_ms < self.t.detection_ms,
            silent_ms=silent_ms,
            accusers=accusers,
            suspected=len(accusers) >= spec.majority(),
            ready=heard.ready and not deaf,
            detail="it does not hear a majority of the nodes" if deaf else heard.detail,
        )

    def _all_tried(self, name: NodeName) -> bool:
        """Every way to fence it was tried: what comes after the pause is the same again."""
        attempts = self.state.node(name).fence_attempts
        return bool(attempts) and attempts % self.state.spec.fence_ways(name) == 0

    def release(self, name: GroupName, epoch: Epoch) -> None:
        """The voters that the coordinator hears say that their promises have run out."""
        me = self.coordinator
        self._released[name, epoch] = tuple(v for v in self.state.spec.voters() if me is not None and self.hears(me, v))
        self._majority_ms[name, epoch] = self.now_ms

    # ---- service -------------------------------------------------------------------------------------------------

    def _notice_service(self) -> None:
        for name in self.state.spec.groups:
            g = self.state.group(name)
            up = g.owner is not None and g.phase is Phase.ACTIVE and self.can_serve(g.owner)
            up = up and not (g.owner is not None and self._pretence.hurt(name, g.owner))
            self.served[name] = g.owner if up else None
            if up != (len(self.gaps[name]) % 2 == 0):
                self.gaps[name].append(self.now_ms)
