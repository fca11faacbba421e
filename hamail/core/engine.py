"""One node's brain without I/O: events in, effects out. hamaild and the simulator are shells around it.

Whoever drives it reads the clocks, carries out the effects in their order, and delivers what has arrived before each
`tick`. The decisions are in the pure modules beside this one; the engine keeps what they need between events.
"""

from msgspec.structs import replace

from hamail.core import coordinator, lease, membership, record, schedule
from hamail.core.apply import apply, empty_state
from hamail.core.effects import Effect, Note, Propose, SaveBarred, Send
from hamail.core.facts import Facts, NodeFacts
from hamail.core.lead import Lead
from hamail.core.lease import MS, Voter
from hamail.core.local import Local
from hamail.core.retries import Retries
from hamail.core.timing import derive
from hamail.model import commands as c
from hamail.model.actions import AnyNotice
from hamail.model.ids import Epoch, GroupName, LogIndex, NodeName
from hamail.model.messages import (
    AnyMessage,
    Heartbeat,
    LeaseAnswer,
    LeaseRequest,
    Raft,
    ReleaseAnswer,
    ReleaseRequest,
)
from hamail.model.spec import ClusterSpec
from hamail.model.state import ClusterState
from hamail.model.timings import Timings

BARRIER = "barrier"
DETAIL_CHARS_MAX = 500  # of what a peer says of itself: it goes into commands, which have a limit
REFUSED_PAUSE_MS = 500  # before the log is asked again for what it has just refused


