"""The replicated log on PySyncObj, with everything around its Raft core replaced by hamail's own.

One tick does, in this order: deliver what came in, hand over proposals, look whether a leader is missing, let PySyncObj
work, make the journal durable, send, report results. While the disk works (in another thread, where `background` says
so) nothing else is done, so what is sent always rests on what is durable; hamail's leases do not wait for it.

Fail-stop: an error of the disk, an exception of the state machine or a broken invariant ends this node's part for
good. It then neither votes nor sends, and `health().problem` says why.
"""

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import structlog

from hamail.consensus import codec, seams
from hamail.consensus.codec import (
    Ack,
    Append,
    Body,
    Chunk,
    CodecError,
    Envelope,
    Forward,
    NotLeader,
    PreVote,
    PreVoteAnswer,
    Proposal,
    RequestVote,
    StepDown,
    TimeoutNow,
    Vote,
)
from hamail.consensus.election import Election
from hamail.consensus.journal import Journal, JournalError, Work
from hamail.consensus.link import Link
from hamail.consensus.port import ConsensusHealth, Done, Machine, Send
from hamail.consensus.proposals import Proposals
from hamail.consensus.snapshots import COMPACT_ENTRIES, MachineFailed, Snapshots
from hamail.consensus.standing import Standing
from hamail.disk import Disk
from hamail.model.commands import AnyCommand
from hamail.model.ids import LogIndex, NodeName
from hamail.model.timings import Timings

log = structlog.get_logger(__name__)

Written: TypeAlias = Callable[[JournalError | None], None]
Background: TypeAlias = Callable[[Work, Written], None]
"""Run the work anywhere, then call back in the thread that ticks."""

MS = 1_000_000  # ns
MAX_INBOX_BYTES = 16 * 1024 * 1024  # from each peer, until the next tick; Raft repeats what is dropped
MAX_JOURNAL_BYTES = 32 * 1024 * 1024  # compact early where commands are large
DISK_SLOW_MS = 1000
# Answers of PySyncObj that mean: surely not in any log. (QUEUE_FULL, MISSING_LEADER, NOT_LEADER, REQUEST_DENIED)
NOT_DONE = frozenset({1, 2, 4, 6})
SUCCESS = 0


class BrokenInvariant(Exception):
    """Something that Raft rules out has happened."""


def inline(work: Work, written: Written) -> None:
    """Write at once, in this thread: for tests and the simulator."""
    try:
        work()
    except JournalError as error:
        written(error)
    else:
        written(None)