class Engine:
    """`bootstrap` and `source` are the configuration file: they name the voters, and enter the log once."""

    def __init__(
        self,
        *,
        me: NodeName,
        bootstrap: ClusterSpec,
        source: str,
        barred: dict[GroupName, Epoch],
        life: str,
        now_ns: int,
        version: str = "",
    ) -> None:
        self.me = me
        self.life = life  # unique to this run of hamaild; tells own barriers apart
        self.version = version
        self.state: ClusterState = empty_state()
        self.bootstrap = bootstrap
        self.source = source
        self.timings: Timings = derive(bootstrap.detection_ms, bootstrap.watchdog_timeout_s)
        self.voter = Voter(started_ns=now_ns, barred=dict(barred))
        self.members = membership.begin(me, bootstrap.voters(), now_ns)
        self.now_ns = now_ns
        self.at_ms = 0
        self.local = Local(self)
        self.leading = False
        self.problem = ""  # of the journal or the log: passive while it is not empty
        self.rejoining = False  # the log has lost its memory, and so may this voter have lost `barred`
        self.hindrance = ""  # of the log, passing by itself: until then this node learns of nothing that it should do
        self.stalled_ms = 0  # for how long the log has waited for the disk
        self.leaving_until_ns = 0
        self._out: list[Effect] = []
        self._inflight: dict[str, int] = {}  # key of a proposal -> when to forget it
        self._refused: dict[str, int] = {}  # key of a proposal -> not again before, unless something changes
        self._sequence = 0
        self._beat_ns = 0
        self._missed: frozenset[NodeName] = frozenset()  # as of the last heartbeat
        self._missed_then = (
            self.members,
            now_ns,
            self.timings,
            membership.all_missed(self.members, now_ns, self.timings),
        )
        self._beat_body: object = None
        self.lead = Lead(self)
        self.retries = Retries()

    # ---- events -------------------------------------------------------------------------------------------------

    def tick(self, now_ns: int, at_ms: int) -> list[Effect]:
        """Time passes; call at least every `timings.tick_ms`, after delivering what has arrived."""
        self._clock(now_ns, at_ms)
        self.members = membership.tick(self.members, now_ns, self.timings)
        self._inflight = {k: until for k, until in self._inflight.items() if until > now_ns}
        if not self.problem:
            self._catch_up()
            self.local.step()
            self.retries.step(self.state, self.facts, now_ns)
            if self.leading:
                self._coordinate()
        self._heartbeat()
        return self._drain()

    def message(self, sender: NodeName, message: AnyMessage, now_ns: int, at_ms: int) -> list[Effect]:
        """A message from an authenticated peer."""
        self._clock(now_ns, at_ms)
        if sender not in self.members.peers:
            return self._drain()
        match message:
            case Heartbeat():
                self.members = membership.hear(self.members, sender, message, now_ns)
            case LeaseRequest():
                self.emit(*self._promise(sender, message))
            case LeaseAnswer():
                if not self.problem:
                    self.local.lease_answer(sender, message)
            case ReleaseRequest():
                self.emit(*self.release(sender, message))
            case ReleaseAnswer():
                self.lead.count(sender, message)
            case Raft():
                raise AssertionError("raft messages go to the consensus adapter")
        return self._drain()

    def notice(self, notice: AnyNotice, now_ns: int, at_ms: int) -> list[Effect]:
        """The executor on this node says something."""
        self._clock(now_ns, at_ms)
        self.local.notice(notice)
        if not self.problem:
            self.local.step()
        return self._drain()

    def executor_lost(self, now_ns: int, at_ms: int) -> list[Effect]:
        self._clock(now_ns, at_ms)
        self.local.disconnected()
        return self._drain()

    def apply(self, index: LogIndex, command: c.AnyCommand) -> c.Outcome:
        """The next entry of the log is committed. Call `react` soon, before the next tick at the latest."""
        before = self.state
        self.state, outcome = apply(before, index, command)
        if outcome.accepted:
            self._refused.clear()
            self._follow(before, command)
        return outcome

    def restore(self, state: ClusterState) -> None:
        """A snapshot replaces the state."""
        self.state = state
        self._reconfigure()

    def react(self, now_ns: int, at_ms: int) -> list[Effect]:
        """Act at once on what was applied."""
        self._clock(now_ns, at_ms)
        if not self.problem:
            self.local.step()
            if self.leading:
                self._coordinate()
        return self._drain()

    def proposed(self, key: str, result: c.Outcome | c.Unknown) -> None:
        """The answer to a Propose effect. Unknown is settled by looking at the state again, never by assuming."""
        self._inflight.pop(key, None)
        if key == BARRIER and isinstance(result, c.Outcome) and result.accepted:
            self._caught_up()  # also when a snapshot has swallowed the entry itself
        if isinstance(result, c.Outcome) and not result.accepted:
            self._refused[key] = self.now_ns + REFUSED_PAUSE_MS * MS
            self.note("info", f"the log refused {key}: {'; '.join(result.reasons)}")

    def leadership(self, leading: bool) -> None:
        """`leading`: this node leads the log and has committed an entry of its own term."""
        if leading != self.leading:
            self.leading = leading
            self.note("info", "this node coordinates now" if leading else "this node does not coordinate any more")
            self.lead.forget()

    def fail(self, problem: str) -> None:
        """The journal or the log cannot be trusted any more: give everything up, and fall silent.

        No heartbeat is sent from here on, so the others take over as from a dead node; people on this node are told.
        """
        if not self.problem:
            self.note("warning", problem)
            self.problem = problem
            self.local.abandon(problem)

    def leave(self, now_ns: int, at_ms: int) -> list[Effect]:
        """hamaild is about to be restarted: tell the others that this is no death, as long as the lease allows it."""
        self._clock(now_ns, at_ms)
        self.leaving_until_ns = now_ns + self.timings.restart_grace_ms * MS
        self._heartbeat(force=True)
        return self._drain()

    # ---- services for the local half ----------------------------------------------------------------------------

    def emit(self, *effects: Effect) -> None:
        self._out.extend(effects)

    def note(self, level: str, text: str) -> None:
        self._out.append(Note(level, text))

    def propose(self, key: str, command: c.AnyCommand) -> None:
        """Propose once; again only after an answer or a time-out."""
        if key in self._inflight or self.now_ns < self._refused.get(key, 0):
            return
        self._inflight[key] = self.now_ns + 2 * self.timings.propose_ms * MS
        self._out.append(Propose(key, command))

    def ask_voters(self, request: LeaseRequest) -> None:
        """Send to all voters, this node included."""
        for peer in self.members.peers:
            self.emit(Send(peer, request))
        self.voter, answer = lease.consider(self.voter, self.state, self.me, request, self.now_ns, self.timings)
        self.local.lease_answer(self.me, answer)

    def majority(self) -> int:
        return (len(self.members.peers) + 1) // 2 + 1

    def missed(self) -> frozenset[NodeName]:
        """Nodes that this one misses now."""
        members, now_ns, timings, missed = self._missed_then
        if members is not self.members or now_ns != self.now_ns or timings is not self.timings:
            missed = membership.all_missed(self.members, self.now_ns, self.timings)
            self._missed_then = (self.members, self.now_ns, self.timings, missed)
        return missed

    def facts(self) -> Facts:
        """What this node hears, for the decisions and for people."""
        now, t, m = self.now_ns, self.timings, self.members
        own = self.local.own_facts()
        nodes = {self.me: replace(own, accusers=membership.accusers(m, self.me, now, t))}
        missed = self.missed()
        for name, peer in m.peers.items():
            beat = peer.heartbeat
            accusers = membership.accusers(m, name, now, t)
            nodes[name] = NodeFacts(
                alive=beat is not None and name not in missed,
                suspected=membership.enough(m, accusers),
                accusers=accusers,
                silent_ms=membership.unheard_ms(m, name, now),
                ready=beat is not None and beat.ready,
                detail=record.clip(beat.detail, DETAIL_CHARS_MAX) if beat else "never heard since this node started",
                watchdog_armed=beat is not None and beat.watchdog_armed,
                fence_ready=beat.fence_ready if beat else {},
                restarting=now < peer.excused_until_ns,
                holds=tuple(sorted(beat.resources)) if beat else None,
            )
        return Facts(
            now_ns=now,
            at_ms=self.at_ms,
            me=self.me,
            nodes=nodes,
            settled=now - m.began_ns >= t.settle_ms * MS,
            retry_in_ms=self.retries.in_ms(self.state, now, self.at_ms),
            **self.lead.facts(),
        )

    # ---- inside --------------------------------------------------------------------------------------------------

    def _clock(self, now_ns: int, at_ms: int) -> None:
        self.now_ns = max(self.now_ns, now_ns)
        self.at_ms = at_ms

    def _drain(self) -> list[Effect]:
        out, self._out = self._out, []
        return out

    def _catch_up(self) -> None:
        """Until an own barrier has been applied, this node may act on an old state: it promises and starts nothing."""
        if not self.voter.past_barrier:
            self.propose(BARRIER, c.Barrier(at_ms=self.at_ms, node=self.me, reason=self.life))

    def _caught_up(self) -> None:
        if not self.voter.past_barrier:
            self.voter = replace(self.voter, past_barrier=True)
            self.note("info", "caught up with the log")

    def _follow(self, before: ClusterState, command: c.AnyCommand) -> None:
        match command:
            case c.Barrier(node=self.me, reason=self.life):
                self._caught_up()
            case c.ApplyConfig():
                self._reconfigure()
            case c.SetMaintenance(on=False):
                # Links may just be coming back. A node that is really lost is missed one `detection` later.
                self.members = membership.listen_anew(self.members, self.now_ns)
            case c.FenceDone() | c.Clear():
                self.lead.fence_news(command)
                if isinstance(command, c.Clear):
                    self.local.repairs.cleared(command.group)
            case c.Expire(lapse=c.Lapse.MAINTENANCE):
                self.members = membership.listen_anew(self.members, self.now_ns)
            case _:
                pass
        for event in self.state.events[-8:]:
            if event.index == self.state.applied and event not in before.events[-8:]:
                self.note("info", event.sentence)

    def _reconfigure(self) -> None:
        state, spec = self.state, self.state.spec
        if state.config.revision:
            self.timings = derive(spec.detection_ms, spec.watchdog_timeout_s)
            if set(spec.nodes) != set(self.bootstrap.nodes):
                # Majorities would be counted differently here and elsewhere.
                theirs, ours = ", ".join(sorted(spec.nodes)), ", ".join(sorted(self.bootstrap.nodes))
                self.fail(f"the configuration file of this node names {ours}, but the cluster consists of {theirs}")
        self.local.reconfigure()

    def _hold_ms(self) -> int:
        """The longest W that was ever in force: a voter that has restarted may have promised for so long."""
        longest = derive(max(self.state.detection_ms_max, self.state.spec.detection_ms), 0).wait_ms
        return max(self.timings.wait_ms, longest)

    def _promise(self, sender: NodeName, request: LeaseRequest) -> tuple[Effect, ...]:
        if self.problem or self.rejoining:  # who has lost a disk may have lost the epochs that it barred
            return ()
        self.voter, answer = lease.consider(self.voter, self.state, sender, request, self.now_ns, self.timings)
        return (Send(sender, answer),)

    def release(self, sender: NodeName, request: ReleaseRequest) -> tuple[Effect, ...]:
        if self.problem:
            return ()
        self.voter, answer = lease.release(self.voter, self.state, request, self.now_ns, self._hold_ms())
        # Every yes is saved before it is said, also a repeated one: the first may not have reached the disk.
        save = (SaveBarred(self.voter.barred),) if answer.yes else ()
        return (*save, Send(sender, answer))

    def _coordinate(self) -> None:
        if not self.state.config.revision:
            first = c.ApplyConfig(
                at_ms=self.at_ms,
                spec=self.bootstrap,
                source=self.source,
                expected_revision=0,
                reason="first start of the cluster",
            )
            self.propose("first configuration", first)
            return
        if not self.voter.past_barrier:
            return
        self.lead.step()
        facts = self.facts()
        for command in (
            *coordinator.decide(self.state, facts, self.timings),
            *self.lead.returns.step(self.state, facts),
        ):
            self.propose(_key(command), command)
        if self.state.scheduled:
            for command in schedule.due(self.state, self.facts(), self.timings):
                self.propose(_key(command), command)
        self.lead.hand_over()

    def _heartbeat(self, force: bool = False) -> None:
        """On time, and at once when this node has begun to miss somebody or has something new to say."""
        if self.problem:
            return
        m, now, t = self.members, self.now_ns, self.timings
        missed = self.missed()
        me = self.local.own_facts()
        body = (me.ready, me.detail, self.local.resources())
        news = bool(missed - self._missed) or body != self._beat_body
        if not (force or news or now - self._beat_ns >= t.heartbeat_ms * MS):
            return
        self._beat_ns, self._missed, self._beat_body = now, missed, body
        self._sequence += 1
        away_ms = max(0, self.leaving_until_ns - now) // MS
        silent = {n: membership.silent_ms(m, n, now) for n in m.peers}
        for n in missed:  # a node that was never heard counts as missed only after the settling time
            silent[n] = max(silent[n], t.detection_ms)
        for n in set(silent) - missed:
            silent[n] = min(silent[n], t.detection_ms - 1)
        beat = Heartbeat(
            sequence=self._sequence,
            incarnation=self.local.incarnation,
            silent_ms=silent,
            applied=self.state.applied,
            ready=me.ready,
            fence_ready=me.fence_ready,
            restarting_ms=away_ms,
            stalled_ms=self.stalled_ms,
            version=self.version,
            detail=me.detail,
            watchdog_armed=me.watchdog_armed,
            resources=self.local.resources(),
        )
        for peer in m.peers:
            self.emit(Send(peer, beat))


def _key(command: c.AnyCommand) -> str:
    """What makes two proposals the same one."""
    about = getattr(command, "group", "") or getattr(command, "target", "") or getattr(command, "node", "")
    epoch = getattr(command, "epoch", None) or getattr(command, "expected_epoch", None) or getattr(command, "order", "")
    epoch = epoch or getattr(command, "since", "")
    return f"{type(command).__name__} {about} {epoch}".strip()