class SyncObjConsensus:
    """A `Consensus`. See `hamail.consensus.port` for what the methods promise."""

    def __init__(
        self,
        *,
        node: NodeName,
        voters: Sequence[NodeName],
        cluster: str,
        path: Path,
        machine: Machine,
        timings: Timings,
        send: Send,
        now_ns: Callable[[], int],
        rng: Random,
        disk: Disk | None = None,
        background: Background = inline,
        wake: Callable[[], None] = lambda: None,
        compact_entries: int = COMPACT_ENTRIES,
    ) -> None:
        """`path`: the directory of the journal. `wake`: called when there is work for a tick before the next is due."""
        assert node in voters, "a node that is no voter has no log"
        self._node = node
        self._members = {name: seams.Member(name, number) for number, name in enumerate(sorted(voters), start=1)}
        self._peers = {name: member for name, member in self._members.items() if name != node}
        self._majority = len(self._members) // 2 + 1
        self._cluster, self._path, self._disk = cluster, path, disk
        self._machine = machine
        self._timings = timings
        self._send = send
        self._clock = now_ns
        self._rng = rng
        self._background = background
        self._wake = wake
        self._compact_entries = compact_entries
        self._proposals = Proposals(timings.propose_ms, timings.raft_append_ms)
        self._election = Election(node, self._majority, timings.election_min_ms, timings.election_max_ms, rng)
        self._inbox: deque[tuple[NodeName, Envelope]] = deque()
        self._inbox_bytes = dict.fromkeys(self._peers, 0)
        self._forwarded: list[tuple[NodeName, Forward]] = []
        self._votes: tuple[int, set[NodeName]] = (0, set())
        self._problem = ""
        self._library: Any = None
        self._journal: Journal
        self._snapshots: Snapshots
        self._seat: seams.Seat
        self._link: Link
        self._standing: Standing
        self._now_ns = 0
        self._ticked_ns = 0
        self._writing_since_ns: int | None = None
        self._last_leader: NodeName | None = None
        self._busy = False
        self._stopped = False

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        assert self._library is None, "start once"
        seams.install()
        try:
            self._journal = Journal(self._path, self._cluster, self._node, disk=self._disk, rng=self._rng)
        except JournalError as error:
            self._halt(str(error))
            raise
        if self._journal.dropped_torn_tail:
            log.warning("the journal ended in a write that was never completed; it was dropped", node=self._node)
        self._snapshots = Snapshots(self._journal, self._machine, self._compact_entries)
        self._seat = seams.Seat(self._rng, self._journal, self._snapshots)
        self._link = Link(self._peers, self._journal)
        ask_max_ms = 2 * self._timings.election_max_ms
        self._standing = Standing(self._journal, self._link, self._peers, self._majority, ask_max_ms, self._stand_down)
        self._now_ns = self._ticked_ns = self._clock()
        self._seat.set_clock(self._now_ns)
        with seams.acting(self._seat):
            self._library = seams.build(
                self._members[self._node],
                list(self._peers.values()),
                self._link,
                self._apply,
                self._timings.raft_append_ms / 1000,
                self._timings.leader_fallback_ms / 1000,
            )
            self._link.connect_all()
            self._restore()
        self._election.postpone(self._now_ns)

    def _restore(self) -> None:
        snapshot = self._journal.snapshot
        if snapshot is None:
            return
        try:
            self._machine.restore(snapshot.data)
        except Exception as error:  # noqa: BLE001 - fail-stop, whatever it is
            self._halt(f"state machine raised {error!r} restoring its snapshot at log index {snapshot.last.index}")
            return
        seams.set_applied(self._library, snapshot.last.index)
        self._snapshots.applied = snapshot.last.index

    def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        self._proposals.lose_all("this node was stopped")
        if self._library is not None and self._writing_since_ns is None:
            self._close()
        self._report()

    def _close(self) -> None:
        with seams.acting(self._seat):
            self._library.destroy()

    def _halt(self, problem: str) -> None:
        """Fail-stop. Only a restart, after an operator has seen to it, ends this."""
        if self._problem:
            return
        self._problem = problem
        log.critical("consensus stopped on this node", node=self._node, problem=problem)
        self._inbox.clear()
        if self._library is not None:
            self._link.discard()
        self._proposals.lose_all(f"this node has stopped taking part: {problem}")

    # ------------------------------------------------------------------ the tick

    def tick(self, now_ns: int) -> None:
        if self._stopped or self._busy:
            return
        self._proposals.expire(now_ns)
        if self._library is not None and not self._problem and self._writing_since_ns is None:
            self._busy = True
            try:
                self._work(now_ns)
            except (JournalError, MachineFailed, BrokenInvariant) as error:
                self._halt(str(error))
            except Exception as error:  # fail-stop: the library or this adapter is in a state nobody foresaw
                log.exception("consensus failed", node=self._node)
                self._halt(f"consensus failed unexpectedly: {error!r}")
            finally:
                self._busy = False
        self._report()

    def _work(self, now_ns: int) -> None:
        stalled = now_ns - self._ticked_ns > self._timings.election_min_ms * MS
        self._now_ns = self._ticked_ns = now_ns
        self._seat.set_clock(now_ns)
        with seams.acting(self._seat):
            while self._inbox:
                peer, envelope = self._inbox.popleft()
                if self._standing.admits(peer, envelope):
                    self._handle(peer, envelope)
            self._standing.tick(now_ns)
            self._inbox_bytes = dict.fromkeys(self._peers, 0)
            if stalled:
                self._election.stall(now_ns)
            self._hand_over_proposals()
            self._watch_leader()
            if self._journal.size_bytes > MAX_JOURNAL_BYTES and len(self._journal) > 2:
                self._library.forceLogCompaction()
            self._library.doTick()
        self._snapshots.applied = self._library.raftLastApplied
        caught_up = self._journal.term_at(self._library.raftLastApplied) or 0
        self._standing.rejoin(now_ns, caught_up, self._leader())
        self._make_durable_and_send()

    def _make_durable_and_send(self) -> None:
        work = self._journal.take()
        if work is None:
            self._flush()
            return
        self._writing_since_ns = self._now_ns
        self._background(work, self._written)

    def _written(self, error: JournalError | None) -> None:
        self._writing_since_ns = None
        if self._stopped:
            self._close()
        elif error is not None:
            self._halt(str(error))
        else:
            self._flush()
        if self._inbox or self._proposals.has_unsent or self._proposals.has_finished:
            self._wake()

    def _flush(self) -> None:
        for leader, number in self._link.flush(self._send):
            self._proposals.not_done(number, leader, self._now_ns)

    def _report(self) -> None:
        """Tell proposers. Outside of the library: what a callback does or raises cannot disturb the log."""
        for done, result in self._proposals.finished():
            try:
                done(result)
            except Exception:
                log.exception("a proposer's callback raised", node=self._node)

    # ------------------------------------------------------------------ proposals and applying

    def propose(self, command: AnyCommand, done: Done) -> None:
        if self._problem or self._stopped or self._library is None:
            self._proposals.refuse(done, self._problem or "consensus is not running on this node")
        else:
            number = self._proposals.next_number()
            try:
                logged = codec.encode_command(Proposal(self._node, self._journal.incarnation, number, command))
            except CodecError as error:
                self._proposals.refuse(done, str(error))
            else:
                self._proposals.add(number, logged, done, self._clock())
        if self._stopped:
            self._report()
        else:
            self._wake()

    def _hand_over_proposals(self) -> None:
        """All messages are handled by now, so PySyncObj logs these in this tick or refuses them; it passes none on."""
        for peer, forward in self._forwarded:
            if self._is_leader and self._may_say(peer, forward.command):
                self._submit(forward.command, forward.number, peer)
            else:
                self._link.post(peer, NotLeader(forward.number))
        self._forwarded.clear()
        leader = self._leader()
        if leader is None:
            return
        if leader != self._last_leader:
            self._last_leader = leader
            self._proposals.lose_sent_elsewhere(leader)
        if not self._proposals.has_unsent or (leader != self._node and not self._standing.is_heard_by(leader)):
            return
        for proposed in self._proposals.to_send(leader, self._now_ns):
            if leader == self._node:
                self._submit(proposed.command, proposed.number, None)
            else:
                self._link.post(leader, Forward(proposed.number, proposed.command))

    def _may_say(self, peer: NodeName, logged: bytes) -> bool:
        """A peer, known by its certificate, proposes in its own name only, and only what the machine takes from it."""
        proposal = codec.decode_command(logged)
        forged = proposal.proposer != peer
        why = f"it is signed {proposal.proposer}" if forged else self._machine.refusal(peer, proposal.command)
        if why:
            log.warning("command refused", peer=peer, command=type(proposal.command).__name__, reason=why)
        return not why

    def _submit(self, command: bytes, number: int, asked_by: NodeName | None) -> None:
        """Into this leader's log. Success shows when the command is applied; only a sure failure is of interest."""

        def answer(_: object, error: int) -> None:
            if error == SUCCESS:
                return
            if asked_by is None and error in NOT_DONE:
                self._proposals.not_done(number, self._node, self._now_ns)
            elif asked_by is None:
                self._proposals.lose(number, "another leader's entry took its place in the log")
            elif error in NOT_DONE:
                self._link.post(asked_by, NotLeader(number))

        seams.submit(self._library, command, answer)

    def _apply(self, logged: bytes) -> None:
        index: LogIndex = self._library.raftLastApplied + 1
        try:
            proposal = codec.decode_command(logged)
        except CodecError as error:
            raise BrokenInvariant(f"the log holds something that is no command at index {index}: {error}") from None
        try:
            outcome = self._machine.apply(index, proposal.command)
        except Exception as error:
            raise MachineFailed(
                f"state machine raised {error!r} at log index {index}; this node takes no part until that is repaired"
            ) from error
        if proposal.proposer == self._node and proposal.incarnation == self._journal.incarnation:
            self._proposals.applied(proposal.number, outcome)

    # ------------------------------------------------------------------ messages

    def deliver(self, peer: NodeName, payload: bytes) -> None:
        if self._problem or self._stopped or self._library is None:
            return
        envelope = self._link.accept(peer, payload)
        if envelope is not None:
            self._inbox_bytes[peer] += len(payload)
            if self._inbox_bytes[peer] > MAX_INBOX_BYTES:
                return
            self._inbox.append((peer, envelope))
            self._wake()

    def _handle(self, peer: NodeName, envelope: Envelope) -> None:
        body = envelope.body
        match body:
            case Append() | Chunk():
                self._handle_leader(peer, envelope.term, body)
            case Ack():
                self._handle_ack(peer, envelope.term, body)
            case Vote():
                self._handle_vote(peer, body)
            case RequestVote():
                self._handle_request_vote(peer, body)
            case PreVote():
                self._handle_pre_vote(peer, body)
            case PreVoteAnswer(number, granted):
                self._election.answer(peer, number, granted)
                if not granted and envelope.term > self._term and self._election.round_is_open:
                    seams.adopt_term(self._link, self._peers[peer], envelope.term)
            case TimeoutNow():
                if not self._link.mute and body.term == envelope.term:
                    self._pass_on(peer, body)
            case Forward():
                self._forwarded.append((peer, body))
            case NotLeader(number):
                self._proposals.not_done(number, peer, self._now_ns)
            case StepDown(term):
                self._handle_step_down(peer, term)

    def _pass_on(self, peer: NodeName, body: RequestVote | Vote | Append | Chunk | Ack | TimeoutNow) -> None:
        self._link.hand_over(self._peers[peer], codec.to_library(body))

    def _handle_leader(self, peer: NodeName, sender_term: int, body: Append | Chunk) -> None:
        if body.term != sender_term or body.term < self._term:
            return
        known = self._library._getLeader()
        if body.term == self._term and known is not None and known.id != peer:
            raise BrokenInvariant(f"{known.id} and {peer} both lead in term {body.term}; one of them forgot its vote")
        if isinstance(body, Append):
            self._link.ack_limit = body.previous_index + len(body.entries)
            body = self._keep_what_agrees(body)
        try:
            self._pass_on(peer, body)
        finally:
            self._link.ack_limit = None
        if self._snapshots.failure:
            raise MachineFailed(self._snapshots.failure)
        self._snapshots.applied = self._library.raftLastApplied
        self._election.hear(self._now_ns)

    def _keep_what_agrees(self, body: Append) -> Append:
        """The same message without what the log holds already.

        PySyncObj deletes everything after the message's first entry even if it agrees, and so forgets entries that it
        has acknowledged. Only what contradicts the leader may go. The part of the log after the message is not
        vouched for: it is neither committed (`commit`) nor acknowledged (`Link.ack_limit`) by it.
        """
        if self._journal.term_at(body.previous_index) != body.previous_term:
            return body  # PySyncObj asks the leader to go back
        vouched = body.previous_index + len(body.entries)
        commit = min(body.commit, vouched)
        for position, entry in enumerate(body.entries):
            held = self._journal.term_at(entry.index)
            if held == entry.term:
                continue
            if held is not None and entry.index <= self._library.raftLastApplied:
                raise BrokenInvariant(f"the leader would replace log entry {entry.index}, which is applied here")
            previous_term = body.entries[position - 1].term if position else body.previous_term
            return Append(body.term, commit, entry.index - 1, previous_term, body.entries[position:])
        return Append(body.term, commit, self._journal.last_index, self._journal.last_term, [])

    def _handle_ack(self, peer: NodeName, sender_term: int, body: Ack) -> None:
        """An acknowledgement counts only for the leadership it was given to."""
        end = self._journal.last_index + 1
        if sender_term != self._term or not self._is_leader:
            return
        if body.success and body.next_index > end:
            raise BrokenInvariant(f"{peer} acknowledges log entry {body.next_index - 1}, which does not exist")
        # A log longer than ours, or an answer of 0, would leave PySyncObj without an entry to go back to.
        self._pass_on(peer, Ack(max(2, min(body.next_index, end)), body.reset, body.success))

    def _handle_vote(self, peer: NodeName, body: Vote) -> None:
        """PySyncObj counts messages, not voters."""
        if self._link.mute:
            return
        if self._votes[0] != body.term:
            self._votes = (body.term, set())
        if peer not in self._votes[1]:
            self._votes[1].add(peer)
            self._pass_on(peer, body)

    def _handle_request_vote(self, peer: NodeName, body: RequestVote) -> None:
        if self._link.mute:
            return
        before = (self._journal.term, self._journal.vote)
        self._pass_on(peer, body)
        if (self._journal.term, self._journal.vote) != before and self._journal.vote == peer:
            self._election.postpone(self._now_ns)

    # ------------------------------------------------------------------ elections

    def _watch_leader(self) -> None:
        if self._is_leader:
            self._election.hear(self._now_ns)
            return
        if self._link.mute:
            return
        if self._election.due(self._now_ns):
            number = self._election.open_round(self._now_ns)
            ask = PreVote(number, self._term, self._journal.last_index, self._journal.last_term)
            for peer in self._peers:
                self._link.post(peer, ask)
        if self._election.won():
            self._election.postpone(self._now_ns)
            seams.campaign(self._library, self._link)

    def _handle_pre_vote(self, peer: NodeName, body: PreVote) -> None:
        if body.term > self._term and self._is_leader:
            # The peer ran ahead (its campaign failed) and can hear no leader of this term any more: catch up with it.
            seams.adopt_term(self._link, self._peers[peer], body.term)
            self._election.hurry(self._now_ns)
        known = self._library._getLeader()
        follows_another = self._election.leader_is_fresh(self._now_ns) and not (known and known.id == peer)
        mine = (self._journal.last_term, self._journal.last_index)
        theirs = (body.last_term, body.last_index)
        rivals = theirs == mine and self._election.insists(peer, self._now_ns)
        granted = (
            not self._link.mute
            and not self._is_leader
            and not follows_another
            and theirs >= mine
            and not rivals
            and body.term + 1 > self._term
        )
        if granted:
            self._election.give_way(self._now_ns)
        self._link.post(peer, PreVoteAnswer(body.round, granted))

    def transfer_leadership(self, to: NodeName) -> bool:
        if self._problem or self._stopped or self._library is None or to not in self._peers or not self._is_leader:
            return False
        answers: list[int] = []
        with seams.acting(self._seat):
            self._library.transferLeadership(self._members[to], lambda _, error: answers.append(error))
        self._wake()
        return answers == [SUCCESS]

    # ------------------------------------------------------------------ a disk that was replaced or put back

    def _stand_down(self) -> None:
        """What this node leads rests on a memory that is in doubt."""
        if self._is_leader:
            seams.adopt_term(self._link, next(iter(self._peers.values())), self._term + 1)

    def _handle_step_down(self, peer: NodeName, term: int) -> None:
        if term > self._term and self._is_leader:  # the peer cannot hear this leader, and may not campaign itself
            seams.adopt_term(self._link, self._peers[peer], term)
            self._election.hurry(self._now_ns)
        if term != self._term or not self._is_leader:
            return
        for other in self._peers:
            if other != peer and self.transfer_leadership(other):
                return

    # ------------------------------------------------------------------ what this node believes

    @property
    def _term(self) -> int:
        return int(self._library.raftCurrentTerm)

    @property
    def _is_leader(self) -> bool:
        return bool(self._library._isLeader())

    def _leader(self) -> NodeName | None:
        """The leader as far as known and recently heard."""
        if self._is_leader:
            return self._node
        member = self._library._getLeader()
        heard_ns = self._election.heard_ns
        if member is None or heard_ns is None or self._now_ns - heard_ns > self._timings.election_max_ms * MS:
            return None
        name: NodeName = member.id
        return name

    def health(self) -> ConsensusHealth:
        if self._library is None or self._stopped:
            return ConsensusHealth(journal_ok=not self._problem, problem=self._problem or "consensus is not running")
        applied: LogIndex = self._library.raftLastApplied
        working = not self._problem
        is_leader = working and self._is_leader
        heard_ns = self._election.heard_ns
        now_ns = self._clock()
        since_ns = 0 if is_leader else now_ns - (self._ticked_ns if heard_ns is None else heard_ns)
        return ConsensusHealth(
            leader=self._leader() if working else None,
            is_leader=is_leader,
            term=self._journal.term,
            applied=applied,
            last_index=self._journal.last_index,
            caught_up_term=is_leader and self._journal.term_at(applied) == self._journal.term,
            journal_ok=not self._journal.failure,
            problem=self._problem,
            hindrance=self._hindrance(now_ns),
            rejoining=self._journal.rejoining.pending,
            stalled_ms=0 if self._writing_since_ns is None else (now_ns - self._writing_since_ns) // MS,
            heard_leader_ms=max(0, since_ns) // MS,
        )

    def _hindrance(self, now_ns: int) -> str:
        if self._writing_since_ns is not None and now_ns - self._writing_since_ns > DISK_SLOW_MS * MS:
            waited_ms = (now_ns - self._writing_since_ns) // MS
            return f"the disk under {self._path} has not answered a write of the journal for {waited_ms} ms"
        if self._journal.rejoining.pending:
            return (
                "this node's disk was replaced, or put back to an older copy: "
                "it does not vote before it has caught up and a new leader is elected"
            )
        return ""


__all__ = ["Background", "Body", "SyncObjConsensus", "inline"]
